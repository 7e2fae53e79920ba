//! Directories that are kept ready to be started as standbys.

use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

/// What became of bringing one up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyOutcome {
    /// The server.
    pub server: ServerName,
    /// How the configuration calls it.
    pub standby: String,
    /// The data directory.
    pub directory: String,
    /// Whether anything was to be done.
    pub result: StandbyResult,
    /// The backup that it has now; none when it was let alone.
    pub label: Option<String>,
    /// Files put in place.
    pub files: u64,
    /// Their bytes.
    pub raw_bytes: u64,
    /// Of these, those that were there before and not written again.
    pub kept_bytes: u64,
    /// Files, links and folders that were removed, because the backup does not have them.
    pub removed: u64,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
    /// What a person should read.
    pub warnings: Vec<String>,
}

/// Whether a standby was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandbyResult {
    /// It has the backup now.
    Updated,
    /// It runs, so it was let alone: it follows by itself.
    Skipped,
    /// It is as it was, or unfinished.
    Failed,
}

impl StandbyResult {
    /// The name in JSON: `updated`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Updated => "updated",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// How one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyStatus {
    /// How the configuration calls it.
    pub standby: String,
    /// The data directory.
    pub directory: String,
    /// What became of the newest attempt to bring it up to date; none since the daemon started.
    pub result: Option<StandbyResult>,
    /// When that ended.
    pub at: Option<String>,
    /// When it was updated last, since the daemon started.
    pub updated: Option<String>,
    /// The backup that it got then.
    pub label: Option<String>,
    /// Why the newest attempt failed, or let it alone.
    pub reason: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}
