//! A server's WAL in a repository.
//!
//! ```text
//! SERVER/wal/00000001/000000010000000000000003                             a finished segment
//! SERVER/wal/00000001/000000010000000000000004.00000000043A1B28.partial    what is valid of an unfinished one
//! SERVER/wal/00000002.history                                              a history file
//! ```
//!
//! Every object is a pack of frames. What is there is never overwritten: storing the same bytes again does nothing, and
//! other bytes under the same name are [`ArchiveError::SplitBrain`]. An unfinished segment's object names the end of its
//! last valid record, so that a later and longer one lies beside it; the longest counts. Storing returns only when the
//! object is durable *and* was read back and compared with the file it came from.
//!
//! [`ArchiveIndex`] says which positions are there, [`Archive::fetch`] answers PostgreSQL's `restore_command`, and
//! an [`AheadFolder`] has what it will ask for next,
//! [`ArchiveSource`] gives the bytes to [`record`](crate::record), and the [`Archiver`] brings finished segments from
//! the spool here. What is no longer needed is said by retention; [`Archive::remove`] only removes it.

mod ahead;
mod archiver;
mod backlog;
mod error;
mod fetch;
mod index;
mod layout;
mod local_file;
mod pack;
mod prune;
mod release;
mod source;
mod store;
mod verify;

use std::ops::ControlFlow;
use std::sync::Arc;

use pgm_proto::{ServerName, TimelineId};
use pgm_storage::{ObjectMeta, ObjectPath, Storage};

pub(crate) use local_file::LocalSegment;

pub use ahead::{AheadFolder, AheadPlan, AheadReader};
pub use archiver::{
    ArchiveObserver, ArchiveSignal, Archiver, ArchiverOptions, AskPermit, Incident, LocalCopy,
};
pub use backlog::{Backlog, BacklogWatch};
pub use error::ArchiveError;
pub use fetch::{Lookup, Origin, Remains};
pub use index::{ArchiveIndex, Gap, Interval, Missing, Stretch};
pub use layout::StoredName;
pub use prune::Unneeded;
pub use release::SpoolRelease;
pub use source::ArchiveSource;
pub use store::Stored;
pub use verify::WalDamage;

use crate::{History, SegmentSize, Spool};

/// One server's WAL in a repository.
#[derive(Debug, Clone)]
pub struct Archive {
    storage: Arc<dyn Storage>,
    server: ServerName,
}

impl Archive {
    /// The WAL of `server` in `storage`.
    pub fn new(storage: Arc<dyn Storage>, server: ServerName) -> Self {
        Self { storage, server }
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// The server whose WAL this is.
    pub const fn server(&self) -> &ServerName {
        &self.server
    }

    /// Gives the name and stored size of every object to `visit`, until it breaks.
    pub fn list(
        &self,
        size: SegmentSize,
        visit: &mut dyn FnMut(StoredName, u64) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        self.survey(size, &mut |name, meta| visit(name, meta.size))
    }

    /// Gives the name of every object, and what the storage says of it, to `visit`, until it breaks.
    pub fn survey(
        &self,
        size: SegmentSize,
        visit: &mut dyn FnMut(StoredName, &ObjectMeta) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        let folder = self.folder()?;
        Ok(self.storage.list(&folder, &mut |meta| match meta
            .path
            .below(&folder)
            .and_then(|below| StoredName::parse(below, size))
        {
            Some(name) => visit(name, &meta),
            None => ControlFlow::Continue(()),
        })?)
    }

    /// How large the segments here are, from the first one; `None` while there is none.
    pub fn segment_size(&self) -> Result<Option<SegmentSize>, ArchiveError> {
        let folder = self.folder()?;
        let mut first = None;
        // Segments, unlike history files, rest in their timeline's folder; an unfinished one has full size.
        self.storage.list(&folder, &mut |meta| {
            let below = meta.path.below(&folder).unwrap_or_default();
            if !below.contains('/') {
                return ControlFlow::Continue(());
            }
            first = Some(meta.path);
            ControlFlow::Break(())
        })?;
        let Some(object) = first else {
            return Ok(None);
        };
        let bytes = self.open_pack(&object)?.summary().raw_bytes;
        SegmentSize::new(bytes)
            .map(Some)
            .map_err(|error| ArchiveError::Damaged {
                object: object.to_string(),
                reason: error.to_string(),
            })
    }

    /// The history of `timeline`, from here or from the spool. `None` when neither has its file; timeline 1 has none
    /// and needs none.
    pub fn history(
        &self,
        timeline: TimelineId,
        spool: Option<&Spool>,
    ) -> Result<Option<History>, ArchiveError> {
        if timeline == TimelineId::FIRST {
            return Ok(Some(History::root(timeline)));
        }
        if let Some(content) = self.read_history(timeline)? {
            return History::parse(timeline, &content)
                .map(Some)
                .map_err(|error| {
                    let object = self
                        .history_object(timeline)
                        .map_or_else(|_| timeline.to_string(), |object| object.to_string());
                    ArchiveError::Damaged {
                        object,
                        reason: error.to_string(),
                    }
                });
        }
        match spool {
            Some(spool) => Ok(spool.history(timeline)?),
            None => Ok(None),
        }
    }

    /// What is here, together with what is in the spool. An unfinished segment in the spool counts up to its last valid
    /// record, which may not be durable yet: only the receiver knows that.
    pub fn index(
        &self,
        size: SegmentSize,
        spool: Option<&Spool>,
    ) -> Result<ArchiveIndex, ArchiveError> {
        let mut index = ArchiveIndex::new(size);
        // The spool first: a segment on its way from there to here is then seen at least once.
        if let Some(spool) = spool {
            index.add_spool(spool)?;
        }
        self.list(size, &mut |name, _| {
            index.add(name);
            ControlFlow::Continue(())
        })?;
        Ok(index)
    }

    fn folder(&self) -> Result<ObjectPath, ArchiveError> {
        Ok(ObjectPath::parse(self.server.as_str())?.join("wal")?)
    }

    fn object(&self, name: StoredName, size: SegmentSize) -> Result<ObjectPath, ArchiveError> {
        Ok(self.folder()?.join(&name.path(size))?)
    }

    fn history_object(&self, timeline: TimelineId) -> Result<ObjectPath, ArchiveError> {
        self.object(StoredName::History(timeline), SegmentSize::DEFAULT)
    }
}

#[cfg(test)]
mod tests;
