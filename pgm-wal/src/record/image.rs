//! Full-page images: as they are stored in a record, and back to a page.
//!
//! The page's unused middle, its *hole*, is left out; what is left may be compressed with pglz, from PostgreSQL 15 on
//! also with LZ4 or zstd. Follows `RestoreBlockImage` in `access/transam/xlogreader.c`.

use super::page::WalVersion;
use super::pglz;

/// The size of a relation's page: PostgreSQL's default, and the only one that is read.
pub const BLOCK_BYTES: usize = 8192;

const HAS_HOLE: u8 = 0x01;

/// How an image is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageCompression {
    /// Not at all.
    None,
    /// PostgreSQL's own.
    Pglz,
    /// LZ4, without a frame.
    Lz4,
    /// zstd.
    Zstd,
    /// More than one of them or another one: the record contradicts itself.
    Unknown,
}

impl ImageCompression {
    fn of(info: u8, version: WalVersion) -> Self {
        if version == WalVersion::V14 {
            return if info & 0x02 != 0 {
                Self::Pglz
            } else {
                Self::None
            };
        }
        match info & 0x1C {
            0 => Self::None,
            0x04 => Self::Pglz,
            0x08 => Self::Lz4,
            0x10 => Self::Zstd,
            _ => Self::Unknown,
        }
    }

    /// PostgreSQL's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pglz => "pglz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Unknown => "unknown",
        }
    }
}

/// What a block header says of its image.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageInfo {
    pub(super) len: u16,
    hole_offset: u16,
    hole_len: u16,
    compression: ImageCompression,
    applied: bool,
}

impl ImageInfo {
    /// Whether the header of an image with this info has the hole's length.
    pub(super) fn stores_hole_len(info: u8, version: WalVersion) -> bool {
        info & HAS_HOLE != 0 && ImageCompression::of(info, version) != ImageCompression::None
    }

    /// `None` when the fields contradict each other.
    pub(super) fn new(
        len: u16,
        hole_offset: u16,
        stored_hole: Option<u16>,
        info: u8,
        version: WalVersion,
    ) -> Option<Self> {
        let has_hole = info & HAS_HOLE != 0;
        let compression = ImageCompression::of(info, version);
        let compressed = compression != ImageCompression::None;
        let full = BLOCK_BYTES as u16;
        let hole_len = match stored_hole {
            Some(stored) => stored,
            None if compressed => 0,
            None => full.checked_sub(len)?,
        };
        let consistent = if has_hole {
            hole_offset != 0 && hole_len != 0 && len < full
        } else {
            hole_offset == 0 && hole_len == 0 && (len == full) != compressed
        };
        let applied =
            info & if version == WalVersion::V14 {
                0x04
            } else {
                0x02
            } != 0;
        consistent.then_some(Self {
            len,
            hole_offset,
            hole_len,
            compression,
            applied,
        })
    }

    pub(super) const fn of(self, bytes: &[u8]) -> Image<'_> {
        Image {
            bytes,
            hole_offset: self.hole_offset,
            hole_len: self.hole_len,
            compression: self.compression,
            applied: self.applied,
        }
    }
}

/// The image of a page in a record.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// What is stored: the page without its hole, perhaps compressed.
    pub bytes: &'a [u8],
    /// Where the hole begins.
    pub hole_offset: u16,
    /// How long it is.
    pub hole_len: u16,
    /// How the rest is compressed.
    pub compression: ImageCompression,
    /// Whether replaying puts the page into place; else it is only compared with (`wal_consistency_checking`).
    pub applied: bool,
}

/// An image does not decompress to a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the full-page image does not decompress to a page")]
pub struct ImageError;

impl Image<'_> {
    /// Writes the page to `page`.
    pub fn restore(&self, page: &mut [u8; BLOCK_BYTES]) -> Result<(), ImageError> {
        let (begin, len) = (usize::from(self.hole_offset), usize::from(self.hole_len));
        if begin + len > BLOCK_BYTES {
            return Err(ImageError);
        }
        let rest_len = BLOCK_BYTES - len;
        let rest = &mut page[..rest_len];
        let filled = match self.compression {
            ImageCompression::None if self.bytes.len() == rest_len => {
                rest.copy_from_slice(self.bytes);
                Some(rest_len)
            }
            ImageCompression::None | ImageCompression::Unknown => None,
            ImageCompression::Pglz => pglz::decompress(self.bytes, rest),
            ImageCompression::Lz4 => lz4_flex::block::decompress_into(self.bytes, rest).ok(),
            ImageCompression::Zstd => zstd::bulk::decompress_to_buffer(self.bytes, rest).ok(),
        };
        if filled != Some(rest_len) {
            return Err(ImageError);
        }
        page.copy_within(begin..rest_len, begin + len);
        page[begin..begin + len].fill(0);
        Ok(())
    }
}
