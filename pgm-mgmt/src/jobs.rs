//! What is known about jobs, while they run and afterwards.

use std::fmt;

use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

use crate::error_code::Error;
use crate::event::{JobId, JobKind, MessageLevel};
use crate::response::Response;

/// Which jobs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobScope {
    /// Those that wait or run.
    #[default]
    Unfinished,
    /// And those of the history.
    All,
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits for its turn.
    Waiting,
    /// Its worker works.
    Running,
    /// It succeeded.
    Done,
    /// It failed.
    Failed,
    /// Somebody cancelled it, or the daemon was stopped in order.
    Cancelled,
    /// The daemon died while it waited or ran.
    Lost,
}

impl JobState {
    /// The name in JSON: `running`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }

    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One job, at any time of its life. Moments are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The job.
    pub job: JobId,
    /// What it does.
    pub kind: JobKind,
    /// For which server.
    pub server: ServerName,
    /// Where it is in its life.
    pub state: JobState,
    /// Who asked for it, and from where.
    pub asked_by: String,
    /// When it was asked for.
    pub asked: String,
    /// When its worker started.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
    /// The phase that it is in, or has reached, in a few words.
    pub phase: String,
    /// Bytes done in that phase.
    pub done_bytes: u64,
    /// Bytes of the whole phase, where they are known.
    pub total_bytes: Option<u64>,
    /// What came of it: the label of a backup, the directory of a restore.
    pub outcome: Option<String>,
    /// Why it did not succeed.
    pub error: Option<Error>,
    /// The last messages on the way, oldest first.
    pub messages: Vec<JobMessage>,
}

/// Something that a job told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMessage {
    /// When.
    pub at: String,
    /// How much it matters.
    pub level: MessageLevel,
    /// One line.
    pub text: String,
}

/// Jobs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobList {
    /// Newest first.
    pub jobs: Vec<JobRecord>,
}

/// A job has been taken on, and goes on by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedJob {
    /// The job.
    pub job: JobId,
}

impl Response {
    /// What a job's answer says in a word, for lists: a label, a directory.
    pub fn outcome(&self) -> Option<String> {
        match self {
            Self::BackedUp(backup) => Some(backup.label.clone()),
            Self::Restored(restored) => Some(restored.directory.clone()),
            Self::StandbyUpdated(standby) => {
                Some(format!("{} {}", standby.directory, standby.result.name()))
            }
            _ => None,
        }
    }
}
