//! Where the places of a file's pieces come together and become its line in the manifest.
//!
//! Pieces are stored in any order. A file is written to the manifest, and forgotten, as soon as all of its bytes have a
//! place; so only files whose bytes are on their way are in memory.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::pipeline::Piece;
use crate::catalog::ObjectChecksum;
use crate::checksum::checksum_of;
use crate::error::{Error, Result};
use crate::manifest::{
    DirectoryEntry, Extent, FileEntry, FilePath, ManifestEntry, ManifestTotals, ManifestWriter,
    PackRecord, TablespaceLink,
};

/// Collects the places of pieces and writes the manifest. Shared by feeder and workers.
#[derive(Debug)]
pub(super) struct Collector {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    manifest: ManifestWriter,
    files: HashMap<u64, OpenFile>,
}

/// A file some of whose bytes have no place yet.
#[derive(Debug)]
struct OpenFile {
    header: FileHeader,
    /// The checksum of the whole, if it is known without all of its pieces.
    crc32c: Option<u32>,
    /// The checksum of the whole if no piece of it is stored anew.
    kept_crc32c: Option<u32>,
    placed_bytes: u64,
    placed: Vec<(Extent, Option<u32>)>,
}

/// What is known of a file before its content.
#[derive(Debug, Clone)]
pub(super) struct FileHeader {
    pub(super) path: FilePath,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) mtime: u64,
}

/// Where a piece was put.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) piece: Piece,
    /// Of the piece; `None` for one that did not go by.
    pub(super) crc32c: Option<u32>,
    pub(super) pack: u32,
    pub(super) frame_offset: u64,
}

impl Collector {
    pub(super) fn new(manifest: ManifestWriter) -> Self {
        Self {
            inner: Mutex::new(Inner {
                manifest,
                files: HashMap::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn directory(&self, directory: DirectoryEntry) -> Result<()> {
        self.lock()
            .manifest
            .entry(&ManifestEntry::Directory(directory))
    }

    pub(super) fn tablespace(&self, link: TablespaceLink) -> Result<()> {
        self.lock().manifest.entry(&ManifestEntry::Tablespace(link))
    }

    /// Takes a whole file whose places are known.
    pub(super) fn placed_file(&self, file: FileEntry) -> Result<()> {
        self.lock().manifest.entry(&ManifestEntry::File(file))
    }

    /// Begins the file whose pieces will name it by `number`.
    pub(super) fn file(&self, number: u64, header: FileHeader) -> Result<()> {
        self.begin(number, header, (None, None))
    }

    /// Begins a file that has this checksum if no piece of it is stored anew.
    pub(super) fn file_kept_as(
        &self,
        number: u64,
        header: FileHeader,
        kept_crc32c: Option<u32>,
    ) -> Result<()> {
        self.begin(number, header, (None, kept_crc32c))
    }

    /// Begins a file whose checksum is known before.
    pub(super) fn known_file(
        &self,
        number: u64,
        header: FileHeader,
        crc32c: Option<u32>,
    ) -> Result<()> {
        self.begin(number, header, (crc32c, None))
    }

    /// Begins a file with the checksums that it has in any case, and if it is kept.
    fn begin(
        &self,
        number: u64,
        header: FileHeader,
        checksums: (Option<u32>, Option<u32>),
    ) -> Result<()> {
        let (crc32c, kept_crc32c) = checksums;
        let mut inner = self.lock();
        if header.size == 0 {
            inner.manifest.entry(&header.into_entry(&mut [], crc32c))?;
        } else {
            inner.files.insert(
                number,
                OpenFile {
                    header,
                    crc32c,
                    kept_crc32c,
                    placed_bytes: 0,
                    placed: Vec::new(),
                },
            );
        }
        Ok(())
    }

    /// Takes the places of the pieces of one frame.
    pub(super) fn placed(&self, placed: &[Placed]) -> Result<()> {
        let mut inner = self.lock();
        for Placed {
            piece,
            crc32c,
            pack,
            frame_offset,
        } in placed
        {
            let Some(file) = inner.files.get_mut(&piece.file) else {
                continue;
            };
            let extent = Extent {
                file_offset: piece.file_offset,
                pack: *pack,
                frame_offset: *frame_offset,
                start: piece.start,
                length: piece.length,
            };
            file.placed.push((extent, *crc32c));
            file.placed_bytes += u64::from(piece.length);
            if file.placed_bytes < file.header.size {
                continue;
            }
            if let Some(mut file) = inner.files.remove(&piece.file) {
                let is_kept = file.placed.iter().all(|(_, crc32c)| crc32c.is_none());
                let known = file.crc32c.or(file.kept_crc32c.filter(|_| is_kept));
                inner
                    .manifest
                    .entry(&file.header.into_entry(&mut file.placed, known))?;
            }
        }
        Ok(())
    }

    /// Writes the end of the manifest.
    pub(super) fn finish(self, packs: &[PackRecord]) -> Result<(ObjectChecksum, ManifestTotals)> {
        let inner = self
            .inner
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = inner.files.values().next() {
            let reason = format!("file {} was not sent to its end", file.header.path);
            return Err(Error::BadStream { reason });
        }
        inner.manifest.finish(packs)
    }
}

impl FileHeader {
    fn into_entry(self, placed: &mut [(Extent, Option<u32>)], known: Option<u32>) -> ManifestEntry {
        placed.sort_unstable_by_key(|(extent, _)| extent.file_offset);
        let pieces = placed
            .iter()
            .map(|(extent, crc32c)| Some(((*crc32c)?, extent.length)));
        let pieces: Option<Vec<_>> = pieces.collect();
        let crc32c = pieces.map(|pieces| checksum_of(pieces.into_iter()));
        let crc32c = known.or(crc32c);
        ManifestEntry::File(FileEntry {
            path: self.path,
            size: self.size,
            mode: self.mode,
            mtime: self.mtime,
            crc32c,
            extents: placed.iter().map(|(extent, _)| *extent).collect(),
        })
    }
}
