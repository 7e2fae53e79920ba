//! What every long operation takes along: a way to stop it and a place to report to.
//!
//! Reports are plain borrowed values, made about once per MiB; a sink must return at once (store a number, not draw a
//! bar).

use std::sync::Arc;

use pgm_storage::Cancel;

use crate::error::{Error, Result};

/// The surroundings of one operation.
#[derive(Debug, Clone)]
pub struct Context {
    /// Stops the operation at its next message, frame or wait.
    pub cancel: Cancel,
    /// Where progress goes.
    pub progress: Arc<dyn ProgressSink>,
}

/// Takes reports of progress. Called from several threads.
pub trait ProgressSink: std::fmt::Debug + Send + Sync {
    /// Takes one report; must not block.
    fn report(&self, progress: &Progress<'_>);
}

/// One report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is being done.
    pub phase: Phase,
    /// Bytes of this phase that are done.
    pub done_bytes: u64,
    /// Bytes of this phase in all, if known; an estimate that `done_bytes` may pass.
    pub total_bytes: Option<u64>,
    /// What exactly is being done or waited for; may be empty.
    pub detail: &'a str,
}

/// The steps that long operations report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Backup: waiting for the server's checkpoint.
    Checkpoint,
    /// Backup: reading, compressing and storing the data directory.
    Copy,
    /// Backup: waiting until all WAL up to the backup's end is durable.
    AwaitWal,
    /// Backup: writing manifest and catalog entry.
    Publish,
    /// Restore: finding out what is needed.
    Plan,
    /// Restore: writing the data directory.
    Restore,
    /// Restore: fetching the WAL that goes into the data directory.
    Wal,
    /// Restore: checking and syncing what was written.
    Sync,
    /// Delete: removing objects.
    Delete,
    /// Verify: reading catalog and manifests.
    VerifyCatalog,
    /// Verify: reading every frame.
    VerifyFrames,
    /// Verify: reading archived WAL.
    VerifyWal,
    /// Verify: a server replays the WAL of a restored backup.
    Replay,
    /// Verify: that server is checked.
    Check,
    /// Archive: writing the tar file.
    Archive,
    /// Copy from one repository to another.
    Transfer,
}

impl Phase {
    /// The phase in a word or two, for messages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Copy => "copy",
            Self::AwaitWal => "await wal",
            Self::Publish => "publish",
            Self::Plan => "plan",
            Self::Restore => "restore",
            Self::Wal => "restore wal",
            Self::Sync => "sync",
            Self::Delete => "delete",
            Self::VerifyCatalog => "verify catalog",
            Self::VerifyFrames => "verify frames",
            Self::VerifyWal => "verify wal",
            Self::Replay => "replay",
            Self::Check => "check",
            Self::Archive => "archive",
            Self::Transfer => "copy objects",
        }
    }
}

/// A sink that drops every report.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl ProgressSink for Quiet {
    fn report(&self, _: &Progress<'_>) {}
}

impl Context {
    /// Surroundings with this token and sink.
    pub fn new(cancel: Cancel, progress: Arc<dyn ProgressSink>) -> Self {
        Self { cancel, progress }
    }

    /// Surroundings that nobody stops or watches.
    pub fn quiet() -> Self {
        Self::new(Cancel::new(), Arc::new(Quiet))
    }

    /// Fails with [`Error::Cancelled`] once the operation shall stop.
    pub fn check_cancel(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Hands one report to the sink.
    pub fn report(&self, phase: Phase, done_bytes: u64, total_bytes: Option<u64>, detail: &str) {
        self.progress.report(&Progress {
            phase,
            done_bytes,
            total_bytes,
            detail,
        });
    }
}
