//! Digests against the WAL they were made of.

use std::path::Path;
use std::sync::Arc;

use pgm_storage::{Compression, MemoryStorage, Storage};

use super::*;
use crate::archive::ArchiveSource;
use crate::record::fixture::{SIZE, Wal, timeline};
use crate::record::{Inclusion, RecordReader, Target};
use crate::{History, SegmentNumber};

/// Commits every ten seconds; records go over every end of a segment.
fn wal(segments: u64) -> Wal {
    let mut wal = Wal::new(3, timeline(1));
    let mut xid = 100;
    while wal.end() < Lsn::new((3 + segments) * SIZE.bytes()) {
        wal.filler(90_000);
        wal.commit(xid, i64::from(xid) * 10_000_000);
        xid += 1;
    }
    wal
}

struct Archived {
    storage: Arc<dyn Storage>,
    archive: Archive,
    start: Lsn,
    end: Lsn,
    history: History,
}

/// The finished segments of `wal`, archived and digested one after the other; a digester that forgets is taken for `anew`.
fn archived(wal: &Wal, anew: &[usize]) -> Archived {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let archive = Archive::new(Arc::clone(&storage), "main".parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut digester = Digester::default();
    let segments = wal.segments();
    for (number, (name, bytes)) in segments.iter().enumerate() {
        if anew.contains(&number) {
            digester = Digester::default();
        }
        let path = folder.path().join(name.file_name(SIZE));
        std::fs::write(&path, bytes).unwrap();
        archive
            .store_segment(&path, *name, SIZE, Compression::NONE)
            .unwrap();
        digester.digest(&archive, &path, *name, SIZE).unwrap();
        // What is archived leaves the spool.
        std::fs::remove_file(Path::new(&path)).unwrap();
    }
    let start = segments[0].0.start(SIZE);
    Archived {
        storage,
        archive,
        start,
        end: segments.last().unwrap().0.end(SIZE),
        history: History::root(timeline(1)),
    }
}

impl Archived {
    fn reader(&self, from: Lsn) -> RecordReader<ArchiveSource> {
        let source = ArchiveSource::new(self.archive.clone(), None, SIZE);
        RecordReader::seek(source, self.history.clone(), from).unwrap()
    }

    fn digest(&self, number: u64) -> Digest {
        let name = SegmentName::new(timeline(1), SegmentNumber::new(number));
        self.archive.digest(name, SIZE).unwrap().unwrap()
    }

    fn remove(&self, number: u64) {
        let name = SegmentName::new(timeline(1), SegmentNumber::new(number));
        self.archive.remove_digest(name, SIZE).unwrap();
    }
}

#[test]
fn digests_follow_each_other_and_a_start_leaves_a_seam() {
    let made = archived(&wal(5), &[2]);
    assert_eq!(made.digest(3).changes.end, made.digest(4).changes.start);
    assert!(made.digest(4).changes.end < made.digest(5).changes.start);
    assert_eq!(made.digest(5).changes.end, made.digest(6).changes.start);
    let count: u32 = (3..8)
        .map(|number| made.digest(number).transactions.count)
        .sum();
    let mut reader = made.reader(made.start);
    let mut commits = 0;
    while let Some(record) = reader.next().unwrap() {
        commits += u32::from(TransactionEnd::of(&record).is_some());
    }
    // The one in the seam at most is missing.
    assert!(
        count == commits || count + 1 == commits,
        "{count} of {commits}"
    );
}

#[test]
fn bytes_read_back_and_every_damage_makes_them_nothing() {
    let made = archived(&wal(2), &[]);
    let digest = made.digest(4);
    let bytes = digest.to_bytes();
    assert_eq!(Digest::from_bytes(&bytes).unwrap(), digest);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Digest::from_bytes(&damaged), None, "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert_eq!(Digest::from_bytes(&bytes[..len]), None, "{len} bytes");
    }
}

#[test]
fn a_moment_is_found_with_and_without_digests_as_reading_everything_finds_it() {
    let made = archived(&wal(6), &[3]);
    let first = made.reader(made.start).next().unwrap().unwrap().lsn;
    for missing in [&[][..], &[4], &[3, 4, 5, 6, 7, 8]] {
        for number in missing {
            made.remove(*number);
        }
        for xid in [90, 99, 100, 101, 107, 120, 133, 134, 160, 200] {
            for (shift, inclusion) in [
                (0, Inclusion::Inclusive),
                (0, Inclusion::Exclusive),
                (5_000_000, Inclusion::Inclusive),
            ] {
                let micros = 946_684_800_000_000 + xid * 10_000_000 + shift;
                let time = Timestamp::from_microsecond(micros).unwrap();
                let target = Target::Time { time, inclusion };
                let range = (first, made.end);
                let found =
                    transactions(&made.archive, None, &made.history, SIZE, range, &target).unwrap();
                let mut expected = LastBefore::default();
                let mut reader = made.reader(first);
                while let Some(record) = reader.next().unwrap() {
                    expected.stop = target.stops_at(&record);
                    if expected.stop.is_some() {
                        break;
                    }
                    let end = TransactionEnd::of(&record);
                    expected.last_commit = end.map(Commit::of).or(expected.last_commit);
                }
                assert_eq!(found, expected, "{xid} {shift} {inclusion:?} {missing:?}");
            }
        }
    }
}

#[test]
fn what_goes_from_the_archive_takes_its_digest_along() {
    let made = archived(&wal(2), &[]);
    let name = SegmentName::new(timeline(1), SegmentNumber::new(3));
    made.archive
        .remove(crate::archive::StoredName::Segment(name), SIZE)
        .unwrap();
    assert_eq!(made.archive.digest(name, SIZE).unwrap(), None);
    let mut left = Vec::new();
    let root = pgm_storage::ObjectPath::root();
    made.storage
        .list(&root, &mut |meta| {
            left.push(meta.path.to_string());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert!(
        left.iter().all(|path| !path.contains("000000003")),
        "{left:?}"
    );
}

#[test]
fn a_segment_with_a_change_that_cannot_be_told_has_no_digest() {
    // `RM_SMGR_ID`, XLOG_SMGR_TRUNCATE, and nothing of what it truncates.
    let mut wal = wal(2);
    let at = wal.record(2, 0x20, 0, b"");
    wal.fill_segment();
    let made = archived(&wal, &[]);
    let name = SegmentName::at(timeline(1), at, SIZE);
    assert_eq!(made.archive.digest(name, SIZE).unwrap(), None);
    assert!(made.digest(3).transactions.count > 0);
    let first = made.reader(made.start).next().unwrap().unwrap().lsn;
    let changes = changes(&made.archive, None, &made.history, SIZE, first, made.end);
    assert!(
        matches!(
            changes,
            Err(ChangesError::Summary(SummaryError::Short { .. }))
        ),
        "{changes:?}"
    );
}
