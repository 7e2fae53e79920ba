//! Segments that were fetched ahead of a recovering server.
//!
//! PostgreSQL runs its `restore_command` once for each segment and waits for it, so what one call costs is time in which
//! nothing is replayed. One call therefore fetches the segments behind the one that is asked for too, several at a time,
//! into a folder beside the destination; the calls that follow rename what is there.
//!
//! ```text
//! pg_wal/RECOVERYXLOG                                    where PostgreSQL wants the segment
//! pg_wal/pgm_ahead/source                                where the segments here come from, in words of the caller
//! pg_wal/pgm_ahead/000000010000000000000004.5C0B6E1F     a whole segment; its name ends with the CRC-32C of its bytes
//! pg_wal/pgm_ahead/000000010000000000000005.new          one that is being written
//! ```
//!
//! - Only finished segments are here, which never change, under their full name. So one that is asked for is the right one
//!   whichever timeline recovery has gone to; those of a timeline that it left are removed by the next [`AheadFolder::fill`].
//! - Nothing here is needed. Whatever is in doubt is removed and fetched again, and no trouble here is an answer to
//!   PostgreSQL. Nothing is synced: the checksum finds what a crash has left, and PostgreSQL syncs what it takes.
//! - One process at a time: who finds the folder locked does without it.
//! - It never takes more than half of the room that is free.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use pgm_storage::FRAME_RAW_MAX;
use rustix::fs::OFlags;

use super::local_file::check_pages;
use super::{Archive, ArchiveError};
use crate::{SegmentName, SegmentSize, Spool};

/// How the folder is called.
const FOLDER: &str = "pgm_ahead";
/// The file that says where the segments come from.
const SOURCE: &str = "source";
/// How the name of an unfinished file ends.
const UNFINISHED: &str = "new";
/// How many segments are fetched at the same time: each needs memory for a few frames and what its store reads ahead.
const FETCHERS: usize = 4;
/// What the number of segments ahead is counted in: of larger ones there are fewer, so that neither room nor the time
/// of one call grows with them.
const COUNTED_BYTES: u64 = SegmentSize::DEFAULT.bytes();

/// The folder of a data directory, locked.
#[derive(Debug)]
pub struct AheadFolder {
    path: PathBuf,
    folder: File,
}

/// Which segments are to be there.
#[derive(Debug, Clone, Copy)]
pub struct AheadRange {
    /// The first of them.
    pub first: SegmentName,
    /// How large they are.
    pub size: SegmentSize,
    /// How many there are to be at most, if they have 16 MiB.
    pub count: usize,
}

impl AheadFolder {
    /// Opens the folder beside `destination`; `None` when there is none, or another process works in it.
    ///
    /// `source` says where segments are fetched from. When those in the folder come from elsewhere, they are removed.
    pub fn open(destination: &Path, source: &str) -> Result<Option<Self>, ArchiveError> {
        let path = beside(destination);
        let failed = |error| ArchiveError::file("use", &path, error);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&path);
        let folder = match opened {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let metadata = folder.metadata().map_err(failed)?;
        let us = rustix::process::geteuid().as_raw();
        if metadata.uid() != us || metadata.mode() & 0o022 != 0 {
            let text = "others can write there, or it is theirs";
            return Err(failed(io::Error::other(text)));
        }
        if folder.try_lock().is_err() {
            return Ok(None);
        }
        // Whoever had the lock before may have removed the folder.
        let is_there = fs::symlink_metadata(&path).is_ok_and(|now| now.ino() == metadata.ino());
        if !is_there {
            return Ok(None);
        }
        let found = Self { path, folder };
        found.belongs_to(source)?;
        Ok(Some(found))
    }

