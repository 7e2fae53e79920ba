//! What every engine is held to: the contract of [`Storage`] as checks.
//!
//! Run [`check`] on an empty storage of each engine, or [`check_flat`] if its folders are only prefixes. Every check works in its own folder and is a claim; a broken one
//! panics and names it. What needs a crash or a power cut is not here: each engine tests that in its own way.

mod listing;

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::storage::{ObjectMeta, PutMode, Storage};

/// Checks the whole contract on an empty storage.
///
/// # Panics
///
/// When the engine breaks a claim, or when the storage is not empty.
pub fn check(storage: &dyn Storage) {
    check_flat(storage);
    objects_and_folders_do_not_share_a_path(storage);
}

/// Checks the contract of an engine whose folders are only prefixes of keys, on an empty storage.
///
/// # Panics
///
/// When the engine breaks a claim, or when the storage is not empty.
pub fn check_flat(storage: &dyn Storage) {
    assert!(
        list(storage, "").is_empty(),
        "the storage is not empty at first"
    );
    assert!(!storage.describe().is_empty(), "a storage describes itself");
    an_object_is_read_as_it_was_written(storage);
    an_absent_object_is_not_found(storage);
    a_small_object_is_bounded(storage);
    a_read_beyond_the_end_is_damage(storage);
    put_creates_or_replaces(storage);
    what_is_transient_is_there_at_once(storage);
    an_unfinished_object_is_invisible(storage);
    a_dropped_writer_leaves_nothing(storage);
    of_concurrent_creations_one_succeeds(storage);
    a_reader_keeps_its_object(storage);
    readers_see_whole_objects_while_one_is_replaced(storage);
    listing::a_listing_is_complete_and_in_order(storage);
    listing::a_listing_stops_when_told(storage);
    listing::a_listing_may_use_the_storage(storage);
    listing::folders_are_named_once_and_in_order(storage);
    the_root_is_no_object(storage);
    deleting_is_idempotent(storage);
    a_sweep_keeps_objects_and_live_writers(storage);
    if let Some(space) = storage.space().expect("space is told") {
        assert!(space.free <= space.total, "no more is free than there is");
    }
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).expect("a path of the suite is valid")
}

fn put(storage: &dyn Storage, text: &str, bytes: &[u8]) {
    storage
        .put(&path(text), bytes, PutMode::Create)
        .expect("a new object is put");
}

fn get(storage: &dyn Storage, text: &str) -> Result<Vec<u8>> {
    storage.get(&path(text), 1 << 20)
}

fn list(storage: &dyn Storage, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    let visit = &mut |meta: ObjectMeta| {
        found.push(meta.path.to_string());
        ControlFlow::Continue(())
    };
    storage
        .list(&path(prefix), visit)
        .expect("a listing succeeds");
    found
}

/// Bytes without a short period, so that a shifted or repeated part shows.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn an_object_is_read_as_it_was_written(storage: &dyn Storage) {
    for size in [0, 1, 4096, 3_000_001] {
        let (name, bytes) = (path(&format!("written/{size}")), pattern(size));
        let mut writer = storage.create(&name).expect("a new object is begun");
        for part in bytes.chunks(700_001) {
            writer.write_all(part).expect("a part is written");
        }
        let written = writer.finish().expect("the object is finished");
        assert_eq!(
            (&written.path, written.size),
            (&name, size as u64),
            "finish tells what it wrote"
        );
        let head = storage.head(&name).expect("it has a head");
        assert_eq!(
            (&head.path, head.size),
            (&name, size as u64),
            "head tells the same"
        );
        let apart = head.modified.duration_since(written.modified);
        let apart = apart.unwrap_or_else(|error| error.duration());
        assert!(
            apart < Duration::from_secs(5),
            "head and finish tell one time, not {apart:?} apart"
        );
        let age = SystemTime::now()
            .duration_since(written.modified)
            .unwrap_or_default();
        assert!(
            age < Duration::from_hours(1),
            "its time is now, not {age:?} ago"
        );

        let reader = storage.open(&name).expect("it is opened");
        assert_eq!(reader.size(), size as u64, "a reader knows the size");
        let mut read = vec![0; size];
        reader
            .read_exact_at(&mut read, 0)
            .expect("all of it is read");
        assert!(read == bytes, "{size} bytes come back as they were written");
        let middle = size / 3..size / 2;
        reader
            .read_exact_at(&mut read[middle.clone()], middle.start as u64)
            .expect("a range is read");
        assert!(read == bytes, "a range comes back as it was written");
        assert!(storage.get(&name, size as u64).expect("it is got whole") == bytes);
    }
}

