//! Segments that are fetched ahead of a recovering server.
//!
//! PostgreSQL runs its `restore_command` once for each segment and waits for it, so what one call costs is time in which
//! nothing is replayed. While it replays, a reader fetches the segments that come next, several at a time, into a folder
//! beside the destination; the calls rename what is there.
//!
//! ```text
//! pg_wal/RECOVERYXLOG                                    where PostgreSQL wants the segment
//! pg_wal/pgm_ahead/source                                where the segments here come from, in words of the caller
//! pg_wal/pgm_ahead/asked                                 the segment that was delivered last
//! pg_wal/pgm_ahead/000000010000000000000004.5C0B6E1F     a whole segment; its name ends with the CRC-32C of its bytes
//! pg_wal/pgm_ahead/000000010000000000000005.new          one that is being written
//! ```
//!
//! - Calls take and say what they have delivered, the reader (`reader.rs`) does everything else. It holds the folder's lock as
//!   long as it lives, and ends when `asked` is gone.
//! - Only finished segments are here, which never change, under their full name. So one that is asked for is the right one
//!   whichever timeline recovery has gone to.
//! - Nothing here is needed. Whatever is in doubt is removed and fetched again, and no trouble here is an answer to
//!   PostgreSQL. The checksum finds what a crash has left, and PostgreSQL syncs what it takes.

mod reader;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use pgm_storage::FRAME_RAW_MAX;
use rustix::fs::OFlags;

use super::ArchiveError;
use super::local_file::check_pages;
use crate::{SegmentName, SegmentSize};

#[cfg(test)]
pub(super) use reader::affordable;
pub use reader::{AheadPlan, AheadReader};

/// How the folder is called.
const FOLDER: &str = "pgm_ahead";
/// The file that says where the segments come from.
const SOURCE: &str = "source";
/// The file that says which segment was delivered last.
const ASKED: &str = "asked";
/// How the name of an unfinished file ends.
const UNFINISHED: &str = "new";
/// How often is looked whether the other side has done something.
const GLANCE: Duration = Duration::from_millis(1);
/// A reader that wrote nothing for so long is not waited for.
const STALLED: Duration = Duration::from_secs(20);
/// How long a reader may take to end.
const END_MAX: Duration = Duration::from_secs(2);

/// The folder of a data directory.
#[derive(Debug)]
pub struct AheadFolder {
    path: PathBuf,
    folder: File,
}

impl AheadFolder {
    /// Opens the folder beside `destination`; `None` when there is none, or a reader of another source will not go.
    ///
    /// `source` says where segments are fetched from. When those in the folder come from elsewhere, they are removed.
    pub fn open(destination: &Path, source: &str) -> Result<Option<Self>, ArchiveError> {
        let Some(found) = Self::find(destination)? else {
            return Ok(None);
        };
        if found.comes_from(source) {
            return Ok(Some(found));
        }
        let _ = fs::remove_file(found.path.join(ASKED));
        if !found.lock_within(END_MAX) {
            return Ok(None);
        }
        // Its reader removes the folder.
        let Some(found) = Self::find(destination)? else {
            return Ok(None);
        };
        found.empty();
        found.write(SOURCE, source)?;
        Ok(Some(found))
    }

