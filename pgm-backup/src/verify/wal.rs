//! The WAL level: every archived segment that the backups need, and those behind them, read once.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use pgm_proto::{Lsn, TimelineId};
use pgm_wal::archive::{Archive, ArchiveError, ArchiveIndex, StoredName, WalDamage};
use pgm_wal::{History, SegmentSize, Spool};

use super::findings::Findings;
use super::verification::{Area, Counts, Finding};
use crate::catalog::{BackupEntry, BackupWal};
use crate::context::{Context, Phase};
use crate::delete::WalAtHand;
use crate::error::{Error, Result};
use crate::label::BackupLabel;

/// What is known of a server's archived WAL after it was read.
pub(super) struct WalCheck<'a> {
    archive: &'a Archive,
    /// One for each segment size: one in practice.
    sizes: BTreeMap<u32, SizeCheck>,
    /// The timelines that a backup leads to, its own included.
    lines: BTreeMap<BackupLabel, Lines>,
}

struct SizeCheck {
    size: SegmentSize,
    index: ArchiveIndex,
    damaged: Vec<(StoredName, WalDamage)>,
    /// The beginnings of the segments that were read.
    checked: BTreeMap<TimelineId, Vec<Lsn>>,
}

/// Where a backup leads to.
struct Lines {
    timelines: BTreeSet<TimelineId>,
    /// Histories that cannot be read.
    broken: Vec<(TimelineId, String)>,
}

impl<'a> WalCheck<'a> {
    /// Reads all archived WAL that `entries` need, and all behind it.
    pub(super) fn run(cx: &Context, wal: WalAtHand<'a>, entries: &[BackupEntry]) -> Result<Self> {
        let mut check = Self {
            archive: wal.archive,
            sizes: BTreeMap::new(),
            lines: BTreeMap::new(),
        };
        let in_archive = |entry: &&BackupEntry| entry.wal == BackupWal::Archive;
        let mut from: BTreeMap<u32, BTreeMap<TimelineId, Lsn>> = BTreeMap::new();
        for entry in entries.iter().filter(in_archive) {
            let Ok(size) = SegmentSize::new(u64::from(entry.segment_bytes)) else {
                continue;
            };
            let sized = match check.sizes.entry(entry.segment_bytes) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(SizeCheck {
                    size,
                    index: wal.archive.index(size, wal.spool).map_err(coverage)?,
                    damaged: Vec::new(),
                    checked: BTreeMap::new(),
                }),
            };
            let lines = Lines::of(wal.archive, wal.spool, &sized.index, entry);
            let starts = from.entry(entry.segment_bytes).or_default();
            for timeline in &lines.timelines {
                let start = starts.entry(*timeline).or_insert(entry.start_lsn);
                *start = entry.start_lsn.min(*start);
            }
            check.lines.insert(entry.label, lines);
        }
        for (bytes, starts) in from {
            if let Some(sized) = check.sizes.get_mut(&bytes) {
                sized.read(cx, wal.archive, &starts)?;
            }
        }
        Ok(check)
    }

    /// What of it concerns one backup.
    pub(super) fn judge(&self, entry: &BackupEntry, findings: &Findings<'_>, counts: &mut Counts) {
        let (Some(sized), Some(lines)) = (
            self.sizes.get(&entry.segment_bytes),
            self.lines.get(&entry.label),
        ) else {
            return;
        };
        let own = |timeline: TimelineId, start: Lsn| {
            if timeline == entry.timeline && start < entry.end_lsn {
                Area::Wal
            } else {
                Area::Window
            }
        };
        for (timeline, reason) in &lines.broken {
            let object = self.path(StoredName::History(*timeline), sized.size);
            findings.object(Area::Window, &object, reason);
        }
        self.judge_coverage(entry, sized, findings);
        for (name, damage) in &sized.damaged {
            let (timeline, start, end) = extent(*name, sized.size);
            if lines.timelines.contains(&timeline) && end > entry.start_lsn {
                findings.add(Finding {
                    area: own(timeline, start),
                    object: damage.object.clone(),
                    offset: damage.offset,
                    file: None,
                    reason: damage.reason.clone(),
                });
            }
        }
        for gap in sized.index.gaps() {
            let behind = gap.start >= entry.end_lsn || gap.timeline != entry.timeline;
            if lines.timelines.contains(&gap.timeline) && gap.end > entry.start_lsn && behind {
                let first = pgm_wal::SegmentName::at(gap.timeline, gap.start, sized.size);
                let object = self.path(StoredName::Segment(first), sized.size);
                let reason = format!("wal is missing from {} to {}", gap.start, gap.end);
                findings.object(Area::Window, &object, reason);
            }
        }
        for timeline in &lines.timelines {
            let starts = sized.checked.get(timeline).map_or(&[][..], Vec::as_slice);
            let first = sized.size.number_at(entry.start_lsn).start(sized.size);
            let before = starts.partition_point(|start| *start < first);
            counts.wal_segments += (starts.len() - before) as u64;
        }
    }

    /// Everything from start to end must be there.
    fn judge_coverage(&self, entry: &BackupEntry, sized: &SizeCheck, findings: &Findings<'_>) {
        let history = History::root(entry.timeline);
        let mut position = entry.start_lsn;
        while let Some(missing) = sized.index.first_gap(&history, position, entry.end_lsn) {
            let object = self.path(StoredName::Segment(missing.segment), sized.size);
            findings.object(Area::Wal, &object, "it is missing");
            position = missing.segment.end(sized.size);
        }
    }

    fn path(&self, name: StoredName, size: SegmentSize) -> String {
        self.archive
            .object_path(name, size)
            .unwrap_or_else(|_| name.path(size))
    }
}

