//! Frames into raw bytes.

use super::{FrameDamage, FrameError, FrameHeader};
use crate::checksum::crc32c;
use crate::codec::{Codec, GzipDecoder, ZstdDecoder, lz4_decode};

/// Opens frames of every codec, one after the other. Once warm, a frame costs no allocation as long as `out` has room.
#[derive(Debug)]
pub struct FrameDecoder {
    zstd: ZstdDecoder,
    gzip: GzipDecoder,
}

impl FrameDecoder {
    /// A decoder.
    pub fn new() -> Result<Self, FrameError> {
        let zstd = ZstdDecoder::new().map_err(|source| FrameError::Compress {
            codec: "zstd",
            source,
        })?;
        Ok(Self {
            zstd,
            gzip: GzipDecoder::new(),
        })
    }

    /// Replaces the content of `out` by the raw bytes of `frame`, which must be exactly one whole frame. Both checksums
    /// are checked. On an error `out` is empty.
    pub fn decode(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<FrameHeader, FrameError> {
        let decoded = self.try_decode(frame, out);
        if decoded.is_err() {
            out.clear();
        }
        decoded
    }

    fn try_decode(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<FrameHeader, FrameError> {
        // Bounded by the header's check. Nothing is cleared first: with frames of one size this touches no byte.
        let raw_bytes = FrameHeader::parse(frame)?.raw_bytes as usize;
        out.resize(raw_bytes, 0);
        self.decode_into(frame, out)
    }

    /// Writes the raw bytes of `frame` to the front of `out`, which [`FRAME_RAW_MAX`](crate::FRAME_RAW_MAX) bytes are enough for; else as
    /// [`decode`](Self::decode). On an error `out` holds anything.
    pub fn decode_into(&mut self, frame: &[u8], out: &mut [u8]) -> Result<FrameHeader, FrameError> {
        let header = check_frame(frame)?;
        let payload = &frame[frame.len() - header.payload_bytes as usize..];
        let raw_bytes = header.raw_bytes as usize;
        let out = out
            .get_mut(..raw_bytes)
            .ok_or(FrameError::TooLarge { raw_bytes })?;
        let decoded = match header.codec {
            Codec::Zstd => self.zstd.decode(payload, out),
            Codec::Lz4 => lz4_decode(payload, out),
            Codec::Gzip => self.gzip.decode(payload, out),
            Codec::None => {
                // One checksum says it all: the header's two are equal here, and so are the lengths.
                out.copy_from_slice(payload);
                return Ok(header);
            }
        };
        if !decoded.is_ok_and(|decoded| decoded == raw_bytes) {
            return Err(FrameDamage::Payload.into());
        }
        if crc32c(out) != header.raw_crc {
            return Err(FrameDamage::RawChecksum.into());
        }
        Ok(header)
    }
}

/// Checks that `frame` is exactly one whole frame with an intact header and payload, without decoding it.
pub(crate) fn check_frame(frame: &[u8]) -> Result<FrameHeader, FrameError> {
    let header = FrameHeader::parse(frame)?;
    let wanted = header.frame_bytes() as usize;
    if frame.len() != wanted {
        return Err(FrameDamage::Length {
            found: frame.len(),
            wanted,
        }
        .into());
    }
    if crc32c(&frame[super::FRAME_HEADER_BYTES..]) != header.payload_crc {
        return Err(FrameDamage::PayloadChecksum.into());
    }
    Ok(header)
}
