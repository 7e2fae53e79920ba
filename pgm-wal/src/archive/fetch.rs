//! Answering a server that recovers: its `restore_command`.
//!
//! What a recovering PostgreSQL does depends on the answer: a file that is absent is the end of the WAL, and the server
//! opens. So "absent" is only ever said when there is nothing behind it either; a missing segment with a later one of
//! the same timeline anywhere is a [`Lookup::Gap`], and damage is an error. Both must stop recovery.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pgm_proto::{Lsn, TimelineId};
use pgm_storage::{FRAME_RAW_MAX, ObjectPath, PackReader};

use super::local_file::{LocalSegment, check_pages};
use super::pack::read_frames;
use super::store::read_valid;
use super::{Archive, ArchiveError, StoredName};
use crate::{SegmentName, SegmentSize, Spool, WalFileName};

/// The answer to a request for a WAL file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The file was written to its destination.
    Delivered(Origin),
    /// There is no such file, nor anything of its timeline behind it.
    Absent,
    /// There is no such file, but a later one of the same timeline: recovery must not go on.
    Gap {
        /// The file that is missing.
        missing: String,
        /// The next one that is there.
        next_present: String,
    },
}

/// Where a delivered file came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The archive.
    Archive,
    /// The spool.
    Spool,
    /// An unfinished segment, in the archive or the spool, filled with zeros from here on.
    Partial(Lsn),
}

/// What there is in place of a finished segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Nothing, nor anything of its timeline behind it.
    Nothing,
    /// An unfinished copy, valid up to here.
    Part(Lsn),
    /// A later segment of the same timeline.
    Later(SegmentName),
}

impl Archive {
    /// Writes `file` to `destination`, from the archive or else from the spool.
    ///
    /// The destination appears complete or not at all, but is not synced: PostgreSQL syncs what it keeps. An unfinished
    /// segment is delivered, filled with zeros, under the name of the finished one when there is no finished one.
    pub fn fetch(
        &self,
        file: WalFileName,
        size: SegmentSize,
        destination: &Path,
        spool: Option<&Spool>,
    ) -> Result<Lookup, ArchiveError> {
        match file {
            WalFileName::Segment(name) => self.fetch_segment(name, size, destination, spool),
            WalFileName::History(timeline) => self.fetch_history(timeline, destination, spool),
            // No server asks for these, and their content depends on who asks when.
            WalFileName::Partial(_) => Ok(Lookup::Absent),
        }
    }

