//! Raw bytes into frames.

use super::{FRAME_RAW_MAX, FrameError, FrameHeader};
use crate::checksum::crc32c;
use crate::codec::{Codec, Compression, GzipEncoder, Lz4Encoder, ZstdEncoder};

/// Makes frames, one after the other, with one compression. Once warm, a frame costs no allocation as long as `out` has
/// room.
///
/// ```
/// use pgm_storage::{Compression, FrameDecoder, FrameEncoder};
///
/// let mut frame = Vec::new();
/// FrameEncoder::new(Compression::ZSTD)?.encode(&[7; 8192], &mut frame)?;
/// let mut raw = Vec::new();
/// FrameDecoder::new()?.decode(&frame, &mut raw)?;
/// assert_eq!(raw, [7; 8192]);
/// # Ok::<(), pgm_storage::FrameError>(())
/// ```
#[derive(Debug)]
pub struct FrameEncoder {
    compression: Compression,
    machine: Machine,
    /// Where compressed bytes go first; it only grows, to the bound of the largest frame so far.
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum Machine {
    None,
    Zstd(ZstdEncoder),
    Lz4(Lz4Encoder),
    Gzip(GzipEncoder),
}

impl FrameEncoder {
    /// An encoder for frames of `compression`.
    pub fn new(compression: Compression) -> Result<Self, FrameError> {
        let machine = match compression.codec() {
            Codec::None => Machine::None,
            Codec::Zstd => {
                Machine::Zstd(ZstdEncoder::new(compression.level()).map_err(|source| {
                    FrameError::Compress {
                        codec: "zstd",
                        source,
                    }
                })?)
            }
            Codec::Lz4 => Machine::Lz4(Lz4Encoder::new()),
            Codec::Gzip => Machine::Gzip(GzipEncoder::new(compression.level())),
        };
        Ok(Self {
            compression,
            machine,
            scratch: Vec::new(),
        })
    }

    /// The compression of this encoder.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Appends one frame with `raw` to `out`. Bytes that compression does not make fewer are kept as they are. On an
    /// error nothing is appended.
    pub fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<FrameHeader, FrameError> {
        self.encode_summed(raw, crc32c(raw), out)
    }

    /// As [`encode`](Self::encode), of bytes whose CRC-32C is known to be `raw_crc`.
    pub fn encode_summed(
        &mut self,
        raw: &[u8],
        raw_crc: u32,
        out: &mut Vec<u8>,
    ) -> Result<FrameHeader, FrameError> {
        debug_assert_eq!(raw_crc, crc32c(raw), "the checksum is of other bytes");
        if raw.len() > FRAME_RAW_MAX {
            return Err(FrameError::TooLarge {
                raw_bytes: raw.len(),
            });
        }
        let (codec, payload) = match self.compress(raw)? {
            Some(payload_bytes) => (self.compression.codec(), &self.scratch[..payload_bytes]),
            None => (Codec::None, raw),
        };
        let header = FrameHeader {
            codec,
            raw_bytes: raw.len() as u32,
            payload_bytes: payload.len() as u32,
            raw_crc,
            payload_crc: if codec == Codec::None {
                raw_crc
            } else {
                crc32c(payload)
            },
        };
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(payload);
        Ok(header)
    }

    /// Compresses into the scratch buffer; `None` when that would not make the bytes fewer.
    fn compress(&mut self, raw: &[u8]) -> Result<Option<usize>, FrameError> {
        let bound = match &self.machine {
            Machine::None => return Ok(None),
            Machine::Zstd(_) => ZstdEncoder::bound(raw.len()),
            Machine::Lz4(_) => Lz4Encoder::bound(raw.len()),
            Machine::Gzip(_) => GzipEncoder::bound(raw.len()),
        };
        if self.scratch.len() < bound {
            self.scratch.resize(bound, 0);
        }
        let out = self.scratch.as_mut_slice();
        let payload_bytes = match &mut self.machine {
            Machine::None => return Ok(None),
            Machine::Zstd(machine) => machine.encode(raw, out),
            Machine::Lz4(machine) => machine.encode(raw, out),
            Machine::Gzip(machine) => machine.encode(raw, out),
        }
        .map_err(|source| FrameError::Compress {
            codec: self.compression.codec().name(),
            source,
        })?;
        Ok((payload_bytes < raw.len()).then_some(payload_bytes))
    }
}
