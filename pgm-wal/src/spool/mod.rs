//! The spool: the local folder where a server's WAL becomes durable first.
//!
//! ```text
//! spool/SERVER/identity                              whose WAL this is, and its segment size
//! spool/SERVER/000000010000000000000003              a finished segment, as in pg_wal
//! spool/SERVER/000000010000000000000004.partial      the segment being filled, always of full size
//! spool/SERVER/00000002.history                      stored before any WAL of timeline 2
//! spool/SERVER/….partial.failed-1                    set aside after a failed sync, until the segment is finished
//! spool/SERVER/receiver.lock                         held by the one receiver that writes here
//! ```
//!
//! Everything in it is readable by PostgreSQL's own tools. What is finished is never overwritten: a file with the same
//! name and other bytes is an error. Reading needs no lock; writing is the receiver's, removing the archiver's.

mod identity;
mod listing;
mod store;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use pgm_proto::{ServerName, TimelineId};

pub use identity::SpoolIdentity;
pub use listing::{SpoolEnd, SpoolListing};
pub(crate) use store::{SpoolLock, first_difference, rename_new, sync_folder};

use crate::error::SpoolError;
use crate::history::History;
use crate::segment::{SegmentName, SegmentSize, WalFileName};

/// One server's spool folder. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: Arc<Path>,
    identity: Arc<OnceLock<SpoolIdentity>>,
}

impl Spool {
    /// Opens the spool at `folder`, which is made (mode 0700) if it is missing.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, SpoolError> {
        let folder = folder.into();
        store::create_folder(&folder)?;
        let spool = Self {
            folder: folder.into(),
            identity: Arc::default(),
        };
        spool.identity()?;
        Ok(spool)
    }

    /// Opens the spool at `folder` for reading, `None` if there is none.
    pub fn find(folder: impl Into<PathBuf>) -> Result<Option<Self>, SpoolError> {
        let folder = folder.into();
        if folder.is_dir() {
            Self::open(folder).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The spool of `server` in a folder that holds the spools of many.
    pub fn of_server(spools: &Path, server: &ServerName) -> Result<Self, SpoolError> {
        Self::open(spools.join(server.as_str()))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whose WAL is here, `None` while nothing has been received.
    pub fn identity(&self) -> Result<Option<SpoolIdentity>, SpoolError> {
        if let Some(known) = self.identity.get() {
            return Ok(Some(*known));
        }
        let read = identity::read(&self.folder)?;
        Ok(read.map(|identity| *self.identity.get_or_init(|| identity)))
    }

    /// The size of the segments here, `None` while nothing has been received.
    pub fn segment_size(&self) -> Result<Option<SegmentSize>, SpoolError> {
        Ok(self.identity()?.map(|identity| identity.segment_size))
    }

    /// Makes this the spool of `identity`, durably; refused when it is another server's.
    pub fn adopt(&self, identity: SpoolIdentity) -> Result<(), SpoolError> {
        let known = self.identity()?;
        if let Some(known) = known {
            return known.agree(identity, &self.folder);
        }
        identity::write(&self.folder, identity)?;
        let _ = self.identity.set(identity);
        Ok(())
    }

    /// What lies here, sorted. Files that are not WAL are passed over.
    pub fn list(&self) -> Result<SpoolListing, SpoolError> {
        match self.segment_size()? {
            Some(size) => listing::read(&self.folder, size),
            None => Ok(SpoolListing::default()),
        }
    }

    /// The finished segments, by timeline and number.
    pub fn segments(&self) -> Result<Vec<SegmentName>, SpoolError> {
        Ok(self.list()?.segments)
    }

    /// The newest timeline's last segment: where receiving goes on.
    pub fn end(&self) -> Result<Option<SpoolEnd>, SpoolError> {
        Ok(self.list()?.end())
    }

    /// Where the file `name` lies, or would lie.
    pub fn path(&self, name: WalFileName) -> PathBuf {
        let size = self
            .identity
            .get()
            .map_or(SegmentSize::DEFAULT, |known| known.segment_size);
        self.folder.join(name.file_name(size))
    }

    /// The stored history of `timeline`, `None` if it is not here.
    pub fn history(&self, timeline: TimelineId) -> Result<Option<History>, SpoolError> {
        store::read_history(&self.path(WalFileName::History(timeline)), timeline)
    }

    /// Stores the history file of `timeline`, durably. Storing the same bytes again does nothing; other bytes under the
    /// same name are an error: two servers have promoted to the same timeline.
    pub fn store_history(
        &self,
        timeline: TimelineId,
        content: &[u8],
    ) -> Result<History, SpoolError> {
        store::store_history(
            &self.folder,
            &self.path(WalFileName::History(timeline)),
            timeline,
            content,
        )
    }

    /// Removes a file, durably; one that is not there is no error. For the archiver, when the file rests elsewhere.
    pub fn remove(&self, name: WalFileName) -> Result<(), SpoolError> {
        store::remove(&self.folder, &self.path(name))
    }

    /// Takes the right to write here, for as long as the value lives.
    pub(crate) fn lock(&self) -> Result<SpoolLock, SpoolError> {
        SpoolLock::take(&self.folder)
    }
}

#[cfg(test)]
mod tests;
