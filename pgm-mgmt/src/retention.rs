//! Retention: which backups and which WAL go.

use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

/// A run of retention for one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionOptions {
    /// The server.
    pub server: ServerName,
    /// The policy, such as `last 3, window 14d, days 7`; the configured one when `None`.
    #[serde(default)]
    pub policy: Option<String>,
    /// Only say what would go.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a run of retention did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionOutcome {
    /// The server.
    pub server: ServerName,
    /// The policy that was applied; `everything`: nothing ever goes.
    pub policy: String,
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// Every backup that there was, oldest first.
    pub backups: Vec<RetentionDecision>,
    /// Bytes of the backups that were deleted.
    pub deleted_bytes: u64,
    /// Archived WAL objects that nothing needs any more: removed, or to be removed.
    pub wal_objects: u64,
    /// Their bytes.
    pub wal_bytes: u64,
    /// What a person should read.
    pub warnings: Vec<String>,
}

/// What becomes of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionDecision {
    /// The backup.
    pub label: String,
    /// Whether it stays.
    pub stays: bool,
    /// Why it stays; empty when it goes.
    pub reasons: Vec<String>,
}
