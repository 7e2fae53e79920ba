//! What happens while a request is carried out.

use std::fmt;

use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

/// Something to tell while a request is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// How far a job has come; at least one every second while it runs.
    Progress(JobProgress),
    /// Something a person should read.
    Message {
        /// How much it matters.
        level: MessageLevel,
        /// One line.
        text: String,
    },
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageLevel {
    /// For information.
    Info,
    /// Something needs attention, the job goes on.
    Warning,
}

/// The number of a job; never given twice, also not by the daemons that follow on the same directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(u64);

impl JobId {
    /// The job with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Takes a backup.
    Backup,
    /// Restores one.
    Restore,
    /// Deletes one.
    Delete,
    /// Verifies backups.
    Verify,
    /// Restores one into a tar file.
    Archive,
    /// Removes what has expired.
    Retention,
    /// Brings a standby's directory up to date.
    Standby,
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Delete => "delete",
            Self::Verify => "verify",
            Self::Archive => "archive",
            Self::Retention => "retention",
            Self::Standby => "standby",
        })
    }
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// The job.
    pub job: JobId,
    /// What it does.
    pub kind: JobKind,
    /// For which server.
    pub server: ServerName,
    /// What it does right now, in a few words: `copy`, `wait for wal`.
    pub phase: String,
    /// Bytes done in this phase.
    pub done_bytes: u64,
    /// Bytes of the whole phase, where they are known.
    pub total_bytes: Option<u64>,
    /// Bytes a second over the last seconds.
    pub rate_bytes: u64,
    /// Seconds until the phase is done at that rate, where it can be said.
    pub eta_seconds: Option<u64>,
    /// When the job began, RFC 3339 in UTC.
    pub started: String,
    /// Seconds since then.
    pub elapsed_seconds: u64,
}
