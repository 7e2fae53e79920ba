//! Sealed repositories: made, opened with the right key only, and given new keys, whatever happens meanwhile.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use pgm_storage::{LocalStorage, MemoryStorage};

use super::*;
use crate::repository::Repository;

fn key() -> MasterKey {
    MasterKey::generate().unwrap()
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

fn shared(memory: &MemoryStorage) -> Arc<dyn Storage> {
    Arc::new(memory.clone())
}

fn put(repository: &Repository, text: &str) {
    let mut object = repository.storage().create(&path(text)).unwrap();
    object.write_all(text.as_bytes()).unwrap();
    object.finish().unwrap();
}

fn reads(repository: &Repository, text: &str) -> bool {
    let got = repository.storage().get(&path(text), 1 << 20);
    got.is_ok_and(|bytes| bytes == text.as_bytes())
}

/// Everything that is there, by path.
fn objects(storage: &dyn Storage) -> Vec<(ObjectPath, Vec<u8>)> {
    let mut paths = Vec::new();
    storage
        .list(&ObjectPath::root(), &mut |meta| {
            paths.push(meta.path);
            ControlFlow::Continue(())
        })
        .unwrap();
    let get = |path: ObjectPath| {
        let bytes = storage.get(&path, 1 << 20).unwrap();
        (path, bytes)
    };
    paths.into_iter().map(get).collect()
}

fn numbers(storage: &dyn Storage) -> Vec<u64> {
    numbered::numbers(storage, &layout::keys()).unwrap()
}

const NEW_DATA_KEY: Rekey<'_> = Rekey {
    new_master_key: None,
    data_key: DataKeyChoice::New,
};

fn new_master(key: &MasterKey) -> Rekey<'_> {
    Rekey {
        new_master_key: Some(key),
        data_key: DataKeyChoice::Keep,
    }
}

#[test]
fn a_sealed_repository_opens_with_its_key_and_with_nothing_else() {
    let (memory, master, other) = (MemoryStorage::new(), key(), key());
    let made = Repository::open_or_create_sealed(shared(&memory), &master).unwrap();
    put(&made, "main/object");
    let opened = Repository::open_or_create_sealed(shared(&memory), &master).unwrap();
    assert_eq!(opened.id(), made.id());
    assert!(opened.is_sealed() && reads(&opened, "main/object"));
    let both = Repository::open_with(shared(&memory), Some(&master)).unwrap();
    assert!(reads(&both, "main/object"));

    let error = Repository::open(shared(&memory)).unwrap_err();
    assert!(matches!(error, Error::RepositorySealed { .. }), "{error}");
    assert!(error.hint().unwrap().contains("master key"));
    let error = Repository::open_or_create(shared(&memory)).unwrap_err();
    assert!(matches!(error, Error::RepositorySealed { .. }), "{error}");
    let error = Repository::open_with(shared(&memory), Some(&other)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&master.id().to_string()) && text.contains(&other.id().to_string()));
    assert!(error.hint().unwrap().contains(&master.id().to_string()));
    // The folder of the keys is no server.
    assert_eq!(made.servers().unwrap(), ["main".parse().unwrap()]);
}

#[test]
fn a_plain_repository_is_refused_where_a_sealed_one_is_wanted() {
    let memory = MemoryStorage::new();
    Repository::create(shared(&memory)).unwrap();
    for opened in [
        Repository::open_sealed(shared(&memory), &key()),
        Repository::open_or_create_sealed(shared(&memory), &key()),
    ] {
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::RepositoryPlain { .. }), "{error}");
        assert!(error.hint().unwrap().contains("new repository"));
    }
    let made = Repository::create_sealed(shared(&memory), &key());
    assert!(matches!(made, Err(Error::RepositoryExists { .. })));
    let plain = Repository::open_with(shared(&memory), Some(&key())).unwrap();
    assert!(!plain.is_sealed());
    assert!(plain.rekey(&key(), NEW_DATA_KEY).is_err());
}

#[test]
fn a_sealed_repository_whose_record_says_that_it_is_plain_gives_nothing() {
    let (memory, master) = (MemoryStorage::new(), key());
    let sealed = Repository::create_sealed(shared(&memory), &master).unwrap();
    put(&sealed, "main/object");
    let plain = MemoryStorage::new();
    Repository::create(shared(&plain)).unwrap();
    let record = plain.get(&layout::repository(), 1 << 10).unwrap();
    memory
        .put(&layout::repository(), &record, PutMode::Replace)
        .unwrap();
    assert!(Repository::open_sealed(shared(&memory), &master).is_err());
    let opened = Repository::open(shared(&memory)).unwrap();
    assert!(!reads(&opened, "main/object"));
}

