//! A backup restored into one tar file.

use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

use crate::request::{BackupChoice, RestoreTarget};

/// What goes into an archive, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveOptions {
    /// The server whose backup it is.
    pub server: ServerName,
    /// The backup.
    pub backup: BackupChoice,
    /// How far recovery goes; the WAL up to there is in the archive.
    pub target: RestoreTarget,
    /// The absolute path of the file; its name says how it is compressed and whether it is sealed.
    pub file: String,
    /// Replace a file of that name.
    pub force: bool,
}

/// An archive is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// The server.
    pub server: ServerName,
    /// The backup that was used.
    pub label: String,
    /// Where the archive is.
    pub file: String,
    /// The folder in it that everything is in; the data directory is `data` in that folder.
    pub folder: String,
    /// The target in words.
    pub target: String,
    /// Files of the data directory.
    pub files: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// WAL segments in it.
    pub wal_segments: u64,
    /// Bytes of the archive.
    pub file_bytes: u64,
    /// How it is compressed.
    pub compression: String,
    /// Whether it is sealed with the master key.
    pub sealed: bool,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
}
