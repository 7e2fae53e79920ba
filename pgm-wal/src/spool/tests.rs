//! The spool: identity, listings, histories.

use pgm_proto::SystemId;

use super::*;

fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn identity(system_id: u64) -> SpoolIdentity {
    SpoolIdentity {
        system_id: SystemId::new(system_id),
        segment_size: SegmentSize::MIN,
    }
}

fn spool() -> (tempfile::TempDir, Spool) {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path().join("prod")).unwrap();
    (folder, spool)
}

#[test]
fn a_new_spool_is_nobodys_and_empty() {
    let (_folder, spool) = spool();
    assert_eq!(spool.identity().unwrap(), None);
    assert_eq!(spool.list().unwrap(), SpoolListing::default());
    assert_eq!(spool.end().unwrap(), None);
}

#[test]
fn another_server_is_refused() {
    let (_folder, spool) = spool();
    spool.adopt(identity(7)).unwrap();
    spool.adopt(identity(7)).unwrap();
    let again = Spool::open(spool.folder()).unwrap();
    assert_eq!(again.identity().unwrap(), Some(identity(7)));
    let error = again.adopt(identity(8)).unwrap_err();
    assert!(matches!(error, SpoolError::OtherSystem { .. }), "{error}");
    let size = SpoolIdentity {
        segment_size: SegmentSize::DEFAULT,
        ..identity(7)
    };
    let error = again.adopt(size).unwrap_err();
    assert!(
        matches!(error, SpoolError::OtherSegmentSize { .. }),
        "{error}"
    );
}

#[test]
fn a_damaged_identity_is_refused() {
    for content in [
        "",
        "system_id 7\n",
        "system_id x\nsegment_bytes 1048576\n",
        "\0",
    ] {
        let (_folder, spool) = spool();
        std::fs::write(spool.folder().join("identity"), content).unwrap();
        let error = Spool::open(spool.folder()).unwrap_err();
        assert!(matches!(error, SpoolError::Damaged { .. }), "{error}");
    }
}

#[test]
fn lists_wal_and_passes_over_the_rest() {
    let (_folder, spool) = spool();
    spool.adopt(identity(7)).unwrap();
    for name in [
        "00000001000000000000000B",
        "00000001000000000000000A",
        "00000001000000000000000C.partial",
        "0000000A.history",
        "notes.txt",
    ] {
        std::fs::write(spool.folder().join(name), b"").unwrap();
    }
    let listing = spool.list().unwrap();
    let numbers: Vec<_> = listing
        .segments
        .iter()
        .map(|name| name.number.value())
        .collect();
    assert_eq!(numbers, [10, 11]);
    assert_eq!(listing.histories, [timeline(10)]);
    let end = listing.end().unwrap();
    assert!(matches!(end, SpoolEnd::Unfinished(name) if name.number.value() == 12));
}

#[test]
fn the_end_is_on_the_newest_timeline_behind_its_finished_segments() {
    let name = |timeline_number, number| {
        SegmentName::new(timeline(timeline_number), crate::SegmentNumber::new(number))
    };
    let end = |segments: &[SegmentName], partials: &[SegmentName], failed: &[SegmentName]| {
        SpoolListing {
            segments: segments.to_vec(),
            partials: partials.to_vec(),
            failed: failed.to_vec(),
            histories: vec![],
        }
        .end()
    };
    assert_eq!(end(&[], &[], &[]), None);
    assert_eq!(
        end(&[name(9, 8), name(10, 3)], &[name(9, 9)], &[])
            .unwrap()
            .resume_at(),
        name(10, 4)
    );
    assert_eq!(
        end(&[name(1, 3)], &[name(1, 5), name(1, 4)], &[])
            .unwrap()
            .resume_at(),
        name(1, 4)
    );
    assert_eq!(
        end(&[name(1, 3)], &[name(1, 2)], &[]).unwrap().resume_at(),
        name(1, 4)
    );
    assert_eq!(
        end(&[], &[name(1, 2)], &[]).unwrap().resume_at(),
        name(1, 2)
    );
    assert_eq!(
        end(&[name(1, 3)], &[], &[name(1, 4)]).unwrap().resume_at(),
        name(1, 4)
    );
}

#[test]
fn a_history_is_stored_once_and_never_overwritten() {
    let (_folder, spool) = spool();
    let content = b"1\t0/3000000\tno recovery target specified\n";
    assert_eq!(spool.history(timeline(2)).unwrap(), None);
    let stored = spool.store_history(timeline(2), content).unwrap();
    assert_eq!(spool.store_history(timeline(2), content).unwrap(), stored);
    assert_eq!(spool.history(timeline(2)).unwrap(), Some(stored));
    let error = spool
        .store_history(timeline(2), b"1\t0/4000000\tx\n")
        .unwrap_err();
    assert!(
        matches!(error, SpoolError::HistoryDiffers { .. }),
        "{error}"
    );
    assert_eq!(
        std::fs::read(spool.path(WalFileName::History(timeline(2)))).unwrap(),
        content
    );
    assert!(spool.store_history(timeline(3), b"x").is_err());
    assert_eq!(spool.history(timeline(3)).unwrap(), None);
}

#[test]
fn one_receiver_at_a_time_may_write() {
    let (_folder, spool) = spool();
    let lock = spool.lock().unwrap();
    assert!(matches!(
        spool.lock().unwrap_err(),
        SpoolError::Locked { .. }
    ));
    drop(lock);
    spool.lock().unwrap();
}

#[test]
fn removing_what_is_not_there_is_no_error() {
    let (_folder, spool) = spool();
    spool
        .store_history(timeline(2), b"1\t0/3000000\tx\n")
        .unwrap();
    spool.remove(WalFileName::History(timeline(2))).unwrap();
    spool.remove(WalFileName::History(timeline(2))).unwrap();
    assert_eq!(spool.history(timeline(2)).unwrap(), None);
}
