//! What a segment of archived WAL says, kept beside the archive: which blocks it changed, and when its transactions ended.
//!
//! ```text
//! SERVER/summary/00000001/000000010000000000000003
//! ```
//!
//! A [`Digest`] is made of a finished segment while it is archived ([`Digester`]), from the records that end in it. It is
//! derived: nothing is lost with one that is missing or damaged, because [`changes`] and [`transactions`] read the WAL
//! itself instead. An incremental backup asks the one, a restore to a time the other, and neither reads days of WAL.
//!
//! ```text
//! "PGMD" | version 1, u16 | 0 u16 | transactions that ended u32 | their earliest time i64 | their latest time i64 |
//! the last commit: begins u64, ends u64, xid u32, time i64; zeros for none | the summary | CRC-32C of all before, u32
//! ```
//!
//! Little-endian; times are microseconds since 1970 UTC. The summary is [`Summary::write`]'s, with [`Rules::Complete`].

mod changes;
mod digester;
mod exact;
mod last;
#[cfg(test)]
mod tests;
mod times;

use jiff::Timestamp;
use pgm_proto::Lsn;
use pgm_storage::{ObjectPath, PutMode};

use crate::archive::{Archive, ArchiveError};
use crate::record::{Record, TransactionEnd, TransactionKind};
use crate::summary::{Rules, Summary, SummaryError};
use crate::{SegmentName, SegmentSize};

pub use changes::{ChangesError, changes};
pub use digester::Digester;
pub use exact::{Exact, exact};
pub use last::last_commit;
pub use times::{LastBefore, transactions};

const MAGIC: [u8; 4] = *b"PGMD";
const VERSION: u16 = 1;
/// Of what comes before the summary.
const HEAD_BYTES: usize = 4 + 2 + 2 + 4 + 8 + 8 + 8 + 8 + 4 + 8;
/// The largest digest that is read. A segment of 16 MiB gives some KiB.
const BYTES_MAX: u64 = 256 << 20;

/// What a segment says.
#[derive(Debug, Clone, PartialEq)]
pub struct Digest {
    /// The ends of transactions.
    pub transactions: Transactions,
    /// The blocks that changed, between the first record that is in it and the last one that ends in the segment.
    pub changes: Summary,
}

/// The ends of transactions in a stretch of WAL, commits and aborts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transactions {
    /// How many ended.
    pub count: u32,
    /// The earliest and the latest time of an end, by the server's clock.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The commit that is last in the WAL.
    pub last_commit: Option<Commit>,
}

/// A commit in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Where its record begins.
    pub lsn: Lsn,
    /// Where its record ends.
    pub end_lsn: Lsn,
    /// The transaction.
    pub xid: u32,
    /// When, by the server's clock.
    pub time: Timestamp,
}

impl Transactions {
    /// Counts in a record, if it ends a transaction.
    fn add(&mut self, record: &Record<'_>) {
        let Some(end) = TransactionEnd::of(record) else {
            return;
        };
        self.count = self.count.saturating_add(1);
        self.times = Some(match self.times {
            None => (end.time, end.time),
            Some((earliest, latest)) => (earliest.min(end.time), latest.max(end.time)),
        });
        if end.kind == TransactionKind::Commit {
            self.last_commit = Some(Commit::of(end));
        }
    }
}

impl Commit {
    fn of(end: TransactionEnd) -> Self {
        Self {
            lsn: end.lsn,
            end_lsn: end.end_lsn,
            xid: end.xid,
            time: end.time,
        }
    }
}

impl Digest {
    /// Of nothing yet, from `start` on.
    fn new(name: SegmentName, start: Lsn) -> Self {
        Self {
            transactions: Transactions::default(),
            changes: Summary::new(name.timeline, start, Rules::Complete),
        }
    }

    /// Counts in the next record.
    fn add(&mut self, record: &Record<'_>) -> Result<(), SummaryError> {
        self.transactions.add(record);
        self.changes.add(record)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + 4096);
        let Transactions {
            count,
            times,
            last_commit,
        } = self.transactions;
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 2]);
        out.extend(count.to_le_bytes());
        let micros = |time: Timestamp| time.as_microsecond().to_le_bytes();
        let (earliest, latest) = times.unwrap_or((Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH));
        out.extend(micros(earliest));
        out.extend(micros(latest));
        let commit = last_commit.unwrap_or(Commit {
            lsn: Lsn::INVALID,
            end_lsn: Lsn::INVALID,
            xid: 0,
            time: Timestamp::UNIX_EPOCH,
        });
        out.extend(commit.lsn.bytes().to_le_bytes());
        out.extend(commit.end_lsn.bytes().to_le_bytes());
        out.extend(commit.xid.to_le_bytes());
        out.extend(micros(commit.time));
        self.changes.write(&mut out);
        let crc = crc32c::crc32c(&out);
        out.extend(crc.to_le_bytes());
        out
    }

    /// Reads what [`Digest::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk()?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut rest = content;
        if take(&mut rest)? != MAGIC || u16::from_le_bytes(take(&mut rest)?) != VERSION {
            return None;
        }
        let [_, _] = take(&mut rest)?;
        let count = u32::from_le_bytes(take(&mut rest)?);
        let (earliest, latest) = (time(&mut rest)?, time(&mut rest)?);
        let commit = Commit {
            lsn: Lsn::new(u64::from_le_bytes(take(&mut rest)?)),
            end_lsn: Lsn::new(u64::from_le_bytes(take(&mut rest)?)),
            xid: u32::from_le_bytes(take(&mut rest)?),
            time: time(&mut rest)?,
        };
        Some(Self {
            transactions: Transactions {
                count,
                times: (count > 0).then_some((earliest, latest)),
                last_commit: (commit.lsn != Lsn::INVALID).then_some(commit),
            },
            changes: Summary::read(rest).ok()?,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn time(rest: &mut &[u8]) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::from_le_bytes(take(rest)?)).ok()
}

impl Archive {
    /// The digest of a segment; `None` when there is none that can be read.
    pub fn digest(
        &self,
        name: SegmentName,
        size: SegmentSize,
    ) -> Result<Option<Digest>, ArchiveError> {
        match self
            .storage()
            .get(&self.digest_object(name, size)?, BYTES_MAX)
        {
            Ok(bytes) => Ok(Digest::from_bytes(&bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the digest of a segment. One that is there stays.
    pub(crate) fn store_digest(
        &self,
        name: SegmentName,
        size: SegmentSize,
        digest: &Digest,
    ) -> Result<(), ArchiveError> {
        let object = self.digest_object(name, size)?;
        let bytes = digest.to_bytes();
        // One that is lost with the machine is made anew from the segment.
        match self
            .storage()
            .put_transient(&object, &bytes, PutMode::Create)
        {
            Err(error) if !error.is_already_exists() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes the digest of a segment, if there is one.
    pub(crate) fn remove_digest(
        &self,
        name: SegmentName,
        size: SegmentSize,
    ) -> Result<(), ArchiveError> {
        match self.storage().delete(&self.digest_object(name, size)?) {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn digest_object(
        &self,
        name: SegmentName,
        size: SegmentSize,
    ) -> Result<ObjectPath, ArchiveError> {
        let folder = ObjectPath::parse(self.server().as_str())?.join("summary")?;
        let timeline = folder.join(&name.timeline.file_prefix())?;
        Ok(timeline.join(&name.file_name(size))?)
    }
}