    /// Opens the folder beside `destination`, and makes it if there is none.
    pub fn create(destination: &Path, source: &str) -> Result<Option<Self>, ArchiveError> {
        let path = beside(destination);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(ArchiveError::file("create", &path, error))
            }
            _ => Self::open(destination, source),
        }
    }

    /// Moves the segment `file` to `destination`, if it is here and what was fetched; false if it is not here.
    ///
    /// A damaged one is removed, and [`ArchiveError::Corrupt`].
    pub fn take(&self, file: &str, destination: &Path) -> Result<bool, ArchiveError> {
        let names = self.names()?;
        let Some((name, crc)) = names.iter().find_map(|name| {
            let crc = name.strip_prefix(file)?.strip_prefix('.')?;
            Some((name, u32::from_str_radix(crc, 16).ok()?))
        }) else {
            return Ok(false);
        };
        let path = self.path.join(name);
        let taken = whole(&path, file, crc).and_then(|()| {
            fs::rename(&path, destination)
                .map_err(|error| ArchiveError::file("rename", &path, error))
        });
        if taken.is_err() {
            let _ = fs::remove_file(&path);
        }
        taken.map(|()| true)
    }

    /// Fetches those segments of `range` that are not here, and removes all others. Gives how many are here then.
    ///
    /// It ends at a segment that cannot be had: that is said when somebody asks for it. When the folder itself fails,
    /// everything in it is removed, so that PostgreSQL has the room.
    pub fn fill(
        &self,
        archive: &Archive,
        spool: Option<&Spool>,
        range: AheadRange,
    ) -> Result<usize, ArchiveError> {
        let wanted = self.wanted(range)?;
        let names = self.names()?;
        let belongs = |name: &str, segment: &str| {
            let ending = name.strip_prefix(segment).unwrap_or_default();
            ending.starts_with('.') && ending != format!(".{UNFINISHED}")
        };
        let is_there = |segment: &String| names.iter().any(|name| belongs(name, segment));
        for name in &names {
            if !wanted.iter().any(|(_, segment)| belongs(name, segment)) {
                self.remove(name);
            }
        }
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(_, segment)| !is_there(segment))
            .collect();
        let fetchers = missing.len().min(FETCHERS);
        // Nearest first; and nothing any more as soon as one fails.
        let queue = Mutex::new(missing.into_iter());
        let next = || queue.lock().ok()?.next();
        let failure = Mutex::new(None);
        let work = || {
            while let Some((name, file)) = next() {
                let fetched = self.fetch(archive, spool, *name, range.size, file);
                if matches!(fetched, Ok(true)) {
                    continue;
                }
                while next().is_some() {}
                if let (Err(error), Ok(mut failure)) = (fetched, failure.lock()) {
                    failure.get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..fetchers {
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        match failure.into_inner().ok().flatten() {
            Some(ArchiveError::File {
                path,
                action,
                source,
            }) if path.starts_with(&self.path) => {
                self.empty();
                Err(ArchiveError::File {
                    action,
                    path,
                    source,
                })
            }
            _ => Ok(self.names()?.len()),
        }
    }

    /// Removes the folder and what is in it.
    pub fn remove_all(self) {
        self.empty();
        let _ = fs::remove_file(self.path.join(SOURCE));
        let _ = fs::remove_dir(&self.path);
    }

    /// Segments of `range`, as many as there is room for.
    fn wanted(&self, range: AheadRange) -> Result<Vec<(SegmentName, String)>, ArchiveError> {
        let AheadRange { first, size, count } = range;
        let system = rustix::fs::fstatvfs(&self.folder)
            .map_err(|error| ArchiveError::file("use", &self.path, error.into()))?;
        let free_bytes = system.f_bavail.saturating_mul(system.f_frsize);
        let names = std::iter::successors(Some(first), |name| Some(name.next()));
        Ok(names
            .take(affordable(count, size, free_bytes))
            .map(|name| (name, name.file_name(size)))
            .collect())
    }

    /// Fetches one segment; false when it is nowhere.
    fn fetch(
        &self,
        archive: &Archive,
        spool: Option<&Spool>,
        name: SegmentName,
        size: SegmentSize,
        file: &str,
    ) -> Result<bool, ArchiveError> {
        let path = self.path.join(format!("{file}.{UNFINISHED}"));
        let fetched = write(archive, spool, name, size, &path);
        let done = match fetched {
            Ok(Some(crc)) => fs::rename(&path, self.path.join(format!("{file}.{crc:08X}")))
                .map(|()| true)
                .map_err(|error| ArchiveError::file("rename", &path, error)),
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        if !matches!(done, Ok(true)) {
            let _ = fs::remove_file(&path);
        }
        done
    }

    /// Sees to it that what is here comes from `source`.
    fn belongs_to(&self, source: &str) -> Result<(), ArchiveError> {
        let path = self.path.join(SOURCE);
        let mut said = Vec::new();
        let read = File::open(&path).and_then(|file| {
            // One byte more tells a longer one.
            file.take(source.len() as u64 + 1).read_to_end(&mut said)
        });
        if read.is_ok() && said == source.as_bytes() {
            return Ok(());
        }
        self.empty();
        let _ = fs::remove_file(&path);
        new_file(&path)
            .and_then(|mut file| file.write_all(source.as_bytes()))
            .map_err(|error| ArchiveError::file("write", &path, error))
    }

    fn empty(&self) {
        for name in self.names().unwrap_or_default() {
            self.remove(&name);
        }
    }

    fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path.join(name));
    }

    /// The names of all files here but that of the source.
    fn names(&self) -> Result<Vec<String>, ArchiveError> {
        let entries = fs::read_dir(&self.path)
            .map_err(|error| ArchiveError::file("list", &self.path, error))?;
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| name != SOURCE).collect())
    }
}

