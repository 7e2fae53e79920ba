//! What is there instead of another record.

use pgm_proto::Lsn;

use super::page::BadPage;

/// Where and why the records end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The end of the last valid record; the position that was asked for if there is none.
    pub lsn: Lsn,
    /// What is there instead of another record.
    pub reason: EndReason,
}

/// What was found at the end of the WAL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// The segment does not exist.
    #[error("segment {0} does not exist")]
    NoSegment(String),
    /// Nothing was written there yet, or only a part of a record.
    #[error("{0}")]
    Invalid(Invalid),
}

/// Why there is no valid record at a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Zeros: nothing was written.
    #[error("nothing was written there")]
    Empty,
    /// The page's header is wrong.
    #[error(transparent)]
    Page(#[from] BadPage),
    /// The record's length is impossible.
    #[error("the record has the length {0}")]
    Length(u32),
    /// The record names another predecessor.
    #[error("the record follows {found}, not {expected}")]
    Previous {
        /// Where the record before this one begins.
        expected: Lsn,
        /// What the record says.
        found: Lsn,
    },
    /// No resource manager has this number.
    #[error("the record belongs to resource manager {0}")]
    ResourceManager(u8),
    /// A page does not go on with the record that began before it.
    #[error("the page goes on with {found} bytes of a record that has {expected} left")]
    Continuation {
        /// What is left of the record.
        expected: u32,
        /// What the page says.
        found: u32,
    },
    /// The checksum does not match.
    #[error("the record's checksum does not match")]
    Checksum,
    /// The block headers contradict the record's length.
    #[error("the record's parts contradict its length")]
    Parts,
}
