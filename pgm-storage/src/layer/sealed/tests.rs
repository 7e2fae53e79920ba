//! The sealing layer: the contract, equality with a plain storage, and that nothing passes which is not what was put.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::local::LocalStorage;
use crate::memory::MemoryStorage;

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

fn sealed_as(inner: Arc<dyn Storage>, ring: &KeyRing, repository: &str) -> SealedStorage {
    let options = SealedOptions {
        ring: ring.clone(),
        repository: repository.to_owned(),
        plain: vec![path("plain"), path("top.ron")],
        reload: Box::new(|| None),
    };
    SealedStorage::new(inner, options)
}

/// A sealed storage, and the memory below.
fn sealed() -> (SealedStorage, MemoryStorage) {
    let memory = MemoryStorage::new();
    let ring = KeyRing::generate().unwrap();
    (sealed_as(Arc::new(memory.clone()), &ring, "one"), memory)
}

/// Bytes without a short period.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn write(storage: &dyn Storage, name: &str, bytes: &[u8], step: usize) -> ObjectMeta {
    let mut writer = storage.create(&path(name)).unwrap();
    for part in bytes.chunks(step.max(1)) {
        writer.write_all(part).unwrap();
    }
    writer.finish().unwrap()
}

/// Everything of an object by `open` and `get`, which must say the same.
fn read(storage: &dyn Storage, name: &str) -> Result<Vec<u8>> {
    let got = storage.get(&path(name), 1 << 30);
    let opened = storage.open(&path(name)).and_then(|reader| {
        let mut bytes = vec![0; reader.size() as usize];
        reader.read_exact_at(&mut bytes, 0).map(|()| bytes)
    });
    match (got, opened) {
        (Ok(got), Ok(opened)) => {
            assert!(got == opened, "{name}");
            Ok(got)
        }
        (Err(error), Err(other)) => {
            assert_eq!(error.damage().is_some(), other.damage().is_some());
            Err(error)
        }
        (got, opened) => panic!("{name}: {:?} {:?}", got.err(), opened.err()),
    }
}

fn is_foreign(result: &Result<Vec<u8>>) -> bool {
    matches!(result, Err(StorageError::Foreign { .. }))
}

#[test]
fn the_contract_is_kept_over_memory_and_over_a_directory() {
    crate::conformance::check(&sealed().0);
    let folder = tempfile::tempdir().unwrap();
    let local = LocalStorage::create(folder.path()).unwrap();
    let ring = KeyRing::generate().unwrap();
    crate::conformance::check(&sealed_as(Arc::new(local), &ring, "one"));
}

#[test]
fn nothing_of_the_raw_bytes_rests_below_and_sizes_are_raw() {
    let (storage, memory) = sealed();
    let raw = b"a secret of sixteen".repeat(20_000);
    assert_eq!(write(&storage, "a/b", &raw, 70_000).size, raw.len() as u64);
    storage.put(&path("a/c"), &raw, PutMode::Create).unwrap();
    for name in ["a/b", "a/c"] {
        let below = memory.get(&path(name), 1 << 30).unwrap();
        assert_eq!(below.len() as u64, SealedSize::sealed(raw.len() as u64));
        assert!(!below.windows(8).any(|bytes| bytes == b"a secret"));
        assert_eq!(storage.head(&path(name)).unwrap().size, raw.len() as u64);
    }
    let mut sizes = Vec::new();
    let visit = &mut |meta: ObjectMeta| {
        sizes.push(meta.size);
        ControlFlow::Continue(())
    };
    storage.list(&path("a"), visit).unwrap();
    assert_eq!(sizes, [raw.len() as u64; 2]);
    assert_eq!(storage.describe(), "memory, sealed");
}

#[test]
fn what_is_said_to_be_plain_passes_as_it_is_and_nothing_else_does() {
    let (storage, memory) = sealed();
    for name in ["top.ron", "plain/a", "plain/deep/b"] {
        storage.put(&path(name), b"text", PutMode::Create).unwrap();
        assert_eq!(memory.get(&path(name), 10).unwrap(), b"text");
        assert_eq!(read(&storage, name).unwrap(), b"text");
        assert_eq!(storage.head(&path(name)).unwrap().size, 4);
    }
    for (name, bytes) in [("other", 4), ("plainer/a", 4), ("large", 200_000)] {
        memory
            .put(&path(name), &vec![7; bytes], PutMode::Create)
            .unwrap();
        assert!(is_foreign(&read(&storage, name)), "{name}");
    }
}

