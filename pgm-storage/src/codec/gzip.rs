//! gzip, one member per frame, through deflate state that is kept.
//!
//! The member is the plainest there is: a header of ten bytes without name, comment or time, one deflate stream, CRC-32
//! and length. The frame's own checksums are what decides, so the decoder leaves gzip's CRC-32 to other readers.

use std::io;

use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

/// Magic, deflate, no flags, no time, no hint about the level, unknown operating system.
const HEADER: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
/// CRC-32 and length of the raw bytes, little endian.
const TRAILER_BYTES: usize = 8;

#[derive(Debug)]
pub(crate) struct GzipEncoder(Compress);

impl GzipEncoder {
    pub(crate) fn new(level: i32) -> Self {
        Self(Compress::new(
            flate2::Compression::new(level.unsigned_abs()),
            false,
        ))
    }

    /// How large `out` must be to hold whatever `raw_bytes` bytes become: deflate's stored blocks and the wrapping.
    pub(crate) fn bound(raw_bytes: usize) -> usize {
        raw_bytes + raw_bytes / 1000 + 1024
    }

    pub(crate) fn encode(&mut self, raw: &[u8], out: &mut [u8]) -> io::Result<usize> {
        self.0.reset();
        let (header, body) = out.split_at_mut(HEADER.len());
        header.copy_from_slice(&HEADER);
        if self.0.compress(raw, body, FlushCompress::Finish)? != Status::StreamEnd {
            return Err(io::Error::other("deflate needs more room than its bound"));
        }
        let end = self.0.total_out() as usize;
        let mut crc = Crc::new();
        crc.update(raw);
        let trailer = body
            .get_mut(end..end + TRAILER_BYTES)
            .ok_or_else(|| io::Error::other("gzip needs more room than its bound"))?;
        trailer[..4].copy_from_slice(&crc.sum().to_le_bytes());
        trailer[4..].copy_from_slice(&crc.amount().to_le_bytes());
        Ok(HEADER.len() + end + TRAILER_BYTES)
    }
}

#[derive(Debug)]
pub(crate) struct GzipDecoder(Decompress);

impl GzipDecoder {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(false))
    }

    /// Decodes all of `stored` into `out` and gives how many bytes that were; fails if they do not fit.
    pub(crate) fn decode(&mut self, stored: &[u8], out: &mut [u8]) -> io::Result<usize> {
        let body = stored
            .strip_prefix(&HEADER)
            .and_then(|rest| rest.split_last_chunk::<TRAILER_BYTES>())
            .map(|(body, _)| body)
            .ok_or_else(|| io::Error::other("not a gzip member"))?;
        self.0.reset(false);
        let status = self.0.decompress(body, out, FlushDecompress::Finish)?;
        if status != Status::StreamEnd || self.0.total_in() != body.len() as u64 {
            return Err(io::Error::other(
                "the deflate stream does not end where it should",
            ));
        }
        Ok(self.0.total_out() as usize)
    }
}
