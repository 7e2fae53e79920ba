//! The summary of a stretch of WAL as PostgreSQL's summarizer would make it, put together from digests.

use pgm_proto::Lsn;

use super::Digest;
use super::changes::{ChangesError, timeline_of};
use crate::archive::{Archive, ArchiveSource};
use crate::record::RecordReader;
use crate::summary::{Rules, Summary};
use crate::{History, SegmentName, SegmentSize, Spool};

/// A summary, and what it was made of.
#[derive(Debug)]
pub struct Exact {
    /// The summary.
    pub summary: Summary,
    /// How many digests are in it.
    pub digests: u64,
    /// Of how many segments WAL was read: those in which the stretch begins or ends, and those without a digest.
    pub segments_read: u64,
}

/// What changed by exactly the records that begin between `from` and `to` along `history`, with [`Rules::Complete`].
pub fn exact(
    archive: &Archive,
    spool: Option<&Spool>,
    history: &History,
    size: SegmentSize,
    (from, to): (Lsn, Lsn),
) -> Result<Exact, ChangesError> {
    let mut walk = Walk {
        exact: Exact {
            summary: Summary::new(history.timeline_at(from), from, Rules::Complete),
            digests: 0,
            segments_read: 0,
        },
        position: from,
        source: || ArchiveSource::new(archive.clone(), spool.cloned(), size),
        history,
    };
    let mut start = size.round_down(from);
    let mut there_is_more = true;
    while walk.position < to && there_is_more {
        let name = SegmentName::at(timeline_of(history, start, size), start, size);
        let end = name.end(size);
        let fits = |digest: &Digest| {
            let changes = &digest.changes;
            changes.start >= walk.position && changes.end > walk.position && changes.end <= to
        };
        match archive.digest(name, size)?.filter(fits) {
            Some(digest) => {
                // A digest may begin only with the first record that begins in its segment.
                there_is_more = walk.read(digest.changes.start, None)?;
                walk.exact.summary.merge(&digest.changes);
                walk.exact.digests += 1;
                walk.position = digest.changes.end;
            }
            // As in a digest: the record that goes over into the next segment belongs to that one.
            None if end < to => there_is_more = walk.read(end, Some(end))?,
            None => {}
        }
        if end >= to {
            there_is_more &= walk.read(to, None)?;
            break;
        }
        start = end;
    }
    let mut exact = walk.exact;
    exact.summary.timeline = history.timeline_at(from);
    if there_is_more {
        // The last record may end before `to`, where the header of a page comes between, or behind it.
        exact.summary.end = to;
    }
    Ok(exact)
}

/// On the way through a stretch of WAL.
struct Walk<'a, F> {
    exact: Exact,
    /// Where the next record begins, or before that.
    position: Lsn,
    source: F,
    history: &'a History,
}

impl<F: Fn() -> ArchiveSource> Walk<'_, F> {
    /// Counts in the records that begin before `stop`, and end before `within` does; false when the WAL ends.
    fn read(&mut self, stop: Lsn, within: Option<Lsn>) -> Result<bool, ChangesError> {
        if self.position >= stop {
            return Ok(true);
        }
        let history = self.history.clone();
        let mut reader = RecordReader::seek((self.source)(), history, self.position)?;
        let mut records: u64 = 0;
        let there_is_more = loop {
            let Some(record) = reader.next()? else {
                break false;
            };
            if record.lsn >= stop || within.is_some_and(|within| record.end_lsn > within) {
                break true;
            }
            self.exact.summary.add(&record)?;
            self.position = record.end_lsn;
            records += 1;
        };
        self.exact.segments_read += u64::from(records > 0);
        Ok(there_is_more)
    }
}
