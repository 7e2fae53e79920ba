//! Questions about WAL, and where recoveries stop.

use super::*;
use Inclusion::{Exclusive, Inclusive};
use Side::{After, Before};

fn scan<T>(ask: impl FnOnce(&mut Scan<'_>) -> T) -> T {
    let cancel = Cancel::new();
    ask(&mut Scan {
        cancel: &cancel,
        progress: &mut |_| {},
    })
}

fn reader(folder: &Path) -> RecordReader<DirectorySource> {
    RecordReader::seek(DirectorySource::new(folder, SIZE), root(), segment(3)).unwrap()
}

/// Microseconds since 2000 as a moment.
fn moment(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(946_684_800_000_000 + microseconds).unwrap()
}

#[test]
fn recovery_stops_where_postgresql_stops() {
    let mut wal = Wal::new(3, timeline(1));
    let filler = wal.filler(100);
    let first = wal.commit(10, 1000);
    let named = wal.restore_point("here", 5000);
    let second = wal.abort(11, 2000);
    let again = wal.restore_point("here", 5001);
    let third = wal.commit(12, 3000);
    let folder = folder();
    wal.write_to(folder.path());
    let stops = |target: Target| {
        scan(|scan| stop_point(scan, &mut reader(folder.path()), &target).unwrap())
            .map(|stop| (stop.lsn, stop.side))
    };
    let time = |microseconds, inclusion| Target::Time {
        time: moment(microseconds),
        inclusion,
    };
    let cases = [
        (Target::Latest, None),
        (time(1000, Inclusive), Some((second, Before))),
        (time(1000, Exclusive), Some((first, Before))),
        (time(1001, Exclusive), Some((second, Before))),
        // The restore points are later, but only ends of transactions count.
        (time(2000, Inclusive), Some((third, Before))),
        (time(3000, Inclusive), None),
        (time(3000, Exclusive), Some((third, Before))),
        (
            Target::Lsn {
                lsn: first,
                inclusion: Inclusive,
            },
            Some((first, After)),
        ),
        (
            Target::Lsn {
                lsn: first,
                inclusion: Exclusive,
            },
            Some((first, Before)),
        ),
        (
            Target::Lsn {
                lsn: filler + 1,
                inclusion: Inclusive,
            },
            Some((first, After)),
        ),
        (
            Target::Lsn {
                lsn: third + 1,
                inclusion: Inclusive,
            },
            None,
        ),
        (
            Target::Xid {
                xid: 11,
                inclusion: Inclusive,
            },
            Some((second, After)),
        ),
        (
            Target::Xid {
                xid: 11,
                inclusion: Exclusive,
            },
            Some((second, Before)),
        ),
        (
            Target::Xid {
                xid: 99,
                inclusion: Inclusive,
            },
            None,
        ),
        (Target::Name("here".to_owned()), Some((named, After))),
        (Target::Name("her".to_owned()), None),
        (
            Target::Immediate { consistent: named },
            Some((first, After)),
        ),
    ];
    for (target, expected) in cases {
        assert_eq!(stops(target.clone()), expected, "{target:?}");
    }
    let _ = again;
}

#[test]
fn transactions_and_restore_points_are_found() {
    let mut wal = Wal::new(3, timeline(1));
    wal.commit(10, 1000);
    let named = wal.restore_point("here", 5000);
    wal.abort(11, 2000);
    wal.commit(12, 3000);
    let folder = folder();
    wal.write_to(folder.path());
    let path = folder.path();
    let found = scan(|scan| find_xid(scan, &mut reader(path), 11))
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.kind, found.time),
        (TransactionKind::Abort, moment(2000))
    );
    assert!(
        scan(|scan| find_xid(scan, &mut reader(path), 13))
            .unwrap()
            .is_none()
    );
    let found = scan(|scan| find_restore_point(scan, &mut reader(path), "here"))
        .unwrap()
        .unwrap();
    assert_eq!((found.lsn, found.time), (named, moment(5000)));
    let after =
        |time| scan(|scan| first_commit_after(scan, &mut reader(path), moment(time))).unwrap();
    assert_eq!(after(1000).unwrap().xid, 12);
    assert!(after(3000).is_none());
}

