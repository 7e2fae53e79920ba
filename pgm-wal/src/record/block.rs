//! How a record is laid out behind its header: block headers, block data, main data.
//!
//! ```text
//! header 24 | id, … | id, … | 255, length u8 (or 254, length u32) | data of the blocks | main data
//! ```
//!
//! The block headers are read only as far as their lengths go, to find the main data and the size of the page images.
//! Follows `DecodeXLogRecord` in `access/transam/xlogreader.c`.

use super::page::WalVersion;

/// The longest that the part before the data can be: 33 blocks of 27 bytes, main data, origin and top-level xid.
pub(super) const HEAD_BYTES_MAX: usize = 1024;

const BLOCK_ID_MAX: u8 = 32;
const ID_MAIN_SHORT: u8 = 255;
const ID_MAIN_LONG: u8 = 254;
const ID_ORIGIN: u8 = 253;
const ID_TOP_LEVEL_XID: u8 = 252;

const FORK_HAS_IMAGE: u8 = 0x10;
const FORK_SAME_RELATION: u8 = 0x80;
const IMAGE_HAS_HOLE: u8 = 0x01;

/// Lengths of a record's parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The main data, which ends the record.
    pub(super) main_len: u32,
    /// The full-page images together.
    pub(super) images_len: u32,
}

/// Reads the headers in `head` (the record after its first 24 bytes, or the beginning of that) of a record that has
/// `body_len` bytes after its first 24. `None` when they contradict each other.
pub(super) fn shape(head: &[u8], body_len: u32, version: WalVersion) -> Option<Shape> {
    let mut rest = Cursor {
        bytes: head,
        taken: 0,
    };
    let mut shape = Shape::default();
    let mut data: u64 = 0;
    let mut block_next = 0;
    while u64::from(body_len) > rest.taken + data {
        match rest.u8()? {
            ID_MAIN_SHORT => {
                shape.main_len = u32::from(rest.u8()?);
                data += u64::from(shape.main_len);
                break;
            }
            ID_MAIN_LONG => {
                shape.main_len = rest.u32()?;
                data += u64::from(shape.main_len);
                break;
            }
            ID_ORIGIN => rest.skip(2)?,
            ID_TOP_LEVEL_XID => rest.skip(4)?,
            id @ 0..=BLOCK_ID_MAX if id >= block_next => {
                block_next = id + 1;
                let (data_len, image_len) = block(&mut rest, version)?;
                data += u64::from(data_len) + u64::from(image_len);
                shape.images_len += u32::from(image_len);
            }
            _ => return None,
        }
    }
    (rest.taken + data == u64::from(body_len)).then_some(shape)
}

/// Reads one block header after its id; gives the lengths of its data and of its image.
fn block(rest: &mut Cursor<'_>, version: WalVersion) -> Option<(u16, u16)> {
    let fork_flags = rest.u8()?;
    let data_len = rest.u16()?;
    let mut image_len = 0;
    if fork_flags & FORK_HAS_IMAGE != 0 {
        image_len = rest.u16()?;
        let _hole_offset = rest.u16()?;
        let info = rest.u8()?;
        let compressed = match version {
            WalVersion::V14 => info & 0x02 != 0,
            _ => info & 0x1C != 0,
        };
        if compressed && info & IMAGE_HAS_HOLE != 0 {
            rest.skip(2)?;
        }
    }
    if fork_flags & FORK_SAME_RELATION == 0 {
        rest.skip(12)?;
    }
    rest.skip(4)?;
    Some((data_len, image_len))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    taken: u64,
}

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        self.taken += N as u64;
        Some(*taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.bytes = self.bytes.get(count..)?;
        self.taken += count as u64;
        Some(())
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
}
