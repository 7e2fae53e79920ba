//! The record reader against `pg_waldump`, against WAL made for the purpose, and against hostile bytes.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pgm_proto::Lsn;
use pgm_storage::Cancel;
use proptest::prelude::*;

use super::block::{self, Shape};
use super::fixture::{FILLER, SIZE, Wal, timeline};
use super::*;
use crate::{History, SegmentName, SegmentSize};

mod corpus;
mod flips;
mod hostile;
mod images;
mod scans;
mod stretches;
mod verified;

type Seen = (Lsn, Lsn, u32, Vec<u8>);

/// Reads everything from `lsn`; gives the records and how they ended.
fn read_all(folder: &Path, history: &History, lsn: Lsn) -> (Vec<Seen>, Result<End, RecordError>) {
    let mut seen = Vec::new();
    let source = DirectorySource::new(folder, SIZE);
    let end = (|| {
        let mut reader = RecordReader::seek(source, history.clone(), lsn)?;
        while let Some(record) = reader.next()? {
            seen.push((
                record.lsn,
                record.end_lsn,
                record.xid,
                record.main_data.to_vec(),
            ));
        }
        Ok(reader.end().unwrap().clone())
    })();
    (seen, end)
}

fn root() -> History {
    History::root(timeline(1))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn segment(number: u64) -> Lsn {
    Lsn::new(number * SIZE.bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn records_of_any_length_come_back(
        lengths in prop::collection::vec(
            prop_oneof![0usize..400, 7900usize..8300, 0usize..60_000, 1_000_000usize..2_500_000],
            1..40,
        ),
    ) {
        let mut wal = Wal::new(3, timeline(1));
        let mut written = Vec::new();
        for (index, length) in lengths.iter().enumerate() {
            let main: Vec<u8> = (0..*length).map(|at| (at * 7 + index) as u8).collect();
            let xid = index as u32 + 1;
            written.push((wal.record(FILLER, 0, xid, &main), xid, main));
        }
        let folder = folder();
        wal.write_to(folder.path());
        let (seen, end) = read_all(folder.path(), &root(), segment(3));
        prop_assert_eq!(seen.len(), written.len());
        for (seen, written) in seen.iter().zip(&written) {
            prop_assert_eq!((seen.0, seen.2, &seen.3), (written.0, written.1, &written.2));
        }
        prop_assert_eq!(end.unwrap().lsn, wal.end());
    }
}

#[test]
fn zeros_are_the_end_in_the_last_segment_and_damage_before_it() {
    let folder = folder();
    let mut wal = Wal::new(3, timeline(1));
    wal.commit(700, 1);
    wal.write_to(folder.path());
    let (seen, end) = read_all(folder.path(), &root(), segment(3));
    assert_eq!(seen.len(), 1);
    let end = end.unwrap();
    assert_eq!(
        (end.lsn, end.reason),
        (wal.end(), EndReason::Invalid(Invalid::Empty))
    );

    Wal::new(4, timeline(1)).write_to(folder.path());
    let mut later = Wal::new(5, timeline(1));
    later.commit(701, 2);
    later.write_to(folder.path());
    let (seen, end) = read_all(folder.path(), &root(), segment(3));
    assert_eq!(seen.len(), 1);
    let error = end.unwrap_err();
    assert!(
        matches!(&error, RecordError::Damaged { lsn, .. } if *lsn == wal.end()),
        "{error}"
    );
    assert!(
        error.to_string().contains("000000010000000000000003"),
        "{error}"
    );
}

#[test]
fn a_missing_segment_is_the_end_only_if_nothing_follows() {
    let folder = folder();
    let mut wal = Wal::new(3, timeline(1));
    wal.fill_segment();
    wal.fill_segment();
    wal.commit(9, 9);
    wal.write_to(folder.path());
    std::fs::remove_file(folder.path().join("000000010000000000000004")).unwrap();
    let (seen, end) = read_all(folder.path(), &root(), segment(3));
    assert!(!seen.is_empty());
    let error = end.unwrap_err();
    assert!(
        matches!(&error, RecordError::Missing { segment } if segment == "000000010000000000000004"),
        "{error}"
    );
    std::fs::remove_file(folder.path().join("000000010000000000000005")).unwrap();
    let (_, end) = read_all(folder.path(), &root(), segment(3));
    assert!(matches!(end.unwrap().reason, EndReason::NoSegment(_)));
}

#[test]
fn a_segment_switch_skips_to_the_next_segment() {
    let folder = folder();
    let mut wal = Wal::new(3, timeline(1));
    wal.commit(1, 1);
    wal.switch();
    let after = wal.commit(2, 2);
    wal.write_to(folder.path());
    let (seen, _) = read_all(folder.path(), &root(), segment(3));
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1].1, segment(4));
    assert_eq!(seen[2].0, after);
    assert_eq!(after, segment(4) + 40);
}

