//! Verifying backups.

use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

use crate::request::BackupChoice;

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
    /// The backup is sound, but something beside it is not: WAL behind its end, which no restore gets past, or its marks.
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
}

/// A file of a backup that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedFile {
    /// Its path in the data directory.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// The checksum in the manifest: CRC-32C as 8 hexadecimal digits.
    pub expected: String,
    /// The checksum of what is in the repository; `None` when it cannot be read, or was not looked at.
    pub found: Option<String>,
    /// Whether it is as it was backed up.
    pub sound: bool,
}
