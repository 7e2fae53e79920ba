//! One of the threads that turn frames into packs.
//!
//! A worker has a pack of its own in every target, and compresses each frame once for each compression that is asked
//! for. A target that fails is left out; the worker goes on with the others.

use pgm_storage::{Compression, FrameEncoder, FrameHeader, PackWriter, StorageError};

use super::collect::Placed;
use super::lane::{Lane, PackSlot};
use super::lanes::Lanes;
use super::pipeline::{Exchange, FrameBuffer};
use crate::error::{Error, Result};
use crate::manifest::PackRecord;
use crate::repository::layout;

/// Compresses and stores frames until there are no more.
pub(super) struct Worker<'a> {
    lanes: &'a Lanes<Lane>,
    /// A pack is closed once it has this many bytes.
    pack_bytes: u64,
    encoders: Vec<FrameEncoder>,
    /// The open pack of each lane.
    packs: Vec<Option<OpenPack>>,
    /// Kept for the next frame.
    encoded: Vec<u8>,
    checksums: Vec<u32>,
    placed: Vec<Placed>,
}

struct OpenPack {
    slot: PackSlot,
    writer: PackWriter,
}

impl<'a> Worker<'a> {
    pub(super) fn new(lanes: &'a Lanes<Lane>, pack_bytes: u64) -> Result<Self> {
        let mut compressions: Vec<Compression> = Vec::new();
        for (_, lane) in lanes.open() {
            if !compressions.contains(&lane.compression()) {
                compressions.push(lane.compression());
            }
        }
        let encoders = compressions.into_iter().map(FrameEncoder::new);
        Ok(Self {
            lanes,
            pack_bytes,
            encoders: encoders.collect::<Result<_, _>>().map_err(refused)?,
            packs: std::iter::repeat_with(|| None).take(lanes.len()).collect(),
            encoded: Vec::new(),
            checksums: Vec::new(),
            placed: Vec::new(),
        })
    }

    /// Works until the feeder is done or somebody failed.
    pub(super) fn work(&mut self, exchange: &Exchange) -> Result<()> {
        while let Some(mut frame) = exchange.take_full() {
            self.store(&frame)?;
            frame.bytes.clear();
            frame.pieces.clear();
            exchange.give_free(frame);
        }
        if exchange.is_stopped() {
            return Ok(());
        }
        self.in_each_lane(Self::finish_pack)
    }

    fn store(&mut self, frame: &FrameBuffer) -> Result<()> {
        self.note_checksums(frame);
        for number in 0..self.encoders.len() {
            self.encoded.clear();
            let encoder = &mut self.encoders[number];
            let compression = encoder.compression();
            let header = encoder
                .encode(&frame.bytes, &mut self.encoded)
                .map_err(refused)?;
            self.in_each_lane(|worker, number, lane| {
                if lane.compression() == compression {
                    worker.append(number, lane, frame, &header)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The checksum of each piece; a frame of one piece has its checksum from the encoder.
    fn note_checksums(&mut self, frame: &FrameBuffer) {
        self.checksums.clear();
        if frame.pieces.len() > 1 {
            let pieces = frame.pieces.iter();
            self.checksums.extend(pieces.map(|piece| {
                let end = piece.start as usize + piece.length as usize;
                pgm_storage::crc32c(&frame.bytes[piece.start as usize..end])
            }));
        }
    }

    /// Takes a step in every open lane; one that fails is left out.
    fn in_each_lane(
        &mut self,
        mut step: impl FnMut(&mut Self, usize, &Lane) -> Result<()>,
    ) -> Result<()> {
        let lanes = self.lanes;
        for (number, lane) in lanes.open() {
            if let Err(error) = step(self, number, lane) {
                lanes.drop_lane(number, error);
            }
        }
        for (number, pack) in self.packs.iter_mut().enumerate() {
            // Dropped without its end, it leaves nothing.
            if pack.is_some() && !lanes.is_open(number) {
                *pack = None;
            }
        }
        if lanes.is_any_open() {
            Ok(())
        } else {
            Err(Error::Cancelled)
        }
    }

    /// Appends the frame that was encoded last to the open pack of a lane.
    fn append(
        &mut self,
        number: usize,
        lane: &Lane,
        frame: &FrameBuffer,
        header: &FrameHeader,
    ) -> Result<()> {
        let pack = match &mut self.packs[number] {
            Some(open) => open,
            none => none.insert(OpenPack::begin(lane)?),
        };
        let location = pack.writer.append_encoded(&self.encoded)?;
        self.placed.clear();
        let pieces = frame.pieces.iter().enumerate();
        self.placed.extend(pieces.map(|(at, &piece)| Placed {
            piece,
            crc32c: self.checksums.get(at).copied().unwrap_or(header.raw_crc),
            pack: pack.slot.index,
            frame_offset: location.offset,
        }));
        let full = pack.writer.bytes() >= self.pack_bytes;
        lane.collector.placed(&self.placed)?;
        if full {
            self.finish_pack(number, lane)?;
        }
        Ok(())
    }

    fn finish_pack(&mut self, number: usize, lane: &Lane) -> Result<()> {
        let Some(OpenPack { slot, writer }) = self.packs[number].take() else {
            return Ok(());
        };
        let summary = writer.finish()?;
        lane.packs.finished(
            slot,
            PackRecord {
                label: lane.staging().label(),
                number: slot.number,
                size: summary.size,
                raw_bytes: summary.raw_bytes,
                frames: u64::from(summary.frames),
            },
        );
        Ok(())
    }
}

impl OpenPack {
    fn begin(lane: &Lane) -> Result<Self> {
        let slot = lane.packs.begin();
        let object = lane.staging().create_pack(slot.number)?;
        // The frames come encoded.
        let writer = PackWriter::with_kind(object, Compression::NONE, layout::DATA_PACK)?;
        Ok(Self { slot, writer })
    }
}

/// The machine could not make a frame; no repository is to blame.
fn refused(source: pgm_storage::FrameError) -> Error {
    let path = "the backup".to_owned();
    StorageError::Frame { path, source }.into()
}
