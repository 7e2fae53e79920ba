//! The content of files, one after the other, from the frames in which it rests.

use super::error::RestoreError;
use crate::catalog::BackupEntry;
use crate::manifest::{FileEntry, PackRecord};
use crate::repository::Repository;
use crate::repository::frame_cache::FrameCache;

/// Reads files of one backup.
pub(super) struct Pieces<'a> {
    entry: &'a BackupEntry,
    packs: Vec<PackRecord>,
    frames: FrameCache,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(
        repository: &Repository,
        entry: &'a BackupEntry,
        packs: Vec<PackRecord>,
    ) -> Result<Self, RestoreError> {
        Ok(Self {
            entry,
            packs,
            frames: FrameCache::new(repository.storage(), &entry.server)?,
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
            crc = pgm_storage::crc32c_append(crc, piece);
            end += u64::from(extent.length);
            visit(piece)?;
        }
        if end != file.size || file.crc32c.is_some_and(|known| known != crc) {
            return Err(damaged("its content is not what was backed up"));
        }
        Ok(crc)
    }

    fn frame(&mut self, number: u32, offset: u64) -> Result<&[u8], RestoreError> {
        let record = self.packs.get(number as usize);
        let record = record.ok_or_else(|| RestoreError::Damaged {
            label: self.entry.label,
            reason: format!("the manifest has no pack {number}"),
        })?;
        Ok(self.frames.frame(record, offset)?)
    }
}
