//! How far a backup can be carried with the WAL that is at hand, and whether that is as far as the target.

use std::ops::RangeInclusive;

use pgm_proto::{Lsn, TimelineId};
use pgm_wal::archive::{Archive, ArchiveIndex, ArchiveSource};
use pgm_wal::record::{self, Inclusion, RecordReader, Scan, Side, StopPoint};
use pgm_wal::{History, SegmentName, SegmentNumber, SegmentSize, Spool};

use super::RestoreRequest;
use super::error::{Reach, RestoreError};
use super::target::{Boundary, Target, TimelineChoice};
use crate::catalog::{BackupEntry, BackupWal};
use crate::context::{Context, Phase};
use crate::error::Error;

/// The WAL of a server, as restore planning looks at it.
#[derive(Debug)]
pub(super) struct Wal<'a> {
    pub(super) archive: &'a Archive,
    pub(super) spool: Option<&'a Spool>,
    pub(super) index: ArchiveIndex,
}

/// A way from a backup to its target.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) history: History,
    pub(super) reach: Option<Reach>,
    pub(super) wal_segments: u64,
}

/// The segments that a backup needs to become consistent.
pub(super) fn segments(
    entry: &BackupEntry,
    size: SegmentSize,
) -> impl Iterator<Item = SegmentNumber> + Clone + use<> {
    let range = numbers(entry.start_lsn, entry.end_lsn, size);
    range.map(SegmentNumber::new)
}

fn numbers(from: Lsn, to: Lsn, size: SegmentSize) -> RangeInclusive<u64> {
    size.number_at(from).value()..=size.number_before(to.max(from + 1)).value()
}

impl Wal<'_> {
    /// Finds the way from `entry` to the target, or says what is in the way. Writes nothing.
    pub(super) fn find_way(
        &self,
        cx: &Context,
        entry: &BackupEntry,
        request: &RestoreRequest,
    ) -> Result<Way, RestoreError> {
        let history = self.history(entry, request.timeline)?;
        let search = Search {
            wal: self,
            cx,
            entry,
            request,
            history: &history,
        };
        let (reach, last) = search.run()?;
        let wal_segments = numbers(entry.start_lsn, last, self.index.segment_size()).count() as u64;
        Ok(Way {
            history,
            reach,
            wal_segments,
        })
    }

    /// The history of the timeline to follow: the chosen one, or the newest that passes through the backup's end.
    fn history(
        &self,
        entry: &BackupEntry,
        choice: TimelineChoice,
    ) -> Result<History, RestoreError> {
        let mut reachable = Vec::new();
        let known = self.index.timelines().chain(self.index.histories());
        let mut timelines: Vec<TimelineId> = known.chain([entry.timeline]).collect();
        timelines.sort_unstable();
        timelines.dedup();
        for timeline in timelines {
            let history = self.archive.history(timeline, self.spool)?;
            // WAL of a timeline without its history file cannot be placed; the backup's own needs no ancestors.
            let history =
                history.or_else(|| (timeline == entry.timeline).then(|| History::root(timeline)));
            if let Some(history) = history
                && history.contains(entry.timeline, entry.end_lsn)
            {
                reachable.push(history);
            }
        }
        let chosen = match choice {
            TimelineChoice::Newest => reachable.pop(),
            TimelineChoice::Exactly(timeline) => {
                let at = reachable
                    .iter()
                    .position(|history| history.timeline() == timeline);
                at.map(|at| reachable.swap_remove(at))
            }
        };
        chosen.ok_or_else(|| RestoreError::OtherBranch {
            timeline: match choice {
                TimelineChoice::Exactly(timeline) => timeline,
                TimelineChoice::Newest => entry.timeline,
            },
            label: entry.label,
            backup_timeline: entry.timeline,
            consistent: entry.end_lsn,
            reachable: reachable.iter().map(History::timeline).collect(),
        })
    }

    fn source(&self) -> ArchiveSource {
        ArchiveSource::new(
            self.archive.clone(),
            self.spool.cloned(),
            self.index.segment_size(),
        )
    }
}

/// One backup, one target, one way through the timelines.
struct Search<'a> {
    wal: &'a Wal<'a>,
    cx: &'a Context,
    entry: &'a BackupEntry,
    request: &'a RestoreRequest,
    history: &'a History,
}

