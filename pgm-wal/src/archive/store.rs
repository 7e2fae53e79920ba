//! Bringing files into the archive.
//!
//! Each `store_…` reads the local file, checks it, writes the object, reads it back and compares, in this order; only
//! then does it return, and only then may the caller remove the local file. An object that is already there is compared
//! instead of written.

use std::ops::ControlFlow;
use std::path::Path;

use pgm_proto::{Lsn, TimelineId};
use pgm_storage::{Compression, ObjectPath, PackSummary, StorageError};

use super::local_file::LocalSegment;
use super::pack::{Raw, read_frames};
use super::{Archive, ArchiveError, StoredName};
use crate::{HISTORY_BYTES_MAX, SegmentName, SegmentSize};

/// How a file came to be in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It was written now, and read back.
    New(PackSummary),
    /// It was there, with the same bytes.
    Already,
    /// It holds nothing that is worth keeping: an unfinished segment into which nothing was written, or of which more is
    /// archived already.
    Nothing,
}

impl Archive {
    /// Archives the finished segment `name` from the file at `path`.
    pub fn store_segment(
        &self,
        path: &Path,
        name: SegmentName,
        size: SegmentSize,
        compression: Compression,
    ) -> Result<Stored, ArchiveError> {
        let local = existing(path, name, size)?;
        local.check_length()?;
        let object = self.object(StoredName::Segment(name), size)?;
        let mut read = |offset, buf: &mut [u8]| local.read(offset, buf);
        let mut raw = Raw {
            len: size.bytes(),
            read: &mut read,
        };
        self.store(path, &object, &mut raw, compression)
    }

    /// Archives what is valid of the unfinished segment `name` from the file at `path`.
    ///
    /// Nothing is written when the archive has the finished segment or as much of it, but what is there must begin with
    /// the same bytes.
    pub fn store_partial(
        &self,
        path: &Path,
        name: SegmentName,
        size: SegmentSize,
        compression: Compression,
    ) -> Result<Stored, ArchiveError> {
        let local = existing(path, name, size)?;
        let end = local.valid_end()?;
        let valid = end.bytes_since(name.start(size));
        if valid == 0 {
            return Ok(Stored::Nothing);
        }
        let mut read = |offset, buf: &mut [u8]| read_valid(&local, valid, offset, buf);
        let mut raw = Raw {
            len: size.bytes(),
            read: &mut read,
        };
        let finished = self.object(StoredName::Segment(name), size)?;
        if self.exists(&finished)? {
            self.must_agree(path, &finished, &mut raw, valid)?;
            return Ok(Stored::Nothing);
        }
        if let Some(known) = self.newest_partial(name, size)? {
            let object = self.object(
                StoredName::Partial {
                    segment: name,
                    end: known,
                },
                size,
            )?;
            let common = valid.min(known.bytes_since(name.start(size)));
            self.must_agree(path, &object, &mut raw, common)?;
            if known > end {
                return Ok(Stored::Nothing);
            }
        }
        let object = self.object(StoredName::Partial { segment: name, end }, size)?;
        self.store(path, &object, &mut raw, compression)
    }

