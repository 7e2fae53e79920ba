//! The index: intervals, gaps, ways through timelines.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::History;

fn index(segments: &[(u32, u64)]) -> ArchiveIndex {
    let mut index = ArchiveIndex::new(SIZE);
    for (number, segment) in segments {
        index.add(StoredName::Segment(name(timeline(*number), *segment)));
    }
    index
}

fn partial(number: u32, segment: u64, offset: u64) -> StoredName {
    StoredName::Partial {
        segment: name(timeline(number), segment),
        end: start(segment) + offset,
    }
}

fn history(number: u32, ancestors: &[(u32, Lsn)]) -> History {
    let mut lines = String::new();
    for (timeline, end) in ancestors {
        writeln!(lines, "{timeline}	{end}	x").unwrap();
    }
    History::parse(timeline(number), lines.as_bytes()).unwrap()
}

proptest! {
    #[test]
    fn order_makes_no_difference_and_every_segment_counts(
        mut numbers in prop::collection::btree_set(0u64..60, 0..40).prop_map(|set| set.into_iter().collect::<Vec<_>>()),
        seed in any::<u64>(),
    ) {
        let sorted = numbers.clone();
        let mut state = seed | 1;
        for at in (1..numbers.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            numbers.swap(at, (state >> 33) as usize % (at + 1));
        }
        let one = |numbers: &[u64]| index(&numbers.iter().map(|number| (1, *number)).collect::<Vec<_>>());
        let (shuffled, ordered) = (one(&numbers), one(&sorted));
        prop_assert_eq!(&shuffled, &ordered);
        for number in 0..60 {
            let expected = sorted.contains(&number);
            prop_assert_eq!(shuffled.contains(name(timeline(1), number)), expected);
        }
        let from_intervals: Vec<u64> = shuffled
            .intervals()
            .iter()
            .flat_map(|interval| interval.start.bytes() / SIZE.bytes()..interval.end.bytes() / SIZE.bytes())
            .collect();
        prop_assert_eq!(from_intervals, sorted);
        let holes = shuffled.intervals().len().saturating_sub(1);
        prop_assert_eq!(shuffled.gaps().len(), holes);
    }
}

#[test]
fn coverage_ends_at_the_first_hole() {
    let mut index = index(&[(1, 3), (1, 4), (1, 7)]);
    let one = timeline(1);
    assert!(index.covers(one, start(3) + 5, start(5)));
    assert!(!index.covers(one, start(3), start(5) + 1));
    assert!(!index.covers(one, start(2), start(4)));
    assert!(!index.covers(timeline(2), start(3), start(4)));
    assert!(index.covers(timeline(2), start(3), start(3)));
    index.add(partial(1, 5, 100));
    index.add(partial(1, 5, 50));
    assert_eq!(index.reach_on(one, start(3)), start(5) + 100);
    assert_eq!(index.newest_end(one), Some(start(8)));
    assert_eq!(index.oldest_start(one), Some(start(3)));
    let gap = Gap {
        timeline: one,
        start: start(5) + 100,
        end: start(7),
    };
    assert_eq!(index.gaps(), [gap]);
    // A finished segment counts instead of its unfinished copies.
    index.add(StoredName::Segment(name(one, 5)));
    index.add(StoredName::Segment(name(one, 6)));
    assert!(index.gaps().is_empty());
    assert_eq!(
        index.intervals(),
        [Interval {
            timeline: one,
            start: start(3),
            end: start(8)
        }]
    );
}

