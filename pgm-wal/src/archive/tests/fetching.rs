//! Answers to a restore_command: delivered, absent, a gap, damage.

use super::*;

fn fetch(
    archive: &Archive,
    file: WalFileName,
    spool: Option<&Spool>,
) -> (Result<Lookup, ArchiveError>, Option<Vec<u8>>) {
    let out = folder();
    let destination = out.path().join("RECOVERYXLOG");
    let lookup = archive.fetch(file, SIZE, &destination, spool);
    let bytes = std::fs::read(&destination).ok();
    // Nothing is left over, whatever happened.
    assert_eq!(
        std::fs::read_dir(out.path()).unwrap().count(),
        usize::from(bytes.is_some())
    );
    (lookup, bytes)
}

fn segment(number: u64) -> WalFileName {
    WalFileName::Segment(name(timeline(1), number))
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let (storage, archive) = memory();
    let (name, bytes) = wal().segments().remove(0);
    store(&archive, name, &bytes).unwrap();
    let object = ObjectPath::parse("main/wal/00000001/000000010000000000000003").unwrap();
    let good = storage.get(&object, 1 << 30).unwrap();
    for at in (0..good.len()).step_by(1 + good.len() / 400) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        storage.put(&object, &bad, PutMode::Replace).unwrap();
        let (lookup, delivered) = fetch(&archive, segment(3), None);
        let error = lookup.unwrap_err();
        assert!(
            matches!(error, ArchiveError::Damaged { .. }),
            "byte {at}: {error}"
        );
        assert!(delivered.is_none(), "byte {at}");
    }
    for len in [0, 10, good.len() / 2, good.len() - 1] {
        storage
            .put(&object, &good[..len], PutMode::Replace)
            .unwrap();
        assert!(fetch(&archive, segment(3), None).0.is_err());
    }
}

#[test]
fn swapped_objects_are_refused() {
    let (storage, archive) = memory();
    for (name, bytes) in &wal().segments()[..2] {
        store(&archive, *name, bytes).unwrap();
    }
    let path = |number| {
        ObjectPath::parse(&format!(
            "main/wal/00000001/00000001000000000000000{number}"
        ))
    };
    let (third, fourth) = (path(3).unwrap(), path(4).unwrap());
    let bytes = storage.get(&fourth, 1 << 30).unwrap();
    storage.put(&third, &bytes, PutMode::Replace).unwrap();
    let (lookup, delivered) = fetch(&archive, segment(3), None);
    assert!(matches!(lookup, Err(ArchiveError::Damaged { .. })));
    assert!(delivered.is_none());
}

#[test]
fn absent_is_said_only_at_the_end() {
    let (_, archive) = memory();
    assert_eq!(fetch(&archive, segment(3), None).0.unwrap(), Lookup::Absent);
    let segments = wal().segments();
    store(&archive, segments[0].0, &segments[0].1).unwrap();
    assert_eq!(fetch(&archive, segment(4), None).0.unwrap(), Lookup::Absent);
    // An unfinished segment behind it is a later one, too.
    store_partial(&archive, segments[2].0, &segments[2].1).unwrap();
    let gap = Lookup::Gap {
        missing: "000000010000000000000004".to_owned(),
        next_present: "000000010000000000000005".to_owned(),
    };
    assert_eq!(fetch(&archive, segment(4), None).0.unwrap(), gap);
    // Another timeline's segments are none.
    let other = WalFileName::Segment(name(timeline(2), 4));
    assert_eq!(fetch(&archive, other, None).0.unwrap(), Lookup::Absent);
}

#[test]
fn a_later_segment_in_the_spool_is_a_gap() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    wal().write_unfinished_to(folder.path());
    std::fs::remove_file(folder.path().join("000000010000000000000004")).unwrap();
    let (lookup, _) = fetch(&archive, segment(4), Some(&spool));
    assert!(matches!(lookup.unwrap(), Lookup::Gap { .. }));
    let (lookup, _) = fetch(&archive, segment(6), Some(&spool));
    assert_eq!(lookup.unwrap(), Lookup::Absent);
}

#[test]
fn the_spool_serves_what_is_not_archived_yet() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    let wal = wal();
    wal.write_unfinished_to(folder.path());
    let segments = wal.segments();
    let (lookup, bytes) = fetch(&archive, segment(4), Some(&spool));
    assert_eq!(lookup.unwrap(), Lookup::Delivered(Origin::Spool));
    assert_eq!(bytes.unwrap(), segments[1].1);
    let (lookup, bytes) = fetch(&archive, segment(5), Some(&spool));
    assert_eq!(
        lookup.unwrap(),
        Lookup::Delivered(Origin::Partial(wal.end()))
    );
    assert_eq!(bytes.unwrap(), segments[2].1);
}