impl Search<'_> {
    /// What can be reached, and the last position that recovery reads.
    fn run(&self) -> Result<(Option<Reach>, Lsn), RestoreError> {
        let contiguous = self.contiguous()?;
        if self.request.target == Target::Immediate {
            return Ok((None, self.entry.end_lsn));
        }
        let tail = self.tail(contiguous)?;
        let end = tail.end.max(self.entry.end_lsn);
        let reach = Reach {
            end,
            timeline: self.history.timeline_at(end),
            last_commit: tail.last_commit.map(|commit| commit.time),
        };
        let hole = self.hole(contiguous);
        let too_far = || self.too_far(hole.clone(), &reach);
        let last = match &self.request.target {
            Target::Immediate => self.entry.end_lsn,
            Target::Latest => match hole {
                Some(_) => return Err(too_far()),
                None => end,
            },
            Target::Lsn(lsn) => {
                self.not_before_backup(*lsn)?;
                if tail.last_record.is_none_or(|last| last < *lsn) {
                    return Err(too_far());
                }
                *lsn
            }
            // The first transaction that ends later is where recovery stops: there must be one, and after the backup.
            Target::Time(time) => {
                self.no_stop_within_backup()?;
                let last = tail.last_transaction.map(|transaction| transaction.time);
                let exclusive = self.request.boundary == Boundary::Exclusive;
                if last.is_none_or(|last| last < *time || (last == *time && !exclusive)) {
                    return Err(too_far());
                }
                end
            }
            Target::Xid(_) | Target::Name(_) => {
                let stop = self.stop_point()?.ok_or_else(too_far)?;
                self.not_before_backup(decisive(&stop))?;
                stop.end_lsn
            }
        };
        Ok((Some(reach), last))
    }

    /// How far the WAL goes without a hole; at least to the end of the backup.
    fn contiguous(&self) -> Result<Lsn, RestoreError> {
        let entry = self.entry;
        let from = match entry.wal {
            BackupWal::Archive => entry.start_lsn,
            // What the backup brings along need not be in the archive.
            BackupWal::Included => entry.end_lsn,
        };
        let reach = self.wal.index.reach(self.history, from);
        if reach >= entry.end_lsn {
            return Ok(reach);
        }
        Err(RestoreError::BackupWithoutWal {
            missing: self.segment_at(reach),
            label: entry.label,
        })
    }

    fn tail(&self, contiguous: Lsn) -> Result<record::Tail, RestoreError> {
        let oldest = self
            .wal
            .index
            .segment_size()
            .round_down(self.entry.start_lsn);
        let last_byte = Lsn::new(contiguous.bytes().saturating_sub(1));
        let mut source = self.wal.source();
        self.scan(|scan| record::last_valid(scan, &mut source, self.history, last_byte, oldest))
    }

    /// WAL behind `contiguous` on this way: then a hole lies between.
    fn hole(&self, contiguous: Lsn) -> Option<String> {
        let behind = self.wal.index.intervals().into_iter().any(|interval| {
            let left_at = self
                .history
                .ancestor(interval.timeline)
                .map(|ancestor| ancestor.end);
            self.history.includes(interval.timeline)
                && interval.start > contiguous
                && left_at.is_none_or(|left_at| interval.start < left_at)
        });
        behind.then(|| self.segment_at(contiguous))
    }

    fn too_far(&self, hole: Option<String>, reach: &Reach) -> RestoreError {
        let target = self.request.target.clone();
        match hole {
            Some(missing) => RestoreError::MissingWal {
                missing,
                label: self.entry.label,
                target,
                reach: reach.clone(),
            },
            None => RestoreError::BeyondArchive {
                target,
                reach: reach.clone(),
            },
        }
    }

    fn not_before_backup(&self, lsn: Lsn) -> Result<(), RestoreError> {
        if lsn >= self.entry.end_lsn {
            Ok(())
        } else {
            Err(self.before_backup())
        }
    }

    fn before_backup(&self) -> RestoreError {
        RestoreError::BeforeBackup {
            target: self.request.target.clone(),
            label: self.entry.label,
            consistent: self.entry.end_lsn,
        }
    }

    /// Refuses a target at which recovery would stop before the backup is consistent.
    fn no_stop_within_backup(&self) -> Result<(), RestoreError> {
        let target = self.record_target();
        let mut reader = self.reader()?;
        while let Some(record) = self.read(&mut reader)? {
            if record.lsn >= self.entry.end_lsn {
                return Ok(());
            }
            if record.lsn >= self.entry.start_lsn && target.stops_at(&record).is_some() {
                return Err(self.before_backup());
            }
        }
        Ok(())
    }

    fn stop_point(&self) -> Result<Option<StopPoint>, RestoreError> {
        let target = self.record_target();
        let mut reader = self.reader()?;
        while let Some(record) = self.read(&mut reader)? {
            if record.lsn >= self.entry.start_lsn
                && let Some(stop) = target.stops_at(&record)
            {
                return Ok(Some(stop));
            }
        }
        Ok(None)
    }

    fn reader(&self) -> Result<RecordReader<ArchiveSource>, RestoreError> {
        let from = self.entry.start_lsn;
        RecordReader::seek(self.wal.source(), self.history.clone(), from)
            .map_err(RestoreError::Record)
    }

    fn read<'r>(
        &self,
        reader: &'r mut RecordReader<ArchiveSource>,
    ) -> Result<Option<record::Record<'r>>, RestoreError> {
        self.cx.check_cancel()?;
        reader.next().map_err(RestoreError::Record)
    }

    fn scan<T>(
        &self,
        ask: impl FnOnce(&mut Scan<'_>) -> Result<T, record::RecordError>,
    ) -> Result<T, RestoreError> {
        let from = self.entry.start_lsn;
        let mut progress = |lsn: Lsn| {
            self.cx
                .report(Phase::Plan, lsn.bytes_since(from), None, "reading WAL");
        };
        let mut scan = Scan {
            cancel: &self.cx.cancel,
            progress: &mut progress,
        };
        let answer = ask(&mut scan);
        if self.cx.cancel.is_cancelled() {
            return Err(RestoreError::Repository(Error::Cancelled));
        }
        answer.map_err(RestoreError::Record)
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

    fn segment_at(&self, lsn: Lsn) -> String {
        let size = self.wal.index.segment_size();
        SegmentName::at(self.history.timeline_at(lsn), lsn, size).file_name(size)
    }
}

/// The position that must not lie before the backup's end.
fn decisive(stop: &StopPoint) -> Lsn {
    match stop.side {
        Side::Before => stop.lsn,
        Side::After => stop.end_lsn,
    }
}
