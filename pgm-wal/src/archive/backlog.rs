//! What of a spool an archive does not have yet, told at any moment: also while its archiver waits for a store that does
//! not answer.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::ArchiveError;
use super::archiver::{Partials, queue};
use crate::{Spool, WalFileName};

/// Finished files of a spool that wait for one archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// How many.
    pub files: usize,
    /// Since when the oldest one has waited. Of a file that stays in the spool in any case it is not known whether it waited
    /// before the watch began.
    pub since: Option<SystemTime>,
}

/// Tells the backlog of one archiver; clones watch the same one.
#[derive(Debug, Clone)]
pub struct BacklogWatch {
    spool: Spool,
    began: SystemTime,
    done: Done,
}

/// Archived files that are still in the spool.
#[derive(Debug, Clone, Default)]
pub(super) struct Done(Arc<Mutex<HashSet<WalFileName>>>);

impl Done {
    pub(super) fn files(&self) -> MutexGuard<'_, HashSet<WalFileName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn contains(&self, file: WalFileName) -> bool {
        self.files().contains(&file)
    }
}

impl BacklogWatch {
    /// For an archiver that will archive `spool`: see [`Archiver::watched_by`](super::Archiver::watched_by).
    pub fn new(spool: Spool) -> Self {
        Self {
            spool,
            began: SystemTime::now(),
            done: Done::default(),
        }
    }

    pub(super) fn done(&self) -> Done {
        self.done.clone()
    }

    /// Looks into the spool.
    pub fn measure(&self) -> Result<Backlog, ArchiveError> {
        let Some(size) = self.spool.segment_size()? else {
            return Ok(Backlog::default());
        };
        let listing = self.spool.list()?;
        let newest = listing.segments.last().copied();
        let mut backlog = Backlog::default();
        for file in queue(&listing, Partials::OfLeftTimelines) {
            if self.done.contains(file) {
                continue;
            }
            let path = self.spool.folder().join(file.file_name(size));
            // It is archived and gone by now.
            let Ok(modified) = path.metadata().and_then(|meta| meta.modified()) else {
                continue;
            };
            let may_be_archived = match file {
                WalFileName::History(_) => true,
                WalFileName::Segment(name) => newest == Some(name),
                WalFileName::Partial(_) => false,
            };
            let since = if may_be_archived {
                modified.max(self.began)
            } else {
                modified
            };
            backlog.files += 1;
            backlog.since = Some(backlog.since.map_or(since, |oldest| oldest.min(since)));
        }
        Ok(backlog)
    }
}
