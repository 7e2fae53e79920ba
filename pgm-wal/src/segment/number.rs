//! Which segment of the WAL: its place in the sequence, the same on every timeline.
//!
//! Follows `XLogSegNo` in `access/xlogdefs.h`.

use std::fmt;

use pgm_proto::Lsn;

use super::SegmentSize;

/// The number of a WAL segment: segment `n` begins at byte `n * size` of the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(u64);

impl SegmentNumber {
    /// The segment with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The segment after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The segment before this one, `None` for the first.
    pub fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    /// The position of its first byte.
    pub const fn start(self, size: SegmentSize) -> Lsn {
        Lsn::new(self.0.saturating_mul(size.bytes()))
    }

    /// The position after its last byte.
    pub const fn end(self, size: SegmentSize) -> Lsn {
        self.next().start(size)
    }
}

impl fmt::Display for SegmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
