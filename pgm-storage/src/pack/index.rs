//! Where the frames of a pack are: its header, index and footer as bytes.
//!
//! What is read here is checked as a whole: the frames it names follow each other without gaps from the header to the
//! index, so nobody who uses a location needs to check it again.

use crate::checksum::crc32c;
use crate::frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FRAME_RAW_MAX};

/// The most frames in a pack: a bound for its index (20 MiB).
pub const PACK_FRAMES_MAX: u32 = 1 << 20;

pub(super) const HEADER_BYTES: usize = 16;
pub(super) const FOOTER_BYTES: usize = 32;
const INDEX_HEAD_BYTES: usize = 8;
const ENTRY_BYTES: usize = 20;

pub(super) const HEADER_MAGIC: [u8; 4] = *b"PGMP";
const INDEX_MAGIC: [u8; 4] = *b"PGMI";
const FOOTER_MAGIC: [u8; 4] = *b"PGME";
pub(super) const VERSION: u8 = 1;

/// What the frames of a pack hold. This crate writes it down and does not interpret it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PackKind(pub u16);

impl PackKind {
    /// Nothing is said.
    pub const UNSPECIFIED: Self = Self(0);
}

/// Where a frame is in its pack, and what comes out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameLocation {
    /// Where its header begins.
    pub offset: u64,
    /// The bytes of the whole frame, header included: the next frame begins behind them.
    pub stored_bytes: u32,
    /// The bytes that come out.
    pub raw_bytes: u32,
    /// CRC-32C of the bytes that come out.
    pub crc: u32,
}

impl FrameLocation {
    /// Where the next frame begins.
    pub const fn end(&self) -> u64 {
        self.offset + self.stored_bytes as u64
    }

    /// Whether its lengths are such as frames have.
    pub(super) fn is_plausible(&self) -> bool {
        (FRAME_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&(self.stored_bytes as usize))
            && self.raw_bytes as usize <= FRAME_RAW_MAX
    }
}

/// The header of a pack.
pub(super) fn header_bytes(kind: PackKind) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&HEADER_MAGIC);
    bytes[4] = VERSION;
    bytes[6..8].copy_from_slice(&kind.0.to_le_bytes());
    let crc = crc32c(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The format version and kind; whoever calls decides whether it knows the version.
pub(super) fn parse_header(bytes: &[u8; HEADER_BYTES]) -> Result<(u8, PackKind), String> {
    if bytes[..4] != HEADER_MAGIC {
        return Err("it does not begin like a pack".to_owned());
    }
    if crc32c(&bytes[..12]) != u32_at(bytes, 12) {
        return Err("its header does not match its checksum".to_owned());
    }
    if bytes[4] != VERSION {
        return Ok((bytes[4], PackKind::UNSPECIFIED));
    }
    if bytes[5] != 0 || bytes[8..12] != [0; 4] {
        return Err("its header contradicts itself".to_owned());
    }
    Ok((VERSION, PackKind(u16::from_le_bytes([bytes[6], bytes[7]]))))
}

fn index_bytes(frames: &[FrameLocation]) -> Vec<u8> {
    let length = INDEX_HEAD_BYTES + frames.len() * ENTRY_BYTES;
    let mut bytes = Vec::with_capacity(length + FOOTER_BYTES);
    let count = (frames.len() as u32).to_le_bytes();
    bytes.extend_from_slice(&INDEX_MAGIC);
    bytes.extend_from_slice(&count);
    for frame in frames {
        bytes.extend_from_slice(&frame.offset.to_le_bytes());
        bytes.extend_from_slice(&frame.stored_bytes.to_le_bytes());
        bytes.extend_from_slice(&frame.raw_bytes.to_le_bytes());
        bytes.extend_from_slice(&frame.crc.to_le_bytes());
    }
    bytes
}

/// The checksum of the index of a pack with these frames. It tells what comes out of all of them, too.
pub fn index_crc(frames: &[FrameLocation]) -> u32 {
    crc32c(&index_bytes(frames))
}

/// The index and footer behind frames that end at `index_offset`.
pub(super) fn index_and_footer_bytes(frames: &[FrameLocation], index_offset: u64) -> Vec<u8> {
    let mut bytes = index_bytes(frames);
    let (footer_at, count) = (bytes.len(), (frames.len() as u32).to_le_bytes());
    let index_crc = crc32c(&bytes);
    let raw_bytes: u64 = frames.iter().map(|frame| u64::from(frame.raw_bytes)).sum();
    bytes.extend_from_slice(&FOOTER_MAGIC);
    bytes.extend_from_slice(&count);
    bytes.extend_from_slice(&index_offset.to_le_bytes());
    bytes.extend_from_slice(&raw_bytes.to_le_bytes());
    bytes.extend_from_slice(&index_crc.to_le_bytes());
    let footer_crc = crc32c(&bytes[footer_at..]);
    bytes.extend_from_slice(&footer_crc.to_le_bytes());
    bytes
}

/// A footer whose own bytes are right and whose index fits between the header and it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Footer {
    pub(super) index_offset: u64,
    pub(super) index_bytes: usize,
    frames: u32,
    raw_bytes: u64,
    index_crc: u32,
}