#[test]
fn what_a_creation_that_died_left_is_completed_and_lost_keys_are_not_made_anew() {
    let (memory, master) = (MemoryStorage::new(), key());
    let made = Repository::create_sealed(shared(&memory), &master).unwrap();
    let id = made.id().clone();
    for number in numbers(&memory) {
        let object = numbered::object(&layout::keys(), number).unwrap();
        memory.delete(&object).unwrap();
    }
    let error = Repository::open_sealed(shared(&memory), &master).unwrap_err();
    assert!(matches!(error, Error::KeysMissing { .. }), "{error}");
    let made = Repository::open_or_create_sealed(shared(&memory), &master).unwrap();
    assert_eq!(*made.id(), id);
    put(&made, "main/object");
    for number in numbers(&memory) {
        let object = numbered::object(&layout::keys(), number).unwrap();
        memory.delete(&object).unwrap();
    }
    let error = Repository::open_or_create_sealed(shared(&memory), &master).unwrap_err();
    assert!(matches!(error, Error::KeysMissing { .. }), "{error}");
    assert!(numbers(&memory).is_empty());
}

#[test]
fn of_many_who_make_it_at_once_all_get_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (root, master) = (folder.path(), key());
    let ids: Vec<_> = std::thread::scope(|scope| {
        let make = || {
            let storage = Arc::new(LocalStorage::create(root).unwrap());
            let made = Repository::open_or_create_sealed(storage, &master).unwrap();
            let ring = made.key_ring().unwrap();
            (made.id().clone(), ring.active().id())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_new_master_key_opens_everything_and_the_old_one_nothing() {
    let (memory, first, second, third) = (MemoryStorage::new(), key(), key(), key());
    let repository = Repository::create_sealed(shared(&memory), &first).unwrap();
    put(&repository, "main/object");
    let before = memory.get(&path("main/object"), 1 << 10).unwrap();
    let done = repository.rekey(&first, new_master(&second)).unwrap();
    assert_eq!((done.master_key, done.left.len()), (second.id(), 0));
    let opened = Repository::open_sealed(shared(&memory), &second).unwrap();
    opened.rekey(&second, new_master(&third)).unwrap();
    let opened = Repository::open_sealed(shared(&memory), &third).unwrap();
    assert!(reads(&opened, "main/object"));
    assert!(memory.get(&path("main/object"), 1 << 10).unwrap() == before);
    for old in [&first, &second] {
        let error = Repository::open_sealed(shared(&memory), old).unwrap_err();
        assert!(matches!(error, Error::WrongMasterKey { .. }), "{error}");
        assert!(repository.rekey(old, NEW_DATA_KEY).is_err());
    }
    // Nothing that an old key opens is left.
    assert_eq!(numbers(&memory), [5, 6]);
}

#[test]
fn a_new_data_key_seals_what_comes_and_others_who_have_it_open_read_that_too() {
    let (memory, master) = (MemoryStorage::new(), key());
    let repository = Repository::create_sealed(shared(&memory), &master).unwrap();
    let elsewhere = Repository::open_sealed(shared(&memory), &master).unwrap();
    put(&repository, "main/before");
    let done = repository.rekey(&master, NEW_DATA_KEY).unwrap();
    assert_eq!(done.data_keys.len(), 2);
    put(&repository, "main/after");
    put(&elsewhere, "main/elsewhere");
    for repository in [
        &repository,
        &elsewhere,
        &Repository::open_sealed(shared(&memory), &master).unwrap(),
    ] {
        for object in ["main/before", "main/after", "main/elsewhere"] {
            assert!(reads(repository, object), "{object}");
        }
    }
    let keys = |object: &str| memory.get(&path(object), 1 << 10).unwrap()[16..32].to_vec();
    assert_ne!(keys("main/before"), keys("main/after"));
    assert_eq!(keys("main/before"), keys("main/elsewhere"));
}

#[test]
fn one_damaged_copy_of_the_keys_does_no_harm_and_both_are_an_error() {
    let (memory, master) = (MemoryStorage::new(), key());
    let repository = Repository::create_sealed(shared(&memory), &master).unwrap();
    put(&repository, "main/object");
    let damage = |number: u64| {
        let object = numbered::object(&layout::keys(), number).unwrap();
        let mut bytes = memory.get(&object, 1 << 20).unwrap();
        bytes[60] ^= 1;
        memory.put(&object, &bytes, PutMode::Replace).unwrap();
    };
    damage(2);
    let opened = Repository::open_sealed(shared(&memory), &master).unwrap();
    assert!(reads(&opened, "main/object"));
    // A change goes on from what can be read and leaves two sound copies.
    opened.rekey(&master, NEW_DATA_KEY).unwrap();
    assert_eq!(numbers(&memory), [3, 4]);
    damage(3);
    damage(4);
    let error = Repository::open_sealed(shared(&memory), &master).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn keys_of_another_repository_or_number_are_refused() {
    let (one, two, master) = (MemoryStorage::new(), MemoryStorage::new(), key());
    Repository::create_sealed(shared(&one), &master).unwrap();
    Repository::create_sealed(shared(&two), &master).unwrap();
    let object = |number| numbered::object(&layout::keys(), number).unwrap();
    let foreign = two.get(&object(2), 1 << 20).unwrap();
    let own = one.get(&object(2), 1 << 20).unwrap();
    for (number, bytes) in [(2, &foreign), (3, &own)] {
        one.put(&object(number), bytes, PutMode::Replace).unwrap();
        let error = Repository::open_sealed(shared(&one), &master).unwrap_err();
        assert!(matches!(error, Error::Keys { .. }), "{error}");
        one.put(&object(2), &own, PutMode::Replace).unwrap();
    }
}

#[test]
fn of_many_who_change_the_keys_at_once_each_is_in_force_or_is_told() {
    let (memory, master) = (MemoryStorage::new(), key());
    let repository = Repository::create_sealed(shared(&memory), &master).unwrap();
    put(&repository, "main/object");
    let masters: Vec<MasterKey> = (0..8).map(|_| key()).collect();
    let changed: Vec<Result<Rekeyed>> = std::thread::scope(|scope| {
        let change = |new| {
            let (repository, master) = (&repository, &master);
            move || repository.rekey(master, new_master(new))
        };
        let threads: Vec<_> = masters.iter().map(|m| scope.spawn(change(m))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let (mut in_force, mut opens) = (Vec::new(), Vec::new());
    for (master, changed) in masters.iter().zip(changed) {
        match changed {
            Ok(rekeyed) => in_force.push(rekeyed.master_key),
            Err(Error::KeysChanged { .. } | Error::WrongMasterKey { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        if let Ok(opened) = Repository::open_sealed(shared(&memory), master) {
            assert!(reads(&opened, "main/object"));
            opens.push(master.id());
        }
    }
    assert_eq!(in_force.len(), 1);
    assert_eq!(in_force, opens);
}

/// Lets a number of changes through, and then nothing, as if the process had died.
#[derive(Debug)]
struct Dying {
    inner: MemoryStorage,
    left: std::sync::atomic::AtomicU32,
}

impl Dying {
    fn step(&self) -> pgm_storage::Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        let lives = self
            .left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        lives.map(drop).map_err(|_| {
            let source = std::io::Error::other("dead");
            pgm_storage::StorageError::from_io("write", "memory", source)
        })
    }
}

impl Storage for Dying {
    fn create(&self, path: &ObjectPath) -> pgm_storage::Result<Box<dyn pgm_storage::ObjectWriter>> {
        self.inner.create(path)
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> pgm_storage::Result<()> {
        self.step()?;
        self.inner.put(path, bytes, mode)
    }

    fn open(&self, path: &ObjectPath) -> pgm_storage::Result<Box<dyn pgm_storage::ObjectReader>> {
        self.inner.open(path)
    }

    fn get(&self, path: &ObjectPath, bytes_max: u64) -> pgm_storage::Result<Vec<u8>> {
        self.inner.get(path, bytes_max)
    }

    fn head(&self, path: &ObjectPath) -> pgm_storage::Result<pgm_storage::ObjectMeta> {
        self.inner.head(path)
    }

    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(pgm_storage::ObjectMeta) -> ControlFlow<()>,
    ) -> pgm_storage::Result<()> {
        self.inner.list(prefix, visit)
    }

    fn folders(&self, prefix: &ObjectPath) -> pgm_storage::Result<Vec<String>> {
        self.inner.folders(prefix)
    }

    fn delete(&self, path: &ObjectPath) -> pgm_storage::Result<()> {
        self.step()?;
        self.inner.delete(path)
    }

    fn sweep(&self, prefix: &ObjectPath) -> pgm_storage::Result<u64> {
        self.inner.sweep(prefix)
    }

    fn space(&self) -> pgm_storage::Result<Option<pgm_storage::Space>> {
        self.inner.space()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[test]
fn a_change_that_dies_at_any_point_leaves_one_master_key_that_opens_everything() {
    let (first, second) = (key(), key());
    let original = MemoryStorage::new();
    let repository = Repository::create_sealed(shared(&original), &first).unwrap();
    put(&repository, "main/object");
    let mut ended = Vec::new();
    for steps in 0..6 {
        let memory = MemoryStorage::new();
        for (path, bytes) in objects(&original) {
            memory.put(&path, &bytes, PutMode::Create).unwrap();
        }
        let dying = Arc::new(Dying {
            inner: memory.clone(),
            left: steps.into(),
        });
        let repository = Repository::open_sealed(dying, &first).unwrap();
        let change = Rekey {
            data_key: DataKeyChoice::New,
            ..new_master(&second)
        };
        let changed = repository.rekey(&first, change);
        // Whoever deletes nothing has still changed the keys, and says what is left.
        ended.push(changed.as_ref().is_ok_and(|done| done.left.is_empty()));
        let opens = |key| Repository::open_sealed(shared(&memory), key);
        match (opens(&first), opens(&second)) {
            (Ok(opened), Err(Error::WrongMasterKey { .. }))
            | (Err(Error::WrongMasterKey { .. }), Ok(opened)) => {
                assert!(reads(&opened, "main/object"));
            }
            (one, two) => panic!("{steps}: {one:?} {two:?}"),
        }
        // The next change, with the key in force, also removes what was left.
        let now = if opens(&first).is_ok() {
            &first
        } else {
            &second
        };
        let again = opens(now).unwrap();
        assert!(again.rekey(now, NEW_DATA_KEY).unwrap().left.is_empty());
        assert_eq!(numbers(&memory).len(), 2);
    }
    assert_eq!(ended, [false, false, false, false, true, true]);
}

/// As `tests/data/sealed_repository.py` computed it.
#[derive(Deserialize)]
struct Vector {
    master_key: String,
    data_key: String,
    data_key_id: String,
    objects: std::collections::BTreeMap<String, String>,
}

fn vector() -> Vector {
    serde_json::from_str(include_str!("../../../tests/data/sealed_repository.json")).unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).unwrap()).collect();
    let pairs = digits.chunks(2);
    pairs.map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn a_repository_that_another_program_made_from_the_page_is_read_and_written() {
    let (vector, memory) = (vector(), MemoryStorage::new());
    for (name, bytes) in &vector.objects {
        memory
            .put(&path(name), &hex(bytes), PutMode::Create)
            .unwrap();
    }
    let master: MasterKey = vector.master_key.parse().unwrap();
    let repository = Repository::open_sealed(shared(&memory), &master).unwrap();
    let note = repository.storage().get(&path("main/wal/note"), 100);
    assert_eq!(note.unwrap(), b"hello, pgm");
    let ring = repository.key_ring().unwrap();
    assert_eq!(ring.active().id().to_string(), vector.data_key_id);
    assert_eq!(ring.to_bytes()[8..], hex(&vector.data_key));
    let age = ring
        .active()
        .created()
        .duration_since(std::time::UNIX_EPOCH);
    assert_eq!(age.unwrap().as_secs(), 1_763_778_896);
    // What is made here looks the same.
    let own = MemoryStorage::new();
    Repository::create_sealed(shared(&own), &master).unwrap();
    let text = |storage: &MemoryStorage, name: &str| {
        let text = String::from_utf8(storage.get(&path(name), 1 << 20).unwrap()).unwrap();
        let key = |line: &str| line.split('"').next().unwrap().to_owned();
        text.lines().map(key).collect::<Vec<_>>()
    };
    for name in ["repository.ron", "repository.keys/00000002"] {
        let (one, other) = (text(&own, name), text(&memory, name));
        assert_eq!(one[..one.len() - 1], other[..other.len() - 1], "{name}");
    }
}

#[test]
fn the_documented_example_is_what_the_other_program_made() {
    let (vector, page) = (vector(), include_str!("../../../../docs/on-disk.md"));
    for name in ["repository.ron", "repository.keys/00000002"] {
        let text = String::from_utf8(hex(&vector.objects[name])).unwrap();
        assert!(page.contains(&format!("```\n{text}```")), "{name}");
    }
    let section = page.split("\n### Sealed repositories\n").nth(1).unwrap();
    let dump = section.split("```\n0000  ").nth(1).unwrap();
    let dump = format!("0000  {}", dump.split("```").next().unwrap());
    let rows = dump
        .lines()
        .map(|line| line[4..].split('#').next().unwrap());
    let bytes: Vec<u8> = rows.flat_map(|row| hex(&row.replace(' ', ""))).collect();
    assert_eq!(bytes, hex(&vector.objects["main/wal/note"]));
    assert!(section.contains(&vector.master_key) && section.contains(&vector.data_key));
}
