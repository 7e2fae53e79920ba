//! The blocks that changed in a stretch of WAL.

use pgm_proto::Lsn;

use crate::archive::{Archive, ArchiveError, ArchiveSource};
use crate::record::{RecordError, RecordReader};
use crate::summary::{Rules, Summary, SummaryError};
use crate::{History, SegmentName, SegmentSize, Spool};

/// Why it cannot be said what changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// The archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The WAL cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record says less than it should.
    #[error(transparent)]
    Summary(#[from] SummaryError),
    /// The WAL ends before the stretch does.
    #[error("the WAL ends at {end}, and what changed up to {to} is asked for")]
    Short {
        /// Where it ends.
        end: Lsn,
        /// Up to where it should go.
        to: Lsn,
    },
}

/// Which blocks changed between `from`, where a record begins, and `to`, along `history`: from the digests, and from the WAL
/// of archive and spool where there are none. May name blocks that changed shortly before or after.
pub fn changes(
    archive: &Archive,
    spool: Option<&Spool>,
    history: &History,
    size: SegmentSize,
    from: Lsn,
    to: Lsn,
) -> Result<Summary, ChangesError> {
    let mut all = Summary::new(history.timeline_at(from), from, Rules::Complete);
    let mut position = from;
    let source = || ArchiveSource::new(archive.clone(), spool.cloned(), size);
    let mut start = size.round_down(from);
    while position < to {
        let name = SegmentName::at(timeline_of(history, start, size), start, size);
        let end = name.end(size);
        if let Some(digest) = archive.digest(name, size)? {
            if digest.changes.start > position {
                let stop = digest.changes.start.min(to);
                position = read(&mut all, source(), history, position, stop)?;
            }
            if digest.changes.end > position {
                position = digest.changes.end;
                all.merge(&digest.changes);
            }
        } else if end > position {
            position = read(&mut all, source(), history, position, end.min(to))?;
        }
        // The last record of a segment may end behind it.
        if end >= to && position < to {
            position = read(&mut all, source(), history, position, to)?;
            break;
        }
        start = end;
    }
    all.end = position.max(to);
    Ok(all.completed())
}

/// Whose segment it is that begins at `start`: on a switch within it, that of the newer timeline, which has both.
pub(super) fn timeline_of(
    history: &History,
    start: Lsn,
    size: SegmentSize,
) -> pgm_proto::TimelineId {
    let last = Lsn::new(start.bytes().saturating_add(size.bytes() - 1));
    history.timeline_at(last)
}

/// Counts in the records from `position` on that begin before `stop`; gives where the next one begins.
fn read(
    all: &mut Summary,
    source: ArchiveSource,
    history: &History,
    position: Lsn,
    stop: Lsn,
) -> Result<Lsn, ChangesError> {
    let mut reader = RecordReader::at(source, history.clone(), position);
    let mut position = position;
    while position < stop {
        let Some(record) = reader.next()? else {
            return Err(ChangesError::Short {
                end: reader.position(),
                to: stop,
            });
        };
        all.add(&record)?;
        position = record.end_lsn;
    }
    Ok(position)
}