#[test]
fn a_good_copy_in_the_spool_makes_up_for_a_damaged_object() {
    let (storage, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    let wal = wal();
    wal.write_to(folder.path());
    let (name, bytes) = wal.segments().remove(0);
    store(&archive, name, &bytes).unwrap();
    let object = ObjectPath::parse("main/wal/00000001/000000010000000000000003").unwrap();
    storage.put(&object, b"nonsense", PutMode::Replace).unwrap();
    let (lookup, delivered) = fetch(&archive, segment(3), Some(&spool));
    assert_eq!(lookup.unwrap(), Lookup::Delivered(Origin::Spool));
    assert_eq!(delivered.unwrap(), bytes);
}

#[test]
fn the_longest_unfinished_copy_is_served_only_when_there_is_no_finished_one() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    let mut wal = Wal::new(5, timeline(1));
    wal.commit(1, 1);
    wal.write_unfinished_to(folder.path());
    let short = wal.end();
    wal.filler(30_000);
    let segments = wal.segments();
    store_partial(&archive, segments[0].0, &segments[0].1).unwrap();
    let (lookup, bytes) = fetch(&archive, segment(5), Some(&spool));
    assert_eq!(
        lookup.unwrap(),
        Lookup::Delivered(Origin::Partial(wal.end()))
    );
    assert_eq!(bytes.unwrap(), segments[0].1);
    assert!(short < wal.end());
    wal.commit(2, 2);
    wal.write_unfinished_to(folder.path());
    let (lookup, _) = fetch(&archive, segment(5), Some(&spool));
    assert_eq!(
        lookup.unwrap(),
        Lookup::Delivered(Origin::Partial(wal.end()))
    );
    wal.fill_segment();
    let segments = wal.segments();
    store(&archive, segments[0].0, &segments[0].1).unwrap();
    let (lookup, bytes) = fetch(&archive, segment(5), Some(&spool));
    assert_eq!(lookup.unwrap(), Lookup::Delivered(Origin::Archive));
    assert_eq!(bytes.unwrap(), segments[0].1);
}

#[test]
fn histories_come_from_the_archive_or_the_spool() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    let file = WalFileName::History(timeline(2));
    assert_eq!(
        fetch(&archive, file, Some(&spool)).0.unwrap(),
        Lookup::Absent
    );
    let content = b"1\t0/5000000\tno recovery target specified\n";
    spool.store_history(timeline(2), content).unwrap();
    let (lookup, bytes) = fetch(&archive, file, Some(&spool));
    assert_eq!(lookup.unwrap(), Lookup::Delivered(Origin::Spool));
    assert_eq!(bytes.unwrap(), content);
    archive
        .store_history(&folder.path().join("00000002.history"), timeline(2))
        .unwrap();
    let (lookup, bytes) = fetch(&archive, file, None);
    assert_eq!(lookup.unwrap(), Lookup::Delivered(Origin::Archive));
    assert_eq!(bytes.unwrap(), content);
    assert_eq!(
        fetch(&archive, WalFileName::Partial(name(timeline(1), 3)), None)
            .0
            .unwrap(),
        Lookup::Absent
    );
}

#[test]
fn an_existing_destination_is_replaced_and_a_missing_folder_is_an_error() {
    let (_, archive) = memory();
    let (name, bytes) = wal().segments().remove(0);
    store(&archive, name, &bytes).unwrap();
    let out = folder();
    let destination = out.path().join("RECOVERYXLOG");
    std::fs::write(&destination, b"old").unwrap();
    archive.fetch(segment(3), SIZE, &destination, None).unwrap();
    assert_eq!(std::fs::read(&destination).unwrap(), bytes);
    let nowhere = out.path().join("no/such/folder");
    let error = archive.fetch(segment(3), SIZE, &nowhere, None).unwrap_err();
    assert!(matches!(error, ArchiveError::File { .. }), "{error}");
}

#[test]
fn records_are_read_across_archive_and_spool() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    let wal = wal();
    let segments = wal.segments();
    store(&archive, segments[0].0, &segments[0].1).unwrap();
    wal.write_unfinished_to(folder.path());
    std::fs::remove_file(folder.path().join("000000010000000000000003")).unwrap();
    let source = ArchiveSource::new(archive, Some(spool), SIZE);
    let mut reader =
        RecordReader::seek(source, crate::History::root(timeline(1)), start(3)).unwrap();
    let mut xids = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        xids.extend(TransactionEnd::of(&record).map(|end| end.xid));
    }
    assert_eq!(xids, [1, 2, 3]);
    assert_eq!(reader.end().unwrap().lsn, wal.end());
}