#[test]
fn an_object_of_no_bytes_takes_no_room_and_reads_as_such() {
    let (storage, memory) = sealed();
    storage.put(&path("lock"), b"", PutMode::Create).unwrap();
    assert_eq!(memory.head(&path("lock")).unwrap().size, 0);
    assert_eq!(read(&storage, "lock").unwrap(), b"");
    // A stream does not know at first that nothing will come.
    assert_eq!(write(&storage, "stream", b"", 1).size, 0);
    assert_eq!(read(&storage, "stream").unwrap(), b"");
}

#[test]
fn renamed_exchanged_and_foreign_objects_are_refused() {
    let (storage, memory) = sealed();
    write(&storage, "a", &pattern(200_000), 9_999);
    write(&storage, "b", &pattern(200_000), 9_999);
    let below = |name: &str| memory.get(&path(name), 1 << 30).unwrap();
    let (a, b) = (below("a"), below("b"));
    memory.put(&path("a"), &b, PutMode::Replace).unwrap();
    memory.put(&path("b"), &a, PutMode::Replace).unwrap();
    memory.put(&path("c"), &a, PutMode::Create).unwrap();
    for name in ["a", "b", "c"] {
        assert!(is_foreign(&read(&storage, name)), "{name}");
    }
    // The same key and path, but another repository; and another key.
    let ring = storage.ring();
    let other = sealed_as(Arc::new(memory.clone()), &ring, "two");
    assert!(is_foreign(&read(&other, "a")));
    let stranger = KeyRing::generate().unwrap();
    let other = sealed_as(Arc::new(memory.clone()), &stranger, "one");
    write(&other, "d", b"foreign", 7);
    let error = read(&storage, "d").unwrap_err();
    assert!(error.to_string().contains("which is not one of this"));
    assert!(error.hint().is_some());
}

#[test]
fn every_cut_and_what_is_put_behind_the_end_is_seen_when_it_is_opened() {
    let (storage, memory) = sealed();
    write(&storage, "a", &pattern(3 * CHUNK_BYTES), 9_999);
    let whole = memory.get(&path("a"), 1 << 30).unwrap();
    let chunk = |count: usize| SEAL_HEADER_BYTES + count * (CHUNK_BYTES + 16);
    let mut cuts = vec![1, 4, 95, 96, 97, 111, 112, 113, whole.len() - 1];
    cuts.extend((1..3).flat_map(|count| [chunk(count) - 1, chunk(count), chunk(count) + 17]));
    let mut objects: Vec<Vec<u8>> = cuts.iter().map(|cut| whole[..*cut].to_vec()).collect();
    objects.push([&whole[..], &[0]].concat());
    objects.push([&whole[..], &[0; 16]].concat());
    objects.push([&whole[..], &whole[chunk(2)..]].concat());
    for object in objects {
        memory.put(&path("a"), &object, PutMode::Replace).unwrap();
        let error = storage.open(&path("a")).err().unwrap();
        assert!(error.damage().is_some(), "{}: {error}", object.len());
        assert!(read(&storage, "a").is_err());
    }
}

#[test]
fn a_flipped_bit_is_seen_by_whoever_reads_the_chunk_and_by_nobody_else() {
    let (storage, memory) = sealed();
    let raw = pattern(5 * CHUNK_BYTES + 5);
    write(&storage, "a", &raw, 9_999);
    let mut object = memory.get(&path("a"), 1 << 30).unwrap();
    object[SEAL_HEADER_BYTES + 2 * (CHUNK_BYTES + 16) + 77] ^= 4;
    memory.put(&path("a"), &object, PutMode::Replace).unwrap();
    let reader = storage.open(&path("a")).unwrap();
    let mut bytes = vec![0; raw.len()];
    for (from, until, sound) in [
        (0, 2 * CHUNK_BYTES, true),
        (0, 2 * CHUNK_BYTES + 1, false),
        (3 * CHUNK_BYTES - 1, 3 * CHUNK_BYTES + 1, false),
        (3 * CHUNK_BYTES, raw.len(), true),
    ] {
        let read = reader.read_exact_at(&mut bytes[from..until], from as u64);
        assert_eq!(read.is_ok(), sound, "{from}..{until}");
        assert!(!sound || bytes[from..until] == raw[from..until]);
    }
}

