//! Where a backup goes, and what became of it there.

use std::fmt;

use pgm_storage::Compression;

use super::await_wal::WalCoverage;
use crate::catalog::BackupEntry;
use crate::error::Error;
use crate::repository::Repository;

/// A repository that a backup goes to.
#[derive(Clone, Copy)]
pub struct BackupTarget<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// How the packs there are compressed.
    pub compression: Compression,
    /// Which WAL a backup there can count on; [`NoArchive`](super::NoArchive) goes with
    /// [`BackupWal::Included`](crate::catalog::BackupWal::Included).
    pub coverage: &'a dyn WalCoverage,
}

impl fmt::Debug for BackupTarget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupTarget")
            .field("repository", &self.repository.storage().describe())
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}

/// What became of a backup in one of its targets.
#[derive(Debug)]
pub enum BackupOutcome {
    /// It is in the catalog there.
    Complete(Box<BackupEntry>),
    /// The target failed and was left out; the backup went on to the others.
    Dropped(Error),
}

impl BackupOutcome {
    /// The catalog entry, or why there is none.
    pub fn into_result(self) -> Result<BackupEntry, Error> {
        match self {
            Self::Complete(entry) => Ok(*entry),
            Self::Dropped(error) => Err(error),
        }
    }
}
