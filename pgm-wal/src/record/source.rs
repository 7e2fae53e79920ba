//! Where the bytes of segments come from.
//!
//! A [`SegmentSource`] answers three questions about segments by name; it knows nothing of pages and records. The
//! archive has one of its own ([`ArchiveSource`](crate::archive::ArchiveSource)); [`DirectorySource`] reads a folder of
//! plain segments: a spool, a `pg_wal`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use pgm_proto::TimelineId;

use crate::{SegmentName, SegmentNumber, SegmentSize, WalFileName};

/// A source could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {what} failed")]
pub struct SourceError {
    what: String,
    hint: Option<String>,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl SourceError {
    /// Reading `what` failed because of `source`.
    pub fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            what: what.into(),
            hint: None,
            source: source.into(),
        }
    }

    /// The same error with what to do next.
    #[must_use]
    pub fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// Gives the bytes of WAL segments.
pub trait SegmentSource {
    /// How large the server's segments are.
    fn segment_size(&self) -> SegmentSize;

    /// Reads from `offset` of `segment` into `buf` and gives how many bytes that were: fewer than `buf` holds only where
    /// the segment ends. `None` when there is no such segment; an unfinished one (`.partial`) counts as one.
    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError>;

    /// The newest segment of `timeline`, finished or not.
    fn newest(&mut self, timeline: TimelineId) -> Result<Option<SegmentNumber>, SourceError>;
}

impl<S: SegmentSource + ?Sized> SegmentSource for &mut S {
    fn segment_size(&self) -> SegmentSize {
        (**self).segment_size()
    }

    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError> {
        (**self).read_at(segment, offset, buf)
    }

    fn newest(&mut self, timeline: TimelineId) -> Result<Option<SegmentNumber>, SourceError> {
        (**self).newest(timeline)
    }
}

impl<S: SegmentSource + ?Sized> SegmentSource for Box<S> {
    fn segment_size(&self) -> SegmentSize {
        (**self).segment_size()
    }

    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError> {
        (**self).read_at(segment, offset, buf)
    }

    fn newest(&mut self, timeline: TimelineId) -> Result<Option<SegmentNumber>, SourceError> {
        (**self).newest(timeline)
    }
}

/// Reads from `offset` on until `buf` is full or the file ends; gives how many bytes that were.
pub(crate) fn read_full(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A folder of plain segments, finished or `.partial`.
#[derive(Debug)]
pub struct DirectorySource {
    directory: PathBuf,
    size: SegmentSize,
    open: Option<(SegmentName, File)>,
}

impl DirectorySource {
    /// The segments of `size` in `directory`.
    pub fn new(directory: impl Into<PathBuf>, size: SegmentSize) -> Self {
        Self {
            directory: directory.into(),
            size,
            open: None,
        }
    }

    /// Opens the finished segment, else the unfinished one.
    fn open(&mut self, segment: SegmentName) -> Result<Option<&File>, SourceError> {
        if self.open.as_ref().is_none_or(|(name, _)| *name != segment) {
            self.open = None;
            for name in [WalFileName::Segment(segment), WalFileName::Partial(segment)] {
                let path = self.directory.join(name.file_name(self.size));
                match File::open(&path) {
                    Ok(file) => {
                        self.open = Some((segment, file));
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(SourceError::new(path.display().to_string(), error)),
                }
            }
        }
        Ok(self.open.as_ref().map(|(_, file)| file))
    }
}

impl SegmentSource for DirectorySource {
    fn segment_size(&self) -> SegmentSize {
        self.size
    }

    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError> {
        let name = segment.display(self.size);
        let Some(file) = self.open(segment)? else {
            return Ok(None);
        };
        let filled = read_full(file, offset, buf)
            .map_err(|error| SourceError::new(name.to_string(), error))?;
        Ok(Some(filled))
    }

    fn newest(&mut self, timeline: TimelineId) -> Result<Option<SegmentNumber>, SourceError> {
        let failed = |error| SourceError::new(self.directory.display().to_string(), error);
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut newest = None;
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let parsed = name
                .to_str()
                .and_then(|text| WalFileName::parse(text, self.size).ok());
            if let Some(WalFileName::Segment(segment) | WalFileName::Partial(segment)) = parsed
                && segment.timeline == timeline
            {
                newest = newest.max(Some(segment.number));
            }
        }
        Ok(newest)
    }
}
