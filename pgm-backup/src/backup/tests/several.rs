//! Backups into several repositories at once: what one of them does never harms the others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pgm_storage::{
    ObjectMeta, ObjectPath, ObjectReader, ObjectWriter, PutMode, Space, StorageError,
};

use super::faulty::Faulty;
use super::*;

fn on(storage: &Arc<Faulty>) -> Repository {
    Repository::open_or_create(Arc::clone(storage) as Arc<dyn Storage>).unwrap()
}

fn script() -> Script {
    Script::new(sample(), 65_536)
}

fn small_script() -> Script {
    let mut content = vec![0; 1_200_000];
    pattern(0, &mut content);
    let steps = data_directory(vec![Step::Bytes(file("base/1", &content))]);
    Script::new(steps, 65_536)
}

#[test]
fn one_pass_fills_every_repository_each_with_its_own_compression() {
    let repositories = [repository(), repository(), repository(), repository()];
    let compressions = ["zstd:1", "none", "lz4", "zstd:1"];
    // The repositories know other backups already; the label comes after all of them.
    let newest = take(&Context::quiet(), &repositories[2], script()).unwrap();
    let targets: Vec<BackupTarget<'_>> = repositories
        .iter()
        .zip(compressions)
        .map(|(repository, compression)| target(repository, compression))
        .collect();
    let outcomes = take_into(&Context::quiet(), &targets, script()).unwrap();
    let expected = contents(&repositories[2], &newest);
    let mut labels = Vec::new();
    for ((outcome, target), compression) in outcomes.into_iter().zip(&targets).zip(compressions) {
        let entry = outcome.into_result().unwrap();
        assert_eq!(entry.compression.to_string(), compression);
        assert_eq!(contents(target.repository, &entry), expected);
        let catalog = target.repository.catalog(&server()).unwrap();
        assert_eq!(catalog.newest(), Some(&entry));
        let packs = target.repository.manifest(&entry).unwrap().packs().to_vec();
        assert_eq!(packs.len(), entry.size.packs as usize);
        labels.push(entry.label);
    }
    assert!(labels.iter().all(|label| *label == labels[0]) && labels[0] > newest.label);
}

#[test]
fn a_repository_that_fails_at_any_operation_is_left_out_and_the_others_are_whole() {
    let mut dropped = 0;
    for allowed in 0.. {
        let failing = Arc::new(Faulty::new(u64::MAX));
        let (sound, failing_repository) = (repository(), on(&failing));
        failing.fail_after(allowed);
        let targets = [
            target(&failing_repository, "zstd:1"),
            target(&sound, "zstd:1"),
        ];
        let mut outcomes = take_into(&Context::quiet(), &targets, small_script()).unwrap();
        failing.repair();
        let entry = outcomes.pop().unwrap().into_result().unwrap();
        let files = contents(&sound, &entry);
        assert_eq!(files.len(), 3);
        let catalog = failing_repository.catalog(&server()).unwrap();
        for entry in catalog.backups() {
            assert_eq!(contents(&failing_repository, entry), files);
        }
        // The one that was left out takes the next backup.
        let next = take(&Context::quiet(), &failing_repository, small_script()).unwrap();
        assert_eq!(contents(&failing_repository, &next), files);
        match outcomes.pop().unwrap() {
            BackupOutcome::Dropped(error) => {
                assert!(matches!(error, Error::Storage(_)), "{error}");
                dropped += 1;
            }
            BackupOutcome::Complete(_) => break,
        }
    }
    assert!(dropped > 20, "{dropped}");
}

#[test]
fn without_a_repository_that_works_the_backup_fails_and_stops_reading() {
    let storages = [
        Arc::new(Faulty::new(u64::MAX)),
        Arc::new(Faulty::new(u64::MAX)),
    ];
    let repositories = storages.each_ref().map(on);
    storages[0].fail_after(30);
    storages[1].fail_after(35);
    let targets = repositories
        .each_ref()
        .map(|repository| target(repository, "none"));
    let total = 400 << 20;
    let steps = data_directory(vec![
        Step::Bytes(header(b"base/5/16384", b'0', total, b"").to_vec()),
        Step::Pattern(total),
    ]);
    let messages = Arc::new(AtomicU64::new(0));
    let mut source = Script::new(steps, 1 << 20);
    let counted = Arc::clone(&messages);
    source.before_next = Box::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let error = take_into(&Context::quiet(), &targets, source).unwrap_err();
    assert!(matches!(error, Error::Storage(_)), "{error}");
    assert!(messages.load(Ordering::SeqCst) < 200);
}

#[test]
fn a_repository_that_is_locked_or_knows_another_system_is_left_out() {
    let (sound, locked, other) = (repository(), repository(), repository());
    let _lock = locked.lock(&server(), Purpose::Backup).unwrap();
    let facts = ServerFacts {
        system_id: SystemId::new(8),
        ..beginning().facts
    };
    other.register(&server(), &facts).unwrap();
    let targets = [
        target(&locked, "zstd"),
        target(&other, "zstd"),
        target(&sound, "zstd"),
    ];
    let outcomes = take_into(&Context::quiet(), &targets, script()).unwrap();
    assert!(matches!(
        outcomes.as_slice(),
        [
            BackupOutcome::Dropped(Error::LockHeld { .. }),
            BackupOutcome::Dropped(Error::OtherSystem { .. }),
            BackupOutcome::Complete(_)
        ]
    ));
    assert_nothing_left(&other);
}

