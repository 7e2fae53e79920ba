//! The content of files, one after the other, from the frames in which it rests.
//!
//! Neighbours in a manifest mostly are neighbours in packs: the last few frames are kept.

use std::collections::{HashMap, VecDeque};

use pgm_storage::{FrameDecoder, PackReader};

use super::error::RestoreError;
use crate::catalog::BackupEntry;
use crate::manifest::{FileEntry, PackRecord};
use crate::repository::Repository;

/// Decoded frames that are kept.
const FRAMES_MAX: usize = 12;
/// Packs that are kept open.
const OPEN_PACKS_MAX: usize = 16;

/// Reads files of one backup.
pub(super) struct Pieces<'a> {
    repository: &'a Repository,
    entry: &'a BackupEntry,
    packs: Vec<PackRecord>,
    open: HashMap<u32, PackReader>,
    frames: VecDeque<(u32, u64, Vec<u8>)>,
    decoder: FrameDecoder,
    stored: Vec<u8>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        entry: &'a BackupEntry,
        packs: Vec<PackRecord>,
    ) -> Result<Self, RestoreError> {
        let decoder = FrameDecoder::new().map_err(|error| RestoreError::Damaged {
            label: entry.label,
            reason: error.to_string(),
        })?;
        Ok(Self {
            repository,
            entry,
            packs,
            open: HashMap::new(),
            frames: VecDeque::new(),
            decoder,
            stored: Vec::new(),
        })
    }

    /// Gives the content of `file` to `visit`, in order, and compares its checksum, if it has one; gives that of the content.
    pub(super) fn read(
        &mut self,
        file: &FileEntry,
        visit: &mut dyn FnMut(&[u8]) -> Result<(), RestoreError>,
    ) -> Result<u32, RestoreError> {
        let (label, path) = (self.entry.label, file.path.to_string());
        let damaged = |reason: &str| RestoreError::Damaged {
            label,
            reason: format!("file {path}: {reason}"),
        };
        let (mut end, mut crc) = (0, 0);
        for extent in &file.extents {
            if extent.file_offset != end {
                return Err(damaged("its extents do not make up the file"));
            }
            let frame = self.frame(extent.pack, extent.frame_offset)?;
            let (start, length) = (extent.start as usize, extent.length as usize);
            let piece = frame.get(start..).and_then(|rest| rest.get(..length));
            let piece = piece.ok_or_else(|| damaged("an extent leaves its frame"))?;
            crc = crc32c::crc32c_append(crc, piece);
            end += u64::from(extent.length);
            visit(piece)?;
        }
        if end != file.size || file.crc32c.is_some_and(|known| known != crc) {
            return Err(damaged("its content is not what was backed up"));
        }
        Ok(crc)
    }

    fn frame(&mut self, pack: u32, offset: u64) -> Result<&[u8], RestoreError> {
        let known = self
            .frames
            .iter()
            .position(|(of, at, _)| (*of, *at) == (pack, offset));
        let at = if let Some(at) = known {
            at
        } else {
            let mut raw = Vec::new();
            if self.frames.len() >= FRAMES_MAX
                && let Some((_, _, oldest)) = self.frames.pop_front()
            {
                raw = oldest;
            }
            self.decode(pack, offset, &mut raw)?;
            self.frames.push_back((pack, offset, raw));
            self.frames.len() - 1
        };
        Ok(&self.frames[at].2)
    }

    fn decode(&mut self, number: u32, offset: u64, raw: &mut Vec<u8>) -> Result<(), RestoreError> {
        let label = self.entry.label;
        let damaged = |reason: String| RestoreError::Damaged { label, reason };
        if !self.open.contains_key(&number) {
            let record = self.packs.get(number as usize);
            let record =
                record.ok_or_else(|| damaged(format!("the manifest has no pack {number}")))?;
            if self.open.len() >= OPEN_PACKS_MAX {
                self.open.clear();
            }
            let pack = self.repository.pack(&self.entry.server, record)?;
            self.open.insert(number, pack);
        }
        let pack = &self.open[&number];
        let at = pack
            .frames()
            .binary_search_by_key(&offset, |frame| frame.offset);
        let at = at.map_err(|_| damaged(format!("pack {number} has no frame at {offset}")))?;
        pack.read(&pack.frames()[at], &mut self.decoder, &mut self.stored, raw)
            .map_err(|error| RestoreError::Repository(error.into()))
    }
}
