//! Reading a pack.

use std::fmt;

use super::index::{self, FOOTER_BYTES, FrameLocation, HEADER_BYTES, PACK_FRAMES_MAX, PackKind};
use super::writer::PackSummary;
use crate::error::{Result, StorageError};
use crate::frame::{FRAME_HEADER_BYTES, FrameDamage, FrameDecoder, FrameError, FrameHeader};
use crate::storage::ObjectReader;

/// An opened pack: its checked index, and its frames by range.
pub struct PackReader {
    object: Box<dyn ObjectReader>,
    kind: PackKind,
    frames: Vec<FrameLocation>,
}

impl PackReader {
    /// Reads and checks header, footer and index; no frame.
    pub fn open(object: Box<dyn ObjectReader>) -> Result<Self> {
        let kind = read_header(&*object)?;
        let size = object.size();
        let Some(footer_at) = size.checked_sub(FOOTER_BYTES as u64) else {
            return Err(damaged(&*object, "it is too short for a pack"));
        };
        let mut footer = [0; FOOTER_BYTES];
        object.read_exact_at(&mut footer, footer_at)?;
        let footer = index::parse_footer(&footer, size).map_err(|e| damaged(&*object, e))?;
        // Bounded by the size of the object, which the footer was checked against.
        let mut bytes = vec![0; footer.index_bytes];
        object.read_exact_at(&mut bytes, footer.index_offset)?;
        let frames = index::parse_index(&bytes, &footer).map_err(|e| damaged(&*object, e))?;
        Ok(Self {
            object,
            kind,
            frames,
        })
    }

    /// Finds the frames of a pack whose end is lost or damaged, by walking from header to header until something is not
    /// a whole frame. What [`read`](Self::read) then gives is as checked as ever; how many frames are missing is unknown.
    pub fn recover(object: Box<dyn ObjectReader>) -> Result<Self> {
        let kind = read_header(&*object)?;
        let (mut frames, mut offset) = (Vec::new(), HEADER_BYTES as u64);
        let mut bytes = [0; FRAME_HEADER_BYTES];
        while frames.len() < PACK_FRAMES_MAX as usize
            && offset + FRAME_HEADER_BYTES as u64 <= object.size()
        {
            object.read_exact_at(&mut bytes, offset)?;
            let Ok(header) = FrameHeader::parse(&bytes) else {
                break;
            };
            let frame = FrameLocation {
                offset,
                stored_bytes: header.frame_bytes(),
                raw_bytes: header.raw_bytes,
                crc: header.raw_crc,
            };
            if frame.end() > object.size() {
                break;
            }
            offset = frame.end();
            frames.push(frame);
        }
        Ok(Self {
            object,
            kind,
            frames,
        })
    }

    /// The frames in the order in which they were appended.
    pub fn frames(&self) -> &[FrameLocation] {
        &self.frames
    }

    /// What the pack says that it holds.
    pub fn kind(&self) -> PackKind {
        self.kind
    }

    /// The pack in numbers.
    pub fn summary(&self) -> PackSummary {
        PackSummary {
            size: self.object.size(),
            raw_bytes: self
                .frames
                .iter()
                .map(|frame| u64::from(frame.raw_bytes))
                .sum(),
            frames: self.frames.len() as u32,
            index_crc: index::index_crc(&self.frames),
        }
    }

    /// Replaces the content of `out` by the raw bytes of the frame at `location`, which may come from this pack's index
    /// or from anywhere else: the frame must be the one that the location describes. `scratch` holds the stored bytes
    /// meanwhile; keep it for the next call.
    pub fn read(
        &self,
        location: &FrameLocation,
        decoder: &mut FrameDecoder,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let read = self.fetch(location, scratch).and_then(|()| {
            let decoded = decoder.decode(scratch, out);
            self.expect(location, decoded)
        });
        if read.is_err() {
            out.clear();
        }
        read
    }

    /// As [`read`](Self::read), to the front of `out`, which [`FRAME_RAW_MAX`](crate::FRAME_RAW_MAX) bytes are enough for.
    /// Gives how many they are; on an error `out` holds anything.
    pub fn read_into(
        &self,
        location: &FrameLocation,
        decoder: &mut FrameDecoder,
        scratch: &mut Vec<u8>,
        out: &mut [u8],
    ) -> Result<usize> {
        self.fetch(location, scratch)?;
        let decoded = decoder.decode_into(scratch, out);
        self.expect(location, decoded)?;
        Ok(location.raw_bytes as usize)
    }

    /// Gets the stored bytes of a frame.
    fn fetch(&self, location: &FrameLocation, scratch: &mut Vec<u8>) -> Result<()> {
        let end = location
            .offset
            .checked_add(u64::from(location.stored_bytes));
        if !location.is_plausible() || end.is_none_or(|end| end > self.object.size()) {
            return self.expect(location, Err(FrameDamage::OtherFrame.into()));
        }
        scratch.resize(location.stored_bytes as usize, 0);
        self.object.read_exact_at(scratch, location.offset)
    }

    /// The frame that was decoded must be the one that the location describes.
    fn expect(
        &self,
        location: &FrameLocation,
        decoded: std::result::Result<FrameHeader, FrameError>,
    ) -> Result<()> {
        let error = match decoded {
            Ok(header)
                if header.raw_bytes == location.raw_bytes && header.raw_crc == location.crc =>
            {
                return Ok(());
            }
            Ok(_) => FrameDamage::OtherFrame.into(),
            Err(error) => error,
        };
        Err(frame_error(&*self.object, Some(location.offset), error))
    }

    /// Reads, decodes and checks every frame.
    pub fn verify(&self) -> Result<PackSummary> {
        let mut decoder =
            FrameDecoder::new().map_err(|error| frame_error(&*self.object, None, error))?;
        let (mut scratch, mut raw) = (Vec::new(), Vec::new());
        for frame in &self.frames {
            self.read(frame, &mut decoder, &mut scratch, &mut raw)?;
        }
        Ok(self.summary())
    }
}

fn read_header(object: &dyn ObjectReader) -> Result<PackKind> {
    if object.size() < HEADER_BYTES as u64 {
        return Err(damaged(object, "it is too short for a pack"));
    }
    let mut bytes = [0; HEADER_BYTES];
    object.read_exact_at(&mut bytes, 0)?;
    match index::parse_header(&bytes).map_err(|reason| damaged(object, reason))? {
        (index::VERSION, kind) => Ok(kind),
        (version, _) => {
            let (what, value) = ("pack format version", u32::from(version));
            Err(frame_error(
                object,
                None,
                FrameError::Unsupported { what, value },
            ))
        }
    }
}

fn damaged(object: &dyn ObjectReader, reason: impl Into<String>) -> StorageError {
    StorageError::Damaged {
        path: object.place(),
        reason: reason.into(),
    }
}

/// Damage is the object's; anything else is this build's or this machine's.
fn frame_error(object: &dyn ObjectReader, offset: Option<u64>, error: FrameError) -> StorageError {
    match (error, offset) {
        (FrameError::Damaged(damage), Some(offset)) => {
            damaged(object, format!("frame at offset {offset}: {damage}"))
        }
        (source, _) => StorageError::Frame {
            path: object.place(),
            source,
        },
    }
}

impl fmt::Debug for PackReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackReader")
            .field("object", &self.object.place())
            .field("frames", &self.frames.len())
            .finish_non_exhaustive()
    }
}