impl SizeCheck {
    /// Reads the segments of each timeline from its start on, and the histories.
    fn read(
        &mut self,
        cx: &Context,
        archive: &Archive,
        starts: &BTreeMap<TimelineId, Lsn>,
    ) -> Result<()> {
        let size = self.size;
        let mut names = Vec::new();
        archive
            .list(size, &mut |name, _| {
                let (timeline, _, end) = extent(name, size);
                if starts.get(&timeline).is_some_and(|start| end > *start) {
                    names.push(name);
                }
                ControlFlow::Continue(())
            })
            .map_err(coverage)?;
        let total = names.len() as u64 * size.bytes();
        for (index, name) in names.into_iter().enumerate() {
            cx.check_cancel()?;
            let done = index as u64 * size.bytes();
            cx.report(Phase::VerifyWal, done, Some(total), "");
            if let Some(damage) = archive.check(name, size).map_err(coverage)? {
                self.damaged.push((name, damage));
            }
            if let StoredName::Segment(name) | StoredName::Partial { segment: name, .. } = name {
                let starts = self.checked.entry(name.timeline).or_default();
                starts.push(name.start(size));
            }
        }
        Ok(())
    }
}

impl Lines {
    fn of(
        archive: &Archive,
        spool: Option<&Spool>,
        index: &ArchiveIndex,
        entry: &BackupEntry,
    ) -> Self {
        let mut lines = Self {
            timelines: BTreeSet::from([entry.timeline]),
            broken: Vec::new(),
        };
        let known: BTreeSet<TimelineId> = index.timelines().chain(index.histories()).collect();
        for timeline in known
            .into_iter()
            .filter(|timeline| *timeline > entry.timeline)
        {
            match archive.history(timeline, spool) {
                Ok(Some(history)) => {
                    if history.contains(entry.timeline, entry.end_lsn) {
                        lines.timelines.insert(timeline);
                    }
                }
                Ok(None) => lines.broken.push((timeline, "it is missing".to_owned())),
                Err(ArchiveError::Damaged { reason, .. }) => lines.broken.push((timeline, reason)),
                Err(error) => lines.broken.push((timeline, error.to_string())),
            }
        }
        lines
    }
}

/// The timeline of an object, and from where to where its WAL goes; a history file lasts for ever.
fn extent(name: StoredName, size: SegmentSize) -> (TimelineId, Lsn, Lsn) {
    match name {
        StoredName::Segment(name) => (name.timeline, name.start(size), name.end(size)),
        StoredName::Partial { segment, end } => (segment.timeline, segment.start(size), end),
        StoredName::History(timeline) => (timeline, Lsn::new(u64::MAX), Lsn::new(u64::MAX)),
    }
}

fn coverage(error: ArchiveError) -> Error {
    match error {
        ArchiveError::Storage(error) => error.into(),
        error => Error::Coverage(Box::new(error)),
    }
}
