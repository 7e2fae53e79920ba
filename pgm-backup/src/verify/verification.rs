//! What verifying a backup found, as it is noted beside the backup: numbered records in its folder `verify`.

use jiff::Timestamp;
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
    /// The backup is sound, but something beside it is not: WAL behind its end, which no restore gets past, or its marks.
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
    /// The WAL behind it.
    Window,
    /// What was said of it: that it is retained, notes, earlier verifications.
    Marks,
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
