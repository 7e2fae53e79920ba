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

use super::header::HEADER_BYTES;
use super::image::{Image, ImageInfo};
use super::page::WalVersion;

/// The longest that the part before the data can be: 33 blocks of 27 bytes, main data, origin and top-level xid.
pub(super) const HEAD_BYTES_MAX: usize = 1024;
/// A block's header is 27 bytes at most.
const WINDOW_BYTES: usize = 32;

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
    /// How many blocks there are.
    pub(super) blocks: u32,
    /// How long the headers are, from behind the record's first 24 bytes on.
    pub(super) head_len: u32,
}

/// Reads the headers in `head` of a record that has `body_len` bytes after its first 24: `head` begins behind those and
/// holds the headers at least; what follows in it does not matter. `None` when they contradict each other.
///
/// What it finds is stored once: a call would store it in small pieces, and waiting for those takes longer than finding them.
#[allow(clippy::inline_always, reason = "measured: a tenth of a scan")]
#[inline(always)]
pub(super) fn shape(head: &[u8], body_len: u32, version: WalVersion) -> Option<Shape> {
    let mut shape = Shape::default();
    let (mut at, mut data) = (0, 0);
    let mut block_next = 0;
    let mut relation = false;
    let mut spare = [0; WINDOW_BYTES];
    while body_len as usize > at + data {
        let window = Window::of(head, at, &mut spare);
        match window.u8(0) {
            ID_MAIN_SHORT => {
                shape.main_len = u32::from(window.u8(1));
                data += shape.main_len as usize;
                at += 2;
                break;
            }
            ID_MAIN_LONG => {
                shape.main_len = window.u32(1);
                data += shape.main_len as usize;
                at += 5;
                break;
            }
            ID_ORIGIN => {
                shape.origin = Some(window.u16(1));
                at += 3;
            }
            ID_TOP_LEVEL_XID => {
                shape.top_level_xid = Some(window.u32(1));
                at += 5;
            }
            id if id >= block_next && id <= BLOCK_ID_MAX => {
                block_next = id + 1;
                let header = BlockHeader::read(&window, version)?;
                relation |= header.relation.is_some();
                if !relation {
                    return None;
                }
                let image_len = header.image.map_or(0, |image| u32::from(image.len));
                shape.images_len += image_len;
                shape.blocks += 1;
                data += usize::from(header.data_len) + image_len as usize;
                at += header.len;
            }
            _ => return None,
        }
    }
    shape.head_len = at as u32;
    (at <= head.len() && at + data == body_len as usize).then_some(shape)
}

/// One block's header.
struct BlockHeader {
    fork: Fork,
    flags: u8,
    data_len: u16,
    image: Option<ImageInfo>,
    /// `None` for that of the block before.
    relation: Option<RelationFile>,
    number: u32,
    /// Its own length.
    len: usize,
}

impl BlockHeader {
    #[inline]
    fn read(window: &Window<'_>, version: WalVersion) -> Option<Self> {
        let flags = window.u8(1);
        let fork = Fork::from_number(u32::from(flags & FORK_MASK))?;
        let data_len = window.u16(2);
        if (flags & FLAG_HAS_DATA != 0) != (data_len != 0) {
            return None;
        }
        let mut at = 4;
        let mut image = None;
        if flags & FLAG_HAS_IMAGE != 0 {
            let (len, hole_offset, info) = (window.u16(4), window.u16(6), window.u8(8));
            let stored_hole = ImageInfo::stores_hole_len(info, version).then(|| window.u16(9));
            at += if stored_hole.is_some() { 7 } else { 5 };
            image = Some(ImageInfo::new(
                len,
                hole_offset,
                stored_hole,
                info,
                version,
            )?);
        }
        let mut relation = None;
        if flags & FLAG_SAME_RELATION == 0 {
            relation = Some(RelationFile {
                tablespace: window.u32(at),
                database: window.u32(at + 4),
                number: window.u32(at + 8),
            });
            at += 12;
        }
        Some(Self {
            fork,
            flags,
            data_len,
            image,
            relation,
            number: window.u32(at),
            len: at + 4,
        })
    }
}

/// The blocks of a record, read from its headers.
#[derive(Debug, Clone)]
pub(super) struct Blocks<'a> {
    /// The record behind its header.
    bytes: &'a [u8],
    version: WalVersion,
    /// Where the next header begins, and the next data.
    at: usize,
    data_at: usize,
    relation: RelationFile,
    left: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(bytes: &'a [u8], shape: &Shape, version: WalVersion) -> Self {
        Self {
            bytes: bytes.get(HEADER_BYTES..).unwrap_or_default(),
            version,
            at: 0,
            data_at: shape.head_len as usize,
            relation: RelationFile::default(),
            left: shape.blocks as usize,
        }
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let rest = self.bytes.get(self.data_at..).unwrap_or_default();
        self.data_at += len;
        &rest[..len.min(rest.len())]
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Block<'a>;

    #[inline]
    fn next(&mut self) -> Option<Block<'a>> {
        if self.left == 0 {
            return None;
        }
        let mut spare = [0; WINDOW_BYTES];
        let mut window = Window::of(self.bytes, self.at, &mut spare);
        // Origin and top-level xid come behind the blocks.
        while window.u8(0) > BLOCK_ID_MAX {
            self.at += match window.u8(0) {
                ID_ORIGIN => 3,
                ID_TOP_LEVEL_XID => 5,
                _ => return None,
            };
            window = Window::of(self.bytes, self.at, &mut spare);
        }
        self.left -= 1;
        let header = BlockHeader::read(&window, self.version)?;
        self.at += header.len;
        self.relation = header.relation.unwrap_or(self.relation);
        let image = header
            .image
            .map(|info| info.of(self.take(usize::from(info.len))));
        Some(Block {
            id: window.u8(0),
            relation: self.relation,
            fork: header.fork,
            number: header.number,
            starts_empty: header.flags & FLAG_WILL_INIT != 0,
            image,
            data: self.take(usize::from(header.data_len)),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Blocks<'_> {}

/// As many bytes as a header can have, where they are.
struct Window<'a>(&'a [u8; WINDOW_BYTES]);

impl<'a> Window<'a> {
    /// What begins at `at`; near the end of `bytes` it is put into `spare`, with zeros behind the end.
    #[inline]
    fn of(bytes: &'a [u8], at: usize, spare: &'a mut [u8; WINDOW_BYTES]) -> Self {
        match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(window) => Self(window),
            None => Self::at_end(bytes, at, spare),
        }
    }

    #[cold]
    fn at_end(bytes: &[u8], at: usize, spare: &'a mut [u8; WINDOW_BYTES]) -> Self {
        let rest = bytes.get(at..).unwrap_or_default();
        let len = rest.len().min(WINDOW_BYTES);
        spare.fill(0);
        spare[..len].copy_from_slice(&rest[..len]);
        Self(spare)
    }

    #[inline]
    const fn u8(&self, at: usize) -> u8 {
        self.0[at]
    }

    #[inline]
    const fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    #[inline]
    const fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}
