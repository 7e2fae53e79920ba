//! The backup before, of which a server sends what has changed since.
//!
//! The server is given its own manifest of that backup; here are the places of what it does not send again. Unlike the
//! `basis`, nothing of what is kept goes by, so nothing of it is compared: that it is right is the server's word, as it is with
//! `pg_combinebackup`. And no file may be forgotten, so a parent that does not fit into memory is none.

use std::ops::Range;

use super::changed::is_of_relation;
use super::compact::{Compaction, GivenUp, NeededBytes};
use crate::catalog::BackupEntry;
use crate::error::Result;
use crate::label::BackupLabel;
use crate::manifest::{Extent, FileEntry, FilePath, ManifestEntry, PackRecord};
use crate::repository::Repository;

/// At most so much is remembered of its files, in all repositories together: a million files, or three terabytes.
pub(super) const MEMORY_MAX: usize = 112 << 20;
/// How many more extents there is room for at a time.
const EXTENTS_MORE: usize = 1 << 17;

/// The files of relations in the backup before.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) label: BackupLabel,
    packs: Vec<PackRecord>,
    given_up: GivenUp,
    files: Files,
}

/// A file of a relation in the backup before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ParentFile<'a> {
    pub(super) size: u64,
    pub(super) crc32c: Option<u32>,
    extents: &'a [Extent],
}

/// Files without their paths: a path is told by 128 bits of its hash.
#[derive(Debug, Default)]
struct Files {
    /// Sorted by key, once all are there.
    known: Vec<Known>,
    /// Of all files, one behind the other.
    extents: Vec<Extent>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    key: [u8; 16],
    size: u64,
    crc32c: Option<u32>,
    /// Its extents among all of them.
    first: u32,
    count: u32,
}

impl Parent {
    /// Reads the manifest of `entry`; `None` if it takes more memory than this.
    pub(super) fn read(
        repository: &Repository,
        entry: &BackupEntry,
        memory_max: usize,
        compaction: Compaction,
    ) -> Result<Option<Self>> {
        let mut manifest = repository.manifest(entry)?;
        let packs = manifest.packs().to_vec();
        let mut needed = NeededBytes::of(&packs);
        let mut files = Files::default();
        while let Some(line) = manifest.next_entry()? {
            let ManifestEntry::File(file) = line else {
                continue;
            };
            if is_of_relation(&file.path) {
                needed.add(&file.extents);
                files.add(&file);
            }
            if files.bytes() > memory_max {
                return Ok(None);
            }
        }
        files.known.sort_unstable_by_key(|known| known.key);
        Ok(Some(Self {
            label: entry.label,
            given_up: needed.choose(&packs, compaction),
            packs,
            files,
        }))
    }

    /// The packs that it points into.
    pub(super) fn packs(&self) -> &[PackRecord] {
        &self.packs
    }

    /// The packs that this backup gives up.
    pub(super) fn given_up(&self) -> &GivenUp {
        &self.given_up
    }

    /// A file, if it was there.
    pub(super) fn file(&self, path: &FilePath) -> Option<ParentFile<'_>> {
        let key = key(path);
        let known = &self.files.known;
        let at = known.binary_search_by_key(&key, |known| known.key).ok()?;
        let Known {
            size,
            crc32c,
            first,
            count,
            ..
        } = known[at];
        let extents = self.files.extents.get(first as usize..)?;
        Some(ParentFile {
            size,
            crc32c,
            extents: extents.get(..count as usize)?,
        })
    }
}

impl Files {
    fn add(&mut self, file: &FileEntry) {
        if self.extents.capacity() - self.extents.len() < file.extents.len() {
            // Not twice as much each time: that would be more than there may be.
            self.extents
                .reserve_exact(file.extents.len().max(EXTENTS_MORE));
        }
        if self.known.capacity() == self.known.len() {
            self.known.reserve_exact(EXTENTS_MORE / 4);
        }
        self.known.push(Known {
            key: key(&file.path),
            size: file.size,
            crc32c: file.crc32c,
            first: self.extents.len() as u32,
            count: file.extents.len() as u32,
        });
        self.extents.extend_from_slice(&file.extents);
    }

    fn bytes(&self) -> usize {
        self.extents.capacity() * size_of::<Extent>() + self.known.capacity() * size_of::<Known>()
    }
}

fn key(path: &FilePath) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(path.as_bytes()).as_bytes()[..16]);
    key
}

impl ParentFile<'_> {
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
            extents: &[
                extent(0, 16, 50, 100),
                extent(100, 99, 0, 100),
                extent(200, 16, 7, 100),
            ],
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

    #[test]
    fn a_million_files_and_a_thousand_changed_tables_fit() {
        let path = |number: u32| FilePath::new(format!("base/5/{number}").as_bytes()).unwrap();
        let extent = Extent {
            file_offset: 0,
            pack: 0,
            frame_offset: 16,
            start: 0,
            length: 8192,
        };
        let mut files = Files::default();
        for number in 0..1_000_000 {
            files.add(&FileEntry {
                path: path(number),
                size: 8192,
                mode: 0o600,
                mtime: 0,
                crc32c: Some(number),
                extents: vec![extent; if number < 1000 { 300 } else { 1 }],
            });
        }
        assert!(files.bytes() < MEMORY_MAX, "{}", files.bytes());
        files.known.sort_unstable_by_key(|known| known.key);
        let parent = Parent {
            label: "20261122T023456Z".parse().unwrap(),
            packs: Vec::new(),
            given_up: GivenUp::default(),
            files,
        };
        for number in [0, 999, 1000, 777_777] {
            let file = parent.file(&path(number)).unwrap();
            assert_eq!(file.crc32c, Some(number));
            assert_eq!(file.extents.len(), if number < 1000 { 300 } else { 1 });
        }
        assert_eq!(parent.file(&path(1_000_000)), None);
    }
}
