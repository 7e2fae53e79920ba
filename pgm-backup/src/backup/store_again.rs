//! What a backup stores again, because it gives up the packs in which that rests, and no pages of it come by.
//!
//! It is read from the repository while the server sends the files that it belongs to, and goes into a pack of its own. What cannot be
//! read is pointed at as before: a backup never fails for this, nor is it worse than without.

use std::fmt;

use pgm_storage::{FRAME_RAW_MAX, FrameEncoder};

use super::collect::Placed;
use super::lane::Lane;
use super::open_pack::{Next, OpenPack};
use super::pipeline::{FrameBuffer, PIECES_MAX, Piece};
use super::worker::refused;
use crate::error::{Error, Result};
use crate::manifest::{Extent, PackRecord};
use crate::repository::frame_cache::FrameCache;

/// A pack is closed once it has this many bytes.
const PACK_BYTES: u64 = 64 << 20;

/// Stores pieces of old packs again, in one target.
pub(super) struct StoreAgain {
    old: FrameCache,
    encoder: FrameEncoder,
    /// What was read, until it is a frame.
    frame: FrameBuffer,
    encoded: Vec<u8>,
    pack: Option<OpenPack>,
}

/// Whether a piece is stored again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// It could not be read.
    Unreadable,
}

impl StoreAgain {
    pub(super) fn new(lane: &Lane) -> Result<Self> {
        let staging = lane.staging();
        Ok(Self {
            old: FrameCache::new(staging.storage(), staging.server())?,
            encoder: FrameEncoder::new(lane.compression()).map_err(refused)?,
            frame: FrameBuffer::new(),
            encoded: Vec::new(),
            pack: None,
        })
    }

    /// Takes a piece of the file with this number, which must have begun.
    pub(super) fn take(
        &mut self,
        lane: &Lane,
        file: u64,
        place: &Extent,
        pack: &PackRecord,
    ) -> Result<Outcome> {
        let length = place.length as usize;
        if self.frame.bytes.len() + length > FRAME_RAW_MAX || self.frame.pieces.len() >= PIECES_MAX
        {
            self.store(lane)?;
        }
        let raw = self.old.frame(pack, place.frame_offset);
        let bytes = raw.and_then(|raw| {
            let rest = raw.get(place.start as usize..);
            rest.and_then(|rest| rest.get(..length))
                .ok_or_else(|| Error::BadStream {
                    reason: "the backup before points behind the end of a frame".into(),
                })
        });
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(pack = pack.number, backup = %pack.label, %error,
                    "a pack that was to be given up cannot be read, and stays");
                return Ok(Outcome::Unreadable);
            }
        };
        self.frame.pieces.push(Piece {
            file,
            file_offset: place.file_offset,
            start: self.frame.bytes.len() as u32,
            length: place.length,
        });
        self.frame.bytes.extend_from_slice(bytes);
        Ok(Outcome::Taken)
    }

    /// Stores what was taken, and tells where.
    fn store(&mut self, lane: &Lane) -> Result<()> {
        if self.frame.pieces.is_empty() {
            return Ok(());
        }
        let bytes = &self.frame.bytes;
        let key = lane.hasher.frame(bytes)?;
        self.encoded.clear();
        self.encoder
            .encode_summed(bytes, key.crc, &mut self.encoded)
            .map_err(refused)?;
        let pack = match &mut self.pack {
            Some(open) => open,
            none => none.insert(OpenPack::begin(lane)?),
        };
        let frame_offset = pack.append(&self.encoded, key)?;
        let (index, is_full) = (pack.index(), pack.is_full(PACK_BYTES));
        let placed = self.frame.pieces.iter().map(|&piece| Placed {
            piece,
            crc32c: Some(pgm_storage::crc32c(
                &bytes[piece.start as usize..][..piece.length as usize],
            )),
            pack: index,
            frame_offset,
        });
        lane.collector.placed(&placed.collect::<Vec<_>>())?;
        self.frame.bytes.clear();
        self.frame.pieces.clear();
        if is_full {
            self.finish_pack(lane, Next::Packs)?;
        }
        Ok(())
    }

    fn finish_pack(&mut self, lane: &Lane, next: Next) -> Result<()> {
        match self.pack.take() {
            Some(pack) => pack.finish(lane, next),
            None => Ok(()),
        }
    }

    /// Stores the rest.
    pub(super) fn finish(mut self, lane: &Lane) -> Result<()> {
        self.store(lane)?;
        self.finish_pack(lane, Next::Entry)
    }
}

impl fmt::Debug for StoreAgain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreAgain").finish_non_exhaustive()
    }
}
