//! Filtering made WAL: what records become, and that everything around them stays.

use std::collections::BTreeSet;
use std::path::Path;

use pgm_proto::Lsn;
use proptest::prelude::*;

use super::{Dependents, FilterError, Filtered, Request, Wal, filter};
use crate::files::Run;
use crate::record::fixture::{self, SIZE, timeline};
use crate::record::{DirectorySource, RecordReader, TransactionEnd, TransactionKind, describe};
use crate::{History, SegmentSize};

/// A moment in 2026.
const TIME: i64 = 848_000_000_000_000;

/// WAL that begins with a checkpoint before which transaction 700 was the next.
fn begun() -> fixture::Wal {
    let mut wal = fixture::Wal::new(5, timeline(1));
    let mut checkpoint = [0; 88];
    checkpoint[24..28].copy_from_slice(&700_u32.to_le_bytes());
    wal.record(0, 0x10, 0, &checkpoint);
    wal
}

/// A commit with everything that it can have.
fn full_commit(subtransactions: &[u32]) -> Vec<u8> {
    let mut main = TIME.to_le_bytes().to_vec();
    // Database, subtransactions, files, invalidations, two-phase, origin, statistics.
    main.extend((0x13F_u32 | 1 << 30).to_le_bytes());
    main.extend([5_u32.to_le_bytes(), 1663_u32.to_le_bytes()].concat());
    main.extend((subtransactions.len() as u32).to_le_bytes());
    main.extend(subtransactions.iter().flat_map(|xid| xid.to_le_bytes()));
    for (count, bytes) in [(2_u32, 12), (1, 12), (3, 16)] {
        main.extend(count.to_le_bytes());
        main.extend(vec![0x11; count as usize * bytes]);
    }
    main.extend(703_u32.to_le_bytes());
    main.extend(0x77_u64.to_le_bytes());
    main.extend(TIME.to_le_bytes());
    main
}

fn filtered(
    from: &Path,
    wal: &fixture::Wal,
    to: &Path,
    xids: &[u32],
) -> Result<Filtered, FilterError> {
    wal.write_to(from);
    let open =
        || -> Box<dyn crate::record::SegmentSource> { Box::new(DirectorySource::new(from, SIZE)) };
    let history = History::root(timeline(1));
    let whole = Wal {
        open: &open,
        history: &history,
        run: Run {
            start: Lsn::new(5 * SIZE.bytes()),
            end: SIZE.round_down(wal.end()) + SIZE.bytes(),
        },
    };
    let request = Request {
        xids: xids.iter().copied().collect::<BTreeSet<u32>>(),
        dependents: Dependents::Refuse,
    };
    filter(&whole, &request, Some(to))
}

/// The records' places, lengths and lines.
fn lines(folder: &Path, size: SegmentSize) -> Vec<(Lsn, u32, String)> {
    let source = DirectorySource::new(folder, size);
    let start = Lsn::new(5 * size.bytes());
    let mut reader = RecordReader::seek(source, History::root(timeline(1)), start).unwrap();
    let mut lines = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        let mut line = String::new();
        describe::write_operation(&record, &mut line);
        line.push(' ');
        describe::describe(&record, &mut line);
        lines.push((record.lsn, record.total_len, line));
    }
    lines
}

#[test]
fn a_commit_with_everything_becomes_an_abort_that_keeps_what_an_abort_has() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut wal = begun();
    // Longer than a segment, so that it is written over pages and segments.
    let subtransactions: Vec<u32> = (1000..301_000).collect();
    let commit = full_commit(&subtransactions);
    wal.filler(100);
    let lsn = wal.record(1, 0x80 | 0x30, 0, &commit);
    wal.filler(100);
    wal.commit(704, TIME + 1);
    let done = filtered(from.path(), &wal, to.path(), &[5000]).unwrap();
    assert_eq!(done.transactions[0].xid, 703);
    assert_eq!(done.backup_before, lsn);
    assert_eq!((done.changes.aborts, done.changes.noops), (1, 0));
    let (before, after) = (lines(from.path(), SIZE), lines(to.path(), SIZE));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.0, before.1), (after.0, after.1));
        if before.0 == lsn {
            let text = &after.2;
            assert!(
                text.starts_with("ABORT_PREPARED 703: 2026-"),
                "{}",
                &text[..60]
            );
            assert!(text.contains("subxacts: 1000 1001 "), "{}", &text[..200]);
            assert!(
                text.contains(" 300999; origin: node 0, lsn 0/77"),
                "{}",
                &text[text.len() - 200..]
            );
            assert!(!text.contains("rels") && !text.contains("inval"));
        } else {
            assert_eq!(before.2, after.2);
        }
    }
}

#[test]
fn what_is_not_there_or_began_earlier_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::create_dir(&from).unwrap();
    let mut wal = begun();
    wal.abort(710, TIME);
    wal.commit(699, TIME);
    wal.commit(711, TIME);
    for (xid, expected) in [
        (709, "has no commit of transaction 709"),
        (710, "rolled back anyway"),
        (699, "may have begun before"),
    ] {
        let error = filtered(&from, &wal, &to, &[xid]).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some());
        assert!(!to.exists());
    }
    filtered(&from, &wal, &to, &[711]).unwrap();
    let again = filtered(&from, &wal, &to, &[711]).unwrap_err();
    assert!(matches!(again, FilterError::NotEmpty { .. }), "{again}");
}

#[test]
fn the_folder_of_a_dropped_database_is_not_removed() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut wal = begun();
    let dropped = [5_u32, 1, 1663].map(u32::to_le_bytes).concat();
    wal.record(4, 0x20, 705, &dropped);
    wal.record(4, 0x20, 706, &dropped);
    wal.commit(705, TIME);
    wal.commit(706, TIME);
    let done = filtered(from.path(), &wal, to.path(), &[705]).unwrap();
    assert_eq!((done.changes.aborts, done.changes.noops), (1, 1));
    let words: Vec<String> = lines(to.path(), SIZE)
        .into_iter()
        .map(|(_, _, line)| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        words,
        ["CHECKPOINT_ONLINE", "NOOP", "DROP", "ABORT", "COMMIT"]
    );
}

proptest! {
    /// Whatever a commit is like, its abort can be read and is of the same transaction.
    #[test]
    fn commits_of_all_lengths_become_aborts(parts in 0_usize..2000, before in 0_usize..9000) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut wal = begun();
        wal.filler(before);
        let subtransactions: Vec<u32> = (2000..2000 + parts as u32).collect();
        wal.record(1, 0x80 | 0x30, 0, &full_commit(&subtransactions));
        wal.commit(704, TIME);
        filtered(from.path(), &wal, to.path(), &[703, 704]).unwrap();
        let source = DirectorySource::new(to.path(), SIZE);
        let start = Lsn::new(5 * SIZE.bytes());
        let mut reader = RecordReader::seek(source, History::root(timeline(1)), start).unwrap();
        let mut ended = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            ended.extend(TransactionEnd::of(&record).map(|end| (end.xid, end.kind)));
        }
        prop_assert_eq!(ended, [(703, TransactionKind::Abort), (704, TransactionKind::Abort)]);
        prop_assert_eq!(reader.position(), Lsn::new(wal.end().bytes().next_multiple_of(8)));
    }
}
