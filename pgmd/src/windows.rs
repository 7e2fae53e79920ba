//! What clients are told of a server's WAL: where it has holes, and the recovery windows that it opens with the backups.

use std::path::Path;
use std::sync::Arc;

use pgm_backup::Repository;
use pgm_backup::catalog::BackupEntry;
use pgm_backup::window::{Window, windows};
use pgm_mgmt::{BackupStatus, BackupSummary, Gap, PlannedTransaction, RecoveryWindow};
use pgm_proto::ServerName;
use pgm_wal::Spool;
use pgm_wal::archive::{Archive, ArchiveError, ArchiveIndex};

use crate::repository::second;

/// The WAL of one server, in a repository and a spool.
#[derive(Debug)]
pub struct ServerWal {
    archive: Archive,
    spool: Option<Spool>,
    /// None when there is no WAL.
    index: Option<ArchiveIndex>,
}

impl ServerWal {
    /// Looks which WAL of `server` there is; `spool` is its folder, and need not exist.
    pub fn look(
        repository: &Repository,
        server: &ServerName,
        spool: Option<&Path>,
    ) -> Result<Self, ArchiveError> {
        let archive = Archive::new(Arc::clone(repository.storage()), server.clone());
        let spool = spool.map_or(Ok(None), Spool::find)?;
        let spooled = spool.as_ref().map_or(Ok(None), Spool::segment_size)?;
        let size = match spooled {
            Some(size) => Some(size),
            None => archive.segment_size()?,
        };
        let index = match size {
            Some(size) => Some(archive.index(size, spool.as_ref())?),
            None => None,
        };
        Ok(Self {
            archive,
            spool,
            index,
        })
    }

    /// Which WAL there is.
    pub const fn index(&self) -> Option<&ArchiveIndex> {
        self.index.as_ref()
    }

    /// Its holes.
    pub fn gaps(&self) -> Vec<Gap> {
        let gaps = self.index.iter().flat_map(ArchiveIndex::gaps);
        gaps.map(|gap| Gap {
            timeline: gap.timeline,
            from: gap.start,
            to: gap.end,
        })
        .collect()
    }

    /// The recovery windows, oldest first. Backups of which `summaries` say that they are damaged open none.
    pub fn windows(
        &self,
        backups: &[BackupEntry],
        summaries: &[BackupSummary],
    ) -> Result<Vec<RecoveryWindow>, ArchiveError> {
        let Some(index) = &self.index else {
            return Ok(Vec::new());
        };
        let is_sound = |entry: &&BackupEntry| {
            let label = entry.label.to_string();
            !summaries
                .iter()
                .any(|one| one.label == label && one.status == BackupStatus::Damaged)
        };
        let sound = backups.iter().filter(is_sound);
        let windows = windows(sound, &self.archive, self.spool.as_ref(), index)?;
        Ok(windows.iter().map(told).collect())
    }
}

fn told(window: &Window) -> RecoveryWindow {
    RecoveryWindow {
        backups: window.backups.iter().map(ToString::to_string).collect(),
        from_lsn: window.from,
        from_time: second(window.from_time),
        to_lsn: window.to,
        timeline: window.timeline,
        last_commit: window.last_commit.map(|commit| PlannedTransaction {
            xid: commit.xid,
            lsn: commit.lsn,
            time: microsecond(commit.time),
        }),
    }
}

/// A moment as the server's clock had it: RFC 3339, UTC, microseconds.
pub(crate) fn microsecond(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
