//! Whether a backup can be carried to the target along one way through the timelines.
//!
//! The target is looked for in the WAL itself, with PostgreSQL's own rules, so that a server which cannot get there is
//! never restored.

use pgm_proto::Lsn;
use pgm_wal::History;
use pgm_wal::archive::ArchiveSource;
use pgm_wal::record::{
    self, Inclusion, Record, RecordError, RecordReader, Side, StopPoint, TransactionEnd,
};

use super::end::{End, Obstacle, is_unreadable, with_causes};
use super::error::{Reach, RestoreError};
use super::reach::Wal;
use super::target::{Boundary, Target};
use super::{RestoreRequest, StopAt};
use crate::catalog::BackupEntry;
use crate::context::Context;

/// One backup, one target, one way through the timelines.
pub(super) struct Search<'a> {
    pub(super) wal: &'a Wal<'a>,
    pub(super) cx: &'a Context,
    pub(super) entry: &'a BackupEntry,
    pub(super) history: &'a History,
    request: &'a RestoreRequest,
    /// From here on a transaction or restore point was looked for already.
    until: Option<Lsn>,
}

/// What was found.
pub(super) struct Found {
    /// The newest point that can be reached; not looked for where it does not matter.
    pub(super) reach: Option<Reach>,
    /// Where PostgreSQL is told to stop.
    pub(super) stop: StopAt,
    /// The position up to which recovery reads.
    pub(super) needed: Lsn,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        wal: &'a Wal<'a>,
        cx: &'a Context,
        entry: &'a BackupEntry,
        history: &'a History,
        request: &'a RestoreRequest,
        until: Option<Lsn>,
    ) -> Self {
        Self {
            wal,
            cx,
            entry,
            history,
            request,
            until,
        }
    }

    /// Looks for the target.
    pub(super) fn run(&self) -> Result<Found, RestoreError> {
        let contiguous = self.contiguous()?;
        if self.request.target == Target::Immediate {
            return Ok(Found {
                reach: None,
                stop: self.as_asked(),
                needed: self.entry.end_lsn,
            });
        }
        let end = self.end(contiguous)?;
        let (stop, needed) = match &self.request.target {
            Target::Lsn(lsn) => self.to_lsn(&end, *lsn)?,
            Target::Time(time) => self.to_time(&end, *time)?,
            Target::Xid(_) | Target::Name(_) => self.to_record(&end)?,
            Target::Latest | Target::Immediate => match end.obstacle {
                Some(_) => return Err(self.too_far(&end)),
                None => (self.as_asked(), end.reach.end),
            },
        };
        Ok(Found {
            reach: Some(end.reach),
            stop,
            needed,
        })
    }

    /// The newest point that can be reached along this way.
    pub(super) fn reach(&self) -> Result<Reach, RestoreError> {
        Ok(self.end(self.contiguous()?)?.reach)
    }

    fn to_lsn(&self, end: &End, lsn: Lsn) -> Result<(StopAt, Lsn), RestoreError> {
        if lsn < self.entry.end_lsn {
            return Err(self.before_backup(end));
        }
        if end.last_record.is_some_and(|last| last >= lsn) {
            let from = self.wal.index.segment_size().round_down(lsn);
            let target = record::Target::Lsn {
                lsn,
                inclusion: Inclusion::Inclusive,
            };
            let stop = self.first_stop(&target, from.max(self.entry.start_lsn))?;
            return Ok((self.as_asked(), stop.map_or(lsn, |stop| stop.end_lsn)));
        }
        self.at_the_end(end, lsn <= end.reach.end)
    }

    /// The first transaction that ends later is where recovery stops: there must be one, and none before the backup is
    /// consistent.
    fn to_time(&self, end: &End, time: jiff::Timestamp) -> Result<(StopAt, Lsn), RestoreError> {
        self.no_stop_before_consistency(end, time)?;
        let last = end.last_transaction.map(|transaction| transaction.time);
        let exclusive = self.request.boundary == Boundary::Exclusive;
        if last.is_some_and(|last| last > time || (last == time && exclusive)) {
            return Ok((self.as_asked(), end.reach.end));
        }
        self.at_the_end(end, last == Some(time))
    }

    /// To the end of the archive, which no record follows at which PostgreSQL would stop: the last one is named.
    fn at_the_end(&self, end: &End, reached: bool) -> Result<(StopAt, Lsn), RestoreError> {
        match end.last_record {
            Some(last) if reached => {
                let stop = StopAt {
                    target: Target::Lsn(last),
                    boundary: Boundary::Inclusive,
                };
                Ok((stop, end.reach.end))
            }
            _ => Err(self.too_far(end)),
        }
    }

    fn to_record(&self, end: &End) -> Result<(StopAt, Lsn), RestoreError> {
        let stop = self.first_stop(&self.record_target(), self.entry.start_lsn)?;
        let Some(stop) = stop else {
            return Err(match end.obstacle {
                Some(_) => self.too_far(end),
                None => RestoreError::NotInWal {
                    target: self.request.target.clone(),
                    label: self.entry.label,
                    start: self.entry.start_lsn,
                    reach: end.reach.clone(),
                },
            });
        };
        let decisive = match stop.side {
            Side::Before => stop.lsn,
            Side::After => stop.end_lsn,
        };
        if decisive < self.entry.end_lsn {
            return Err(self.before_backup(end));
        }
        Ok((self.as_asked(), stop.end_lsn))
    }

    fn as_asked(&self) -> StopAt {
        StopAt {
            target: self.request.target.clone(),
            boundary: self.request.boundary,
        }
    }

    fn too_far(&self, end: &End) -> RestoreError {
        let target = self.request.target.clone();
        let (label, reach) = (self.entry.label, end.reach.clone());
        match end.obstacle.clone() {
            Some(Obstacle::Missing(missing)) => RestoreError::MissingWal {
                missing,
                label,
                target,
                reach,
            },
            Some(Obstacle::Unreadable(reason)) => RestoreError::UnreadableWal {
                reason,
                label,
                target,
                reach,
            },
            None => RestoreError::BeyondArchive { target, reach },
        }
    }

    fn before_backup(&self, end: &End) -> RestoreError {
        RestoreError::BeforeBackup {
            target: self.request.target.clone(),
            label: self.entry.label,
            consistent: self.entry.end_lsn,
            reach: end.reach.clone(),
        }
    }

    /// Refuses a time that the backup is too new for: a transaction that ended later is part of it.
    ///
    /// Between the last transaction before the backup and its end there may be hours in which nothing happens, so that
    /// reading only the backup's own WAL would not tell; without any transaction nearby the clock has to.
    fn no_stop_before_consistency(
        &self,
        end: &End,
        time: jiff::Timestamp,
    ) -> Result<(), RestoreError> {
        let size = self.wal.index.segment_size();
        let own = size.round_down(self.entry.start_lsn);
        let earlier = Lsn::new(own.bytes().saturating_sub(size.bytes()));
        let target = self.record_target();
        let mut seen = false;
        let reader = match self.reader(earlier) {
            Err(RestoreError::Record(_)) => self.reader(own),
            other => other,
        };
        let mut reader = match reader {
            Err(RestoreError::Record(RecordError::Missing { .. })) => None,
            other => Some(other?),
        };
        while let Some(reader) = &mut reader {
            let Some(record) = self.read(reader)? else {
                break;
            };
            if record.lsn >= self.entry.end_lsn {
                break;
            }
            if target.stops_at(&record).is_some() {
                return Err(self.before_backup(end));
            }
            seen |= TransactionEnd::of(&record).is_some();
        }
        if !seen && time < self.entry.started {
            return Err(self.before_backup(end));
        }
        Ok(())
    }

    /// The first record from `from` on at which recovery to `target` stops.
    fn first_stop(
        &self,
        target: &record::Target,
        from: Lsn,
    ) -> Result<Option<StopPoint>, RestoreError> {
        let mut reader = self.reader(from)?;
        while let Some(record) = self.read(&mut reader)? {
            if self.until.is_some_and(|until| record.lsn >= until) {
                return Ok(None);
            }
            if let Some(stop) = target.stops_at(&record) {
                return Ok(Some(stop));
            }
        }
        Ok(None)
    }

    pub(super) fn reader(&self, from: Lsn) -> Result<RecordReader<ArchiveSource>, RestoreError> {
        RecordReader::seek(self.wal.source(), self.history.clone(), from)
            .map_err(RestoreError::Record)
    }

    /// The next record; a hole is an end like any other.
    fn read<'r>(
        &self,
        reader: &'r mut RecordReader<ArchiveSource>,
    ) -> Result<Option<Record<'r>>, RestoreError> {
        self.cx.check_cancel()?;
        let position = reader.position();
        match reader.next() {
            Err(RecordError::Missing { .. }) => Ok(None),
            Err(error) if is_unreadable(&error) && position >= self.entry.end_lsn => {
                Err(RestoreError::UnreadableWal {
                    reason: with_causes(&error),
                    label: self.entry.label,
                    target: self.request.target.clone(),
                    reach: Reach {
                        end: position,
                        timeline: self.history.timeline_at(position),
                        last_commit: None,
                    },
                })
            }
            other => other.map_err(RestoreError::Record),
        }
    }

    /// The target in the terms of WAL records.
    fn record_target(&self) -> record::Target {
        let inclusion = match self.request.boundary {
            Boundary::Inclusive => Inclusion::Inclusive,
            Boundary::Exclusive => Inclusion::Exclusive,
        };
        match &self.request.target {
            Target::Latest => record::Target::Latest,
            Target::Immediate => record::Target::Immediate {
                consistent: self.entry.end_lsn,
            },
            Target::Time(time) => record::Target::Time {
                time: *time,
                inclusion,
            },
            Target::Lsn(lsn) => record::Target::Lsn {
                lsn: *lsn,
                inclusion,
            },
            // WAL holds the low 32 bits; PostgreSQL compares those too.
            Target::Xid(xid) => record::Target::Xid {
                xid: *xid as u32,
                inclusion,
            },
            Target::Name(name) => record::Target::Name(name.clone()),
        }
    }
}
