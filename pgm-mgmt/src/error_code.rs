//! Why a request failed: a stable code, a text and a hint.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The answer to a request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    /// What kind of failure it is; stable over releases.
    pub code: ErrorCode,
    /// What went wrong, naming the object: lower case, no full stop.
    pub text: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Error {
    /// An error without a hint.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            hint: None,
        }
    }

    /// The same error with what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Kinds of failures. A code keeps its name for ever; new ones may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request cannot be read, or this daemon does not know it.
    BadRequest,
    /// The request is understood, but a value in it cannot be used.
    BadValue,
    /// Client and daemon speak no version of the protocol in common.
    UnsupportedProtocol,
    /// The peer may not use this daemon.
    NotAllowed,
    /// Too many clients or jobs at once.
    TooBusy,
    /// No such server in the configuration.
    UnknownServer,
    /// No such backup.
    UnknownBackup,
    /// No such job.
    UnknownJob,
    /// No such setting.
    UnknownSetting,
    /// A job of that kind already runs for the server.
    AlreadyRunning,
    /// The job was cancelled.
    Cancelled,
    /// The PostgreSQL server cannot be reached or refused us.
    ServerUnreachable,
    /// The server is offline: it is left alone until told otherwise.
    ServerOffline,
    /// The backup could not be taken.
    BackupFailed,
    /// The restore target cannot be reached; nothing was written.
    TargetUnreachable,
    /// The restore failed.
    RestoreFailed,
    /// The backup is retained.
    BackupRetained,
    /// Without the backup nothing could be restored.
    LastBackup,
    /// The backup could not be deleted.
    DeleteFailed,
    /// The tar file could not be written.
    ArchiveFailed,
    /// The verification could not be carried out; damage that it found is no such failure.
    VerifyFailed,
    /// There is a note with that key already.
    AnnotationExists,
    /// There is no note with that key.
    UnknownAnnotation,
    /// The repository cannot be used, or something in it is damaged.
    Repository,
    /// The configuration cannot be used; the old one stays.
    Configuration,
    /// The hook before the operation failed, so it was not begun.
    HookFailed,
    /// The worker process of the job died.
    WorkerDied,
    /// The daemon is shutting down.
    ShuttingDown,
    /// Something that should not happen.
    Internal,
}

impl ErrorCode {
    /// The name on the wire: `unknown_server`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BadValue => "bad_value",
            Self::UnsupportedProtocol => "unsupported_protocol",
            Self::NotAllowed => "not_allowed",
            Self::TooBusy => "too_busy",
            Self::UnknownServer => "unknown_server",
            Self::UnknownBackup => "unknown_backup",
            Self::UnknownJob => "unknown_job",
            Self::UnknownSetting => "unknown_setting",
            Self::AlreadyRunning => "already_running",
            Self::Cancelled => "cancelled",
            Self::ServerUnreachable => "server_unreachable",
            Self::ServerOffline => "server_offline",
            Self::BackupFailed => "backup_failed",
            Self::TargetUnreachable => "target_unreachable",
            Self::RestoreFailed => "restore_failed",
            Self::BackupRetained => "backup_retained",
            Self::LastBackup => "last_backup",
            Self::DeleteFailed => "delete_failed",
            Self::VerifyFailed => "verify_failed",
            Self::ArchiveFailed => "archive_failed",
            Self::AnnotationExists => "annotation_exists",
            Self::UnknownAnnotation => "unknown_annotation",
            Self::Repository => "repository",
            Self::Configuration => "configuration",
            Self::HookFailed => "hook_failed",
            Self::WorkerDied => "worker_died",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