#[test]
fn a_way_goes_through_the_timelines_also_above_nine() {
    let (nine, ten) = (timeline(9), timeline(10));
    let switch = start(5) + 1000;
    let history = history(10, &[(9, switch)]);
    let way = |index: &ArchiveIndex, to| index.walk(&history, start(3) + 8, to);
    // The child's copy of the segment with the switch serves both sides of it.
    let full = index(&[(9, 3), (9, 4), (9, 5), (10, 5), (10, 6)]);
    let expected = [
        Stretch {
            timeline: nine,
            start: start(3) + 8,
            end: start(5),
        },
        Stretch {
            timeline: ten,
            start: start(5),
            end: start(7),
        },
    ];
    assert_eq!(way(&full, start(7)).unwrap(), expected);
    assert_eq!(full.reach(&history, start(3)), start(7));
    assert_eq!(full.first_gap(&history, start(3), start(7)), None);

    // Without it, the parent's copy counts up to the switch and no further.
    let without = index(&[(9, 3), (9, 4), (9, 5), (9, 6), (9, 7), (10, 6)]);
    let missing = Missing {
        segment: name(ten, 5),
        from: switch,
    };
    assert_eq!(way(&without, start(7)), Err(missing));
    assert_eq!(way(&without, switch).unwrap().len(), 1);
    assert_eq!(without.reach(&history, start(3)), switch);

    // The parent's segment may be unfinished.
    let mut unfinished = index(&[(9, 3), (9, 4), (10, 6)]);
    unfinished.add(partial(9, 5, 900));
    let missing = Missing {
        segment: name(nine, 5),
        from: start(5) + 900,
    };
    assert_eq!(way(&unfinished, start(7)), Err(missing));
    unfinished.add(partial(10, 5, 5000));
    let missing = Missing {
        segment: name(ten, 5),
        from: start(5) + 5000,
    };
    assert_eq!(way(&unfinished, start(7)), Err(missing));

    let hole = index(&[(9, 3), (10, 5), (10, 6)]);
    let missing = Missing {
        segment: name(nine, 4),
        from: start(4),
    };
    assert_eq!(way(&hole, start(7)), Err(missing));
}

#[test]
fn a_switch_between_segments_needs_no_second_copy() {
    let history = history(3, &[(1, start(5)), (2, start(5))]);
    let index = index(&[(1, 4), (3, 5)]);
    let way = index.walk(&history, start(4), start(6)).unwrap();
    let timelines: Vec<_> = way
        .iter()
        .map(|stretch| stretch.timeline.number())
        .collect();
    assert_eq!(timelines, [1, 3]);
}

#[test]
fn several_switches_in_one_segment_are_walked() {
    let first = start(4) + 100;
    let second = start(4) + 200;
    let history = history(3, &[(1, first), (2, second)]);
    let mut index = index(&[(1, 3)]);
    index.add(partial(1, 4, 100));
    index.add(partial(2, 4, 200));
    index.add(StoredName::Segment(name(timeline(3), 5)));
    let missing = Missing {
        segment: name(timeline(3), 4),
        from: second,
    };
    assert_eq!(index.walk(&history, start(3), start(6)), Err(missing));
    index.add(StoredName::Segment(name(timeline(3), 4)));
    let way = index.walk(&history, start(3), start(6)).unwrap();
    assert_eq!(way.len(), 2);
}

#[test]
fn the_index_is_read_from_archive_and_spool() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    let wal = wal();
    let segments = wal.segments();
    store(&archive, segments[0].0, &segments[0].1).unwrap();
    wal.write_unfinished_to(folder.path());
    std::fs::remove_file(folder.path().join("000000010000000000000003")).unwrap();
    spool
        .store_history(timeline(2), b"1\t0/5000000\tx\n")
        .unwrap();
    let index = archive.index(SIZE, Some(&spool)).unwrap();
    assert!(index.covers(timeline(1), start(3), wal.end()));
    assert!(!index.covers(timeline(1), start(3), wal.end() + 1));
    assert_eq!(index.histories().collect::<Vec<_>>(), [timeline(2)]);
    assert_eq!(index.timelines().collect::<Vec<_>>(), [timeline(1)]);
    assert_eq!(
        archive.index(SIZE, None).unwrap().newest_end(timeline(1)),
        Some(start(4))
    );
}

#[test]
fn names_that_the_archive_does_not_write_are_passed_over() {
    let good = [
        StoredName::Segment(name(timeline(10), 3)),
        partial(10, 3, 8),
        partial(10, 3, SIZE.bytes()),
        StoredName::History(timeline(10)),
    ];
    for stored in good {
        assert_eq!(StoredName::parse(&stored.path(SIZE), SIZE), Some(stored));
    }
    for path in [
        "",
        "0000000A",
        "0000000A/",
        "00000001/0000000A0000000000000003",
        "0000000A/0000000A0000000000000003.partial",
        "0000000A/0000000A0000000000000003.0000000000300000.partial",
        "0000000A/0000000A0000000000000003.0000000000400001.partial",
        "0000000A/0000000A0000000000000003.000000000030000a.partial",
        "0000000A/0000000A0000000000000003.tmp",
        "0000000A/0000000A.history",
        "0000000a.history",
        "0000000A/0000000A00000000000000031",
        "x/0000000A/0000000A0000000000000003",
    ] {
        assert_eq!(StoredName::parse(path, SIZE), None, "{path}");
    }
}