/// Writes a segment to `path`, and gives the checksum of its bytes.
fn write(
    archive: &Archive,
    spool: Option<&Spool>,
    name: SegmentName,
    size: SegmentSize,
    path: &Path,
) -> Result<Option<u32>, ArchiveError> {
    let mut file = new_file(path).map_err(|error| ArchiveError::file("create", path, error))?;
    let mut crc = 0;
    let found = archive.read_finished(name, size, spool, &mut |bytes| {
        crc = crc32c::crc32c_append(crc, bytes);
        file.write_all(bytes)
            .map_err(|error| ArchiveError::file("write", path, error))
    })?;
    Ok(found.then_some(crc))
}

/// The folder beside a file.
fn beside(destination: &Path) -> PathBuf {
    destination.with_file_name(FOLDER)
}

/// How many of `count` segments of this size may be there, when so many bytes are free.
pub(super) fn affordable(count: usize, size: SegmentSize, free_bytes: u64) -> usize {
    let larger = (size.bytes() / COUNTED_BYTES).max(1);
    let room = usize::try_from(free_bytes / 2 / size.bytes()).unwrap_or(usize::MAX);
    (count / larger as usize).min(room)
}

fn new_file(path: &Path) -> io::Result<File> {
    // What a process that died has left; we have the lock.
    let _ = fs::remove_file(path);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Checks that `path` holds the segment `file`, whole, with this checksum.
fn whole(path: &Path, file: &str, crc: u32) -> Result<(), ArchiveError> {
    let failed = |error| ArchiveError::file("read", path, error);
    let corrupt = |reason: String| ArchiveError::Corrupt {
        path: path.to_owned(),
        reason,
    };
    let mut opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let bytes = opened.metadata().map_err(failed)?.len();
    let size = SegmentSize::new(bytes).map_err(|error| corrupt(error.to_string()))?;
    let name = SegmentName::parse(file, size).map_err(|error| corrupt(error.to_string()))?;
    let mut chunk = vec![0; FRAME_RAW_MAX.min(bytes as usize)];
    let (mut offset, mut found) = (0, 0);
    while offset < bytes {
        opened.read_exact(&mut chunk).map_err(failed)?;
        check_pages(name, size, offset, &chunk).map_err(corrupt)?;
        found = crc32c::crc32c_append(found, &chunk);
        offset += chunk.len() as u64;
    }
    if found == crc {
        return Ok(());
    }
    Err(corrupt(format!(
        "its checksum is {found:08X}, not {crc:08X}"
    )))
}
