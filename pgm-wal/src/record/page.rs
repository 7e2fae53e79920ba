//! The header that every page of WAL begins with.
//!
//! ```text
//!  0 magic u16   2 flags u16   4 timeline u32   8 address u64   16 remaining u32   20 padding      short: 24 bytes
//! 24 system id u64            32 segment bytes u32             36 page bytes u32                   long: 40 bytes
//! ```
//!
//! All little-endian: pgm reads the WAL of little-endian servers. The first page of a segment has the long form.
//! Follows `XLogPageHeaderData` in `access/xlog_internal.h` and `XLogReaderValidatePageHeader`.

use pgm_proto::{Lsn, SystemId, TimelineId};

use crate::SegmentSize;

/// The size of a WAL page: PostgreSQL's default, and the only one that is read.
pub const PAGE_BYTES: usize = 8192;

pub(crate) const SHORT_BYTES: usize = 24;
pub(crate) const LONG_BYTES: usize = 40;

const FIRST_IS_CONTINUATION: u16 = 0x0001;
const LONG_HEADER: u16 = 0x0002;
const FIRST_IS_OVERWRITE_CONTINUATION: u16 = 0x0008;
/// With `XLP_BKP_REMOVABLE` (0x0004), which says nothing about reading.
const ALL_FLAGS: u16 = 0x000F;

/// The format of the WAL: it changes with each major version of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalVersion {
    /// PostgreSQL 14.
    V14,
    /// PostgreSQL 15.
    V15,
    /// PostgreSQL 16.
    V16,
    /// PostgreSQL 17.
    V17,
    /// PostgreSQL 18.
    V18,
}

impl WalVersion {
    /// Every version that is read.
    pub const ALL: [Self; 5] = [Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// The version with this `XLOG_PAGE_MAGIC`.
    pub fn from_magic(magic: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.magic() == magic)
    }

    /// Its `XLOG_PAGE_MAGIC`.
    pub const fn magic(self) -> u16 {
        match self {
            Self::V14 => 0xD10D,
            Self::V15 => 0xD110,
            Self::V16 => 0xD113,
            Self::V17 => 0xD116,
            Self::V18 => 0xD118,
        }
    }

    /// Its `CATALOG_VERSION_NO`, which is part of the paths in tablespaces.
    pub const fn catalog(self) -> u32 {
        match self {
            Self::V14 => 202_107_181,
            Self::V15 => 202_209_061,
            Self::V16 => 202_307_071,
            Self::V17 => 202_406_281,
            Self::V18 => 202_506_291,
        }
    }

    /// The major version of PostgreSQL.
    pub const fn major(self) -> u32 {
        match self {
            Self::V14 => 14,
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
        }
    }
}

/// Why a page is not the page that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPage {
    /// The page was never written.
    #[error("the page is empty")]
    Empty,
    /// The page begins with no magic number of PostgreSQL 14 to 18, or with another one than the pages before.
    #[error("the page begins with {0:#06X}, not with the magic number of PostgreSQL 14 to 18")]
    Magic(u16),
    /// Unknown flags.
    #[error("the page header has the flags {0:#06X}")]
    Flags(u16),
    /// The page belongs elsewhere, as in a recycled segment.
    #[error("the page says that it is at {found}")]
    Address {
        /// What the header says.
        found: Lsn,
    },
    /// The first page of a segment has no long header, or another page has one.
    #[error("the page header has the wrong length")]
    HeaderLength,
    /// The segment size in the header is another one.
    #[error("the segment says that segments have {found} bytes")]
    SegmentSize {
        /// What the header says.
        found: u32,
    },
    /// The WAL was written with pages of another size than 8192 bytes.
    #[error("the segment says that pages have {found} bytes; only 8192 is supported")]
    PageSize {
        /// What the header says.
        found: u32,
    },
    /// The page belongs to a timeline that is newer than the segment's, or to none.
    #[error("the page says that it belongs to timeline {found}")]
    Timeline {
        /// What the header says.
        found: u32,
    },
}

/// A checked page header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// The format of the WAL.
    pub version: WalVersion,
    /// The timeline of the first record on the page. In the segment in which a timeline begins, that may be its parent.
    pub timeline: TimelineId,
    /// The bytes that a record which began earlier still has from here on.
    pub remaining: u32,
    /// The server, on the first page of a segment.
    pub system: Option<SystemId>,
    flags: u16,
}

impl PageHeader {
    /// Reads the header of the page at `address` of a segment of `timeline`; `bytes` is the page or its beginning (at
    /// least 40 bytes).
    pub fn parse(
        bytes: &[u8],
        address: Lsn,
        timeline: TimelineId,
        size: SegmentSize,
    ) -> Result<Self, BadPage> {
        let bytes: &[u8; LONG_BYTES] = bytes.first_chunk().ok_or(BadPage::HeaderLength)?;
        if bytes[..SHORT_BYTES].iter().all(|byte| *byte == 0) {
            return Err(BadPage::Empty);
        }
        let magic = u16_at(bytes, 0);
        let version = WalVersion::from_magic(magic).ok_or(BadPage::Magic(magic))?;
        let flags = u16_at(bytes, 2);
        if flags & !ALL_FLAGS != 0 {
            return Err(BadPage::Flags(flags));
        }
        let found = Lsn::new(u64_at(bytes, 8));
        if found != address {
            return Err(BadPage::Address { found });
        }
        let long = flags & LONG_HEADER != 0;
        if long != (size.offset_of(address) == 0) {
            return Err(BadPage::HeaderLength);
        }
        if long {
            check_long(bytes, size)?;
        }
        let number = u32_at(bytes, 4);
        let page_timeline = TimelineId::new(number)
            .filter(|found| *found <= timeline)
            .ok_or(BadPage::Timeline { found: number })?;
        Ok(Self {
            version,
            timeline: page_timeline,
            remaining: u32_at(bytes, 16),
            system: long.then(|| SystemId::new(u64_at(bytes, 24))),
            flags,
        })
    }

    /// The size of segments that the first page of a segment tells; `None` when `bytes` do not begin as one.
    pub fn segment_size(bytes: &[u8; LONG_BYTES]) -> Option<SegmentSize> {
        WalVersion::from_magic(u16_at(bytes, 0))?;
        if u16_at(bytes, 2) & LONG_HEADER == 0 {
            return None;
        }
        SegmentSize::new(u64::from(u32_at(bytes, 32))).ok()
    }

    /// The header's own length.
    #[allow(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        if self.flags & LONG_HEADER != 0 {
            LONG_BYTES
        } else {
            SHORT_BYTES
        }
    }

    /// Whether the page begins with the rest of a record that began earlier.
    pub const fn is_continuation(&self) -> bool {
        self.flags & FIRST_IS_CONTINUATION != 0
    }

    /// Whether the page replaces the rest of a record that a crash cut off.
    pub const fn overwrites_continuation(&self) -> bool {
        self.flags & FIRST_IS_OVERWRITE_CONTINUATION != 0
    }
}

fn check_long(bytes: &[u8; LONG_BYTES], size: SegmentSize) -> Result<(), BadPage> {
    let segment_bytes = u32_at(bytes, 32);
    if u64::from(segment_bytes) != size.bytes() {
        return Err(BadPage::SegmentSize {
            found: segment_bytes,
        });
    }
    let page_bytes = u32_at(bytes, 36);
    if page_bytes as usize != PAGE_BYTES {
        return Err(BadPage::PageSize { found: page_bytes });
    }
    Ok(())
}

fn u16_at(bytes: &[u8; LONG_BYTES], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; LONG_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; LONG_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
