//! What is answered to a restore: what it would do, and what it has done.

use pgm_proto::{Lsn, ServerName, TimelineId};
use serde::{Deserialize, Serialize};

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRestore {
    /// The server.
    pub server: ServerName,
    /// The backup that would be used.
    pub label: String,
    /// Where to.
    pub directory: String,
    /// The target in words.
    pub target: String,
    /// Of a target in time: the last commit that is recovered.
    #[serde(default)]
    pub last_commit: Option<PlannedTransaction>,
    /// Of a target in time: the end of the transaction before which recovery stops.
    #[serde(default)]
    pub stops_before: Option<PlannedTransaction>,
    /// The timeline recovery would follow.
    pub timeline: TimelineId,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// The first point that can be restored with this backup.
    #[serde(default)]
    pub consistent_lsn: Lsn,
    /// When that was.
    #[serde(default)]
    pub consistent_time: String,
    /// How far the archived WAL reaches on that timeline.
    pub reachable_lsn: Option<Lsn>,
    /// When the last commit before that was, by the server's clock.
    #[serde(default)]
    pub reachable_time: Option<String>,
    /// Packs to read.
    pub packs: u64,
    /// Bytes to read from them.
    pub stored_bytes: u64,
    /// Bytes to write.
    pub raw_bytes: u64,
    /// WAL segments to replay at most.
    pub wal_segments: u64,
    /// The steps, for people.
    pub steps: Vec<String>,
    /// What a person should know, of damaged backups above all.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The end of a transaction in the WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedTransaction {
    /// Its number.
    pub xid: u32,
    /// Where its record begins.
    pub lsn: Lsn,
    /// When it ended, by the server's clock, with microseconds.
    pub time: String,
}

/// A restore is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOutcome {
    /// The server.
    pub server: ServerName,
    /// The backup that was used.
    pub label: String,
    /// Where it is.
    pub directory: String,
    /// The target in words.
    pub target: String,
    /// Files put in place.
    pub files: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Of these, those that were there before and not written again.
    #[serde(default)]
    pub kept_bytes: u64,
    /// Files, links and folders that were removed, because the backup does not have them.
    #[serde(default)]
    pub removed: u64,
    /// What each repository gave of the files.
    #[serde(default)]
    pub sources: Vec<RestoreRead>,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
    /// What a person should read.
    pub warnings: Vec<String>,
}

/// What a restore read in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRead {
    /// The repository.
    pub repository: String,
    /// Bytes of files that it gave.
    pub raw_bytes: u64,
}
