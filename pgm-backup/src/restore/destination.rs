//! A file that is being put in place: its pieces are written in any order, and when the last one is there, its checksum
//! tells whether it is the file that was backed up.
//!
//! Frames have checksums of their own; this one notices a pack that is sound and yet not the right one. Of a file whose manifest
//! line has none, the checksum is found here, and what notices another pack is the checksum of the pack's index.

use std::sync::{Mutex, PoisonError};

use super::error::RestoreError;
use super::open_file::OpenFile;
use super::roots::Roots;
use crate::checksum::checksum_of;
use crate::manifest::{Extent, FileEntry, FilePath};

/// A file that pieces are written to.
#[derive(Debug)]
pub(super) struct Destination {
    path: FilePath,
    mode: u32,
    creation: Creation,
    size: u64,
    /// `None` when nobody knows it yet.
    crc32c: Option<u32>,
    /// Its number among the files without a checksum.
    unknown: Option<usize>,
    written: Mutex<Written>,
}

/// Who makes a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Creation {
    /// It has been made.
    Done,
    /// It has been made, and its room was taken.
    WithRoom,
    /// The worker that writes its only piece.
    ByWriter,
    /// It was there before and has its size and mode: only what differs is written.
    Before,
}

/// What was written so far.
#[derive(Debug, Default)]
struct Written {
    bytes: u64,
    pieces: Vec<(Extent, u32)>,
}

/// How a file stands after a piece was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More pieces are to come, or it is complete and as it was.
    Good,
    /// It is complete, and not what was backed up.
    Wrong,
    /// It is complete and has this checksum: the one of this number that nobody knew.
    Found {
        /// Its number among the files without a checksum.
        number: usize,
        /// Its checksum.
        crc32c: u32,
    },
}

impl Destination {
    /// `unknown` is the file's number among those without a checksum.
    pub(super) fn new(file: &FileEntry, creation: Creation, unknown: Option<usize>) -> Self {
        Self {
            path: file.path.clone(),
            mode: file.mode,
            creation,
            size: file.size,
            crc32c: file.crc32c,
            unknown,
            written: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &FilePath {
        &self.path
    }

    /// Whether `file`, of another repository, is the same one.
    pub(super) fn is(&self, file: &FileEntry) -> bool {
        let checksums = self.crc32c.zip(file.crc32c);
        self.path == file.path
            && self.size == file.size
            && checksums.is_none_or(|(ours, theirs)| ours == theirs)
    }

    /// Makes a file that the writer of its only piece was to make; gives the destination that it is then.
    pub(super) fn made(&self, roots: &Roots) -> Result<Option<Self>, RestoreError> {
        if self.creation != Creation::ByWriter {
            return Ok(None);
        }
        roots.create(&self.path, self.mode)?;
        Ok(Some(Self {
            path: self.path.clone(),
            creation: Creation::Done,
            written: Mutex::default(),
            ..*self
        }))
    }

    /// Opens it for a piece.
    pub(super) fn open(&self, roots: &Roots) -> Result<OpenFile, RestoreError> {
        Ok(match self.creation {
            Creation::ByWriter => OpenFile::growing(roots.create(&self.path, self.mode)?),
            Creation::Done => OpenFile::growing(roots.open(&self.path)?),
            Creation::WithRoom => OpenFile::with_room(roots.open(&self.path)?),
            Creation::Before => OpenFile::compared(roots.open_both(&self.path)?),
        })
    }

    /// Puts `bytes` in place, which neighbouring extents consist of; gives how many of them were there already.
    pub(super) fn write(
        &self,
        file: &mut OpenFile,
        extents: &[Extent],
        bytes: &[u8],
    ) -> Result<(Progress, u64), RestoreError> {
        let (mut progress, mut rest) = (Progress::Good, bytes);
        let Some(first) = extents.first() else {
            return Ok((progress, 0));
        };
        let kept = file
            .put(bytes, first.file_offset)
            .map_err(|error| RestoreError::file("write", self.path.as_path(), error))?;
        for extent in extents {
            let (piece, later) = rest.split_at(rest.len().min(extent.length as usize));
            rest = later;
            // Only what makes the file complete says more than that all is well.
            if let other @ (Progress::Wrong | Progress::Found { .. }) =
                self.note(*extent, pgm_storage::crc32c(piece))
            {
                progress = other;
            }
        }
        Ok((progress, kept as u64))
    }

    fn note(&self, extent: Extent, crc32c: u32) -> Progress {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.bytes += u64::from(extent.length);
        written.pieces.push((extent, crc32c));
        if written.bytes < self.size {
            return Progress::Good;
        }
        let mut pieces = std::mem::take(&mut written.pieces);
        drop(written);
        pieces.sort_unstable_by_key(|(extent, _)| extent.file_offset);
        let pieces = pieces.iter().map(|(extent, crc)| (*crc, extent.length));
        let found = checksum_of(pieces);
        match (self.crc32c, self.unknown) {
            (Some(crc32c), _) if crc32c == found => Progress::Good,
            (Some(_), _) => Progress::Wrong,
            (None, Some(number)) => Progress::Found {
                number,
                crc32c: found,
            },
            (None, None) => Progress::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(crc32c: Option<u32>, extents: &[(u64, u32)]) -> FileEntry {
        let extent = |(file_offset, length): &(u64, u32)| Extent {
            file_offset: *file_offset,
            pack: 0,
            frame_offset: 16,
            start: 0,
            length: *length,
        };
        FileEntry {
            path: FilePath::new(b"base/5/1").unwrap(),
            size: extents.iter().map(|(_, length)| u64::from(*length)).sum(),
            mode: 0o600,
            mtime: 0,
            crc32c,
            extents: extents.iter().map(extent).collect(),
        }
    }

    #[test]
    fn pieces_in_any_order_make_the_file_and_another_byte_does_not() {
        let content = b"one two three";
        let whole = pgm_storage::crc32c(content);
        let found = Progress::Found {
            number: 7,
            crc32c: whole,
        };
        for (known, last, outcome) in [
            (Some(whole), b"three", Progress::Good),
            (Some(whole), b"threE", Progress::Wrong),
            (None, b"three", found),
        ] {
            let entry = file(known, &[(0, 4), (4, 4), (8, 5)]);
            let unknown = known.is_none().then_some(7);
            let destination = Destination::new(&entry, Creation::Done, unknown);
            let note = |at: usize, bytes: &[u8]| {
                destination.note(entry.extents[at], pgm_storage::crc32c(bytes))
            };
            assert_eq!(note(1, b"two "), Progress::Good);
            assert_eq!(note(0, b"one "), Progress::Good);
            assert_eq!(note(2, last), outcome);
        }
    }
}
