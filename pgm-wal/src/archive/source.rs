//! The archive, together with the spool, as a source of records.

use std::ops::ControlFlow;

use pgm_proto::TimelineId;
use pgm_storage::{FrameDecoder, PackReader};

use super::local_file::LocalSegment;
use super::pack::damaged;
use super::{Archive, ArchiveError, StoredName};
use crate::record::{SegmentSource, SourceError};
use crate::{SegmentName, SegmentNumber, SegmentSize, Spool, WalFileName};

/// Gives the bytes of archived and spooled segments to a [`RecordReader`](crate::record::RecordReader). Of an
/// unfinished segment the longest copy is read. One frame is held decoded.
pub struct ArchiveSource {
    archive: Archive,
    spool: Option<Spool>,
    size: SegmentSize,
    open: Option<(SegmentName, Opened)>,
}

enum Opened {
    Pack(Box<OpenPack>),
    Local(LocalSegment),
}

struct OpenPack {
    object: pgm_storage::ObjectPath,
    pack: PackReader,
    decoder: FrameDecoder,
    scratch: Vec<u8>,
    /// Which frame `raw` holds, and at which raw offset it begins.
    held: Option<(usize, u64)>,
    raw: Vec<u8>,
}

impl ArchiveSource {
    /// The WAL of `archive` and `spool`.
    pub const fn new(archive: Archive, spool: Option<Spool>, size: SegmentSize) -> Self {
        Self {
            archive,
            spool,
            size,
            open: None,
        }
    }

    fn find(&self, name: SegmentName) -> Result<Option<Opened>, ArchiveError> {
        let finished = StoredName::Segment(name);
        if let Some(pack) = self.open_object(finished)? {
            return Ok(Some(pack));
        }
        if let Some(local) = self.open_spooled(WalFileName::Segment(name), name)? {
            return Ok(Some(Opened::Local(local)));
        }
        // It may have moved from the spool to the archive between the two looks.
        if self.spool.is_some()
            && let Some(pack) = self.open_object(finished)?
        {
            return Ok(Some(pack));
        }
        let local = self.open_spooled(WalFileName::Partial(name), name)?;
        let local = match local {
            Some(local) => Some((local.valid_end()?, local)),
            None => None,
        };
        match (local, self.archive.newest_partial(name, self.size)?) {
            (Some((end, local)), archived) if archived.is_none_or(|archived| archived <= end) => {
                Ok(Some(Opened::Local(local)))
            }
            (_, Some(end)) => self.open_object(StoredName::Partial { segment: name, end }),
            (_, None) => Ok(None),
        }
    }

    fn open_object(&self, name: StoredName) -> Result<Option<Opened>, ArchiveError> {
        let object = self.archive.object(name, self.size)?;
        let Some(pack) = self.archive.find_pack(&object)? else {
            return Ok(None);
        };
        let decoder = FrameDecoder::new().map_err(|error| ArchiveError::Damaged {
            object: object.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Some(Opened::Pack(Box::new(OpenPack {
            object,
            pack,
            decoder,
            scratch: Vec::new(),
            held: None,
            raw: Vec::new(),
        }))))
    }

    fn open_spooled(
        &self,
        file: WalFileName,
        name: SegmentName,
    ) -> Result<Option<LocalSegment>, ArchiveError> {
        let Some(spool) = &self.spool else {
            return Ok(None);
        };
        LocalSegment::open(
            &spool.folder().join(file.file_name(self.size)),
            name,
            self.size,
        )
    }
}

impl std::fmt::Debug for ArchiveSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveSource")
            .field("archive", &self.archive)
            .finish_non_exhaustive()
    }
}

impl OpenPack {
    fn read_at(&mut self, mut offset: u64, buf: &mut [u8]) -> Result<usize, ArchiveError> {
        let mut filled = 0;
        while filled < buf.len() {
            if !self.hold(offset)? {
                break;
            }
            let start = self.held.map_or(0, |(_, start)| start);
            let rest = &self.raw[(offset - start) as usize..];
            let count = rest.len().min(buf.len() - filled);
            buf[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            offset += count as u64;
        }
        Ok(filled)
    }

    /// Decodes the frame with the raw byte at `offset`; false when the segment ends before.
    fn hold(&mut self, offset: u64) -> Result<bool, ArchiveError> {
        let mut start = 0;
        for (index, location) in self.pack.frames().iter().enumerate() {
            let end = start + u64::from(location.raw_bytes);
            if offset < end {
                if self.held != Some((index, start)) {
                    self.held = None;
                    self.pack
                        .read(
                            location,
                            &mut self.decoder,
                            &mut self.scratch,
                            &mut self.raw,
                        )
                        .map_err(|error| damaged(&self.object, error))?;
                    self.held = Some((index, start));
                }
                return Ok(true);
            }
            start = end;
        }
        Ok(false)
    }
}

impl SegmentSource for ArchiveSource {
    fn segment_size(&self) -> SegmentSize {
        self.size
    }

    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError> {
        if self.open.as_ref().is_none_or(|(name, _)| *name != segment) {
            self.open = self.find(segment)?.map(|opened| (segment, opened));
        }
        match &mut self.open {
            None => Ok(None),
            Some((_, Opened::Pack(pack))) => Ok(Some(pack.read_at(offset, buf)?)),
            Some((_, Opened::Local(local))) => (&*local).read_at(segment, offset, buf),
        }
    }

    fn newest(&mut self, timeline: TimelineId) -> Result<Option<SegmentNumber>, SourceError> {
        let mut newest = None;
        if let Some(spool) = &self.spool {
            let listing = spool.list().map_err(ArchiveError::from)?;
            let spooled = listing.segments.iter().chain(&listing.partials);
            newest = spooled
                .filter(|name| name.timeline == timeline)
                .map(|name| name.number)
                .max();
        }
        self.archive
            .list_timeline(timeline, self.size, &mut |stored| {
                if let StoredName::Segment(name) | StoredName::Partial { segment: name, .. } =
                    stored
                {
                    newest = newest.max(Some(name.number));
                }
                ControlFlow::Continue(())
            })?;
        Ok(newest)
    }
}
