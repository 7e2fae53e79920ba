//! Segments in files as a source of records.

use std::fs::File;
use std::io::Read;

use pgm_proto::TimelineId;

use super::encoding::Encoding;
use super::{FilesError, Place, Run, SegmentFiles};
use crate::record::{SegmentSource, SourceError, read_full};
use crate::{SegmentName, SegmentNumber, SegmentSize};

/// The segments of one run.
pub struct FilesSource<'a> {
    files: &'a SegmentFiles,
    run: Run,
    open: Option<(SegmentName, Opened)>,
    /// A compressed archive, and how far it was read: its members mostly come in order.
    archive: Option<(Place, Box<dyn Read + 'a>, u64)>,
}

enum Opened {
    /// A file, where the segment begins in it, and how long it is.
    File(File, u64, u64),
    /// Decoded, at most a segment's size of it.
    Decoded(Vec<u8>),
}

impl std::fmt::Debug for FilesSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilesSource")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

impl<'a> FilesSource<'a> {
    pub(super) const fn new(files: &'a SegmentFiles, run: Run) -> Self {
        Self {
            files,
            run,
            open: None,
            archive: None,
        }
    }

    fn includes(&self, name: SegmentName) -> bool {
        let start = name.start(self.files.size);
        self.run.start <= start && start < self.run.end
    }

    fn open(&mut self, place: &Place) -> Result<Opened, FilesError> {
        let path = place.path();
        let failed = |error| FilesError::io("read", path, error);
        match place {
            Place::File {
                encoding: Encoding::Plain,
                ..
            } => Ok(Opened::File(
                File::open(path).map_err(failed)?,
                0,
                self.files.size.bytes(),
            )),
            Place::Member {
                encoding: Encoding::Plain,
                offset,
                len,
                ..
            } => Ok(Opened::File(
                File::open(path).map_err(failed)?,
                *offset,
                (*len).min(self.files.size.bytes()),
            )),
            Place::File { .. } => {
                let mut decoded = Vec::new();
                let limit = self.files.size.bytes();
                place
                    .open()?
                    .take(limit)
                    .read_to_end(&mut decoded)
                    .map_err(failed)?;
                Ok(Opened::Decoded(decoded))
            }
            Place::Member { .. } => self.member(place).map(Opened::Decoded),
        }
    }

    /// Decodes a member of a compressed archive, going on from the member before if it can.
    fn member(&mut self, place: &Place) -> Result<Vec<u8>, FilesError> {
        let Place::Member {
            path,
            encoding,
            offset,
            len,
        } = place
        else {
            return Ok(Vec::new());
        };
        let failed = |error| FilesError::io("read", path, error);
        let (mut reader, at) = match self.archive.take() {
            Some((held, reader, at)) if held.path() == path && at <= *offset => (reader, at),
            _ => (encoding.open(path)? as Box<dyn Read + 'a>, 0),
        };
        std::io::copy(&mut (&mut reader).take(offset - at), &mut std::io::sink())
            .map_err(failed)?;
        let mut decoded = Vec::new();
        let count = (&mut reader)
            .take((*len).min(self.files.size.bytes()))
            .read_to_end(&mut decoded)
            .map_err(failed)? as u64;
        self.archive = Some((place.clone(), reader, offset + count));
        Ok(decoded)
    }
}

impl SegmentSource for FilesSource<'_> {
    fn segment_size(&self) -> SegmentSize {
        self.files.size
    }

    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError> {
        if self.open.as_ref().is_none_or(|(name, _)| *name != segment) {
            self.open = None;
            let files = self.files;
            let Some(found) = files
                .segments
                .get(&segment)
                .filter(|_| self.includes(segment))
            else {
                return Ok(None);
            };
            let opened = self.open(&found.place).map_err(|error| {
                let hint = error.hint();
                SourceError::new(found.place.path().display().to_string(), error).with_hint(hint)
            })?;
            self.open = Some((segment, opened));
        }
        match &self.open {
            Some((_, Opened::File(file, begin, len))) => {
                let room = len.saturating_sub(offset).min(buf.len() as u64) as usize;
                let filled =
                    read_full(file, begin + offset, &mut buf[..room]).map_err(|error| {
                        SourceError::new(segment.display(self.files.size).to_string(), error)
                    })?;
                Ok(Some(filled))
            }
            Some((_, Opened::Decoded(bytes))) => {
                let rest = bytes.get(offset as usize..).unwrap_or_default();
                let count = rest.len().min(buf.len());
                buf[..count].copy_from_slice(&rest[..count]);
                Ok(Some(count))
            }
            None => Ok(None),
        }
    }

    fn newest(&mut self, timeline: TimelineId) -> Result<Option<SegmentNumber>, SourceError> {
        let names = self.files.segments.keys().rev();
        Ok(names
            .filter(|name| name.timeline == timeline && self.includes(**name))
            .map(|name| name.number)
            .next())
    }
}