#[test]
fn a_prepared_transaction_has_its_own_number() {
    for (version, statistic) in [(WalVersion::V15, 12), (WalVersion::V18, 16)] {
        let mut wal = Wal::new(3, timeline(1));
        wal.version = version;
        let mut main = 77i64.to_le_bytes().to_vec();
        let flags = 0b1_1001_1111u32;
        main.extend(flags.to_le_bytes());
        main.extend([0; 8]);
        for (count, bytes) in [(3u32, 4), (2, 12), (1, statistic), (5, 16)] {
            main.extend(count.to_le_bytes());
            main.resize(main.len() + count as usize * bytes, 0xEE);
        }
        main.extend(4242u32.to_le_bytes());
        main.extend(b"gid\0");
        wal.record(1, 0x30 | 0x80, 0, &main);
        // Without the field there is no telling which transaction it was.
        wal.record(1, 0x30, 9, &77i64.to_le_bytes());
        let folder = folder();
        wal.write_to(folder.path());
        let found = scan(|scan| find_xid(scan, &mut reader(folder.path()), 4242))
            .unwrap()
            .unwrap();
        assert_eq!(
            (found.kind, found.time),
            (TransactionKind::Commit, moment(77))
        );
        assert!(
            scan(|scan| find_xid(scan, &mut reader(folder.path()), 9))
                .unwrap()
                .is_none()
        );
    }
}

#[test]
fn the_last_commit_is_looked_for_in_earlier_segments() {
    let mut wal = Wal::new(3, timeline(1));
    wal.commit(10, 1000);
    for _ in 0..6 {
        wal.fill_segment();
    }
    let aborted = wal.abort(11, 2000);
    let last = wal.filler(10);
    let folder = folder();
    wal.write_to(folder.path());
    let mut source = DirectorySource::new(folder.path(), SIZE);
    let mut ask =
        |oldest| scan(|scan| last_valid(scan, &mut source, &root(), wal.end(), oldest)).unwrap();
    let tail = ask(segment(3));
    assert_eq!((tail.last_record, tail.end), (Some(last), wal.end()));
    assert_eq!(tail.last_commit.unwrap().xid, 10);
    assert_eq!(tail.last_transaction.unwrap().lsn, aborted);
    let tail = ask(segment(6));
    assert_eq!((tail.last_record, tail.end), (Some(last), wal.end()));
    assert!(tail.last_commit.is_none());
}

#[test]
fn the_last_record_may_begin_segments_before_the_last_one() {
    let mut wal = Wal::new(3, timeline(1));
    wal.commit(10, 1000);
    let start = wal.end();
    wal.filler(5 << 20);
    let folder = folder();
    wal.write_to(folder.path());
    let mut source = DirectorySource::new(folder.path(), SIZE);
    let tail = scan(|scan| last_valid(scan, &mut source, &root(), wal.end(), segment(3))).unwrap();
    assert_eq!((tail.last_record, tail.end), (Some(start), wal.end()));
    assert_eq!(tail.last_commit.unwrap().xid, 10);
}

#[test]
fn a_cancelled_scan_stops() {
    let mut wal = Wal::new(3, timeline(1));
    wal.fill_segment();
    wal.fill_segment();
    let folder = folder();
    wal.write_to(folder.path());
    let cancel = Cancel::new();
    let mut told = 0;
    let mut progress = |_| {
        told += 1;
        cancel.cancel();
    };
    let mut scan = Scan {
        cancel: &cancel,
        progress: &mut progress,
    };
    let result = find_xid(&mut scan, &mut reader(folder.path()), 1);
    assert!(matches!(result, Err(RecordError::Cancelled(_))));
    assert_eq!(told, 1);
}

#[test]
fn a_hole_behind_the_position_is_the_end_of_what_can_be_reached() {
    let mut wal = Wal::new(3, timeline(1));
    wal.commit(10, 1000);
    while SIZE.number_at(wal.end()).value() < 7 {
        wal.filler(7000);
    }
    wal.commit(11, 2000);
    let folder = folder();
    wal.write_to(folder.path());
    std::fs::remove_file(folder.path().join("000000010000000000000005")).unwrap();
    let mut source = DirectorySource::new(folder.path(), SIZE);
    let from = Lsn::new(segment(5).bytes() - 1);
    let tail = scan(|scan| last_valid(scan, &mut source, &root(), from, segment(3))).unwrap();
    assert_eq!(
        tail.reason,
        EndReason::NoSegment("000000010000000000000005".to_owned())
    );
    assert!(
        tail.end <= segment(5) && tail.end + 8000 > segment(5),
        "{}",
        tail.end
    );
    assert_eq!(tail.last_commit.unwrap().xid, 10);
}
