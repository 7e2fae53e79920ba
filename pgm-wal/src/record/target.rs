//! Where a recovery stops.
//!
//! [`Target::stops_at`] decides for one record what PostgreSQL would: it stops before or after it, or goes on. It
//! follows `recoveryStopsBefore` and `recoveryStopsAfter` in `access/transam/xlogrecovery.c`, of which the consequences
//! are not always what one expects: a time target stops at the first transaction *end* later than the target (aborts
//! count, restore points do not), an LSN target at the first record that *begins* at it or later.

use jiff::Timestamp;
use pgm_proto::Lsn;

use super::entry::Record;
use super::event::{RestorePoint, TransactionEnd};

/// Whether what the target names is part of what is recovered (`recovery_target_inclusive`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inclusion {
    /// It is: PostgreSQL's default.
    #[default]
    Inclusive,
    /// It is not.
    Exclusive,
}

/// What to recover to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Everything there is.
    Latest,
    /// As soon as the server is consistent, which it is at the end of its backup.
    Immediate {
        /// The end of the backup.
        consistent: Lsn,
    },
    /// A moment, by the server's clock.
    Time {
        /// The moment.
        time: Timestamp,
        /// Whether transactions that ended at that very moment are part of it.
        inclusion: Inclusion,
    },
    /// A position in the WAL.
    Lsn {
        /// The position.
        lsn: Lsn,
        /// Whether the record that begins there is part of it.
        inclusion: Inclusion,
    },
    /// A transaction.
    Xid {
        /// Its number.
        xid: u32,
        /// Whether it is part of it.
        inclusion: Inclusion,
    },
    /// A restore point.
    Name(String),
}

/// On which side of a record a recovery stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The record is not replayed.
    Before,
    /// The record is the last one that is replayed.
    After,
}

/// Where a recovery stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopPoint {
    /// Where the record begins that decided it.
    pub lsn: Lsn,
    /// Where that record ends: the WAL up to here must be there for the server to stop.
    pub end_lsn: Lsn,
    /// Whether that record is replayed.
    pub side: Side,
    /// That record's time, if it has one.
    pub time: Option<Timestamp>,
    /// That record's transaction, if it ends one.
    pub xid: Option<u32>,
}

impl Target {
    /// Whether a recovery to this target stops at `record`, when it did not stop earlier.
    pub fn stops_at(&self, record: &Record<'_>) -> Option<StopPoint> {
        let side = |inclusion: Inclusion| match inclusion {
            Inclusion::Inclusive => Side::After,
            Inclusion::Exclusive => Side::Before,
        };
        let at = |side, time, xid| StopPoint {
            lsn: record.lsn,
            end_lsn: record.end_lsn,
            side,
            time,
            xid,
        };
        match self {
            Self::Latest => None,
            Self::Immediate { consistent } => {
                (record.end_lsn >= *consistent).then(|| at(Side::After, None, None))
            }
            Self::Lsn { lsn, inclusion } => {
                (record.lsn >= *lsn).then(|| at(side(*inclusion), None, None))
            }
            Self::Time { time, inclusion } => {
                let end = TransactionEnd::of(record)?;
                let later = match inclusion {
                    Inclusion::Inclusive => end.time > *time,
                    Inclusion::Exclusive => end.time >= *time,
                };
                later.then(|| at(Side::Before, Some(end.time), Some(end.xid)))
            }
            Self::Xid { xid, inclusion } => {
                let end = TransactionEnd::of(record).filter(|end| end.xid == *xid)?;
                Some(at(side(*inclusion), Some(end.time), Some(end.xid)))
            }
            Self::Name(name) => {
                let point = RestorePoint::of(record).filter(|point| point.name == *name)?;
                Some(at(Side::After, Some(point.time), None))
            }
        }
    }
}
