//! What recovery targets look at: the ends of transactions, and restore points.
//!
//! ```text
//! commit, abort   time i64 | xinfo u32 (if info has 0x80) | database 8 | subtransactions n, 4n | files n, 12n |
//!                 statistics n, 12n (16n from 18 on) | invalidations n, 16n | xid of the prepared transaction
//! restore point   time i64 | name, 64 bytes, zero-terminated
//! ```
//!
//! Times are microseconds since 2000-01-01 UTC. Follows `access/xact.h`, `xactdesc.c` and `xl_restore_point`.

use jiff::Timestamp;
use pgm_proto::Lsn;

use super::entry::Record;
use super::header::{RESOURCE_MANAGER_TRANSACTION, RESOURCE_MANAGER_XLOG};
use super::page::WalVersion;

/// 2000-01-01 in microseconds since 1970.
const POSTGRESQL_EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

const XACT_OPERATION: u8 = 0x70;
const XACT_HAS_INFO: u8 = 0x80;
const XACT_COMMIT: u8 = 0x00;
const XACT_ABORT: u8 = 0x20;
const XACT_COMMIT_PREPARED: u8 = 0x30;
const XACT_ABORT_PREPARED: u8 = 0x40;
const XLOG_OPERATION: u8 = 0xF0;
const XLOG_RESTORE_POINT: u8 = 0x70;

const HAS_DATABASE: u32 = 1 << 0;
const HAS_SUBTRANSACTIONS: u32 = 1 << 1;
const HAS_FILES: u32 = 1 << 2;
const HAS_INVALIDATIONS: u32 = 1 << 3;
const HAS_TWO_PHASE: u32 = 1 << 4;
const HAS_STATISTICS: u32 = 1 << 8;

const RESTORE_POINT_NAME_BYTES: usize = 64;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionKind {
    /// It was committed.
    Commit,
    /// It was rolled back.
    Abort,
}

/// The end of a transaction, prepared or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionEnd {
    /// Where the record begins.
    pub lsn: Lsn,
    /// Where it ends.
    pub end_lsn: Lsn,
    /// The transaction; of a prepared one, its own number and not that of the session that ended it.
    pub xid: u32,
    /// When, by the server's clock.
    pub time: Timestamp,
    /// How.
    pub kind: TransactionKind,
}

/// A named restore point (`pg_create_restore_point`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// Where the record begins.
    pub lsn: Lsn,
    /// Where it ends.
    pub end_lsn: Lsn,
    /// Its name; what is not UTF-8 in it is replaced.
    pub name: String,
    /// When it was made, by the server's clock.
    pub time: Timestamp,
}

/// A record that a recovery target may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A transaction ended.
    TransactionEnd(TransactionEnd),
    /// A restore point was made.
    RestorePoint(RestorePoint),
}

impl Event {
    /// What `record` says, if it is one of these. A record whose content contradicts itself is none.
    pub fn of(record: &Record<'_>) -> Option<Self> {
        match record.resource_manager {
            RESOURCE_MANAGER_TRANSACTION => TransactionEnd::of(record).map(Self::TransactionEnd),
            RESOURCE_MANAGER_XLOG => RestorePoint::of(record).map(Self::RestorePoint),
            _ => None,
        }
    }
}

impl TransactionEnd {
    /// The end of a transaction that `record` is, if it is one.
    pub fn of(record: &Record<'_>) -> Option<Self> {
        if record.resource_manager != RESOURCE_MANAGER_TRANSACTION {
            return None;
        }
        let (kind, prepared) = match record.info & XACT_OPERATION {
            XACT_COMMIT => (TransactionKind::Commit, false),
            XACT_ABORT => (TransactionKind::Abort, false),
            XACT_COMMIT_PREPARED => (TransactionKind::Commit, true),
            XACT_ABORT_PREPARED => (TransactionKind::Abort, true),
            _ => return None,
        };
        let (time, rest) = time_at(record.main_data)?;
        let xid = if prepared {
            prepared_xid(record.info, rest, kind, record.version)?
        } else {
            record.xid
        };
        Some(Self {
            lsn: record.lsn,
            end_lsn: record.end_lsn,
            xid,
            time,
            kind,
        })
    }
}

impl RestorePoint {
    /// The restore point that `record` is, if it is one.
    pub fn of(record: &Record<'_>) -> Option<Self> {
        let is_one = record.resource_manager == RESOURCE_MANAGER_XLOG
            && record.info & XLOG_OPERATION == XLOG_RESTORE_POINT;
        if !is_one {
            return None;
        }
        let (time, rest) = time_at(record.main_data)?;
        let field: &[u8; RESTORE_POINT_NAME_BYTES] = rest.first_chunk()?;
        let name = field.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        Some(Self {
            lsn: record.lsn,
            end_lsn: record.end_lsn,
            name,
            time,
        })
    }
}

/// The number of the prepared transaction that a record ends, from what follows the record's time.
fn prepared_xid(info: u8, rest: &[u8], kind: TransactionKind, version: WalVersion) -> Option<u32> {
    if info & XACT_HAS_INFO == 0 {
        return None;
    }
    let (flags, mut rest) = u32_at(rest)?;
    if flags & HAS_TWO_PHASE == 0 {
        return None;
    }
    if flags & HAS_DATABASE != 0 {
        rest = rest.get(8..)?;
    }
    let statistic_bytes = if version >= WalVersion::V18 { 16 } else { 12 };
    for (flag, bytes) in [
        (HAS_SUBTRANSACTIONS, 4),
        (HAS_FILES, 12),
        (HAS_STATISTICS, statistic_bytes),
    ] {
        if flags & flag != 0 {
            rest = skip_array(rest, bytes)?;
        }
    }
    if kind == TransactionKind::Commit && flags & HAS_INVALIDATIONS != 0 {
        rest = skip_array(rest, 16)?;
    }
    u32_at(rest).map(|(xid, _)| xid)
}

fn skip_array(bytes: &[u8], element_bytes: usize) -> Option<&[u8]> {
    let (count, rest) = u32_at(bytes)?;
    rest.get(usize::try_from(count).ok()?.checked_mul(element_bytes)?..)
}

fn u32_at(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn time_at(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    let microseconds = i64::from_le_bytes(*number).checked_add(POSTGRESQL_EPOCH_MICROSECONDS)?;
    Some((Timestamp::from_microsecond(microseconds).ok()?, rest))
}