    /// Archives the history file of `timeline` from the file at `path`.
    pub fn store_history(&self, path: &Path, timeline: TimelineId) -> Result<Stored, ArchiveError> {
        let content =
            std::fs::read(path).map_err(|error| ArchiveError::file("read", path, error))?;
        crate::History::parse(timeline, &content).map_err(|error| ArchiveError::Corrupt {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let object = self.history_object(timeline)?;
        let mut read = |offset: u64, buf: &mut [u8]| {
            let offset = offset as usize;
            buf.copy_from_slice(&content[offset..offset + buf.len()]);
            Ok(())
        };
        let mut raw = Raw {
            len: content.len() as u64,
            read: &mut read,
        };
        self.store(path, &object, &mut raw, Compression::NONE)
    }

    /// The archived history file of `timeline`.
    pub(super) fn read_history(
        &self,
        timeline: TimelineId,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        let object = self.history_object(timeline)?;
        let Some(pack) = self.find_pack(&object)? else {
            return Ok(None);
        };
        let bytes = pack.summary().raw_bytes;
        if bytes > HISTORY_BYTES_MAX as u64 {
            return Err(ArchiveError::Damaged {
                object: object.to_string(),
                reason: format!("a history file of {bytes} bytes"),
            });
        }
        let mut content = Vec::new();
        read_frames(&object, &pack, &mut |_, bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(Some(content))
    }

    /// The end of the longest archived part of the unfinished segment `name`.
    pub(super) fn newest_partial(
        &self,
        name: SegmentName,
        size: SegmentSize,
    ) -> Result<Option<Lsn>, ArchiveError> {
        let mut newest = None;
        self.list_timeline(name.timeline, size, &mut |stored| {
            match stored {
                StoredName::Partial { segment, end } if segment == name => {
                    newest = newest.max(Some(end));
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(newest)
    }

    /// Gives every archived segment of `timeline`, finished or not, to `visit`.
    pub(super) fn list_timeline(
        &self,
        timeline: TimelineId,
        size: SegmentSize,
        visit: &mut dyn FnMut(StoredName) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        let all = self.folder()?;
        let folder = all.join(&timeline.file_prefix())?;
        Ok(self.storage.list(&folder, &mut |meta| match meta
            .path
            .below(&all)
            .and_then(|below| StoredName::parse(below, size))
        {
            Some(name) => visit(name),
            None => ControlFlow::Continue(()),
        })?)
    }

    /// Writes the object and reads it back, or finds that it is there already.
    fn store(
        &self,
        path: &Path,
        object: &ObjectPath,
        raw: &mut Raw<'_>,
        compression: Compression,
    ) -> Result<Stored, ArchiveError> {
        if self.exists(object)? {
            self.must_agree(path, object, raw, raw.len)?;
            return Ok(Stored::Already);
        }
        let summary = match self.write_pack(object, raw, compression) {
            Ok(summary) => summary,
            // Somebody else was faster.
            Err(ArchiveError::Storage(StorageError::AlreadyExists { .. })) => {
                self.must_agree(path, object, raw, raw.len)?;
                return Ok(Stored::Already);
            }
            Err(error) => return Err(error),
        };
        match self.agrees(object, raw, raw.len) {
            Ok(true) => Ok(Stored::New(summary)),
            Ok(false) | Err(ArchiveError::Damaged { .. }) => {
                // This very call wrote it and the local file is still there: it can go.
                self.storage.delete(object)?;
                Err(ArchiveError::ReadBack {
                    object: object.to_string(),
                })
            }
            Err(error) => Err(error),
        }
    }

    fn must_agree(
        &self,
        path: &Path,
        object: &ObjectPath,
        raw: &mut Raw<'_>,
        len: u64,
    ) -> Result<(), ArchiveError> {
        if self.agrees(object, raw, len)? {
            return Ok(());
        }
        Err(ArchiveError::SplitBrain {
            path: path.to_owned(),
            object: object.to_string(),
        })
    }

    pub(super) fn exists(&self, object: &ObjectPath) -> Result<bool, ArchiveError> {
        match self.storage.head(object) {
            Ok(_) => Ok(true),
            Err(StorageError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn existing(
    path: &Path,
    name: SegmentName,
    size: SegmentSize,
) -> Result<LocalSegment, ArchiveError> {
    LocalSegment::open(path, name, size)?.ok_or_else(|| {
        ArchiveError::file(
            "open",
            path,
            std::io::Error::from(std::io::ErrorKind::NotFound),
        )
    })
}

/// Fills `buf` with the first `valid` bytes of the segment and zeros behind them.
pub(super) fn read_valid(
    local: &LocalSegment,
    valid: u64,
    offset: u64,
    buf: &mut [u8],
) -> Result<(), ArchiveError> {
    let count = valid.saturating_sub(offset).min(buf.len() as u64) as usize;
    let (content, zeros) = buf.split_at_mut(count);
    zeros.fill(0);
    if content.is_empty() {
        Ok(())
    } else {
        local.read(offset, content)
    }
}
