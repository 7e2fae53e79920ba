//! Summaries of WAL made for the purpose, and their forms on disk.

use proptest::prelude::*;

use super::*;
use crate::History;
use crate::record::fixture::{SIZE, Wal, timeline};
use crate::record::{DirectorySource, RecordReader};

const RELATION: RelationFile = RelationFile {
    tablespace: 1663,
    database: 5,
    number: 16384,
};

fn fork(fork: Fork) -> RelationFork {
    RelationFork {
        relation: RELATION,
        fork,
    }
}

/// The body of a record that refers to a block of [`RELATION`], with main data behind it.
fn block(fork: u8, number: u32, main: &[u8]) -> Vec<u8> {
    let mut body = vec![0, fork, 0, 0];
    for word in [1663, 5, 16384, number] {
        body.extend(u32::to_le_bytes(word));
    }
    if !main.is_empty() {
        body.extend([255, main.len() as u8]);
        body.extend(main);
    }
    body
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn summarise(wal: &Wal, rules: Rules) -> Summary {
    let folder = tempfile::tempdir().unwrap();
    wal.write_to(folder.path());
    let start = Lsn::new(3 * SIZE.bytes());
    let source = DirectorySource::new(folder.path(), SIZE);
    let mut reader = RecordReader::seek(source, History::root(timeline(1)), start).unwrap();
    let mut summary = Summary::new(timeline(1), start, rules);
    while let Some(record) = reader.next().unwrap() {
        summary.add(&record).unwrap();
    }
    summary
}

fn blocks(summary: &Summary, which: Fork) -> (Option<u32>, Vec<u32>) {
    summary
        .fork(fork(which))
        .map_or((None, Vec::new()), |changes| {
            (changes.limit(), changes.blocks().iter().collect())
        })
}

#[test]
fn truncation_creation_and_removal_set_the_limit() {
    let mut wal = Wal::new(3, timeline(1));
    for number in [7, 100, 200] {
        wal.raw_record(10, 0, 9, &block(0, number, &[]));
    }
    wal.raw_record(10, 0, 9, &block(1, 3, &[]));
    assert_eq!(
        blocks(&summarise(&wal, Rules::PostgreSql), Fork::Main),
        (None, vec![7, 100, 200])
    );
    // To 150 blocks, table and visibility map.
    let truncate = [words(&[150, 1663, 5, 16384]), words(&[7])].concat();
    wal.record(2, 0x20, 9, &truncate);
    wal.raw_record(10, 0, 9, &block(0, 180, &[]));
    let summary = summarise(&wal, Rules::PostgreSql);
    assert_eq!(blocks(&summary, Fork::Main), (Some(150), vec![7, 100, 180]));
    assert_eq!(blocks(&summary, Fork::VisibilityMap), (Some(1), vec![]));
    assert_eq!(summary.fork(fork(Fork::FreeSpaceMap)), None);
    // A later truncation to more blocks changes nothing.
    let truncate = [words(&[170, 1663, 5, 16384]), words(&[1])].concat();
    wal.record(2, 0x20, 9, &truncate);
    assert_eq!(
        blocks(&summarise(&wal, Rules::PostgreSql), Fork::Main),
        (Some(150), vec![7, 100, 180])
    );
    // A commit that removes the relation.
    let commit = [
        77i64.to_le_bytes().to_vec(),
        words(&[1 << 2, 1, 1663, 5, 16384]),
    ]
    .concat();
    wal.record(1, 0x80, 9, &commit);
    let summary = summarise(&wal, Rules::PostgreSql);
    for which in [Fork::Main, Fork::VisibilityMap, Fork::Init] {
        assert_eq!(blocks(&summary, which), (Some(0), vec![]));
    }
    // A database that is made by copying files.
    wal.record(4, 0, 9, &words(&[20000, 1663, 1, 1663]));
    let all = RelationFork {
        relation: RelationFile {
            tablespace: 1663,
            database: 20000,
            number: 0,
        },
        fork: Fork::Main,
    };
    let summary = summarise(&wal, Rules::PostgreSql);
    assert_eq!(summary.fork(all).unwrap().limit(), Some(0));
    assert_eq!(summary.end, wal.end());
}

#[test]
fn complete_rules_add_pages_of_the_visibility_map() {
    let mut wal = Wal::new(3, timeline(1));
    // A row is deleted from block 70000, whose bits lie in page 2 of the map.
    wal.raw_record(10, 0x10, 9, &block(0, 70_000, &[1, 0, 0, 0, 5, 0, 0, 1]));
    wal.raw_record(10, 0x10, 9, &block(0, 3, &[1, 0, 0, 0, 5, 0, 0, 0]));
    let map = |rules| blocks(&summarise(&wal, rules).completed(), Fork::VisibilityMap).1;
    assert_eq!(map(Rules::PostgreSql), [0_u32; 0]);
    assert_eq!(map(Rules::Complete), [2]);
}

#[test]
fn a_server_that_logs_too_little_is_noticed() {
    let mut wal = Wal::new(3, timeline(1));
    wal.filler(10);
    let parameters = words(&[100, 8, 10, 0, 64, 0, 0]);
    let at = wal.record(0, 0x60, 0, &parameters);
    assert_eq!(summarise(&wal, Rules::PostgreSql).minimal, Some(at));
}

#[test]
fn records_that_are_too_short_are_errors() {
    for (manager, info) in [(2, 0x10), (2, 0x20), (1, 0x80), (4, 0x00), (4, 0x20)] {
        let mut wal = Wal::new(3, timeline(1));
        wal.record(manager, info, 9, &[1, 2, 3]);
        let folder = tempfile::tempdir().unwrap();
        wal.write_to(folder.path());
        let start = Lsn::new(3 * SIZE.bytes());
        let source = DirectorySource::new(folder.path(), SIZE);
        let mut reader = RecordReader::seek(source, History::root(timeline(1)), start).unwrap();
        let record = reader.next().unwrap().unwrap();
        let mut summary = Summary::new(timeline(1), start, Rules::PostgreSql);
        assert!(summary.add(&record).is_err(), "{manager} {info}");
    }
}

/// What a fork goes through: a block changes, or the fork is shortened.
#[derive(Debug, Clone)]
enum Step {
    Mark(u32),
    Limit(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let block = prop_oneof![0u32..2000, 60_000u32..70_000, Just(u32::MAX - 1)];
    let step = prop_oneof![
        20 => block.prop_map(Step::Mark),
        1 => (0u32..70_000).prop_map(Step::Limit),
    ];
    prop::collection::vec(step, 0..1500)
}

fn apply(summary: &mut Summary, steps: &[Step]) {
    for step in steps {
        match step {
            Step::Mark(block) => summary.mark(fork(Fork::Main), *block),
            Step::Limit(limit) => summary.limit(fork(Fork::Main), *limit),
        }
    }
}

proptest! {
    #[test]
    fn summaries_come_back_from_both_forms(steps in steps(), minimal in any::<bool>()) {
        let mut summary = Summary::new(timeline(7), Lsn::new(0x1234_5678), Rules::PostgreSql);
        apply(&mut summary, &steps);
        summary.end = Lsn::new(0x9999_0000);
        let mut bytes = Vec::new();
        summary.write_postgresql(&mut bytes).unwrap();
        let name = SummaryFileName::parse(&summary.file_name().to_string()).unwrap();
        prop_assert_eq!(&read_postgresql(name, &mut &bytes[..]).unwrap(), &summary);
        summary.minimal = minimal.then_some(Lsn::new(0x2000_0000));
        let mut bytes = Vec::new();
        summary.write(&mut bytes);
        prop_assert_eq!(&Summary::read(&bytes).unwrap(), &summary);
    }

    /// Three parts, merged in either order, and stored in between, are one summary of the whole.
    #[test]
    fn merged_complete_summaries_are_one(steps in steps(), cuts in any::<[prop::sample::Index; 2]>()) {
        let mut cuts = cuts.map(|cut| cut.index(steps.len() + 1));
        cuts.sort_unstable();
        let of = |steps: &[Step]| {
            let mut summary = Summary::new(timeline(1), Lsn::new(8), Rules::Complete);
            apply(&mut summary, steps);
            let mut bytes = Vec::new();
            summary.write(&mut bytes);
            Summary::read(&bytes).unwrap()
        };
        let parts = [of(&steps[..cuts[0]]), of(&steps[cuts[0]..cuts[1]]), of(&steps[cuts[1]..])];
        let [mut from_left, mut middle, last] = parts.clone();
        from_left.merge(&middle);
        from_left.merge(&last);
        let [mut from_right, _, _] = parts;
        middle.merge(&last);
        from_right.merge(&middle);
        let whole = of(&steps);
        prop_assert_eq!(blocks(&from_left, Fork::Main), blocks(&whole, Fork::Main));
        prop_assert_eq!(blocks(&from_right, Fork::Main), blocks(&whole, Fork::Main));
    }

    /// Of two halves, merged, each block means what it means in one summary of the whole.
    #[test]
    fn merged_summaries_say_what_one_says(steps in steps(), at in 0usize..1500) {
        let (first, second) = steps.split_at(at.min(steps.len()));
        let new = || Summary::new(timeline(1), Lsn::new(8), Rules::PostgreSql);
        let (mut whole, mut merged, mut later) = (new(), new(), new());
        apply(&mut whole, &steps);
        apply(&mut merged, first);
        apply(&mut later, second);
        merged.merge(&later);
        let (whole, merged) = (blocks(&whole, Fork::Main), blocks(&merged, Fork::Main));
        prop_assert_eq!(whole.0, merged.0);
        let below = |(limit, blocks): &(Option<u32>, Vec<u32>)| -> Vec<u32> {
            let limit = limit.unwrap_or(u32::MAX);
            blocks.iter().copied().filter(|block| *block < limit).collect()
        };
        prop_assert_eq!(below(&whole), below(&merged));
    }

    #[test]
    fn blocks_of_a_range_are_those_that_are_in_it(
        all in proptest::collection::btree_set(0u32..200_000, 0..700),
        from in 0u32..200_000,
        length in 0u32..150_000,
    ) {
        let mut blocks = Blocks::default();
        for block in &all {
            blocks.insert(*block);
        }
        let found: Vec<u32> = blocks.within(from..from + length).collect();
        let expected: Vec<u32> = all.range(from..from + length).copied().collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn damaged_bytes_are_refused(at in 0usize..200, bit in 0u8..8, cut in 0usize..200) {
        let mut summary = Summary::new(timeline(1), Lsn::new(8), Rules::Complete);
        apply(&mut summary, &[Step::Mark(5), Step::Mark(6), Step::Mark(900), Step::Limit(800)]);
        let mut bytes = Vec::new();
        summary.write(&mut bytes);
        let mut flipped = bytes.clone();
        let at = at % bytes.len();
        flipped[at] ^= 1 << bit;
        prop_assert!(Summary::read(&flipped).is_err());
        prop_assert!(Summary::read(&bytes[..cut % bytes.len()]).is_err());
        let mut theirs = Vec::new();
        summary.write_postgresql(&mut theirs).unwrap();
        let at = at % theirs.len();
        theirs[at] ^= 1 << bit;
        prop_assert!(read_postgresql(summary.file_name(), &mut &theirs[..]).is_err());
    }
}