fn an_absent_object_is_not_found(storage: &dyn Storage) {
    put(storage, "absent/other", b"x");
    for text in [
        "absent/object",
        "absent/folder/object",
        "absent/other/below",
    ] {
        let name = path(text);
        assert!(
            get(storage, text).is_err_and(|e| e.is_not_found()),
            "get {text}"
        );
        assert!(
            storage.open(&name).err().is_some_and(|e| e.is_not_found()),
            "open {text}"
        );
        let error = storage
            .head(&name)
            .expect_err("there is no head of an absent object");
        assert!(
            error.is_not_found() && error.path().contains("absent/o") || text.contains("folder")
        );
        storage
            .delete(&name)
            .expect("deleting an absent object is fine");
        assert!(
            list(storage, text).is_empty(),
            "there is nothing below {text}"
        );
        assert_eq!(storage.sweep(&name).expect("there is nothing to sweep"), 0);
    }
}

fn a_small_object_is_bounded(storage: &dyn Storage) {
    put(storage, "bounded/object", &[7; 100]);
    let name = path("bounded/object");
    assert_eq!(
        storage.get(&name, 100).expect("exactly the bound").len(),
        100
    );
    let error = storage.get(&name, 99).expect_err("one more than the bound");
    assert!(
        matches!(
            error,
            StorageError::TooLarge {
                size: 100,
                bytes_max: 99,
                ..
            }
        ),
        "{error}"
    );
}

fn a_read_beyond_the_end_is_damage(storage: &dyn Storage) {
    put(storage, "short/object", &[7; 100]);
    let reader = storage.open(&path("short/object")).expect("it is opened");
    for (offset, bytes) in [(0, 101), (99, 2), (100, 1), (u64::from(u32::MAX), 1)] {
        let error = reader
            .read_exact_at(&mut vec![0; bytes], offset)
            .expect_err("it is too short");
        assert!(
            matches!(error, StorageError::Damaged { .. }),
            "{bytes} at {offset}: {error}"
        );
    }
    reader
        .read_exact_at(&mut [], 100)
        .expect("nothing can be read at the end");
}

fn put_creates_or_replaces(storage: &dyn Storage) {
    let name = path("put/object");
    storage
        .put(&name, b"replaced nothing", PutMode::Replace)
        .expect("nothing need be there");
    let error = storage
        .put(&name, b"second", PutMode::Create)
        .expect_err("it is there");
    assert!(error.is_already_exists(), "{error}");
    assert_eq!(
        get(storage, "put/object").expect("it is there"),
        b"replaced nothing"
    );
    storage
        .put(&name, b"third", PutMode::Replace)
        .expect("it is replaced");
    assert_eq!(get(storage, "put/object").expect("it is there"), b"third");
    let created = storage
        .create(&name)
        .and_then(crate::storage::ObjectWriter::finish);
    assert!(
        created.is_err_and(|e| e.is_already_exists()),
        "create replaces nothing"
    );
    assert_eq!(list(storage, "put"), ["put/object"]);
}

