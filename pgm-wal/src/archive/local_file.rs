//! Segments in local files: checked before they are archived, and before they are given to anyone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pgm_proto::{Lsn, TimelineId};

use super::ArchiveError;
use crate::record::{
    BadPage, HEADER_BYTES_MAX, PAGE_BYTES, PageHeader, RecordReader, SegmentSource, SourceError,
    read_full,
};
use crate::{History, SegmentName, SegmentNumber, SegmentSize};

/// An opened file that should hold the segment `name`.
#[derive(Debug)]
pub(crate) struct LocalSegment {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) name: SegmentName,
    pub(super) size: SegmentSize,
}

impl LocalSegment {
    /// Opens `path`, `None` if it does not exist.
    pub(crate) fn open(
        path: &Path,
        name: SegmentName,
        size: SegmentSize,
    ) -> Result<Option<Self>, ArchiveError> {
        match File::open(path) {
            Ok(file) => Ok(Some(Self {
                file,
                path: path.to_owned(),
                name,
                size,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ArchiveError::file("open", path, error)),
        }
    }

    /// Which segment it is.
    pub(crate) const fn name(&self) -> SegmentName {
        self.name
    }

    /// How large the server's segments are.
    pub(crate) const fn size(&self) -> SegmentSize {
        self.size
    }

    /// Checks that the file has exactly the size of a segment.
    pub(super) fn check_length(&self) -> Result<(), ArchiveError> {
        let failed = |error| ArchiveError::file("read", &self.path, error);
        let bytes = self.file.metadata().map_err(failed)?.len();
        if bytes != self.size.bytes() {
            return Err(self.corrupt(format!("it has {bytes} bytes, not {}", self.size.bytes())));
        }
        Ok(())
    }

    /// Fills `buf` from `offset` and checks the pages in it.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), ArchiveError> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|error| ArchiveError::file("read", &self.path, error))?;
        check_pages(self.name, self.size, offset, buf).map_err(|reason| self.corrupt(reason))
    }

    /// Where the last valid record ends; the segment's beginning when nothing was written.
    pub(super) fn valid_end(&self) -> Result<Lsn, ArchiveError> {
        let start = self.name.start(self.size);
        let failed = |error| ArchiveError::scan(&self.path, error);
        let history = History::root(self.name.timeline);
        let mut reader = RecordReader::seek(self, history, start).map_err(failed)?;
        while reader.next().map_err(failed)?.is_some() {}
        Ok(reader.position().min(self.name.end(self.size)))
    }

    fn corrupt(&self, reason: String) -> ArchiveError {
        ArchiveError::Corrupt {
            path: self.path.clone(),
            reason,
        }
    }
}

/// Checks the headers of the pages in `bytes`, which lie at `offset` of segment `name`: each must be at its place, or
/// have never been written. The first page of a segment must be there.
pub(super) fn check_pages(
    name: SegmentName,
    size: SegmentSize,
    offset: u64,
    bytes: &[u8],
) -> Result<(), String> {
    let start = name.start(size) + offset;
    for (index, page) in bytes.chunks(PAGE_BYTES).enumerate() {
        if page.len() < HEADER_BYTES_MAX {
            // The valid part of an unfinished segment ended in this header, or before it.
            break;
        }
        let address = start + (index * PAGE_BYTES) as u64;
        match PageHeader::parse(page, address, name.timeline, size) {
            Ok(_) => {}
            Err(BadPage::Empty) if offset + index as u64 > 0 => {}
            Err(bad) => return Err(format!("at {address}: {bad}")),
        }
    }
    Ok(())
}

impl SegmentSource for &LocalSegment {
    fn segment_size(&self) -> SegmentSize {
        self.size
    }

    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError> {
        if segment != self.name {
            return Ok(None);
        }
        let filled = read_full(&self.file, offset, buf)
            .map_err(|error| SourceError::new(self.path.display().to_string(), error))?;
        Ok(Some(filled))
    }

    fn newest(&mut self, timeline: TimelineId) -> Result<Option<SegmentNumber>, SourceError> {
        Ok((timeline == self.name.timeline).then_some(self.name.number))
    }
}
