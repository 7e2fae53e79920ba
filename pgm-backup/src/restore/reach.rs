//! The WAL that is at hand, and the timeline along which a backup is carried.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use pgm_proto::{Lsn, TimelineId};
use pgm_wal::archive::{Archive, ArchiveIndex, ArchiveSource};
use pgm_wal::{History, SegmentNumber, SegmentSize, Spool, WalFileName};

use super::error::{Reach, RestoreError};
use super::search::Search;
use super::target::TimelineChoice;
use super::{RestoreRequest, StopAt};
use crate::catalog::BackupEntry;
use crate::context::Context;

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
    pub(super) stop: StopAt,
    /// The position up to which recovery reads.
    pub(super) needed: Lsn,
    pub(super) wal_segments: u64,
}

/// The segments that a backup needs to become consistent.
pub(crate) fn segments(
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
    ///
    /// `newer` is a backup from which a transaction or a restore point was searched for in vain: it is not in the WAL
    /// that the two have in common.
    pub(super) fn find_way(
        &self,
        cx: &Context,
        entry: &BackupEntry,
        newer: Option<&BackupEntry>,
        request: &RestoreRequest,
    ) -> Result<Way, RestoreError> {
        let chosen = match request.timeline {
            TimelineChoice::Newest => self.newest(entry)?,
            TimelineChoice::Exactly(timeline) => {
                let history = self.history(entry, timeline)?;
                history.filter(|history| history.contains(entry.timeline, entry.end_lsn))
            }
        };
        let Some(history) = chosen else {
            return Err(self.other_branch(cx, entry, request));
        };
        let newer = newer.filter(|newer| history.contains(newer.timeline, newer.end_lsn));
        let until = newer.map(|newer| newer.start_lsn);
        let found = Search::new(self, cx, entry, &history, request, until).run()?;
        let size = self.index.segment_size();
        Ok(Way {
            history,
            reach: found.reach,
            stop: found.stop,
            needed: found.needed,
            wal_segments: numbers(entry.start_lsn, found.needed, size).count() as u64,
        })
    }

    /// The newest timeline that passes through the end of `entry`.
    fn newest(&self, entry: &BackupEntry) -> Result<Option<History>, RestoreError> {
        for timeline in self.timelines(entry).rev() {
            if let Some(history) = self.history(entry, timeline)?
                && history.contains(entry.timeline, entry.end_lsn)
            {
                return Ok(Some(history));
            }
        }
        Ok(None)
    }

    /// The timelines that may continue that of `entry`, the newest last.
    fn timelines(&self, entry: &BackupEntry) -> impl DoubleEndedIterator<Item = TimelineId> {
        let known = self.index.timelines().chain(self.index.histories());
        let known = known.filter(|timeline| *timeline > entry.timeline);
        let all: BTreeSet<TimelineId> = known.chain([entry.timeline]).collect();
        all.into_iter()
    }

    /// The history of a timeline; `None` when there is nothing of it.
    ///
    /// WAL of a timeline without its history file cannot be placed, and is not forgotten without a word either. Only the
    /// backup's own timeline needs no ancestors.
    fn history(
        &self,
        entry: &BackupEntry,
        timeline: TimelineId,
    ) -> Result<Option<History>, RestoreError> {
        if let Some(history) = self.archive.history(timeline, self.spool)? {
            return Ok(Some(history));
        }
        if timeline == entry.timeline {
            return Ok(Some(History::root(timeline)));
        }
        if self.index.timelines().any(|known| known == timeline) {
            let size = self.index.segment_size();
            return Err(RestoreError::HistoryMissing {
                missing: WalFileName::History(timeline).file_name(size),
                timeline,
            });
        }
        Ok(None)
    }

    fn other_branch(
        &self,
        cx: &Context,
        entry: &BackupEntry,
        request: &RestoreRequest,
    ) -> RestoreError {
        let histories = self
            .timelines(entry)
            .filter_map(|timeline| self.history(entry, timeline).ok()?);
        let reachable: Vec<History> = histories
            .filter(|history| history.contains(entry.timeline, entry.end_lsn))
            .collect();
        let newest = reachable.last();
        let reach = newest.and_then(|history| {
            Search::new(self, cx, entry, history, request, None)
                .reach()
                .ok()
        });
        RestoreError::OtherBranch {
            timeline: match request.timeline {
                TimelineChoice::Exactly(timeline) => timeline,
                TimelineChoice::Newest => entry.timeline,
            },
            label: entry.label,
            backup_timeline: entry.timeline,
            consistent: entry.end_lsn,
            reachable: reachable.iter().map(History::timeline).collect(),
            reach,
        }
    }

    pub(super) fn source(&self) -> ArchiveSource {
        ArchiveSource::new(
            self.archive.clone(),
            self.spool.cloned(),
            self.index.segment_size(),
        )
    }
}
