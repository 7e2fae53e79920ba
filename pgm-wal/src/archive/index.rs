//! Which WAL is there: intervals of positions, by timeline.
//!
//! The index holds runs of segments, not names, so a year of WAL without a hole costs a few bytes a timeline. An
//! unfinished segment counts up to the end of its last valid record. Names may come in any order.

use std::collections::{BTreeMap, BTreeSet};

use pgm_proto::{Lsn, TimelineId};

use super::local_file::LocalSegment;
use super::{ArchiveError, StoredName};
use crate::{History, SegmentName, SegmentNumber, SegmentSize, Spool, WalFileName};

/// The WAL of one server that is at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveIndex {
    size: SegmentSize,
    timelines: BTreeMap<TimelineId, Branch>,
    histories: BTreeSet<TimelineId>,
}

/// A stretch of one timeline without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// The timeline.
    pub timeline: TimelineId,
    /// Its first byte.
    pub start: Lsn,
    /// The position behind its last byte.
    pub end: Lsn,
}

/// A hole between two intervals of one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// The timeline.
    pub timeline: TimelineId,
    /// The first missing byte.
    pub start: Lsn,
    /// The first byte that is there again.
    pub end: Lsn,
}

/// A part of a way through the timelines: all of it is read from the segments of one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The timeline whose segments to read. Before the point at which it began they hold its parent's WAL.
    pub timeline: TimelineId,
    /// Its first byte.
    pub start: Lsn,
    /// The position behind its last byte.
    pub end: Lsn,
}

/// The first WAL on a way through the timelines that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The segment.
    pub segment: SegmentName,
    /// The first byte of it that is missing: everything before is there.
    pub from: Lsn,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Branch {
    /// First and last number of each run of finished segments; sorted, never adjacent.
    runs: Vec<(SegmentNumber, SegmentNumber)>,
    partials: BTreeMap<SegmentNumber, Lsn>,
}

impl ArchiveIndex {
    /// An index without anything in it.
    pub const fn new(size: SegmentSize) -> Self {
        Self {
            size,
            timelines: BTreeMap::new(),
            histories: BTreeSet::new(),
        }
    }

    /// How large the segments are.
    pub const fn segment_size(&self) -> SegmentSize {
        self.size
    }

    /// Counts an object in.
    pub fn add(&mut self, name: StoredName) {
        match name {
            StoredName::Segment(name) => {
                self.timelines
                    .entry(name.timeline)
                    .or_default()
                    .add(name.number);
            }
            StoredName::Partial { segment, end } => {
                let branch = self.timelines.entry(segment.timeline).or_default();
                let known = branch.partials.entry(segment.number).or_insert(end);
                *known = end.max(*known);
            }
            StoredName::History(timeline) => {
                self.histories.insert(timeline);
            }
        }
    }

    /// Counts in what lies in a spool. Unfinished segments are read to find the end of their last valid record.
    pub fn add_spool(&mut self, spool: &Spool) -> Result<(), ArchiveError> {
        let listing = spool.list()?;
        for timeline in listing.histories {
            self.add(StoredName::History(timeline));
        }
        for name in listing.partials {
            let path = spool
                .folder()
                .join(WalFileName::Partial(name).file_name(self.size));
            match LocalSegment::open(&path, name, self.size)? {
                Some(local) => {
                    let end = local.valid_end()?;
                    if end > name.start(self.size) {
                        self.add(StoredName::Partial { segment: name, end });
                    }
                }
                // It was finished, or archived and removed, after the folder was listed.
                None if spool.folder().join(name.file_name(self.size)).exists() => {
                    self.add(StoredName::Segment(name));
                }
                None => {}
            }
        }
        for name in listing.segments {
            self.add(StoredName::Segment(name));
        }
        Ok(())
    }

    /// The timelines of which there is WAL, oldest first.
    pub fn timelines(&self) -> impl DoubleEndedIterator<Item = TimelineId> {
        self.timelines.keys().copied()
    }

    /// The timelines whose history file is there, oldest first.
    pub fn histories(&self) -> impl DoubleEndedIterator<Item = TimelineId> {
        self.histories.iter().copied()
    }

    /// Whether there is no WAL.
    pub fn is_empty(&self) -> bool {
        self.timelines.is_empty()
    }

    /// Whether the finished segment is there.
    pub fn contains(&self, name: SegmentName) -> bool {
        self.timelines
            .get(&name.timeline)
            .is_some_and(|branch| branch.run_end(name.number).is_some())
    }

    /// Whether every byte from `from` to `to` is in segments of `timeline`.
    pub fn covers(&self, timeline: TimelineId, from: Lsn, to: Lsn) -> bool {
        from >= to || self.reach_on(timeline, from) >= to
    }

    /// How far from `from` the segments of `timeline` go without a hole; `from` itself when it is not there.
    pub fn reach_on(&self, timeline: TimelineId, from: Lsn) -> Lsn {
        self.timelines
            .get(&timeline)
            .map_or(from, |branch| branch.reach(from, self.size).max(from))
    }

    /// The end of the newest WAL of `timeline`.
    pub fn newest_end(&self, timeline: TimelineId) -> Option<Lsn> {
        self.timelines
            .get(&timeline)?
            .intervals(self.size)
            .last()
            .map(|(_, end)| *end)
    }

    /// The oldest WAL of `timeline`.
    pub fn oldest_start(&self, timeline: TimelineId) -> Option<Lsn> {
        self.timelines
            .get(&timeline)?
            .intervals(self.size)
            .first()
            .map(|(start, _)| *start)
    }

