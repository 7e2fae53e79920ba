//! One of the threads that turn frames into packs.
//!
//! A worker has a pack of its own in every target, and compresses each frame once for each compression that is asked
//! for, unless the frame is stored already in every target that asks. A target that fails is left out; the worker goes on
//! with the others.

use pgm_storage::{Compression, FRAME_RAW_MAX, FrameEncoder, StorageError};

use super::basis::Run;
use super::collect::Placed;
use super::lane::Lane;
use super::lanes::Lanes;
use super::open_pack::{Next, OpenPack};
use super::pipeline::{Exchange, FrameBuffer, PIECES_MAX, Piece};
use super::read;
use crate::error::{Error, Result};
use crate::repository::frame_list::FrameKey;

/// Compresses and stores frames until there are no more.
pub(super) struct Worker<'a> {
    lanes: &'a Lanes<Lane>,
    /// A pack is closed once it has this many bytes.
    pack_bytes: u64,
    encoders: Vec<FrameEncoder>,
    /// The open pack of each lane.
    packs: Vec<Option<OpenPack>>,
    /// Whether each lane has the current frame already.
    has_frame: Vec<bool>,
    /// What has changed in each lane that is built on another backup, until it is a frame.
    changed: Vec<FrameBuffer>,
    runs: Vec<Run>,
    /// Kept for the next frame.
    encoded: Vec<u8>,
    checksums: Vec<u32>,
    placed: Vec<Placed>,
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
            has_frame: vec![false; lanes.len()],
            changed: std::iter::repeat_with(FrameBuffer::new)
                .take(lanes.len())
                .collect(),
            runs: Vec::new(),
            encoded: Vec::new(),
            checksums: Vec::new(),
            placed: Vec::new(),
        })
    }

    /// Works until the feeder is done or somebody failed.
    pub(super) fn work(&mut self, exchange: &Exchange) -> Result<()> {
        while let Some(mut frame) = exchange.take_full() {
            read::fill(&mut frame)?;
            self.store(&frame)?;
            frame.pieces.clear();
            exchange.give_free(frame);
        }
        if exchange.is_stopped() {
            return Ok(());
        }
        let next = if exchange.is_complete() {
            Next::Entry
        } else {
            Next::Packs
        };
        self.in_each_lane(|worker, number, lane| {
            worker.store_changed(number, lane)?;
            worker.finish_pack(number, lane, next)
        })
    }

    fn store(&mut self, frame: &FrameBuffer) -> Result<()> {
        self.has_frame.fill(false);
        self.in_each_lane(|worker, number, lane| worker.keep_unchanged(number, lane, frame))?;
        let mut wanting = self.lanes.open();
        let Some((_, lane)) = wanting.find(|(number, _)| !self.has_frame[*number]) else {
            return Ok(());
        };
        let key = lane.hasher.frame(&frame.bytes)?;
        self.note_checksums(frame, key.crc);
        self.in_each_lane(|worker, number, lane| worker.reuse(number, lane, frame, &key))?;
        for number in 0..self.encoders.len() {
            let compression = self.encoders[number].compression();
            let mut wanting = self.lanes.open();
            if !wanting.any(|(lane_number, lane)| {
                lane.compression() == compression && !self.has_frame[lane_number]
            }) {
                continue;
            }
            self.encoded.clear();
            self.encoders[number]
                .encode_summed(&frame.bytes, key.crc, &mut self.encoded)
                .map_err(refused)?;
            self.in_each_lane(|worker, number, lane| {
                if lane.compression() == compression && !worker.has_frame[number] {
                    worker.append(number, lane, frame, key)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The checksum of each piece of a frame with the checksum `whole`.
    fn note_checksums(&mut self, frame: &FrameBuffer, whole: u32) {
        self.checksums.clear();
        if frame.pieces.len() == 1 {
            self.checksums.push(whole);
            return;
        }
        let pieces = frame.pieces.iter();
        self.checksums.extend(pieces.map(|piece| {
            let end = piece.start as usize + piece.length as usize;
            pgm_storage::crc32c(&frame.bytes[piece.start as usize..end])
        }));
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

    /// Points into the packs of the backup before for what has not changed in a frame, and puts the rest aside; does nothing
    /// with a frame in which everything is new.
    fn keep_unchanged(&mut self, number: usize, lane: &Lane, frame: &FrameBuffer) -> Result<()> {
        let Some(basis) = lane.basis() else {
            return Ok(());
        };
        let mut runs = std::mem::take(&mut self.runs);
        let known: Vec<_> = frame
            .pieces
            .iter()
            .map(|piece| basis.file_of(piece))
            .collect();
        if known.iter().any(Option::is_some) {
            for (piece, file) in frame.pieces.iter().zip(&known) {
                let bytes = &frame.bytes[piece.start as usize..][..piece.length as usize];
                if let Some(file) = file {
                    basis.runs(file, piece, bytes, &mut runs);
                } else {
                    runs.clear();
                    runs.push(Run::Store {
                        offset: 0,
                        length: piece.length,
                    });
                }
                self.take_runs(number, lane, piece, bytes, &runs)?;
            }
            self.has_frame[number] = true;
        }
        self.runs = runs;
        Ok(())
    }

    fn take_runs(
        &mut self,
        number: usize,
        lane: &Lane,
        piece: &Piece,
        bytes: &[u8],
        runs: &[Run],
    ) -> Result<()> {
        self.placed.clear();
        for run in runs {
            match *run {
                Run::Store { offset, length } => {
                    let bytes = &bytes[offset as usize..][..length as usize];
                    self.put_aside(number, lane, piece, offset, bytes)?;
                }
                Run::Kept {
                    offset,
                    length,
                    extent,
                } => {
                    let Some(pack) = lane.basis().and_then(|basis| basis.pack(extent.pack)) else {
                        return Err(Error::BadStream {
                            reason: "the backup before has no such pack".into(),
                        });
                    };
                    self.placed.push(Placed {
                        piece: Piece {
                            file: piece.file,
                            file_offset: piece.file_offset + u64::from(offset),
                            start: extent.start,
                            length,
                        },
                        crc32c: None,
                        pack: lane.keep(pack, length),
                        frame_offset: extent.frame_offset,
                    });
                }
            }
        }
        lane.collector.placed(&self.placed)
    }

    /// Puts a changed run aside until there is a frame of them.
    fn put_aside(
        &mut self,
        number: usize,
        lane: &Lane,
        piece: &Piece,
        offset: u32,
        bytes: &[u8],
    ) -> Result<()> {
        let aside = &self.changed[number];
        if aside.bytes.len() + bytes.len() > FRAME_RAW_MAX || aside.pieces.len() >= PIECES_MAX {
            let placed = std::mem::take(&mut self.placed);
            self.store_changed(number, lane)?;
            self.placed = placed;
        }
        let aside = &mut self.changed[number];
        aside.pieces.push(Piece {
            file: piece.file,
            file_offset: piece.file_offset + u64::from(offset),
            start: aside.bytes.len() as u32,
            length: bytes.len() as u32,
        });
        aside.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Stores what was put aside.
    fn store_changed(&mut self, number: usize, lane: &Lane) -> Result<()> {
        let mut frame = std::mem::replace(&mut self.changed[number], FrameBuffer::new());
        if !frame.pieces.is_empty() {
            let key = lane.hasher.frame(&frame.bytes)?;
            self.note_checksums(&frame, key.crc);
            let mut encoders = self.encoders.iter_mut();
            let encoder = encoders.find(|encoder| encoder.compression() == lane.compression());
            self.encoded.clear();
            if let Some(encoder) = encoder {
                encoder
                    .encode_summed(&frame.bytes, key.crc, &mut self.encoded)
                    .map_err(refused)?;
            }
            self.append(number, lane, &frame, key)?;
        }
        frame.bytes.clear();
        frame.pieces.clear();
        self.changed[number] = frame;
        Ok(())
    }

    /// Points into the pack of an interrupted backup if that has the frame.
    fn reuse(
        &mut self,
        number: usize,
        lane: &Lane,
        frame: &FrameBuffer,
        key: &FrameKey,
    ) -> Result<()> {
        if self.has_frame[number] {
            return Ok(());
        }
        let Some(found) = lane.reusable.get(key) else {
            return Ok(());
        };
        let pack = lane.reuse(found, frame.bytes.len());
        self.has_frame[number] = true;
        self.place(lane, frame, pack, found.offset)
    }

    /// Tells the collector where the pieces of a frame are.
    fn place(&mut self, lane: &Lane, frame: &FrameBuffer, pack: u32, offset: u64) -> Result<()> {
        self.placed.clear();
        let pieces = frame.pieces.iter().zip(&self.checksums);
        self.placed.extend(pieces.map(|(&piece, &crc32c)| Placed {
            piece,
            crc32c: Some(crc32c),
            pack,
            frame_offset: offset,
        }));
        lane.collector.placed(&self.placed)
    }

    /// Appends the frame that was encoded last to the open pack of a lane.
    fn append(
        &mut self,
        number: usize,
        lane: &Lane,
        frame: &FrameBuffer,
        key: FrameKey,
    ) -> Result<()> {
        let pack = match &mut self.packs[number] {
            Some(open) => open,
            none => none.insert(OpenPack::begin(lane)?),
        };
        let offset = pack.append(&self.encoded, key)?;
        let (full, index) = (pack.is_full(self.pack_bytes), pack.index());
        self.place(lane, frame, index, offset)?;
        if full {
            self.finish_pack(number, lane, Next::Packs)?;
        }
        Ok(())
    }

    fn finish_pack(&mut self, number: usize, lane: &Lane, next: Next) -> Result<()> {
        match self.packs[number].take() {
            Some(pack) => pack.finish(lane, next),
            None => Ok(()),
        }
    }
}

/// The machine could not make a frame; no repository is to blame.
pub(super) fn refused(source: pgm_storage::FrameError) -> Error {
    let path = "the backup".to_owned();
    StorageError::Frame { path, source }.into()
}