    /// Whether there is WAL of `timeline`, finished or not, here or in the spool.
    pub fn has_wal(
        &self,
        timeline: TimelineId,
        size: SegmentSize,
        spool: Option<&Spool>,
    ) -> Result<bool, ArchiveError> {
        if let Some(spool) = spool {
            let listing = spool.list()?;
            let mut names = listing.segments.iter().chain(&listing.partials);
            if names.any(|name| name.timeline == timeline) {
                return Ok(true);
            }
        }
        let mut found = false;
        self.list_timeline(timeline, size, &mut |_| {
            found = true;
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn fetch_segment(
        &self,
        name: SegmentName,
        size: SegmentSize,
        destination: &Path,
        spool: Option<&Spool>,
    ) -> Result<Lookup, ArchiveError> {
        if let Some(origin) = self.fetch_finished(name, size, destination, spool)? {
            return Ok(Lookup::Delivered(origin));
        }
        match self.remains(name, size, spool)? {
            Remains::Nothing => Ok(Lookup::Absent),
            Remains::Later(next) => Ok(Lookup::Gap {
                missing: name.file_name(size),
                next_present: next.file_name(size),
            }),
            Remains::Part(_) => self.fetch_part(name, size, destination, spool),
        }
    }

    /// Writes a finished segment to `destination`, from the archive or else from the spool; `None` when neither has it.
    pub fn fetch_finished(
        &self,
        name: SegmentName,
        size: SegmentSize,
        destination: &Path,
        spool: Option<&Spool>,
    ) -> Result<Option<Origin>, ArchiveError> {
        let object = self.object(StoredName::Segment(name), size)?;
        let archived = self.deliver_object(&object, name, size, destination);
        if let Ok(true) = archived {
            return Ok(Some(Origin::Archive));
        }
        if let Some(spool) = spool {
            let path = spool.folder().join(name.file_name(size));
            if let Some(local) = LocalSegment::open(&path, name, size)? {
                local.check_length()?;
                deliver_local(&local, size.bytes(), destination)?;
                return Ok(Some(Origin::Spool));
            }
        }
        archived?;
        // It may have gone from the spool to the archive between the two looks.
        let archived = spool.is_some() && self.deliver_object(&object, name, size, destination)?;
        Ok(archived.then_some(Origin::Archive))
    }

    /// What there is of a segment that is not there as a whole.
    pub fn remains(
        &self,
        name: SegmentName,
        size: SegmentSize,
        spool: Option<&Spool>,
    ) -> Result<Remains, ArchiveError> {
        if let Some(next) = self.next_present(name, size, spool)? {
            return Ok(Remains::Later(next));
        }
        let local = Self::part_in(spool, name, size)?.map(|(end, _)| end);
        let longest = local.max(self.newest_partial(name, size)?);
        Ok(longest.map_or(Remains::Nothing, Remains::Part))
    }

    /// Whether the finished segment is here or in the spool.
    pub fn has_finished(
        &self,
        name: SegmentName,
        size: SegmentSize,
        spool: Option<&Spool>,
    ) -> Result<bool, ArchiveError> {
        let in_spool = |spool: &Spool| spool.folder().join(name.file_name(size)).exists();
        Ok(spool.is_some_and(in_spool)
            || self.exists(&self.object(StoredName::Segment(name), size)?)?)
    }

    /// The content of the history file of `timeline`, from the archive or else from the spool; `None` when neither has it.
    pub fn history_file(
        &self,
        timeline: TimelineId,
        spool: Option<&Spool>,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        Ok(self
            .find_history(timeline, spool)?
            .map(|(content, _)| content))
    }

    fn find_history(
        &self,
        timeline: TimelineId,
        spool: Option<&Spool>,
    ) -> Result<Option<(Vec<u8>, Origin)>, ArchiveError> {
        let archived = self.read_history(timeline);
        let in_spool = match spool {
            Some(spool) => {
                let name = WalFileName::History(timeline).file_name(SegmentSize::DEFAULT);
                read_if_present(&spool.folder().join(name))
            }
            None => Ok(None),
        };
        match (archived, in_spool) {
            (Ok(Some(content)), _) => Ok(Some((content, Origin::Archive))),
            (_, Ok(Some(content))) => Ok(Some((content, Origin::Spool))),
            (Ok(None), Ok(None)) => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    fn fetch_history(
        &self,
        timeline: TimelineId,
        destination: &Path,
        spool: Option<&Spool>,
    ) -> Result<Lookup, ArchiveError> {
        let Some((content, origin)) = self.find_history(timeline, spool)? else {
            return Ok(Lookup::Absent);
        };
        let mut target = Destination::create(destination)?;
        target.write(&content)?;
        target.finish()?;
        Ok(Lookup::Delivered(origin))
    }

    /// Delivers an archived segment; false when there is none.
    fn deliver_object(
        &self,
        object: &ObjectPath,
        name: SegmentName,
        size: SegmentSize,
        destination: &Path,
    ) -> Result<bool, ArchiveError> {
        let Some(pack) = self.find_segment(object, size)? else {
            return Ok(false);
        };
        let mut target = Destination::create(destination)?;
        read_segment(object, &pack, name, size, &mut |bytes| target.write(bytes))?;
        target.finish()?;
        Ok(true)
    }

    /// Gives the bytes of a finished segment to `write`, in order, from the archive or else from the spool; false when neither
    /// has it, and then nothing was given.
    pub(super) fn read_finished(
        &self,
        name: SegmentName,
        size: SegmentSize,
        spool: Option<&Spool>,
        write: &mut dyn FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<bool, ArchiveError> {
        let object = self.object(StoredName::Segment(name), size)?;
        if let Some(pack) = self.find_segment(&object, size)? {
            read_segment(&object, &pack, name, size, write)?;
            return Ok(true);
        }
        let Some(spool) = spool else {
            return Ok(false);
        };
        let path = spool.folder().join(name.file_name(size));
        let Some(local) = LocalSegment::open(&path, name, size)? else {
            return Ok(false);
        };
        local.check_length()?;
        read_local(&local, size.bytes(), write)?;
        Ok(true)
    }

    /// Opens an archived segment, which must hold as many bytes as one has.
    fn find_segment(
        &self,
        object: &ObjectPath,
        size: SegmentSize,
    ) -> Result<Option<PackReader>, ArchiveError> {
        let Some(pack) = self.find_pack(object)? else {
            return Ok(None);
        };
        let bytes = pack.summary().raw_bytes;
        if bytes == size.bytes() {
            return Ok(Some(pack));
        }
        Err(ArchiveError::Damaged {
            object: object.to_string(),
            reason: format!("it holds {bytes} bytes, not {}", size.bytes()),
        })
    }

    /// The unfinished copy of a segment in the spool, if something is written in it, and where that ends.
    fn part_in(
        spool: Option<&Spool>,
        name: SegmentName,
        size: SegmentSize,
    ) -> Result<Option<(Lsn, LocalSegment)>, ArchiveError> {
        let Some(spool) = spool else {
            return Ok(None);
        };
        let path = spool
            .folder()
            .join(WalFileName::Partial(name).file_name(size));
        let Some(local) = LocalSegment::open(&path, name, size)? else {
            return Ok(None);
        };
        let end = local.valid_end()?;
        Ok((end > name.start(size)).then_some((end, local)))
    }

    /// Writes the longest unfinished copy of a segment to `destination`.
    pub fn fetch_part(
        &self,
        name: SegmentName,
        size: SegmentSize,
        destination: &Path,
        spool: Option<&Spool>,
    ) -> Result<Lookup, ArchiveError> {
        let start = name.start(size);
        let local = Self::part_in(spool, name, size)?;
        let archived = self.newest_partial(name, size)?;
        match (local, archived) {
            (Some((end, local)), archived) if archived.is_none_or(|archived| archived <= end) => {
                deliver_local(&local, end.bytes_since(start), destination)?;
                Ok(Lookup::Delivered(Origin::Partial(end)))
            }
            (_, Some(end)) => {
                let object = self.object(StoredName::Partial { segment: name, end }, size)?;
                if self.deliver_object(&object, name, size, destination)? {
                    return Ok(Lookup::Delivered(Origin::Partial(end)));
                }
                Ok(Lookup::Absent)
            }
            (_, None) => Ok(Lookup::Absent),
        }
    }

    /// The first segment of the same timeline behind `name`, finished or not, anywhere.
    fn next_present(
        &self,
        name: SegmentName,
        size: SegmentSize,
        spool: Option<&Spool>,
    ) -> Result<Option<SegmentName>, ArchiveError> {
        let mut next: Option<SegmentName> = None;
        let mut consider = |found: SegmentName| {
            if found.timeline == name.timeline && found.number > name.number {
                next = Some(next.map_or(found, |next| next.min(found)));
            }
        };
        if let Some(spool) = spool {
            let listing = spool.list()?;
            listing
                .segments
                .iter()
                .chain(&listing.partials)
                .copied()
                .for_each(&mut consider);
        }
        self.list_timeline(name.timeline, size, &mut |stored| {
            match stored {
                StoredName::Segment(found) | StoredName::Partial { segment: found, .. } => {
                    consider(found);
                }
                StoredName::History(_) => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(next)
    }
}

/// Gives the bytes of an archived segment, checked, to `write`.
fn read_segment(
    object: &ObjectPath,
    pack: &PackReader,
    name: SegmentName,
    size: SegmentSize,
    write: &mut dyn FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    read_frames(object, pack, &mut |offset, bytes| {
        check_pages(name, size, offset, bytes).map_err(|reason| ArchiveError::Damaged {
            object: object.to_string(),
            reason,
        })?;
        write(bytes)
    })
}

/// Delivers the first `valid` bytes of a local segment, and zeros behind them.
fn deliver_local(local: &LocalSegment, valid: u64, destination: &Path) -> Result<(), ArchiveError> {
    let mut target = Destination::create(destination)?;
    read_local(local, valid, &mut |bytes| target.write(bytes))?;
    target.finish()
}

/// Gives the first `valid` bytes of a local segment, and zeros behind them, to `write`.
fn read_local(
    local: &LocalSegment,
    valid: u64,
    write: &mut dyn FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let bytes = local.size.bytes();
    let mut chunk = vec![0; bytes.min(FRAME_RAW_MAX as u64) as usize];
    let mut offset = 0;
    while offset < bytes {
        let count = (bytes - offset).min(chunk.len() as u64) as usize;
        read_valid(local, valid, offset, &mut chunk[..count])?;
        write(&chunk[..count])?;
        offset += count as u64;
    }
    Ok(())
}

fn read_if_present(path: &Path) -> Result<Option<Vec<u8>>, ArchiveError> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ArchiveError::file("read", path, error)),
    }
}

/// A file that appears under its name when it is complete; dropped before, it leaves nothing.
struct Destination {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl Destination {
    fn create(path: &Path) -> Result<Self, ArchiveError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.pgm-tmp", std::process::id()));
        let temporary = PathBuf::from(temporary);
        // A leftover of a process that died and had our number.
        let _ = std::fs::remove_file(&temporary);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|error| ArchiveError::file("create", path, error))?;
        Ok(Self {
            file,
            temporary,
            path: path.to_owned(),
            finished: false,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.file
            .write_all(bytes)
            .map_err(|error| ArchiveError::file("write", &self.path, error))
    }

    fn finish(mut self) -> Result<(), ArchiveError> {
        std::fs::rename(&self.temporary, &self.path)
            .map_err(|error| ArchiveError::file("rename", &self.path, error))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
