//! `--source`: how an incremental backup learns what has changed.

use clap::ValueEnum;
use pgm_mgmt::BackupSource;

/// How an incremental backup learns what has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceChoice {
    /// From the server where that is possible, else while everything is sent
    Auto,
    /// Everything is sent, and what has not changed is not stored
    Stream,
    /// The server sends what has changed by its own summaries of its WAL (summarize_wal)
    Native,
}

impl From<SourceChoice> for BackupSource {
    fn from(choice: SourceChoice) -> Self {
        match choice {
            SourceChoice::Auto => Self::Auto,
            SourceChoice::Stream => Self::Stream,
            SourceChoice::Native => Self::Native,
        }
    }
}
