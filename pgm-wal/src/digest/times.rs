//! Which transactions a recovery to a moment ends with.

use jiff::Timestamp;
use pgm_proto::Lsn;

use super::changes::{ChangesError, timeline_of};
use super::{Commit, Digest, Transactions};
use crate::archive::{Archive, ArchiveSource};
use crate::record::{Record, RecordReader, StopPoint, Target, TransactionEnd, TransactionKind};
use crate::{History, SegmentName, SegmentSize, Spool};

/// How many segments without a commit are gone back over.
pub(super) const BACK_MAX: usize = 64;
/// The clock of a server is not the order of its WAL: so many segments before are looked at, too.
const DISORDER: usize = 2;

/// Where a recovery stops, and the last commit before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastBefore {
    /// The last commit that is recovered, if there is one in the WAL nearby.
    pub last_commit: Option<Commit>,
    /// The record that recovery stops at, if there is one in the WAL.
    pub stop: Option<StopPoint>,
}

/// What a recovery along `history` from `from` on, through WAL that ends at `to`, ends with when its target is the time of
/// `target`. The segment is found by digests, and by reading WAL where there are none; a clock that was set back by more than
/// the length of a few segments can lead to a later stop than PostgreSQL's.
pub fn transactions(
    archive: &Archive,
    spool: Option<&Spool>,
    history: &History,
    size: SegmentSize,
    (from, to): (Lsn, Lsn),
    target: &Target,
) -> Result<LastBefore, ChangesError> {
    let way = Way::new(archive, spool, history, size, (from, to));
    let later = |transactions: &Transactions| match (transactions.times, target) {
        (Some((_, latest)), Target::Time { time, inclusion }) => {
            is_later(latest, *time, *inclusion)
        }
        _ => false,
    };
    let (mut low, mut high) = (0, way.count);
    while low < high {
        let middle = low + (high - low) / 2;
        if later(&way.of_or_before(middle, low)?) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let mut first = low;
    for earlier in (low.saturating_sub(DISORDER)..low).rev() {
        if later(&way.of(earlier)?) {
            first = earlier;
        }
    }
    way.scan(first, to, target)
}

fn is_later(latest: Timestamp, time: Timestamp, inclusion: crate::record::Inclusion) -> bool {
    match inclusion {
        crate::record::Inclusion::Inclusive => latest > time,
        crate::record::Inclusion::Exclusive => latest >= time,
    }
}

fn segments(from: Lsn, to: Lsn, size: SegmentSize) -> usize {
    let bytes = to.bytes().saturating_sub(size.round_down(from).bytes());
    usize::try_from(bytes.div_ceil(size.bytes())).unwrap_or(usize::MAX)
}

/// The segments from a backup to the end of the WAL.
pub(super) struct Way<'a> {
    archive: &'a Archive,
    spool: Option<&'a Spool>,
    history: &'a History,
    size: SegmentSize,
    from: Lsn,
    to: Lsn,
    first: Lsn,
    count: usize,
}

impl<'a> Way<'a> {
    pub(super) fn new(
        archive: &'a Archive,
        spool: Option<&'a Spool>,
        history: &'a History,
        size: SegmentSize,
        (from, to): (Lsn, Lsn),
    ) -> Self {
        Self {
            archive,
            spool,
            history,
            size,
            from,
            to,
            first: size.round_down(from),
            count: segments(from, to, size),
        }
    }

    /// The numbers of the segments, counted from the first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.count).rev()
    }

    fn start(&self, number: usize) -> Lsn {
        self.first + number as u64 * self.size.bytes()
    }

    fn reader(&self, from: Lsn) -> Result<RecordReader<ArchiveSource>, ChangesError> {
        let source = ArchiveSource::new(self.archive.clone(), self.spool.cloned(), self.size);
        let history = self.history.clone();
        Ok(RecordReader::seek(source, history, from.max(self.from))?)
    }

    fn name(&self, number: usize) -> SegmentName {
        let start = self.start(number);
        SegmentName::at(
            timeline_of(self.history, start, self.size),
            start,
            self.size,
        )
    }

    /// The digest of a segment; `None` when there is none, or it says more than what is asked for.
    pub(super) fn digest(&self, number: usize) -> Result<Option<Digest>, ChangesError> {
        let name = self.name(number);
        let digest = self.archive.digest(name, self.size)?;
        Ok(digest.filter(|_| name.end(self.size) <= self.to))
    }

    /// The transactions that end in records which begin in a segment, and before `until`.
    pub(super) fn read(&self, number: usize, until: Lsn) -> Result<Transactions, ChangesError> {
        let until = until.min(self.name(number).end(self.size));
        let mut transactions = Transactions::default();
        let mut reader = self.reader(self.start(number))?;
        while let Some(record) = reader.next()? {
            if record.lsn >= until {
                break;
            }
            transactions.add(&record);
        }
        Ok(transactions)
    }

    /// The transactions of a segment.
    fn of(&self, number: usize) -> Result<Transactions, ChangesError> {
        match self.digest(number)? {
            Some(digest) => Ok(digest.transactions),
            None => self.read(number, self.to),
        }
    }

    /// The transactions of the newest segment up to `number` in which any ended, but not before `low`.
    fn of_or_before(&self, number: usize, low: usize) -> Result<Transactions, ChangesError> {
        let mut last = Transactions::default();
        for number in (low..=number).rev() {
            last = self.of(number)?;
            if last.times.is_some() {
                break;
            }
        }
        Ok(last)
    }

    /// Reads from a segment on until recovery stops.
    fn scan(&self, first: usize, to: Lsn, target: &Target) -> Result<LastBefore, ChangesError> {
        let mut found = LastBefore::default();
        if first < self.count {
            let mut reader = self.reader(self.start(first))?;
            while let Some(record) = reader.next()? {
                if record.lsn >= to {
                    break;
                }
                found.stop = target.stops_at(&record);
                if found.stop.is_some() {
                    break;
                }
                found.last_commit = commit(&record).or(found.last_commit);
            }
        }
        for earlier in (first.saturating_sub(BACK_MAX)..first).rev() {
            if found.last_commit.is_some() {
                break;
            }
            found.last_commit = self.of(earlier)?.last_commit;
        }
        found.last_commit = found.last_commit.filter(|commit| commit.lsn >= self.from);
        Ok(found)
    }
}

fn commit(record: &Record<'_>) -> Option<Commit> {
    let end = TransactionEnd::of(record)?;
    (end.kind == TransactionKind::Commit).then(|| Commit::of(end))
}