#[test]
fn a_repository_whose_wal_does_not_arrive_holds_up_no_other() {
    struct Never;
    impl WalCoverage for Never {
        fn covered(&self, _: TimelineId, _: Lsn, _: Lsn) -> Result<Coverage> {
            let what = "wal segment 000000010000000000000002".into();
            Ok(Coverage::Missing { what })
        }
    }
    let (sound, without) = (repository(), repository());
    let targets = [
        BackupTarget {
            coverage: &Never,
            ..target(&without, "zstd")
        },
        target(&sound, "zstd"),
    ];
    let (cx, discard) = (Context::quiet(), Cancel::new());
    let locked = Lanes::of(&targets)
        .step(|target| Locked::take(target, &server(), Resume::IfPossible, FRAMES_MAX));
    let lanes = begin(locked.unwrap(), &server(), &beginning().facts, &discard).unwrap();
    let announced = Announced {
        pages: BackupPages::All,
        archives: None,
        tablespaces: vec![TABLESPACE],
        total_bytes: None,
    };
    let copied = copy(&cx, &mut script(), &announced, lanes, options(2), &discard).unwrap();
    let request = BackupRequest {
        wal_timeout: Duration::ZERO,
        ..BackupRequest::default()
    };
    let lanes = finish(&cx, &targets, &request, &beginning(), copied).unwrap();
    let outcomes = lanes.into_outcomes();
    assert!(matches!(
        outcomes.as_slice(),
        [
            BackupOutcome::Dropped(Error::WalMissing { .. }),
            BackupOutcome::Complete(_)
        ]
    ));
    assert_nothing_left(&without);
}

#[test]
fn a_slow_repository_slows_the_source_down_instead_of_filling_memory() {
    let slow = Arc::new(Slow::default());
    let stored = Arc::clone(&slow.stored);
    let slow = Repository::create(slow).unwrap();
    let fast = repository();
    let targets = [target(&fast, "none"), target(&slow, "none")];
    let total: u64 = 60 << 20;
    let steps = data_directory(vec![
        Step::Bytes(header(b"base/5/16384", b'0', total, b"").to_vec()),
        Step::Pattern(total),
    ]);
    let mut source = Script::new(steps, 1 << 18);
    let (mut sent, ahead) = (0_u64, Arc::new(Mutex::new(0)));
    let most = Arc::clone(&ahead);
    source.before_next = Box::new(move || {
        let behind = stored.load(Ordering::SeqCst);
        let mut most = most.lock().unwrap();
        *most = (*most).max(sent.saturating_sub(behind));
        sent += 1 << 18;
    });
    let outcomes = take_into(&Context::quiet(), &targets, source).unwrap();
    assert_eq!(outcomes.len(), 2);
    for (outcome, target) in outcomes.into_iter().zip(&targets) {
        assert_eq!(
            contents(target.repository, &outcome.into_result().unwrap()).len(),
            3
        );
    }
    // The frames that go round, and what each of two workers collects for one write.
    let bound = (4 + 3 * 2 + 2 * 2 + 2) << 20;
    let ahead = *ahead.lock().unwrap();
    assert!(ahead <= bound, "{ahead} bytes were read ahead");
}

/// A memory storage whose writers take their time, and that counts what they have taken.
#[derive(Debug, Default)]
struct Slow {
    inner: MemoryStorage,
    stored: Arc<AtomicU64>,
}

struct SlowWriter {
    inner: Box<dyn ObjectWriter>,
    stored: Arc<AtomicU64>,
}

impl std::io::Write for SlowWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::thread::sleep(Duration::from_millis(5));
        let written = self.inner.write(bytes)?;
        self.stored.fetch_add(written as u64, Ordering::SeqCst);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl ObjectWriter for SlowWriter {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn finish(self: Box<Self>) -> Result<ObjectMeta, StorageError> {
        self.inner.finish()
    }
}

impl Storage for Slow {
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>, StorageError> {
        Ok(Box::new(SlowWriter {
            inner: self.inner.create(path)?,
            stored: Arc::clone(&self.stored),
        }))
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<(), StorageError> {
        self.inner.put(path, bytes, mode)
    }

    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>, StorageError> {
        self.inner.open(path)
    }

    fn get(&self, path: &ObjectPath, bytes_max: u64) -> Result<Vec<u8>, StorageError> {
        self.inner.get(path, bytes_max)
    }

    fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        self.inner.head(path)
    }

    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> std::ops::ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.inner.list(prefix, visit)
    }

    fn folders(&self, prefix: &ObjectPath) -> Result<Vec<String>, StorageError> {
        self.inner.folders(prefix)
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        self.inner.delete(path)
    }

    fn sweep(&self, prefix: &ObjectPath) -> Result<u64, StorageError> {
        self.inner.sweep(prefix)
    }

    fn space(&self) -> Result<Option<Space>, StorageError> {
        self.inner.space()
    }

    fn describe(&self) -> String {
        "slow storage".into()
    }
}

#[test]
fn leftovers_are_swept_in_every_repository() {
    let repositories = [repository(), repository()];
    for repository in &repositories {
        let left = layout::pack(&server(), "20200101T000000Z".parse().unwrap(), 0);
        let storage = repository.storage();
        storage.put(&left, b"left", PutMode::Create).unwrap();
    }
    let targets = repositories
        .each_ref()
        .map(|repository| target(repository, "zstd"));
    take_into(&Context::quiet(), &targets, script()).unwrap();
    for repository in &repositories {
        let folders = repository.storage().folders(&layout::backups(&server()));
        assert_eq!(folders.unwrap().len(), 1);
    }
}
