//! The fixed header of a frame, and its 32 bytes.

use super::{FRAME_RAW_MAX, FrameDamage, FrameError};
use crate::checksum::crc32c;
use crate::codec::Codec;

/// The size of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"PGMF";
const VERSION: u8 = 1;
/// Where the header's own checksum is.
const CHECKSUM_AT: usize = 28;

/// What a frame's header says. One that was read is checked: its checksum matched and its lengths are within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// How the payload is compressed.
    pub codec: Codec,
    /// The bytes that come out of the frame.
    pub raw_bytes: u32,
    /// The bytes behind the header.
    pub payload_bytes: u32,
    /// CRC-32C of the bytes that come out.
    pub raw_crc: u32,
    /// CRC-32C of the bytes behind the header.
    pub payload_crc: u32,
}

impl FrameHeader {
    /// The bytes of the whole frame, header included.
    pub const fn frame_bytes(&self) -> u32 {
        FRAME_HEADER_BYTES as u32 + self.payload_bytes
    }

    /// The header that `frame` begins with. Only its first 32 bytes are looked at.
    pub fn parse(frame: &[u8]) -> Result<Self, FrameError> {
        let header: &[u8; FRAME_HEADER_BYTES] = frame.first_chunk().ok_or(FrameDamage::Length {
            found: frame.len(),
            wanted: FRAME_HEADER_BYTES,
        })?;
        if header[..4] != MAGIC {
            return Err(FrameDamage::Magic.into());
        }
        let (covered, _) = header.split_at(CHECKSUM_AT);
        if u32_at(header, CHECKSUM_AT) != crc32c(covered) {
            return Err(FrameDamage::HeaderChecksum.into());
        }
        if header[4] != VERSION {
            let value = u32::from(header[4]);
            return Err(FrameError::Unsupported {
                what: "format version",
                value,
            });
        }
        if u32_at(header, 8) != 0 {
            return Err(FrameError::Unsupported {
                what: "seal",
                value: u32_at(header, 8),
            });
        }
        let value = u32::from(header[5]);
        let codec = Codec::from_id(header[5]).ok_or(FrameError::Unsupported {
            what: "codec",
            value,
        })?;
        let parsed = Self {
            codec,
            raw_bytes: u32_at(header, 12),
            payload_bytes: u32_at(header, 16),
            raw_crc: u32_at(header, 20),
            payload_crc: u32_at(header, 24),
        };
        if header[6..8] != [0, 0] || !parsed.is_consistent() {
            return Err(FrameDamage::Header.into());
        }
        Ok(parsed)
    }

    /// The header as it rests.
    pub(crate) fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        debug_assert!(self.is_consistent(), "{self:?}");
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.codec.id();
        bytes[12..16].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.raw_crc.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn is_consistent(self) -> bool {
        let kept_raw = self.payload_bytes == self.raw_bytes && self.payload_crc == self.raw_crc;
        self.raw_bytes as usize <= FRAME_RAW_MAX
            && match self.codec {
                Codec::None => kept_raw,
                Codec::Zstd | Codec::Lz4 | Codec::Gzip => self.payload_bytes < self.raw_bytes,
            }
    }
}

fn u32_at(header: &[u8; FRAME_HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}
