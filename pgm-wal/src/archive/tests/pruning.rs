//! Pruning: what goes, in which order, and what a broken list removes.

use super::*;

#[test]
fn what_is_not_needed_goes_oldest_first_and_only_that() {
    let (storage, archive) = memory();
    let mut segments = wal().segments();
    let (last, bytes) = segments.remove(2);
    for (name, bytes) in segments {
        store(&archive, name, &bytes).unwrap();
    }
    store_partial(&archive, last, &bytes).unwrap();
    let folder = folder();
    let history = folder.path().join("00000002.history");
    std::fs::write(&history, "1\t0/5000000\twhy\n").unwrap();
    archive.store_history(&history, timeline(2)).unwrap();
    let before = objects(&*storage);

    let from = name(timeline(1), 5);
    let needed = |stored| match stored {
        StoredName::Segment(segment) | StoredName::Partial { segment, .. } => segment >= from,
        StoredName::History(_) => false,
    };
    let unneeded = archive.unneeded(SIZE, &needed).unwrap();
    let names: Vec<_> = unneeded.iter().map(|object| object.name).collect();
    let expected = [3, 4].map(|number| StoredName::Segment(name(timeline(1), number)));
    assert_eq!(names, expected);
    assert!(unneeded.iter().all(|object| object.bytes > 0));
    for object in &unneeded {
        archive.remove(object.name, SIZE).unwrap();
        // Somebody else may have been there first.
        archive.remove(object.name, SIZE).unwrap();
    }
    let after = objects(&*storage);
    assert_eq!(after, before[2..]);
    assert!(after.iter().any(|path| path.ends_with("00000002.history")));
}

#[test]
fn histories_stay_even_when_nothing_is_needed() {
    let (storage, archive) = memory();
    let folder = folder();
    let history = folder.path().join("00000002.history");
    std::fs::write(&history, "1\t0/5000000\twhy\n").unwrap();
    archive.store_history(&history, timeline(2)).unwrap();
    assert!(archive.unneeded(SIZE, &|_| false).unwrap().is_empty());
    assert_eq!(objects(&*storage).len(), 1);
}
