//! Writing a pack.

use std::fmt;

use super::index::{self, FrameLocation, PACK_FRAMES_MAX, PackKind};
use crate::codec::Compression;
use crate::error::{Result, StorageError};
use crate::frame::{FRAME_BYTES_MAX, FrameEncoder, FrameError, check_frame};
use crate::storage::ObjectWriter;

/// Bytes collected before they go to the engine.
const WRITE_BYTES: usize = 1 << 20;

/// Appends frames to a new object, and the index when it is finished. Dropped before, it leaves nothing.
///
/// Frames are compressed by this writer ([`append`](Self::append)), or by the caller on other threads
/// ([`append_encoded`](Self::append_encoded)).
pub struct PackWriter {
    object: Box<dyn ObjectWriter>,
    encoder: FrameEncoder,
    /// Frames that the engine does not have yet.
    buffer: Vec<u8>,
    /// Bytes that the engine has.
    written: u64,
    raw_bytes: u64,
    frames: Vec<FrameLocation>,
}

/// What a finished pack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackSummary {
    /// Bytes of the object.
    pub size: u64,
    /// Bytes that come out of all frames.
    pub raw_bytes: u64,
    /// How many frames there are.
    pub frames: u32,
    /// Checksum of the pack's index. The index has the checksums of all frames, so this one tells the pack's content from
    /// that of any other pack.
    pub index_crc: u32,
}

impl PackWriter {
    /// A pack of an unspecified kind.
    pub fn new(object: Box<dyn ObjectWriter>, compression: Compression) -> Result<Self> {
        Self::with_kind(object, compression, PackKind::UNSPECIFIED)
    }

    /// A pack that says of what kind it is.
    pub fn with_kind(
        object: Box<dyn ObjectWriter>,
        compression: Compression,
        kind: PackKind,
    ) -> Result<Self> {
        let encoder = FrameEncoder::new(compression).map_err(|source| StorageError::Frame {
            path: object.place(),
            source,
        })?;
        let mut buffer = Vec::with_capacity(WRITE_BYTES + FRAME_BYTES_MAX);
        buffer.extend_from_slice(&index::header_bytes(kind));
        Ok(Self {
            object,
            encoder,
            buffer,
            written: 0,
            raw_bytes: 0,
            frames: Vec::new(),
        })
    }

    /// Compresses `raw` (at most [`FRAME_RAW_MAX`](crate::FRAME_RAW_MAX) bytes) into a frame and appends it.
    pub fn append(&mut self, raw: &[u8]) -> Result<FrameLocation> {
        self.check_room()?;
        let offset = self.bytes();
        let header = self
            .encoder
            .encode(raw, &mut self.buffer)
            .map_err(|e| self.refuse(e))?;
        self.appended(FrameLocation {
            offset,
            stored_bytes: header.frame_bytes(),
            raw_bytes: header.raw_bytes,
            crc: header.raw_crc,
        })
    }

    /// Appends a frame that a [`FrameEncoder`] made. Its header and payload are checked first.
    pub fn append_encoded(&mut self, frame: &[u8]) -> Result<FrameLocation> {
        self.check_room()?;
        let header = check_frame(frame).map_err(|e| self.refuse(e))?;
        let offset = self.bytes();
        self.buffer.extend_from_slice(frame);
        self.appended(FrameLocation {
            offset,
            stored_bytes: header.frame_bytes(),
            raw_bytes: header.raw_bytes,
            crc: header.raw_crc,
        })
    }

    /// The bytes of the pack so far, without its index.
    pub fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// The frames so far.
    pub fn frames(&self) -> &[FrameLocation] {
        &self.frames
    }

    /// Writes the index and makes the pack durable and visible.
    pub fn finish(mut self) -> Result<PackSummary> {
        let index = index::index_and_footer_bytes(&self.frames, self.bytes());
        self.buffer.extend_from_slice(&index);
        self.flush()?;
        let summary = PackSummary {
            size: self.written,
            raw_bytes: self.raw_bytes,
            frames: self.frames.len() as u32,
            index_crc: index::index_crc(&self.frames),
        };
        self.object.finish()?;
        Ok(summary)
    }

    fn check_room(&self) -> Result<()> {
        if self.frames.len() < PACK_FRAMES_MAX as usize {
            return Ok(());
        }
        Err(self.refuse(FrameError::PackFull {
            frames_max: PACK_FRAMES_MAX,
        }))
    }

    fn appended(&mut self, location: FrameLocation) -> Result<FrameLocation> {
        self.frames.push(location);
        self.raw_bytes += u64::from(location.raw_bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(location)
    }

    fn flush(&mut self) -> Result<()> {
        self.object
            .write_all(&self.buffer)
            .map_err(|error| StorageError::from_io("write", self.object.place(), error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn refuse(&self, source: FrameError) -> StorageError {
        StorageError::Frame {
            path: self.object.place(),
            source,
        }
    }
}

impl fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackWriter")
            .field("object", &self.object.place())
            .field("bytes", &self.bytes())
            .field("frames", &self.frames.len())
            .finish_non_exhaustive()
    }
}
