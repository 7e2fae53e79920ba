//! Verifying backups.

use pgm_proto::{Lsn, ServerName};
use serde::{Deserialize, Serialize};

use crate::request::{BackupChoice, RestoreTarget};

/// What is verified, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyOptions {
    /// The server.
    pub server: ServerName,
    /// The backup; all of the server when `None`.
    pub backup: Option<BackupChoice>,
    /// How far.
    pub level: VerifyLevel,
    /// Which files are listed.
    pub files: ListedFiles,
    /// How backups are tried, on the level `restore`.
    #[serde(default)]
    pub trial: TrialOptions,
}

/// How a backup is restored and a server started on it; what is left out is as the daemon's configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TrialOptions {
    /// The absolute path of the folder for what is restored.
    pub scratch: Option<String>,
    /// Statements beside those of the configuration.
    pub sql: Vec<String>,
    /// The database in which statements run.
    pub database: Option<String>,
    /// How far recovery goes.
    pub target: RestoreTarget,
}

/// How far a verification goes; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyLevel {
    /// Catalog entry, manifests and packs agree.
    Catalog,
    /// Every frame is read, and every file has its checksum.
    Frames,
    /// The WAL is complete and sound, too.
    #[default]
    Wal,
    /// A server is started on the restored backup, replays the WAL, and is checked.
    Restore,
}

/// Which files of a backup are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListedFiles {
    /// Those that are damaged.
    #[default]
    Failed,
    /// All of them, as far as an answer has room.
    All,
}

/// What a verification found, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyOutcome {
    /// Nothing wrong.
    Sound,
    /// The backup is sound, but something beside it is not: WAL behind its end, which no restore gets past, its marks, or
    /// what it is a backup of.
    Flawed,
    /// The backup cannot be restored as it was.
    Damaged,
}

/// Some backups were verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The server.
    pub server: ServerName,
    /// By label, oldest first.
    pub backups: Vec<VerifiedBackup>,
}

/// What verifying one backup found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedBackup {
    /// The backup.
    pub label: String,
    /// In short.
    pub verification: VerificationSummary,
    /// Files of the data directory that were looked at.
    pub checked_files: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Packs of data.
    pub packs: u64,
    /// Frames that were read, opened and checked.
    pub frames: u64,
    /// Archived WAL segments that were read and checked.
    pub wal_segments: u64,
    /// The first of the things that are wrong.
    pub findings: Vec<Finding>,
    /// The files that were asked for.
    pub files: Vec<VerifiedFile>,
    /// How many more there are for which an answer has no room.
    pub files_omitted: u64,
    /// Why the result could not be noted in the repository, when it could not.
    pub not_noted: Option<String>,
}

/// When a backup was verified, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationSummary {
    /// When the verification ended.
    pub at: String,
    /// How far it went.
    pub level: VerifyLevel,
    /// What it found.
    pub outcome: VerifyOutcome,
    /// How many things are wrong.
    pub findings_total: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// What the server showed that was started on it, on the level `restore`.
    #[serde(default)]
    pub trial: Option<TrialSummary>,
}

/// What a server showed that was started on a restored backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialSummary {
    /// The last moment that is proven to be recoverable.
    pub proven: String,
    /// Up to where it replayed WAL.
    pub lsn: Lsn,
    /// When the last transaction was committed that it replayed; `None` when there was none behind the backup.
    pub last_commit: Option<String>,
    /// How long the restore took.
    pub restore_ms: u64,
    /// How long it took from the start of the server until it took commands.
    pub replay_ms: u64,
    /// How long the checks took.
    pub check_ms: u64,
    /// What was checked.
    pub checks: Vec<TrialCheck>,
}

impl TrialSummary {
    /// The measured recovery time: from the beginning of the restore until the server took commands.
    pub const fn recovery_ms(&self) -> u64 {
        self.restore_ms.saturating_add(self.replay_ms)
    }
}

/// What is proven of a server's recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenRecovery {
    /// The backup that was tried.
    pub label: String,
    /// What its newest trial showed.
    pub trial: TrialSummary,
}

/// One check of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialCheck {
    /// What is checked.
    pub name: String,
    /// What came of it.
    pub outcome: CheckOutcome,
    /// Why it was not made.
    pub reason: Option<String>,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// All is well.
    Passed,
    /// It is not: there is a finding.
    Failed,
    /// It could not be made.
    Skipped,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it concerns.
    pub area: FindingArea,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingArea {
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
    /// The server that was started on it.
    Trial,
    /// What that server was asked, or what is in it.
    Checks,
}

/// A file of a backup that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedFile {
    /// Its path in the data directory.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// The checksum in the manifest: CRC-32C as 8 hexadecimal digits; `None` when that has none, because only a part of the file
    /// went by when it was backed up.
    pub expected: Option<String>,
    /// The checksum of what is in the repository; `None` when it cannot be read, or was not looked at.
    pub found: Option<String>,
    /// Whether it is as it was backed up.
    pub sound: bool,
}
