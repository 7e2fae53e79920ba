//! Taking a backup.
//!
//! [`backup()`] is the whole procedure, in order. Readers see nothing of a backup before its last step, and nothing is
//! left of one that failed: what a killed process leaves is swept by the next backup. The hot path is
//! `feed` (tar to frames) and `pipeline` (frames to packs); memory is a fixed number of 1 MiB buffers and the files
//! whose bytes are on their way.

mod await_wal;
mod collect;
mod copy;
mod feed;
mod pipeline;
mod publish;
#[cfg(test)]
mod script;
mod start;
mod tar;

use std::num::NonZeroUsize;
use std::time::Duration;

use pgm_proto::{Checkpoint, Client, ServerName};
use pgm_storage::Compression;

use crate::catalog::{BackupEntry, BackupWal};
use crate::context::Context;
use crate::error::Result;
use crate::repository::{Purpose, Repository};

use await_wal::await_wal;
use copy::{copy, pack_options};
use publish::{Beginning, publish};
use start::start;

pub use await_wal::{Coverage, NoArchive, WalCoverage};

/// How a backup is to be taken.
#[derive(Debug, Clone)]
pub struct BackupRequest {
    /// The label given to the server, which it writes to its log and into `backup_label`.
    pub server_label: String,
    /// Whether the server's checkpoint is hurried.
    pub checkpoint: Checkpoint,
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
            checkpoint: Checkpoint::Fast,
            compression: Compression::ZSTD,
            workers: None,
            wal: BackupWal::Archive,
            max_rate_kib: None,
            wal_timeout: Duration::from_mins(10),
        }
    }
}

/// Takes one backup over a session for physical replication. Nothing is visible to readers until `publish`, the commit
/// point.
///
/// `coverage` tells which WAL is durable; [`NoArchive`] goes with [`BackupWal::Included`].
pub fn backup(
    cx: &Context,
    client: &mut Client,
    repository: &Repository,
    server: &ServerName,
    request: &BackupRequest,
    coverage: &dyn WalCoverage,
) -> Result<BackupEntry> {
    let lock = repository.lock(server, Purpose::Backup)?;
    repository.sweep(&lock)?;
    let staging = repository.stage(&lock)?;
    let mut started = start(cx, client, repository, server, request)?;
    let announced = started.announced();
    let copied = copy(
        cx,
        &mut started.stream,
        &announced,
        &staging,
        pack_options(request),
    )?;
    let entry = publish::entry(&staging, request, Beginning::of(&started), copied)?;
    // A backup is usable only once every WAL byte up to its end is ours.
    if request.wal == BackupWal::Archive {
        await_wal(cx, &entry, coverage, request.wal_timeout)?;
    }
    publish(cx, &lock, staging, entry)
}

#[cfg(test)]
pub(crate) mod tests;
