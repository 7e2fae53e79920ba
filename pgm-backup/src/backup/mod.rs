//! Taking a backup.

mod await_wal;

use std::num::NonZeroUsize;
use std::time::Duration;

use pgm_storage::Compression;

use crate::catalog::BackupWal;

pub use await_wal::{Coverage, WalCoverage};

/// How a backup is to be taken.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The label given to the server, which it writes to its log and into `backup_label`.
    pub server_label: String,
    /// How packs are compressed.
    pub compression: Compression,
    /// Threads that compress; `None` for one per core, at most [`WORKERS_MAX`].
    pub workers: Option<NonZeroUsize>,
    /// Where the WAL shall come from.
    pub wal: BackupWal,
    /// The server sends at most this many KiB per second.
    pub max_rate_kib: Option<u32>,
    /// How long the end of the WAL is waited for after the server has ended the backup.
    pub wal_timeout: Duration,
}

/// The most threads that compress.
pub const WORKERS_MAX: usize = 8;

impl Default for BackupRequest {
    fn default() -> Self {
        Self {
            server_label: "pgm".into(),
            compression: Compression::ZSTD,
            workers: None,
            wal: BackupWal::Archive,
            max_rate_kib: None,
            wal_timeout: Duration::from_mins(10),
        }
    }
}
