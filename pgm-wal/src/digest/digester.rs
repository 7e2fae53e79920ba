//! Makes digests of segments as they are archived, from the files in the spool: the repository is not asked for anything.

use std::path::Path;

use pgm_proto::{Lsn, TimelineId};

use super::Digest;
use crate::archive::{Archive, ArchiveError, LocalSegment};
use crate::record::{RecordReader, SegmentSource, SourceError};
use crate::{History, SegmentName, SegmentNumber, SegmentSize};

/// Makes digests of segments one after the other.
///
/// The record that goes over from one segment into the next belongs to the next one's digest, so the last segment stays
/// open, also when its file is removed. Where the segment before is not known, as after a start, the digest begins with the
/// first record that begins in the segment, and says so.
#[derive(Debug, Default)]
pub struct Digester {
    before: Option<Before>,
}

/// The segment before, and where the next record begins.
#[derive(Debug)]
struct Before {
    segment: LocalSegment,
    position: Lsn,
}

impl Digester {
    /// Makes the digest of the finished segment `name` in the file at `path`, and keeps it in `archive`.
    ///
    /// WAL that cannot be read gives none: whoever asks for it meets what is wrong.
    pub fn digest(
        &mut self,
        archive: &Archive,
        path: &Path,
        name: SegmentName,
        size: SegmentSize,
    ) -> Result<(), ArchiveError> {
        let Some(segment) = LocalSegment::open(path, name, size)? else {
            return Ok(());
        };
        let before = self.before.take();
        let Some((digest, position)) = read(before.as_ref(), &segment) else {
            return Ok(());
        };
        self.before = Some(Before { segment, position });
        archive.store_digest(name, size, &digest)
    }
}

/// The digest, and where the record begins that goes on behind the segment. `None` when anything cannot be read: a digest
/// that leaves a change out would be believed.
fn read(before: Option<&Before>, segment: &LocalSegment) -> Option<(Digest, Lsn)> {
    let (name, size) = (segment.name(), segment.size());
    let follows = |before: &&Before| {
        before.segment.name().next() == name && before.position > before.segment.name().start(size)
    };
    let before = before.filter(follows);
    let source = Pair {
        before: before.map(|before| &before.segment),
        segment,
    };
    let history = History::root(name.timeline);
    let mut reader = match before {
        Some(before) => RecordReader::at(source, history, before.position),
        None => RecordReader::seek(source, history, name.start(size)).ok()?,
    };
    let mut digest: Option<Digest> = before.map(|before| Digest::new(name, before.position));
    while let Some(record) = reader.next().ok()? {
        let digest = digest.get_or_insert_with(|| Digest::new(name, record.lsn));
        digest.add(&record).ok()?;
    }
    let position = reader.position();
    Some((
        digest.unwrap_or_else(|| Digest::new(name, position)),
        position,
    ))
}

/// A segment and the one before.
#[derive(Debug)]
struct Pair<'a> {
    before: Option<&'a LocalSegment>,
    segment: &'a LocalSegment,
}

impl SegmentSource for Pair<'_> {
    fn segment_size(&self) -> SegmentSize {
        self.segment.size()
    }

    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError> {
        match self.before {
            Some(mut before) if before.name() == segment => before.read_at(segment, offset, buf),
            _ => {
                let mut local = self.segment;
                local.read_at(segment, offset, buf)
            }
        }
    }

    fn newest(&mut self, timeline: TimelineId) -> Result<Option<SegmentNumber>, SourceError> {
        let mut local = self.segment;
        local.newest(timeline)
    }
}
