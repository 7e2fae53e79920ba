//! Reading the records of the write-ahead log, of PostgreSQL 14 to 18.
//!
//! A [`RecordReader`] goes through the WAL from a position, along a timeline's [`History`](crate::History), over
//! whatever a [`SegmentSource`] finds: a folder of segments, the archive. Every record's CRC-32C and its link to the
//! record before are checked. On top of it, [`scan`](last_valid) finds what planning a restore asks for (the last valid
//! record, commits, restore points), and [`Target`] says where a recovery stops, as PostgreSQL itself decides it.
//!
//! Invariants: memory does not grow with the length of a record or of the WAL; no bytes, however damaged, make the
//! reader panic or allocate more than it has read; the end of the WAL and damage inside it are told apart.
//!
//! Not here: what records of most resource managers mean. Only the ends of transactions and restore points are read.

mod block;
mod event;
mod header;
mod page;
mod pages;
mod scan;
mod source;
mod stream;
mod target;

pub use event::{Event, RestorePoint, TransactionEnd, TransactionKind};
pub use header::{RESOURCE_MANAGER_TRANSACTION, RESOURCE_MANAGER_XLOG};
pub(crate) use page::LONG_BYTES as HEADER_BYTES_MAX;
pub use page::{BadPage, PAGE_BYTES, PageHeader, WalVersion};
pub use scan::{
    Scan, Tail, find_restore_point, find_xid, first_commit_after, last_valid, stop_point,
};
pub(crate) use source::read_full;
pub use source::{DirectorySource, SegmentSource, SourceError};
pub use stream::{End, EndReason, Invalid, Record, RecordReader};
pub use target::{Inclusion, Side, StopPoint, Target};

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