/// What may be gone after a crash of the machine is as visible as everything else until then.
fn what_is_transient_is_there_at_once(storage: &dyn Storage) {
    let name = path("transient/folder/object");
    storage
        .put_transient(&name, b"first", PutMode::Create)
        .expect("a new object is put");
    let error = storage
        .put_transient(&name, b"second", PutMode::Create)
        .expect_err("it is there");
    assert!(error.is_already_exists(), "{error}");
    storage
        .put_transient(&name, b"third", PutMode::Replace)
        .expect("it is replaced");
    assert_eq!(get(storage, name.as_str()).expect("it is there"), b"third");
    assert_eq!(list(storage, "transient"), [name.as_str()]);
    for _ in 0..2 {
        storage.delete_transient(&name).expect("it is deleted");
        assert!(list(storage, "transient").is_empty(), "nothing is left");
    }
}

fn an_unfinished_object_is_invisible(storage: &dyn Storage) {
    let name = path("unfinished/folder/object");
    let mut writer = storage.create(&name).expect("a new object is begun");
    writer
        .write_all(&pattern(2_000_000))
        .expect("most of it is written");
    writer.flush().expect("it is flushed");
    assert!(
        storage.head(&name).is_err_and(|e| e.is_not_found()),
        "it has no head"
    );
    assert!(storage.open(&name).is_err(), "it cannot be opened");
    assert!(list(storage, "unfinished").is_empty(), "it is not listed");
    writer.finish().expect("it is finished");
    assert_eq!(list(storage, "unfinished"), [name.as_str()]);
}

fn a_dropped_writer_leaves_nothing(storage: &dyn Storage) {
    let name = path("dropped/object");
    let mut writer = storage.create(&name).expect("a new object is begun");
    writer
        .write_all(&pattern(100_000))
        .expect("some of it is written");
    drop(writer);
    assert!(
        storage.head(&name).is_err_and(|e| e.is_not_found()),
        "it is not there"
    );
    assert!(list(storage, "dropped").is_empty(), "nothing is listed");
    assert_eq!(
        storage.sweep(&path("dropped")).expect("it is swept"),
        0,
        "nothing was left"
    );
    put(storage, "dropped/object", b"again");
}

fn of_concurrent_creations_one_succeeds(storage: &dyn Storage) {
    let writers = 4;
    for round in 0..20 {
        let name = path(&format!("race/{round}/object"));
        let barrier = Barrier::new(writers);
        let winners: Vec<usize> = thread::scope(|scope| {
            let create = |writer: usize| {
                let (barrier, name) = (&barrier, &name);
                move || {
                    let object = storage.create(name);
                    barrier.wait();
                    let mut object = object?;
                    object
                        .write_all(&vec![writer as u8; 10_000])
                        .map_err(|error| StorageError::from_io("write", name.as_str(), error))?;
                    object.finish().map(|_| writer)
                }
            };
            let threads: Vec<_> = (0..writers)
                .map(|writer| scope.spawn(create(writer)))
                .collect();
            let results = threads
                .into_iter()
                .map(|t| t.join().expect("a writer does not panic"));
            results
                .filter_map(|result| {
                    result
                        .map_err(|e| assert!(e.is_already_exists(), "a loser is told: {e}"))
                        .ok()
                })
                .collect()
        });
        assert_eq!(
            winners.len(),
            1,
            "exactly one of {writers} creations succeeds"
        );
        let bytes = storage
            .get(&name, 10_000)
            .expect("the winner's object is there");
        assert!(
            bytes == vec![winners[0] as u8; 10_000],
            "the winner's object is untouched"
        );
    }
}

/// An engine may read ahead of what it is asked: a small object is kept, a large one may be lost, but never mixed.
fn a_reader_keeps_its_object(storage: &dyn Storage) {
    let name = path("kept/object");
    put(storage, "kept/object", &[1; 1000]);
    let first = storage.open(&name).expect("the first is opened");
    storage
        .put(&name, &[2; 2000], PutMode::Replace)
        .expect("it is replaced");
    let second = storage.open(&name).expect("the second is opened");
    storage.delete(&name).expect("it is deleted");
    for (reader, content) in [(first, vec![1; 1000]), (second, vec![2; 2000])] {
        let mut read = vec![0; content.len()];
        reader
            .read_exact_at(&mut read, 0)
            .expect("an opened object stays readable");
        assert!(reader.size() == content.len() as u64 && read == content);
    }
}

