//! When a position of the WAL was written, as well as it is known afterwards.
//!
//! WAL positions carry no clock. What is known are points: a segment was stored at some time, a backup began and ended
//! at some position. Between two points time is taken to pass evenly, which is exact enough for a picture and for «until
//! when can be restored» within a segment. Points that contradict older ones are left out: positions and time only grow.

use jiff::Timestamp;
use pgm_proto::Lsn;

/// How many points are kept; beyond that, every other one goes.
const POINTS_MAX: usize = 512;

/// What was known at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) struct TimelinePoint {
    /// The position.
    pub(in crate::service) lsn: Lsn,
    /// When it was written, or a little later.
    pub(in crate::service) at: Timestamp,
}

/// The points of one server, whichever timeline of its own it was on.
#[derive(Debug, Clone, Default)]
pub(in crate::service) struct Timeline {
    points: Vec<TimelinePoint>,
    /// One of so many new points is kept.
    stride: usize,
    skipped: usize,
}

impl Timeline {
    /// Notes a point. Points may come in any order; [`Timeline::sort`] puts them in theirs.
    pub(in crate::service) fn add(&mut self, lsn: Lsn, at: Timestamp) {
        self.skipped += 1;
        if self.skipped < self.stride {
            return;
        }
        self.skipped = 0;
        self.points.push(TimelinePoint { lsn, at });
        if self.points.len() > POINTS_MAX {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride = self.stride.max(1) * 2;
        }
    }

    /// Sorts the points and drops those that contradict.
    pub(in crate::service) fn sort(&mut self) {
        self.points
            .sort_unstable_by_key(|point| (point.lsn, point.at));
        // A copied repository has newer times on old files: the newest positions are right about them.
        let mut newest = Timestamp::MAX;
        let mut sound: Vec<TimelinePoint> = Vec::with_capacity(self.points.len());
        for point in self.points.drain(..).rev() {
            if point.at <= newest {
                newest = point.at;
                sound.push(point);
            }
        }
        sound.reverse();
        self.points = sound;
    }

    /// When `lsn` was written; `None` when nothing is known. Before the first point and after the last it is theirs.
    pub(in crate::service) fn time_of(&self, lsn: Lsn) -> Option<Timestamp> {
        let after = self.points.partition_point(|point| point.lsn < lsn);
        let Some(next) = self.points.get(after) else {
            return self.points.last().map(|point| point.at);
        };
        let Some(before) = after.checked_sub(1).and_then(|at| self.points.get(at)) else {
            return Some(next.at);
        };
        let (span, part) = (
            next.lsn.bytes_since(before.lsn),
            lsn.bytes_since(before.lsn),
        );
        let milliseconds = i128::from(next.at.as_millisecond() - before.at.as_millisecond());
        let passed = (milliseconds * i128::from(part))
            .checked_div(span.into())
            .unwrap_or(0);
        Timestamp::from_millisecond(before.at.as_millisecond() + i64::try_from(passed).ok()?).ok()
    }

    /// The oldest moment that is known.
    pub(in crate::service) fn begin(&self) -> Option<Timestamp> {
        self.points.first().map(|point| point.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn timeline(points: &[(u64, i64)]) -> Timeline {
        let mut timeline = Timeline::default();
        for (lsn, at) in points {
            timeline.add(Lsn::new(*lsn), second(*at));
        }
        timeline.sort();
        timeline
    }

    #[test]
    fn time_passes_evenly_between_points_and_stops_at_the_ends() {
        let timeline = timeline(&[(200, 20), (100, 10)]);
        for (lsn, at) in [(1, 10), (100, 10), (150, 15), (200, 20), (999, 20)] {
            assert_eq!(timeline.time_of(Lsn::new(lsn)), Some(second(at)), "{lsn}");
        }
        assert_eq!(Timeline::default().time_of(Lsn::new(1)), None);
    }

    #[test]
    fn newer_positions_are_right_about_contradictions() {
        let timeline = timeline(&[(100, 500), (200, 20), (300, 30)]);
        assert_eq!(timeline.time_of(Lsn::new(100)), Some(second(20)));
        assert_eq!(timeline.time_of(Lsn::new(250)), Some(second(25)));
    }

    #[test]
    fn a_million_points_cost_no_more_than_a_few_hundred() {
        let mut timeline = Timeline::default();
        for number in 0..1_000_000 {
            timeline.add(Lsn::new(number), second(number.cast_signed()));
        }
        timeline.sort();
        assert!(timeline.points.len() <= POINTS_MAX);
        let middle = timeline.time_of(Lsn::new(500_000)).unwrap();
        assert!((499_000..=501_000).contains(&middle.as_second()));
    }
}
