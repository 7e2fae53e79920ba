//! How a record is laid out behind its header: block headers, then images and data of the blocks, then main data.
//!
//! ```text
//! header 24 | id, … | id, … | 255, length u8 (or 254, length u32) | image, data of each block | main data
//!
//! id ≤ 32   fork and flags u8, data length u16, [image length u16, hole offset u16, image info u8, [hole length u16]],
//!           [tablespace u32, database u32, relation u32], block u32
//! 253       replication origin u16
//! 252       top-level xid u32
//! ```
//!
//! The image header is there if the flags say so, the hole's length only for a compressed image with a hole, the
//! relation unless it is that of the block before. Follows `DecodeXLogRecord` in `access/transam/xlogreader.c`.

use std::fmt;

use super::image::{Image, ImageInfo};
use super::page::WalVersion;

/// The longest that the part before the data can be: 33 blocks of 27 bytes, main data, origin and top-level xid.
pub(super) const HEAD_BYTES_MAX: usize = 1024;
/// How many blocks a record can refer to.
pub(super) const BLOCKS_MAX: usize = 33;

const BLOCK_ID_MAX: u8 = 32;
const ID_MAIN_SHORT: u8 = 255;
const ID_MAIN_LONG: u8 = 254;
const ID_ORIGIN: u8 = 253;
const ID_TOP_LEVEL_XID: u8 = 252;

const FORK_MASK: u8 = 0x0F;
const FLAG_HAS_IMAGE: u8 = 0x10;
const FLAG_HAS_DATA: u8 = 0x20;
const FLAG_WILL_INIT: u8 = 0x40;
const FLAG_SAME_RELATION: u8 = 0x80;

/// The files of a relation (`RelFileLocator`). Prints as `1663/5/16384`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelationFile {
    /// The tablespace's OID.
    pub tablespace: u32,
    /// The database's OID, 0 for shared relations.
    pub database: u32,
    /// The relation's file number, 0 where all relations of the database are meant.
    pub number: u32,
}

impl fmt::Display for RelationFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tablespace, self.database, self.number)
    }
}

/// One of the files that a relation consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// The rows or index entries.
    Main,
    /// The free space map, which is not fully WAL-logged.
    FreeSpaceMap,
    /// The visibility map.
    VisibilityMap,
    /// The empty state of an unlogged relation.
    Init,
}

impl Fork {
    /// Every fork, in the order of their numbers.
    pub const ALL: [Self; 4] = [
        Self::Main,
        Self::FreeSpaceMap,
        Self::VisibilityMap,
        Self::Init,
    ];

    /// The fork with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// PostgreSQL's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::FreeSpaceMap => "fsm",
            Self::VisibilityMap => "vm",
            Self::Init => "init",
        }
    }
}

/// A block that a record refers to.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// Its number within the record, from 0; numbers may be left out.
    pub id: u8,
    /// The relation.
    pub relation: RelationFile,
    /// The fork.
    pub fork: Fork,
    /// The block's number in the fork.
    pub number: u32,
    /// Whether replaying begins with an empty page, whatever was in the block.
    pub starts_empty: bool,
    /// The full page, if the record has it.
    pub image: Option<Image<'a>>,
    /// What the record says about the block.
    pub data: &'a [u8],
}

/// A block, with the places of its parts in the record's bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockPart {
    id: u8,
    fork: Fork,
    flags: u8,
    data_len: u16,
    image: Option<ImageInfo>,
    relation: RelationFile,
    number: u32,
    /// Where the image begins; the data follows it.
    at: u32,
}

impl BlockPart {
    /// The block, of which `record` holds the parts.
    pub(super) fn of<'a>(&self, record: &'a [u8]) -> Block<'a> {
        let rest = record.get(self.at as usize..).unwrap_or_default();
        let image_len = self.image.map_or(0, |image| usize::from(image.len));
        let (image, rest) = rest.split_at(image_len.min(rest.len()));
        Block {
            id: self.id,
            relation: self.relation,
            fork: self.fork,
            number: self.number,
            starts_empty: self.flags & FLAG_WILL_INIT != 0,
            image: self.image.map(|info| info.of(image)),
            data: &rest[..usize::from(self.data_len).min(rest.len())],
        }
    }
}

/// What stands before the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The main data, which ends the record.
    pub(super) main_len: u32,
    /// The full-page images together.
    pub(super) images_len: u32,
    /// The replication origin, if the record names one.
    pub(super) origin: Option<u16>,
    /// The transaction that the record's own is a part of, if the record says so.
    pub(super) top_level_xid: Option<u32>,
}

/// Reads the headers in `head` (the record after its first 24 bytes, or the beginning of that) of a record that has
/// `body_len` bytes after its first 24; the blocks go to `blocks`. `None` when they contradict each other.
#[inline]
pub(super) fn shape(
    head: &[u8],
    body_len: u32,
    version: WalVersion,
    blocks: &mut Vec<BlockPart>,
) -> Option<Shape> {
    blocks.clear();
    let mut rest = Cursor {
        bytes: head,
        taken: 0,
    };
    let mut shape = Shape::default();
    let mut data: u64 = 0;
    let mut block_next = 0;
    let mut relation = None;
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
            ID_ORIGIN => shape.origin = Some(rest.u16()?),
            ID_TOP_LEVEL_XID => shape.top_level_xid = Some(rest.u32()?),
            id @ 0..=BLOCK_ID_MAX if id >= block_next => {
                block_next = id + 1;
                let mut part = block(id, &mut rest, version, &mut relation)?;
                part.at = data as u32;
                let image_len = part.image.map_or(0, |image| u32::from(image.len));
                data += u64::from(part.data_len) + u64::from(image_len);
                shape.images_len += image_len;
                blocks.push(part);
            }
            _ => return None,
        }
    }
    let begin = (super::header::HEADER_BYTES as u64 + rest.taken) as u32;
    for block in blocks {
        block.at += begin;
    }
    (rest.taken + data == u64::from(body_len)).then_some(shape)
}

/// Reads one block header after its id. A header without a relation means that of the block before.
fn block(
    id: u8,
    rest: &mut Cursor<'_>,
    version: WalVersion,
    relation: &mut Option<RelationFile>,
) -> Option<BlockPart> {
    let flags = rest.u8()?;
    let fork = Fork::from_number(u32::from(flags & FORK_MASK))?;
    let data_len = rest.u16()?;
    if (flags & FLAG_HAS_DATA != 0) != (data_len != 0) {
        return None;
    }
    let image = if flags & FLAG_HAS_IMAGE != 0 {
        let (len, hole_offset, info) = (rest.u16()?, rest.u16()?, rest.u8()?);
        let stored_hole = if ImageInfo::stores_hole_len(info, version) {
            Some(rest.u16()?)
        } else {
            None
        };
        Some(ImageInfo::new(
            len,
            hole_offset,
            stored_hole,
            info,
            version,
        )?)
    } else {
        None
    };
    if flags & FLAG_SAME_RELATION == 0 {
        *relation = Some(RelationFile {
            tablespace: rest.u32()?,
            database: rest.u32()?,
            number: rest.u32()?,
        });
    }
    Some(BlockPart {
        id,
        fork,
        flags,
        data_len,
        image,
        relation: (*relation)?,
        number: rest.u32()?,
        at: 0,
    })
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
