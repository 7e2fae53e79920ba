//! What verifying a backup found, as it is noted beside the backup: numbered records in its folder `verify`.

use jiff::Timestamp;
use pgm_proto::Lsn;
use pgm_storage::{ObjectPath, Storage};
use serde::{Deserialize, Serialize};

use super::Level;
use crate::error::{Error, Result};
use crate::repository::numbered;

/// How many records are kept.
const KEEP: usize = 8;
/// The most findings that are noted.
const FINDINGS_MAX: usize = 200;

/// One verification of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Format version of the record.
    pub format: u32,
    /// How far it went.
    pub level: Level,
    /// What it found.
    pub outcome: Outcome,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What was looked at.
    pub counts: Counts,
    /// What a server that was started on it showed; of the level `Restore` only, and only if it got that far.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// How many things were wrong.
    pub findings_total: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
}

/// What a verification found, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing wrong.
    Sound,
    /// The backup is sound, but something beside it is not: WAL behind its end, which no restore gets past, its marks, or
    /// what it is a backup of.
    Flawed,
    /// The backup cannot be restored as it was.
    Damaged,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Files of the data directory.
    pub files: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Packs of data.
    pub packs: u64,
    /// Frames that were read, opened and checked.
    pub frames: u64,
    /// Archived WAL segments that were read and checked.
    pub wal_segments: u64,
}

/// What a server showed that was started on a restored backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Up to where it replayed WAL.
    pub lsn: Lsn,
    /// When the last transaction was committed that it replayed; `None` when there was none behind the backup.
    pub last_commit: Option<Timestamp>,
    /// The last moment that is proven to be recoverable: that commit, else the end of the backup.
    pub proven: Timestamp,
    /// How long the restore took.
    pub restore_ms: u64,
    /// How long it took from the start of the server until it took commands.
    pub replay_ms: u64,
    /// How long the checks took.
    pub check_ms: u64,
    /// What was checked.
    pub checks: Vec<Check>,
}

/// One check of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is checked.
    pub name: String,
    /// What came of it.
    pub result: CheckResult,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckResult {
    /// All is well.
    Passed,
    /// It is not: there is a finding.
    Failed,
    /// It could not be made, because of this.
    Skipped(String),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// What it concerns.
    pub area: Area,
    /// The object that is damaged or missing.
    pub object: String,
    /// Where in the object, when that is known.
    pub offset: Option<u64>,
    /// The file of the data directory that is lost with it, when there is one.
    pub file: Option<String>,
    /// What is wrong.
    pub reason: String,
}

/// What a finding concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Area {
    /// Catalog entry, manifests, the record of the server.
    Catalog,
    /// The data.
    Data,
    /// The WAL that makes the backup consistent.
    Wal,
    /// The server that was started on it.
    Trial,
    /// The WAL behind it.
    Window,
    /// What was said of it (that it is retained, notes, earlier verifications), and copies of the keys.
    Marks,
    /// What the server that was started on it was asked, or what is in it.
    Checks,
}

impl Verification {
    /// The newest format version that this code knows.
    pub const FORMAT: u32 = 1;
}

/// The readable records in `folder`, newest first. One that is damaged says nothing, and another verification mends it.
pub(crate) fn read(storage: &dyn Storage, folder: &ObjectPath) -> Result<Vec<Verification>> {
    let mut found = Vec::new();
    for number in numbered::numbers(storage, folder)?.into_iter().rev() {
        match numbered::read(storage, folder, number, Verification::FORMAT) {
            Ok(record) => found.extend(record),
            Err(Error::Damaged { .. } | Error::UnknownFormat { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Notes a verification.
pub(crate) fn note(
    storage: &dyn Storage,
    folder: &ObjectPath,
    verification: &Verification,
) -> Result<()> {
    let mut noted = verification.clone();
    noted.findings.truncate(FINDINGS_MAX);
    numbered::put_next(storage, folder, &noted, KEEP)
}