#[test]
fn a_key_that_was_added_meanwhile_is_found_by_reading_the_ring_again() {
    let memory = MemoryStorage::new();
    let first = KeyRing::generate().unwrap();
    let second = first.with_new_key().unwrap();
    let writer = sealed_as(Arc::new(memory.clone()), &second, "one");
    write(&writer, "new", b"new", 1);
    let options = |ring: KeyRing| SealedOptions {
        ring: first.clone(),
        repository: "one".to_owned(),
        plain: Vec::new(),
        reload: Box::new(move || Some(ring.clone())),
    };
    let inner = || Arc::new(memory.clone());
    let stale = SealedStorage::new(inner(), options(second.clone()));
    assert_eq!(read(&stale, "new").unwrap(), b"new");
    assert_eq!(stale.ring().active().id(), second.active().id());
    let lost = SealedStorage::new(inner(), options(first.clone()));
    assert!(is_foreign(&read(&lost, "new")));
    // What the old key sealed stays readable.
    write(&lost, "old", b"old", 1);
    assert_eq!(read(&writer, "old").unwrap(), b"old");
}

/// Counts the writes that reach it.
struct Counting(Arc<std::sync::Mutex<Vec<usize>>>);

impl std::io::Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter for Counting {
    fn place(&self) -> String {
        "here".to_owned()
    }

    fn finish(self: Box<Self>) -> Result<ObjectMeta> {
        Ok(ObjectMeta {
            path: path("a"),
            size: 0,
            modified: std::time::SystemTime::now(),
        })
    }
}

#[test]
fn a_writer_hands_on_about_a_mebibyte_at_a_time() {
    let (storage, _) = sealed();
    let (header, cipher) = storage.sealing.begin(&path("a")).unwrap();
    let sizes = Arc::default();
    let inner = Box::new(Counting(Arc::clone(&sizes)));
    let mut writer = Box::new(SealedWriter::new(inner, &header, cipher));
    for part in pattern(5 << 20).chunks(1000) {
        writer.write_all(part).unwrap();
    }
    writer.finish().unwrap();
    let sizes = sizes.lock().unwrap();
    assert_eq!(sizes.len(), 5, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= (1 << 20) + 96 + 16 * 16));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn reads_are_those_of_a_plain_storage(
        length in 0..400_000_usize,
        step in 1..150_000_usize,
        reads in prop::collection::vec((any::<prop::sample::Index>(), 0..200_000_usize), 1..12),
    ) {
        let (storage, _) = sealed();
        let plain = MemoryStorage::new();
        let raw = pattern(length);
        write(&storage, "a", &raw, step);
        write(&plain, "a", &raw, step);
        let (one, other) = (storage.open(&path("a")).unwrap(), plain.open(&path("a")).unwrap());
        prop_assert_eq!(one.size(), other.size());
        for (from, count) in reads {
            let from = from.index(length + 1);
            let (mut here, mut there) = (vec![1; count], vec![2; count]);
            let read = one.read_exact_at(&mut here, from as u64);
            prop_assert_eq!(read.is_ok(), other.read_exact_at(&mut there, from as u64).is_ok());
            prop_assert!(read.is_err() || here == there);
        }
    }

    #[test]
    fn any_flipped_bit_is_an_error(length in 1..200_000_usize, at: prop::sample::Index, bit in 0..8) {
        let (storage, memory) = sealed();
        write(&storage, "a", &pattern(length), 50_000);
        let mut object = memory.get(&path("a"), 1 << 30).unwrap();
        let at = at.index(object.len());
        object[at] ^= 1_u8 << bit;
        memory.put(&path("a"), &object, PutMode::Replace).unwrap();
        let error = read(&storage, "a").unwrap_err();
        prop_assert!(error.damage().is_some(), "byte {}: {}", at, error);
    }
}