fn readers_see_whole_objects_while_one_is_replaced(storage: &dyn Storage) {
    let name = path("replaced/object");
    let content = |version: u8| vec![version; 10_000 + usize::from(version)];
    storage
        .put(&name, &content(0), PutMode::Create)
        .expect("the first is put");
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for version in 1..=50 {
                storage
                    .put(&name, &content(version), PutMode::Replace)
                    .expect("it is replaced");
            }
        });
        while !writer.is_finished() {
            let bytes = storage
                .get(&name, 20_000)
                .expect("there is always an object");
            assert!(
                bytes == content(bytes[0]),
                "a reader sees one version, whole"
            );
        }
    });
}

fn objects_and_folders_do_not_share_a_path(storage: &dyn Storage) {
    put(storage, "shared/object", b"x");
    put(storage, "shared/folder/object", b"x");
    for name in ["shared/object/below", "shared/folder", ""] {
        let (name, misplaced) = (path(name), |e: StorageError| {
            matches!(e, StorageError::Misplaced { .. })
        });
        assert!(
            storage.create(&name).err().is_some_and(misplaced),
            "create at {name}"
        );
        for mode in [PutMode::Create, PutMode::Replace] {
            assert!(
                storage.put(&name, b"y", mode).is_err_and(misplaced),
                "put at {name}"
            );
        }
    }
    for name in ["shared/folder", ""] {
        let (name, misplaced) = (path(name), |e: StorageError| {
            matches!(e, StorageError::Misplaced { .. })
        });
        assert!(
            storage.open(&name).err().is_some_and(misplaced),
            "open a folder"
        );
        assert!(
            storage.head(&name).is_err_and(misplaced),
            "head of a folder"
        );
        assert!(
            storage.delete(&name).is_err_and(misplaced),
            "delete a folder"
        );
    }
    assert_eq!(
        list(storage, "shared"),
        ["shared/folder/object", "shared/object"]
    );
}

fn the_root_is_no_object(storage: &dyn Storage) {
    let root = ObjectPath::root();
    let misplaced = |error: StorageError| matches!(error, StorageError::Misplaced { .. });
    assert!(storage.create(&root).err().is_some_and(misplaced), "create");
    assert!(
        storage
            .put(&root, b"x", PutMode::Replace)
            .is_err_and(misplaced),
        "put"
    );
    assert!(storage.open(&root).err().is_some_and(misplaced), "open");
    assert!(storage.head(&root).is_err_and(misplaced), "head");
    assert!(storage.delete(&root).is_err_and(misplaced), "delete");
}

fn deleting_is_idempotent(storage: &dyn Storage) {
    for name in ["deleted/a/object", "deleted/b"] {
        put(storage, name, b"x");
    }
    for _ in 0..2 {
        storage
            .delete(&path("deleted/a/object"))
            .expect("it is deleted");
        assert_eq!(list(storage, "deleted"), ["deleted/b"]);
    }
    put(storage, "deleted/a/object", b"again");
    assert_eq!(
        get(storage, "deleted/a/object").expect("it is there again"),
        b"again"
    );
}

fn a_sweep_keeps_objects_and_live_writers(storage: &dyn Storage) {
    put(storage, "swept/object", b"x");
    let mut writer = storage
        .create(&path("swept/live"))
        .expect("a new object is begun");
    writer.write_all(b"half").expect("half of it is written");
    assert_eq!(
        storage.sweep(&path("swept")).expect("it is swept"),
        0,
        "nobody died"
    );
    assert_eq!(
        storage.sweep(&ObjectPath::root()).expect("all is swept"),
        0,
        "nobody died"
    );
    writer.write_all(b" and half").expect("the rest is written");
    writer
        .finish()
        .expect("a live writer finishes after a sweep");
    assert_eq!(
        get(storage, "swept/live").expect("it is there"),
        b"half and half"
    );
    assert_eq!(get(storage, "swept/object").expect("it is there"), b"x");
}