/// Checks the last bytes of a pack of `size` bytes.
pub(super) fn parse_footer(bytes: &[u8; FOOTER_BYTES], size: u64) -> Result<Footer, String> {
    if bytes[..4] != FOOTER_MAGIC {
        return Err("it does not end like a pack".to_owned());
    }
    if crc32c(&bytes[..28]) != u32_at(bytes, 28) {
        return Err("its footer does not match its checksum".to_owned());
    }
    let frames = u32_at(bytes, 4);
    if frames > PACK_FRAMES_MAX {
        return Err(format!("its footer announces {frames} frames"));
    }
    let index_bytes = INDEX_HEAD_BYTES + frames as usize * ENTRY_BYTES;
    let index_offset = u64_at(bytes, 8);
    let ends_at_footer =
        index_offset.checked_add((index_bytes + FOOTER_BYTES) as u64) == Some(size);
    if !ends_at_footer || index_offset < HEADER_BYTES as u64 {
        return Err("its footer does not fit its size".to_owned());
    }
    let raw_bytes = u64_at(bytes, 16);
    Ok(Footer {
        index_offset,
        index_bytes,
        frames,
        raw_bytes,
        index_crc: u32_at(bytes, 24),
    })
}

/// Checks the index that `footer` announces, and that its frames fill the space before it.
pub(super) fn parse_index(bytes: &[u8], footer: &Footer) -> Result<Vec<FrameLocation>, String> {
    if crc32c(bytes) != footer.index_crc {
        return Err("its index does not match its checksum".to_owned());
    }
    let contradiction = || "its index contradicts its footer".to_owned();
    let (head, entries) = bytes
        .split_first_chunk::<INDEX_HEAD_BYTES>()
        .ok_or_else(contradiction)?;
    if head[..4] != INDEX_MAGIC || u32_at(head, 4) != footer.frames {
        return Err(contradiction());
    }
    let mut frames = Vec::with_capacity(footer.frames as usize);
    let (mut end, mut raw_bytes) = (HEADER_BYTES as u64, 0u64);
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let frame = FrameLocation {
            offset: u64_at(entry, 0),
            stored_bytes: u32_at(entry, 8),
            raw_bytes: u32_at(entry, 12),
            crc: u32_at(entry, 16),
        };
        if frame.offset != end || !frame.is_plausible() {
            return Err(format!(
                "its index has no possible place for frame {}",
                frames.len()
            ));
        }
        end = frame.end();
        raw_bytes += u64::from(frame.raw_bytes);
        frames.push(frame);
    }
    if end != footer.index_offset || raw_bytes != footer.raw_bytes {
        return Err(contradiction());
    }
    Ok(frames)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