    /// Opens the folder beside `destination`, and makes it if there is none.
    pub fn create(destination: &Path, source: &str) -> Result<Option<Self>, ArchiveError> {
        if let Some(found) = Self::open(destination, source)? {
            return Ok(Some(found));
        }
        let path = beside(destination);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(ArchiveError::file("create", &path, error)),
            Ok(()) => {}
        }
        let made = Self::find(destination)?;
        if let Some(made) = &made {
            made.write(SOURCE, source)?;
        }
        Ok(made)
    }

    /// The folder, if it is there and ours alone.
    fn find(destination: &Path) -> Result<Option<Self>, ArchiveError> {
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
        Ok(Some(Self { path, folder }))
    }

    /// Moves the segment `file` to `destination`, if it is here and what was fetched; false if it is not here.
    ///
    /// One that the reader is writing is waited for. A damaged one is removed, and [`ArchiveError::Corrupt`].
    pub fn take(&self, file: &str, destination: &Path) -> Result<bool, ArchiveError> {
        let unfinished = self.path.join(format!("{file}.{UNFINISHED}"));
        let mut seen = (0, Instant::now());
        loop {
            // In this order: what is finished between the two looks is found by the next.
            let written = fs::metadata(&unfinished).map(|file| file.len());
            if let Some((name, crc)) = self.finished(file)? {
                return self.move_out(&name, crc, file, destination);
            }
            let Ok(bytes) = written else {
                return Ok(false);
            };
            if bytes != seen.0 {
                seen = (bytes, Instant::now());
            }
            if seen.1.elapsed() > STALLED || !self.has_reader() {
                return Ok(false);
            }
            thread::sleep(GLANCE);
        }
    }

    /// Says that `file` was delivered: the reader fetches what comes behind it.
    pub fn ask(&self, file: &str) -> Result<(), ArchiveError> {
        self.write(ASKED, file)
    }

    /// Whether somebody fetches.
    pub fn has_reader(&self) -> bool {
        let free = self.folder.try_lock().is_ok();
        if free {
            let _ = self.folder.unlock();
        }
        !free
    }

    /// Ends the reader, and removes the folder and what is in it.
    pub fn end(self) {
        let _ = fs::remove_file(self.path.join(ASKED));
        if self.lock_within(END_MAX) {
            self.remove_all();
        }
    }

    fn remove_all(&self) {
        self.empty();
        let _ = fs::remove_file(self.path.join(ASKED));
        let _ = fs::remove_file(self.path.join(SOURCE));
        let _ = fs::remove_dir(&self.path);
    }

    fn lock_within(&self, wait: Duration) -> bool {
        let begun = Instant::now();
        loop {
            if self.folder.try_lock().is_ok() {
                return true;
            }
            if begun.elapsed() > wait {
                return false;
            }
            thread::sleep(GLANCE);
        }
    }

    /// The name of the finished file with the segment `file`, and the checksum in it.
    fn finished(&self, file: &str) -> Result<Option<(String, u32)>, ArchiveError> {
        let names = self.names()?.into_iter();
        Ok(names.into_iter().find_map(|name| {
            let crc = name.strip_prefix(file)?.strip_prefix('.')?;
            let crc = u32::from_str_radix(crc, 16).ok()?;
            Some((name, crc))
        }))
    }

    fn move_out(
        &self,
        name: &str,
        crc: u32,
        file: &str,
        destination: &Path,
    ) -> Result<bool, ArchiveError> {
        let path = self.path.join(name);
        let taken = whole(&path, file, crc).and_then(|()| {
            fs::rename(&path, destination)
                .map_err(|error| ArchiveError::file("rename", &path, error))
        });
        match taken {
            // The reader gave up, and removed it.
            Err(ArchiveError::File { source, .. })
                if source.kind() == io::ErrorKind::NotFound && !path.exists() =>
            {
                Ok(false)
            }
            Err(error) => {
                self.remove(name);
                Err(error)
            }
            Ok(()) => Ok(true),
        }
    }

    /// Whether what is here comes from `source`.
    fn comes_from(&self, source: &str) -> bool {
        let mut said = Vec::new();
        let read = File::open(self.path.join(SOURCE)).and_then(|file| {
            // One byte more tells a longer one.
            file.take(source.len() as u64 + 1).read_to_end(&mut said)
        });
        read.is_ok() && said == source.as_bytes()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), ArchiveError> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let opened = options
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path);
        opened
            .and_then(|mut file| file.write_all(text.as_bytes()))
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

    /// The names of all files with segments.
    fn names(&self) -> Result<Vec<String>, ArchiveError> {
        let entries = match fs::read_dir(&self.path) {
            // The reader has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| ArchiveError::file("list", &self.path, error))?,
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names
            .filter(|name| name != SOURCE && name != ASKED)
            .collect())
    }
}

/// The folder beside a file.
fn beside(destination: &Path) -> PathBuf {
    destination.with_file_name(FOLDER)
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
        found = pgm_storage::crc32c_append(found, &chunk);
        offset += chunk.len() as u64;
    }
    if found == crc {
        return Ok(());
    }
    Err(corrupt(format!(
        "its checksum is {found:08X}, not {crc:08X}"
    )))
}
