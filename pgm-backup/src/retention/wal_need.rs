//! Which WAL the remaining backups need.
//!
//! A backup needs the WAL from its start to its end, or it never becomes consistent. From a backup that point-in-time
//! recovery starts from, everything that follows is needed too: on its own timeline, and on every timeline that branched
//! off behind its start. WAL of which that cannot be told, because a history file is missing, is needed.
//!
//! History files are always needed: they are small, and without one a branch cannot be read.

use std::collections::BTreeMap;

use pgm_proto::{Lsn, TimelineId};
use pgm_wal::archive::StoredName;
use pgm_wal::{History, SegmentName, SegmentSize};

/// A backup that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeper {
    /// The timeline that it was taken on.
    pub timeline: TimelineId,
    /// Where its WAL begins.
    pub start: Lsn,
    /// Where it is consistent.
    pub end: Lsn,
    /// How far one wants to recover from it.
    pub recovery: Recovery,
}

/// How far one wants to recover from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// To its own end and no further.
    OwnEnd,
    /// To any point after it.
    AnyPoint,
}

/// What is needed of a server's WAL.
#[derive(Debug)]
pub struct WalNeed {
    size: SegmentSize,
    keepers: Vec<Keeper>,
    histories: BTreeMap<TimelineId, History>,
}

impl WalNeed {
    /// The need of `keepers`. `histories` are those that could be read; timeline 1 needs none.
    pub fn new(
        size: SegmentSize,
        keepers: Vec<Keeper>,
        histories: impl IntoIterator<Item = History>,
    ) -> Self {
        let mut known = BTreeMap::from([(TimelineId::FIRST, History::root(TimelineId::FIRST))]);
        known.extend(
            histories
                .into_iter()
                .map(|history| (history.timeline(), history)),
        );
        Self {
            size,
            keepers,
            histories: known,
        }
    }

    /// Whether an archived object is needed.
    pub fn needs(&self, name: StoredName) -> bool {
        match name {
            StoredName::History(_) => true,
            StoredName::Segment(segment) | StoredName::Partial { segment, .. } => {
                self.needs_segment(segment)
            }
        }
    }

    fn needs_segment(&self, segment: SegmentName) -> bool {
        // Without a backup on it or on a later one, a timeline is never proved useless: a first one may be on its way.
        let newest = self.keepers.iter().map(|keeper| keeper.timeline).max();
        newest.is_none_or(|newest| segment.timeline > newest)
            || self
                .keepers
                .iter()
                .any(|keeper| self.needed_by(keeper, segment))
    }

    fn needed_by(&self, keeper: &Keeper, segment: SegmentName) -> bool {
        let (start, end) = (segment.start(self.size), segment.end(self.size));
        if end <= keeper.start {
            return segment.timeline > keeper.timeline && self.branches_off_before(keeper, segment);
        }
        match keeper.recovery {
            Recovery::OwnEnd => segment.timeline == keeper.timeline && start < keeper.end,
            Recovery::AnyPoint => self.can_lead_to(keeper, segment.timeline),
        }
    }

    /// Whether recovery from `keeper` can get onto `timeline`, as far as is known.
    fn can_lead_to(&self, keeper: &Keeper, timeline: TimelineId) -> bool {
        if timeline == keeper.timeline {
            return true;
        }
        match self.histories.get(&timeline) {
            Some(history) => history
                .ancestor(keeper.timeline)
                .is_some_and(|entry| entry.end >= keeper.end),
            // A history that cannot be read may say anything.
            None => timeline > keeper.timeline,
        }
    }

    /// Whether it is unknown where `segment`'s timeline branched off: then even WAL before the backup may belong to a
    /// younger branch, on which the server went back.
    fn branches_off_before(&self, keeper: &Keeper, segment: SegmentName) -> bool {
        keeper.recovery == Recovery::AnyPoint && !self.histories.contains_key(&segment.timeline)
    }
}

#[cfg(test)]
mod tests {
    use pgm_wal::SegmentNumber;

    use super::*;

    const SIZE: u64 = 16 << 20;

    fn size() -> SegmentSize {
        SegmentSize::new(SIZE).unwrap()
    }

    fn timeline(number: u32) -> TimelineId {
        number.to_string().parse().unwrap()
    }

    fn segment(line: u32, number: u64) -> StoredName {
        StoredName::Segment(SegmentName::new(timeline(line), SegmentNumber::new(number)))
    }

    fn keeper(line: u32, from: u64, to: u64, recovery: Recovery) -> Keeper {
        Keeper {
            timeline: timeline(line),
            start: Lsn::new(from * SIZE + 100),
            end: Lsn::new(to * SIZE + 100),
            recovery,
        }
    }

    fn needed(need: &WalNeed, line: u32) -> Vec<u64> {
        (0..12)
            .filter(|number| need.needs(segment(line, *number)))
            .collect()
    }

    /// Timeline 2 left timeline 1 in segment `at`.
    fn left_in(at: u64) -> History {
        let text = format!("1\t0/{:X}\tsome reason\n", at * SIZE + 500);
        History::parse(timeline(2), text.as_bytes()).unwrap()
    }

    #[test]
    fn a_backup_for_itself_needs_its_own_range_only() {
        let need = WalNeed::new(size(), vec![keeper(1, 3, 5, Recovery::OwnEnd)], []);
        assert_eq!(needed(&need, 1), [3, 4, 5]);
        assert!(need.needs(StoredName::History(timeline(7))));
    }

    #[test]
    fn point_in_time_recovery_needs_everything_that_follows() {
        let keepers = vec![
            keeper(1, 1, 2, Recovery::OwnEnd),
            keeper(1, 6, 7, Recovery::AnyPoint),
        ];
        let need = WalNeed::new(size(), keepers, [left_in(9)]);
        assert_eq!(needed(&need, 1), [1, 2, 6, 7, 8, 9, 10, 11]);
        assert_eq!(needed(&need, 2).len(), 12);
    }

    #[test]
    fn a_branch_that_left_before_the_backup_goes_once_there_is_a_backup_on_a_later_one() {
        let keepers = vec![
            keeper(1, 6, 7, Recovery::AnyPoint),
            keeper(3, 9, 10, Recovery::AnyPoint),
        ];
        let need = WalNeed::new(size(), keepers, [left_in(4)]);
        assert_eq!(needed(&need, 2), [0_u64; 0]);
        // Until then a first backup of it may be under way.
        let alone = vec![keeper(1, 6, 7, Recovery::AnyPoint)];
        let need = WalNeed::new(size(), alone, [left_in(4)]);
        assert_eq!(needed(&need, 2).len(), 12);
    }

    #[test]
    fn a_branch_without_its_history_stays_whole() {
        let need = WalNeed::new(size(), vec![keeper(1, 6, 7, Recovery::AnyPoint)], []);
        assert_eq!(needed(&need, 2), (0..12).collect::<Vec<_>>());
        assert_eq!(needed(&need, 1), (6..12).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_backup_nothing_can_go() {
        let need = WalNeed::new(size(), Vec::new(), []);
        assert_eq!(needed(&need, 1).len(), 12);
    }
}
