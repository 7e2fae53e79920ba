//! Reading the records of the write-ahead log, of PostgreSQL 14 to 18.
//!
//! A [`RecordReader`] goes through the WAL from a position, along a timeline's [`History`](crate::History), over
//! whatever a [`SegmentSource`] finds: a folder of segments, the archive. Every record's CRC-32C and its link to the
//! record before are checked; [`read_stretches`] does it with several readers at once. On top of it, [`scan`](last_valid) finds what planning a restore asks for (the last valid
//! record, commits, restore points), and [`Target`] says where a recovery stops, as PostgreSQL itself decides it.
//!
//! Invariants: memory does not grow with the length of a record or of the WAL; no bytes, however damaged, make the
//! reader panic or allocate more than it has read; the end of the WAL and damage inside it are told apart.
//!
//! Not here: replaying. What a record says is put into words by [`describe`].

mod block;
mod checksum;
pub mod describe;
mod end;
mod entry;
mod event;
mod found;
mod header;
mod image;
mod names;
mod page;
mod pages;
mod parallel;
mod pglz;
mod position;
mod scan;
mod source;
mod stream;
mod target;
mod verify;

pub use block::{Block, Fork, RelationFile};
pub(crate) use checksum::of_record as record_checksum;
pub use describe::{removed_relations, subtransactions};
pub use end::{End, EndReason, Invalid};
pub use entry::Record;
pub use event::{Event, RestorePoint, TransactionEnd, TransactionKind};
pub use header::{RESOURCE_MANAGER_TRANSACTION, RESOURCE_MANAGER_XLOG};
pub use image::{BLOCK_BYTES, Image, ImageCompression, ImageError};
pub use names::{MadeRelation, RelationNames, drops_relation};
pub use page::{BadPage, PAGE_BYTES, PageHeader, WalVersion};
pub(crate) use page::{LONG_BYTES as HEADER_BYTES_MAX, SHORT_BYTES as HEADER_BYTES_MIN};
pub(crate) use pages::choose_segment;
pub use parallel::{Joined, Stretches, read_stretches};
pub use scan::{
    Scan, Tail, find_restore_point, find_xid, first_commit_after, last_valid, stop_point,
};
pub(crate) use source::read_full;
pub use source::{DirectorySource, SegmentSource, SourceError};
pub use stream::RecordReader;
pub use target::{Inclusion, Side, StopPoint, Target};
pub use verify::{Damage, Verified, verify};

/// Why WAL could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The WAL is invalid in a place after which more of it exists.
    #[error("WAL is damaged at {lsn} in segment {segment}: {reason}")]
    Damaged {
        /// Where the invalid record or page begins.
        lsn: pgm_proto::Lsn,
        /// The file's name.
        segment: String,
        /// What is wrong.
        reason: Invalid,
    },
    /// A segment is missing although a later one exists.
    #[error("WAL segment {segment} is missing, and later WAL exists")]
    Missing {
        /// The missing segment's file name.
        segment: String,
    },
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] pgm_storage::Cancelled),
}

impl RecordError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Damaged { segment, .. } | Self::Missing { segment } => Some(format!(
                "recovery cannot go past this place; look for another copy of segment {segment}"
            )),
            Self::Source(error) => error.hint(),
            Self::Cancelled(_) => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