    /// The stretches without a hole, by timeline and position.
    pub fn intervals(&self) -> Vec<Interval> {
        let of = |(timeline, branch): (&TimelineId, &Branch)| {
            let timeline = *timeline;
            let intervals = branch.intervals(self.size).into_iter();
            intervals.map(move |(start, end)| Interval {
                timeline,
                start,
                end,
            })
        };
        self.timelines.iter().flat_map(of).collect()
    }

    /// The holes inside timelines, by timeline and position.
    pub fn gaps(&self) -> Vec<Gap> {
        let intervals = self.intervals();
        let neighbours = intervals.iter().zip(intervals.iter().skip(1));
        neighbours
            .filter(|(before, after)| before.timeline == after.timeline)
            .map(|(before, after)| Gap {
                timeline: before.timeline,
                start: before.end,
                end: after.start,
            })
            .collect()
    }

    /// The way from `from` to `to` along `history`: which timeline's segments to read. A segment in which a timeline
    /// began exists on the parent too; the newer one is taken where it is there, as PostgreSQL does.
    pub fn walk(&self, history: &History, from: Lsn, to: Lsn) -> Result<Vec<Stretch>, Missing> {
        let mut way: Vec<Stretch> = Vec::new();
        let mut position = from;
        while position < to {
            let Some((timeline, end)) = self.step(history, position) else {
                let segment = SegmentName::at(history.timeline_at(position), position, self.size);
                return Err(Missing {
                    segment,
                    from: position,
                });
            };
            let end = end.min(to);
            match way.last_mut() {
                Some(last) if last.timeline == timeline => last.end = end,
                _ => way.push(Stretch {
                    timeline,
                    start: position,
                    end,
                }),
            }
            position = end;
        }
        Ok(way)
    }

    /// The first WAL between `from` and `to` along `history` that is not there.
    pub fn first_gap(&self, history: &History, from: Lsn, to: Lsn) -> Option<Missing> {
        self.walk(history, from, to).err()
    }

    /// How far from `from` the WAL goes along `history` without a hole; `from` itself when it is not there.
    pub fn reach(&self, history: &History, from: Lsn) -> Lsn {
        let mut position = from;
        while let Some((_, end)) = self.step(history, position) {
            position = end;
        }
        position
    }

    /// The timeline to read at `position`, and how far it can be read from there before another choice is due.
    fn step(&self, history: &History, position: Lsn) -> Option<(TimelineId, Lsn)> {
        let number = self.size.number_at(position);
        let ancestors = history.entries().iter().rev().map(|entry| entry.timeline);
        std::iter::once(history.timeline())
            .chain(ancestors)
            .find_map(|timeline| {
                let branch = self.timelines.get(&timeline)?;
                let start = history.start_of(timeline)?;
                if start >= number.end(self.size) {
                    return None;
                }
                let reach = branch.reach(position, self.size);
                let end = match history.ancestor(timeline) {
                    None => reach,
                    Some(entry) => {
                        // In the segment where this timeline was left, the next one may have the better copy.
                        let choice = self.size.round_down(entry.end);
                        let choice = if choice > position { choice } else { entry.end };
                        reach.min(choice)
                    }
                };
                (end > position).then_some((timeline, end))
            })
    }
}

impl Branch {
    fn add(&mut self, number: SegmentNumber) {
        let at = self.runs.partition_point(|(first, _)| *first <= number);
        if at > 0 && self.runs[at - 1].1 >= number {
            return;
        }
        let joins_before = at > 0 && self.runs[at - 1].1.next() == number;
        let joins_after = at < self.runs.len() && number.next() == self.runs[at].0;
        match (joins_before, joins_after) {
            (true, true) => {
                self.runs[at - 1].1 = self.runs[at].1;
                self.runs.remove(at);
            }
            (true, false) => self.runs[at - 1].1 = number,
            (false, true) => self.runs[at].0 = number,
            (false, false) => self.runs.insert(at, (number, number)),
        }
    }

    /// The last segment of the run that holds `number`.
    fn run_end(&self, number: SegmentNumber) -> Option<SegmentNumber> {
        let at = self.runs.partition_point(|(first, _)| *first <= number);
        let (_, last) = *self.runs.get(at.checked_sub(1)?)?;
        (last >= number).then_some(last)
    }

    /// How far from `from` there is no hole.
    fn reach(&self, from: Lsn, size: SegmentSize) -> Lsn {
        let mut number = size.number_at(from);
        let mut reach = from;
        if let Some(last) = self.run_end(number) {
            reach = last.end(size);
            number = last.next();
        }
        self.partials
            .get(&number)
            .map_or(reach, |end| reach.max(*end))
    }

    /// The stretches without a hole, unfinished segments included.
    fn intervals(&self, size: SegmentSize) -> Vec<(Lsn, Lsn)> {
        let finished = self
            .runs
            .iter()
            .map(|(first, last)| (first.start(size), last.end(size)));
        let unfinished = self
            .partials
            .iter()
            .filter(|(number, _)| self.run_end(**number).is_none())
            .map(|(number, end)| (number.start(size), *end));
        let mut all: Vec<_> = finished.chain(unfinished).collect();
        all.sort_unstable();
        let mut joined: Vec<(Lsn, Lsn)> = Vec::with_capacity(all.len());
        for (start, end) in all {
            match joined.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => joined.push((start, end)),
            }
        }
        joined
    }
}
