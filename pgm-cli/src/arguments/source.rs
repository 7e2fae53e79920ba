//! `--source`: how a server's data is read for a backup.

use clap::ValueEnum;
use pgm_mgmt::BackupSource;

/// How a server's data is read for a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceChoice {
    /// The first of the others that is possible
    Auto,
    /// The server's files are read where they are, on the daemon's host
    Local,
    /// The server reads its files for ordinary sessions, several at a time
    Blocks,
    /// Incremental: the server sends what has changed by its own summaries of its WAL (summarize_wal)
    Native,
    /// The server sends everything, and what has not changed is not stored
    Stream,
}

impl From<SourceChoice> for BackupSource {
    fn from(choice: SourceChoice) -> Self {
        match choice {
            SourceChoice::Auto => Self::Auto,
            SourceChoice::Local => Self::Local,
            SourceChoice::Blocks => Self::Blocks,
            SourceChoice::Stream => Self::Stream,
            SourceChoice::Native => Self::Native,
        }
    }
}
