//! Questions about a stretch of WAL that planning a restore asks.
//!
//! Each reads record after record, tells how far it is, and stops when it is cancelled.

use jiff::Timestamp;
use pgm_proto::Lsn;
use pgm_storage::Cancel;

use super::RecordError;
use super::end::{EndReason, Invalid};
use super::entry::Record;
use super::event::{Event, RestorePoint, TransactionEnd, TransactionKind};
use super::source::SegmentSource;
use super::stream::RecordReader;
use super::target::{StopPoint, Target};
use crate::History;

/// How much is read between two reports of progress, in bytes.
const REPORT_BYTES: u64 = 1 << 20;

/// What a scan listens to and reports to.
pub struct Scan<'a> {
    /// Stops the scan.
    pub cancel: &'a Cancel,
    /// Is told the position about once a MiB.
    pub progress: &'a mut dyn FnMut(Lsn),
}

impl std::fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}

/// The end of the WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Where the last valid record begins, `None` when none was found.
    pub last_record: Option<Lsn>,
    /// Where it ends: up to here recovery can replay.
    pub end: Lsn,
    /// What is there instead of another record.
    pub reason: EndReason,
    /// The last commit, within the segments that were looked at.
    pub last_commit: Option<TransactionEnd>,
    /// The last commit or abort, within the segments that were looked at.
    pub last_transaction: Option<TransactionEnd>,
}

impl Scan<'_> {
    /// Gives each record to `visit` until that gives an answer, the WAL ends (`None`), or a record begins at `until` or
    /// later (`None`).
    fn find<S: SegmentSource, T>(
        &mut self,
        reader: &mut RecordReader<S>,
        until: Option<Lsn>,
        mut visit: impl FnMut(&Record<'_>) -> Option<T>,
    ) -> Result<Option<T>, RecordError> {
        let mut reported = Lsn::INVALID;
        while let Some(record) = reader.next()? {
            if until.is_some_and(|until| record.lsn >= until) {
                return Ok(None);
            }
            if record.lsn.bytes_since(reported) >= REPORT_BYTES {
                self.cancel.check()?;
                reported = record.lsn;
                (self.progress)(reported);
            }
            if let Some(answer) = visit(&record) {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }
}

/// The first record of `reader` at which a recovery to `target` stops.
pub fn stop_point<S: SegmentSource>(
    scan: &mut Scan<'_>,
    reader: &mut RecordReader<S>,
    target: &Target,
) -> Result<Option<StopPoint>, RecordError> {
    scan.find(reader, None, |record| target.stops_at(record))
}

/// The end of transaction `xid`.
pub fn find_xid<S: SegmentSource>(
    scan: &mut Scan<'_>,
    reader: &mut RecordReader<S>,
    xid: u32,
) -> Result<Option<TransactionEnd>, RecordError> {
    scan.find(reader, None, |record| {
        TransactionEnd::of(record).filter(|end| end.xid == xid)
    })
}

/// The first restore point with this name.
pub fn find_restore_point<S: SegmentSource>(
    scan: &mut Scan<'_>,
    reader: &mut RecordReader<S>,
    name: &str,
) -> Result<Option<RestorePoint>, RecordError> {
    scan.find(reader, None, |record| {
        RestorePoint::of(record).filter(|point| point.name == name)
    })
}

/// The first commit later than `time`.
pub fn first_commit_after<S: SegmentSource>(
    scan: &mut Scan<'_>,
    reader: &mut RecordReader<S>,
    time: Timestamp,
) -> Result<Option<TransactionEnd>, RecordError> {
    scan.find(reader, None, |record| {
        TransactionEnd::of(record)
            .filter(|end| end.kind == TransactionKind::Commit && end.time > time)
    })
}

/// The end of the WAL along `history`, of which all up to the byte at `from` is known to be there, and the last commit
/// before it. A segment that is missing behind `from` is an end, too, whether or not more WAL follows. Looks back from
/// `from` for a valid record and for a commit, not further than `oldest`.
pub fn last_valid<S: SegmentSource>(
    scan: &mut Scan<'_>,
    source: &mut S,
    history: &History,
    from: Lsn,
    oldest: Lsn,
) -> Result<Tail, RecordError> {
    let size = source.segment_size();
    let mut begin = size.round_down(from).max(oldest);
    let mut tail = look(scan, source, history, begin, None)?;
    // Twice as many segments each time, and only those not looked at yet.
    let mut step = size.bytes();
    while (tail.last_commit.is_none() || tail.last_record.is_none()) && begin > oldest {
        let until = tail.last_record.map(|_| begin);
        begin = Lsn::new(begin.bytes().saturating_sub(step)).max(oldest);
        step = step.saturating_mul(2);
        let earlier = look(scan, source, history, begin, until)?;
        if until.is_none() {
            tail = earlier;
        } else {
            tail.last_commit = tail.last_commit.or(earlier.last_commit);
            tail.last_transaction = tail.last_transaction.or(earlier.last_transaction);
        }
    }
    Ok(tail)
}

/// The last of everything from `begin` to the end, or to the records that begin at `until`.
fn look<S: SegmentSource>(
    scan: &mut Scan<'_>,
    source: &mut S,
    history: &History,
    begin: Lsn,
    until: Option<Lsn>,
) -> Result<Tail, RecordError> {
    let nothing = |reason| Tail {
        last_record: None,
        end: begin,
        reason,
        last_commit: None,
        last_transaction: None,
    };
    let mut reader = match RecordReader::seek(source, history.clone(), begin) {
        Ok(reader) => reader,
        Err(RecordError::Missing { segment }) => {
            return Ok(nothing(EndReason::NoSegment(segment)));
        }
        Err(error) => return Err(error),
    };
    let mut tail = nothing(EndReason::Invalid(Invalid::Empty));
    let visit = |record: &Record<'_>| -> Option<()> {
        if let Some(Event::TransactionEnd(end)) = Event::of(record) {
            tail.last_transaction = Some(end);
            if end.kind == TransactionKind::Commit {
                tail.last_commit = Some(end);
            }
        }
        None
    };
    match scan.find(&mut reader, until, visit) {
        Ok(_) => {}
        Err(RecordError::Missing { segment }) => tail.reason = EndReason::NoSegment(segment),
        Err(error) => return Err(error),
    }
    if let Some(end) = reader.end() {
        tail.reason = end.reason.clone();
    }
    tail.last_record = reader.last_record();
    tail.end = reader.position();
    Ok(tail)
}