#[test]
fn a_record_cut_off_by_a_crash_is_passed_over() {
    let folder = folder();
    let mut wal = Wal::new(3, timeline(1));
    wal.commit(1, 1);
    let mut crashed = wal.clone();
    crashed.filler(50_000);
    // What the crash left ends with a page; the next one says that it replaces the rest.
    let page = wal.bytes.len().next_multiple_of(8192);
    wal.bytes = crashed.bytes[..page].to_vec();
    wal.open_page(0x0008, 0);
    let after = wal.commit(2, 2);
    wal.write_to(folder.path());
    let (seen, end) = read_all(folder.path(), &root(), segment(3));
    assert_eq!(seen.iter().map(|seen| seen.2).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(seen[1].0, after);
    assert_eq!(end.unwrap().lsn, wal.end());
}

#[test]
fn seeking_finds_the_first_record_behind_any_position() {
    let folder = folder();
    let mut wal = Wal::new(3, timeline(1));
    let starts: Vec<Lsn> = (0..40)
        .map(|index| wal.filler(if index % 7 == 3 { 30_000 } else { 500 }))
        .collect();
    wal.write_to(folder.path());
    for at in (0..wal.bytes.len() as u64).step_by(333) {
        let lsn = segment(3) + at;
        let source = DirectorySource::new(folder.path(), SIZE);
        let mut reader = RecordReader::seek(source, root(), lsn).unwrap();
        let found = reader.next().unwrap().map(|record| record.lsn);
        assert_eq!(
            found,
            starts.iter().copied().find(|start| *start >= lsn),
            "{lsn}"
        );
    }
}

#[test]
fn an_exact_position_is_read_from_directly() {
    let folder = folder();
    let mut wal = Wal::new(3, timeline(1));
    wal.filler(9000);
    let lsn = wal.commit(5, 5);
    wal.write_to(folder.path());
    let mut reader = RecordReader::at(DirectorySource::new(folder.path(), SIZE), root(), lsn);
    assert_eq!(reader.next().unwrap().unwrap().xid, 5);
    assert!(reader.next().unwrap().is_none());
    assert_eq!(
        (reader.last_record(), reader.position()),
        (Some(lsn), wal.end())
    );
}

/// Timeline 1, left in the middle of segment 4 for timeline 2; timeline 1 went on.
fn branches() -> (Wal, Wal, Lsn, History) {
    let mut old = Wal::new(3, timeline(1));
    old.commit(1, 10);
    old.fill_segment();
    old.commit(2, 20);
    let switch = old.end();
    let mut new = old.branch(timeline(2));
    new.commit(3, 30);
    new.fill_segment();
    new.commit(4, 40);
    old.commit(99, 35);
    old.fill_segment();
    old.commit(98, 36);
    let history = format!("1\t{switch}\tno recovery target specified\n");
    (
        old,
        new,
        switch,
        History::parse(timeline(2), history.as_bytes()).unwrap(),
    )
}

#[test]
fn reading_follows_the_timelines() {
    let folder = folder();
    let (old, new, _, history) = branches();
    old.write_to(folder.path());
    for (name, bytes) in &new.segments()[1..] {
        std::fs::write(folder.path().join(name.file_name(SIZE)), bytes).unwrap();
    }
    let xids = |history: &History| {
        let (seen, end) = read_all(folder.path(), history, segment(3));
        end.unwrap();
        seen.iter()
            .map(|seen| seen.2)
            .filter(|xid| *xid != 0)
            .collect::<Vec<_>>()
    };
    assert_eq!(xids(&history), [1, 2, 3, 4]);
    assert_eq!(xids(&root()), [1, 2, 99, 98]);
}

#[test]
fn the_parents_segment_counts_only_up_to_the_switch() {
    let folder = folder();
    let (old, new, switch, history) = branches();
    old.write_to(folder.path());
    let (seen, end) = read_all(folder.path(), &history, segment(3));
    assert_eq!(seen.last().unwrap().1, switch);
    let end = end.unwrap();
    assert_eq!(end.lsn, switch);
    assert_eq!(
        end.reason,
        EndReason::NoSegment("000000020000000000000004".to_owned())
    );

    let (name, bytes) = &new.segments()[2];
    std::fs::write(folder.path().join(name.file_name(SIZE)), bytes).unwrap();
    let (_, end) = read_all(folder.path(), &history, segment(3));
    let error = end.unwrap_err();
    assert!(
        matches!(&error, RecordError::Missing { segment } if segment == "000000020000000000000004"),
        "{error}"
    );
}

#[test]
fn a_long_record_costs_bounded_memory() {
    let folder = folder();
    let mut wal = Wal::new(3, timeline(1));
    wal.filler(40 << 20);
    wal.commit(7, 7);
    wal.write_to(folder.path());
    let (seen, _) = read_all(folder.path(), &root(), segment(3));
    assert_eq!(seen[0].3.len(), 16 << 20);
    assert_eq!(seen[1].2, 7);
}

/// How long the headers are depends on the image's form.
fn without_len(shape: Shape) -> Shape {
    Shape {
        head_len: 0,
        ..shape
    }
}

#[test]
fn block_headers_are_skipped_over_in_every_version() {
    // Block 0 with a compressed image with a hole and data, block 1 of the same relation, origin, xid, main data.
    let head = |image_info: u8, hole_length: bool| {
        let mut head = vec![0, 0x30, 10, 0, 100, 0, 0, 1, image_info];
        if hole_length {
            head.extend([0, 2]);
        }
        head.extend([0; 12 + 4]);
        head.extend([1, 0x80 | 0x20, 5, 0, 9, 0, 0, 0]);
        head.extend([253, 1, 0, 252, 9, 0, 0, 0, 255, 30]);
        let body = head.len() as u32 + 100 + 10 + 5 + 30;
        (head, body)
    };
    let expected = Some(Shape {
        main_len: 30,
        images_len: 100,
        origin: Some(1),
        top_level_xid: Some(9),
        blocks: 2,
        head_len: 0,
    });
    let shape = |head: &[u8], body, version| block::shape(head, body, version).map(without_len);
    let (head_14, body_14) = head(0x01 | 0x02, true);
    assert_eq!(shape(&head_14, body_14, WalVersion::V14), expected);
    for flag in [0x04, 0x08, 0x10] {
        let (head, body) = head(0x01 | flag, true);
        assert_eq!(shape(&head, body, WalVersion::V15), expected);
        assert_eq!(shape(&head, body, WalVersion::V18), expected);
    }
    let (plain, body) = head(0x01 | 0x02, false);
    assert_eq!(shape(&plain, body, WalVersion::V16), expected);
    assert_eq!(shape(&plain, body + 1, WalVersion::V16), None);
    assert_eq!(shape(&[0, 0], 2, WalVersion::V16), None);
    assert_eq!(shape(&[], 0, WalVersion::V16), Some(Shape::default()));
}

#[test]
fn magic_numbers_are_those_of_postgresql() {
    for version in WalVersion::ALL {
        assert_eq!(WalVersion::from_magic(version.magic()), Some(version));
    }
    assert_eq!(
        WalVersion::from_magic(0xD116).map(WalVersion::major),
        Some(17)
    );
    assert_eq!(WalVersion::from_magic(0xD106), None);
}
