//! The backup before, of which a server sends what has changed since.
//!
//! The server is given its own manifest of that backup; here are the places of what it does not send again. Unlike the
//! `basis`, nothing of what is kept goes by, so nothing of it is compared: that it is right is the server's word, as it is with
//! `pg_combinebackup`. And no file may be forgotten, so a parent that does not fit into memory is none.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::changed::is_of_relation;
use crate::catalog::BackupEntry;
use crate::error::Result;
use crate::label::BackupLabel;
use crate::manifest::{Extent, FilePath, ManifestEntry, PackRecord};
use crate::repository::Repository;

/// At most so much is remembered of its files.
const MEMORY_MAX: usize = 96 << 20;
const MEMORY_PER_FILE: usize = 160;

/// The files of relations in the backup before.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) label: BackupLabel,
    packs: Vec<PackRecord>,
    /// Those that did not come by yet.
    files: Mutex<HashMap<Box<[u8]>, ParentFile>>,
}

/// A file of a relation in the backup before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParentFile {
    pub(super) size: u64,
    pub(super) crc32c: Option<u32>,
    extents: Box<[Extent]>,
}

impl Parent {
    /// Reads the manifest of `entry`; `None` if it takes too much memory.
    pub(super) fn read(repository: &Repository, entry: &BackupEntry) -> Result<Option<Self>> {
        let mut manifest = repository.manifest(entry)?;
        let packs = manifest.packs().to_vec();
        let (mut files, mut memory) = (HashMap::new(), 0);
        while let Some(line) = manifest.next_entry()? {
            let ManifestEntry::File(file) = line else {
                continue;
            };
            if !is_of_relation(&file.path) {
                continue;
            }
            memory += MEMORY_PER_FILE + size_of_val(file.extents.as_slice());
            if memory > MEMORY_MAX {
                return Ok(None);
            }
            let path: Box<[u8]> = file.path.as_bytes().into();
            let parent = ParentFile {
                size: file.size,
                crc32c: file.crc32c,
                extents: file.extents.into_boxed_slice(),
            };
            files.insert(path, parent);
        }
        Ok(Some(Self {
            label: entry.label,
            packs,
            files: Mutex::new(files),
        }))
    }

    /// The packs that it points into.
    pub(super) fn packs(&self) -> &[PackRecord] {
        &self.packs
    }

    /// A file comes by; it comes once.
    pub(super) fn take(&self, path: &FilePath) -> Option<ParentFile> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.remove(path.as_bytes())
    }
}

impl ParentFile {
    /// Where runs of the file rest, in order; `None` if it is shorter.
    pub(super) fn places(&self, runs: &[Range<u64>]) -> Option<Vec<Extent>> {
        let mut places = Vec::new();
        for run in runs {
            let mut at = run.start;
            let first = self
                .extents
                .partition_point(|extent| extent.file_offset + u64::from(extent.length) <= at);
            for extent in &self.extents[first..] {
                if at == run.end {
                    break;
                }
                let skip = at.checked_sub(extent.file_offset)?;
                let length = (u64::from(extent.length).checked_sub(skip)?).min(run.end - at);
                places.push(Extent {
                    file_offset: at,
                    start: extent.start.checked_add(skip as u32)?,
                    length: length as u32,
                    ..*extent
                });
                at += length;
            }
            if at != run.end {
                return None;
            }
        }
        Some(places)
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    #[test]
    fn runs_are_cut_out_of_the_extents_that_hold_them() {
        let extent = |file_offset, frame_offset, start, length| Extent {
            file_offset,
            pack: 3,
            frame_offset,
            start,
            length,
        };
        let file = ParentFile {
            size: 300,
            crc32c: None,
            extents: [
                extent(0, 16, 50, 100),
                extent(100, 99, 0, 100),
                extent(200, 16, 7, 100),
            ]
            .into(),
        };
        assert_eq!(
            file.places(&[10..20, 90..210]).unwrap(),
            [
                extent(10, 16, 60, 10),
                extent(90, 16, 140, 10),
                extent(100, 99, 0, 100),
                extent(200, 16, 7, 10),
            ]
        );
        assert_eq!(
            file.places(from_ref(&(0..300))).unwrap(),
            file.extents.to_vec()
        );
        assert_eq!(file.places(from_ref(&(250..301))), None);
        assert_eq!(file.places(&[]), Some(Vec::new()));
    }
}
