//! What one repository has lost, restored from another: cut out, damaged or gone, in data and WAL. And both read side by side.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Condvar;
use std::time::Duration;

use pgm_proto::{ServerVersion, SystemId, TimelineId};
use pgm_storage::{
    Compression, LocalStorage, ObjectMeta, ObjectPath, ObjectReader, ObjectWriter, PutMode, Space,
    Storage, StorageError,
};
use pgm_wal::{SegmentName, SegmentNumber};

use super::*;
use crate::backup::tests::take_small_into;
use crate::context::Context;
use crate::repository::ServerFacts;
use crate::restore::{
    BackupChoice, Boundary, Existing, Recovery, RestoreReport, RestoreRequest, RestoreSource,
    Target, TargetAction, TimelineChoice, plan, restore,
};

fn extent(file_offset: u64, length: u32, pack: u32, start: u32) -> Extent {
    Extent {
        file_offset,
        pack,
        frame_offset: 16,
        start,
        length,
    }
}

#[test]
fn a_piece_is_cut_out_of_the_extents_of_another_manifest() {
    let theirs = [
        extent(0, 100, 0, 7),
        extent(100, 50, 1, 0),
        extent(150, 1000, 2, 3),
    ];
    let parts = |from, length| parts(&theirs, extent(from, length, 9, 9)).collect::<Vec<_>>();
    assert_eq!(parts(0, 100), [extent(0, 100, 0, 7)]);
    assert_eq!(parts(10, 20), [extent(10, 20, 0, 17)]);
    assert_eq!(
        parts(90, 70),
        [
            extent(90, 10, 0, 97),
            extent(100, 50, 1, 0),
            extent(150, 10, 2, 3)
        ]
    );
    assert_eq!(parts(1149, 1), [extent(1149, 1, 2, 1002)]);
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The same backup in two folders, each compressed in its own way, with its WAL in both; the second has an older one, too.
struct Twice {
    scratch: tempfile::TempDir,
    label: BackupLabel,
    /// What a restore makes of it.
    whole: Files,
}

impl Twice {
    fn new() -> Self {
        Self::of(5_000_000)
    }

    fn of(bytes: usize) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut twice = Self {
            scratch,
            label: BackupLabel::from_time(jiff::Timestamp::UNIX_EPOCH),
            whole: Files::new(),
        };
        let repositories = ["one", "two"].map(|name| {
            let folder = twice.scratch.path().join(name);
            let storage: Arc<dyn Storage> = Arc::new(LocalStorage::create(folder).unwrap());
            let repository = Repository::create(storage).unwrap();
            let facts = ServerFacts {
                system_id: SystemId::new(7),
                version: ServerVersion::from_number(170_010),
                segment_bytes: 1 << 20,
            };
            repository.register(&server(), &facts).unwrap();
            twice.store_wal(&repository);
            repository
        });
        take_small_into(&[(&repositories[1], "lz4")], 1, 200_000);
        let both = [(&repositories[0], "zstd"), (&repositories[1], "none")];
        let entries = take_small_into(&both, 2, bytes);
        twice.label = entries[0].label;
        twice.whole = twice.restore(&[]).unwrap().1;
        twice
    }

    fn store_wal(&self, repository: &Repository) {
        let archive = Archive::new(Arc::clone(repository.storage()), server());
        for number in 31..35 {
            let name = SegmentName::new(TimelineId::FIRST, SegmentNumber::new(number));
            let path = self.scratch.path().join("segment");
            fs::write(&path, segment(name)).unwrap();
            archive
                .store_segment(&path, name, size(), Compression::ZSTD)
                .unwrap();
        }
    }

    fn open(&self, name: &str) -> RepositoryResult<Repository> {
        self.opener()(name)
    }

    fn opener(&self) -> impl Fn(&str) -> RepositoryResult<Repository> + Send + Sync + 'static {
        let folder = self.scratch.path().to_owned();
        move |name| Repository::open(Arc::new(LocalStorage::open(folder.join(name))?))
    }

    /// Restores it from the first folder; gives what the report says and what is there.
    fn restore(&self, others: &[&str]) -> Result<(RestoreReport, Files), RestoreError> {
        let open: Arc<Opener> = Arc::new(self.opener());
        self.restore_from(&open("one").unwrap(), others, &open)
    }

    /// Restores from both, and asks before each read of a pack.
    fn watched(
        &self,
        one: impl Fn() -> Result<(), StorageError> + Send + Sync + 'static,
        two: impl Fn() -> Result<(), StorageError> + Send + Sync + 'static,
    ) -> (RestoreReport, Files) {
        let (one, two): (Hook, Hook) = (Arc::new(one), Arc::new(two));
        let folder = self.scratch.path().to_owned();
        let open = move |name: &str, hook: &Hook| {
            let inner = LocalStorage::open(folder.join(name))?;
            let hook = Arc::clone(hook);
            Repository::open(Arc::new(Watched { inner, hook }))
        };
        let own = open("one", &one).unwrap();
        let open: Arc<Opener> = Arc::new(move |name: &str| open(name, &two));
        self.restore_from(&own, &["two"], &open).unwrap()
    }

    fn restore_from(
        &self,
        repository: &Repository,
        others: &[&str],
        open: &Arc<Opener>,
    ) -> Result<(RestoreReport, Files), RestoreError> {
        let archive = Archive::new(Arc::clone(repository.storage()), server());
        let directory = self.scratch.path().join("restored");
        let request = RestoreRequest {
            backup: BackupChoice::Label(self.label),
            directory: directory.clone(),
            existing: Existing::Refuse,
            target: Target::Immediate,
            boundary: Boundary::default(),
            timeline: TimelineChoice::Exactly(TimelineId::FIRST),
            action: TargetAction::default(),
            tablespaces: Vec::new(),
            recovery: Recovery::Command("false".to_owned()),
        };
        let cx = Context::quiet();
        let planned = plan(&cx, repository, &archive, None, &server(), request)?;
        let others: Vec<OtherRepository<'_>> = others
            .iter()
            .map(|name| {
                let (open, again, owned) = (Arc::clone(open), Arc::clone(open), (*name).to_owned());
                OtherRepository::new(*name, move || open(name), move || again(&owned))
            })
            .collect();
        let source = RestoreSource {
            others: &others,
            ..RestoreSource::new(repository, &archive)
        };
        let restored = restore(&cx, source, &planned);
        let is_server = directory.join("global/pg_control").exists();
        let mut files = Files::new();
        collect(&directory, &directory, &mut files);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(restored.is_ok(), is_server, "{restored:?}");
        restored.map(|report| (report, files))
    }

    fn packs(&self, name: &str) -> Vec<PathBuf> {
        let label = self.label;
        let folder = format!("{name}/main/backup/{label}");
        let entries = fs::read_dir(self.scratch.path().join(folder)).unwrap();
        let mut packs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        packs.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "pack")
        });
        packs.sort();
        packs
    }

    /// Restores with `damage` done to a file of the first folder, and puts that right again.
    fn damaged(&self, file: &Path, damage: impl Fn(&mut Vec<u8>), others: &[&str]) -> Outcome {
        let whole = fs::read(file).unwrap();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        if bytes.is_empty() {
            fs::remove_file(file).unwrap();
        } else {
            fs::write(file, bytes).unwrap();
        }
        let outcome = self.restore(others);
        fs::write(file, whole).unwrap();
        outcome
    }

    fn assert_helped(&self, outcome: Outcome, what: &str) {
        let (report, files) = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(files == self.whole, "{what}");
        // It is told of, unless the other one was asked for it in the first place.
        let mut told = report.warnings.iter();
        let told = told.any(|text| text.contains("came from repository two"));
        let given = report.others_bytes.iter().any(|(name, _)| name == "two");
        assert!(told || given, "{what}: {:?}", report.warnings);
    }
}

/// Opens a repository by its name.
type Opener = dyn Fn(&str) -> RepositoryResult<Repository> + Send + Sync;
type Hook = Arc<dyn Fn() -> Result<(), StorageError> + Send + Sync>;

/// A folder that asks before each read of a pack with data.
struct Watched {
    inner: LocalStorage,
    hook: Hook,
}

struct WatchedReader {
    inner: Box<dyn ObjectReader>,
    hook: Hook,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}

impl std::fmt::Debug for WatchedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedReader")
    }
}

impl ObjectReader for WatchedReader {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), StorageError> {
        // The index of a pack is no frame.
        if buf.len() > 100_000 {
            (self.hook)()?;
        }
        self.inner.read_exact_at(buf, offset)
    }
}

impl Storage for Watched {
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>, StorageError> {
        self.inner.create(path)
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<(), StorageError> {
        self.inner.put(path, bytes, mode)
    }

    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>, StorageError> {
        let inner = self.inner.open(path)?;
        if !path.as_str().contains(".pack") {
            return Ok(inner);
        }
        let hook = Arc::clone(&self.hook);
        Ok(Box::new(WatchedReader { inner, hook }))
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
        self.inner.describe()
    }
}

/// Counts what happened, for others to wait for.
#[derive(Default)]
struct Counter(Mutex<u64>, Condvar);

impl Counter {
    fn add(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait_for(&self, number: u64) {
        let deadline = Duration::from_mins(1);
        let reached = self
            .1
            .wait_timeout_while(self.0.lock().unwrap(), deadline, |found| *found < number);
        assert!(
            !reached.unwrap().1.timed_out(),
            "waited in vain for {number}"
        );
    }
}

type Outcome = Result<(RestoreReport, Files), RestoreError>;

fn server() -> ServerName {
    "main".parse().unwrap()
}

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// A segment whose first page is written.
fn segment(name: SegmentName) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    bytes[..2].copy_from_slice(&0xD116_u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
    bytes[8..16].copy_from_slice(&name.start(size()).bytes().to_le_bytes());
    bytes[24..32].copy_from_slice(&7_u64.to_le_bytes());
    bytes[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
    bytes
}

fn collect(root: &Path, folder: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_owned();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

#[test]
fn what_one_repository_has_lost_comes_from_the_other() {
    let twice = Twice::new();
    let packs = twice.packs("one");
    assert!(packs.len() > 1, "{packs:?}");
    for pack in &packs {
        let length = fs::metadata(pack).unwrap().len() as usize;
        let what = pack.display();
        for tenth in 0..10 {
            let flip = |bytes: &mut Vec<u8>| bytes[length / 10 * tenth + 40] ^= 1;
            twice.assert_helped(
                twice.damaged(pack, flip, &["two"]),
                &format!("{what}, {tenth} tenths"),
            );
        }
        for (cut, left) in [("shorter", length / 2), ("gone", 0)] {
            let cut_off = |bytes: &mut Vec<u8>| bytes.truncate(left);
            // The first of the others is of no help.
            let outcome = twice.damaged(pack, cut_off, &["nowhere", "two"]);
            twice.assert_helped(outcome, &format!("{what} is {cut}"));
        }
    }
}

#[test]
fn a_segment_that_the_archive_has_lost_comes_from_the_other() {
    let twice = Twice::new();
    let archive = twice.scratch.path().join("one/main/wal");
    let mut segments = Files::new();
    collect(&archive, &archive, &mut segments);
    let needed = segments.keys().find(|name| {
        let text = name.to_string_lossy();
        text.contains("000000010000000000000020") && !text.contains("digest")
    });
    let needed = archive.join(needed.unwrap());
    let outcome = twice.damaged(&needed, |bytes| bytes[100] ^= 1, &["two"]);
    twice.assert_helped(outcome, "a segment");
}

#[test]
fn what_nobody_has_fails_with_the_first_reason_and_makes_no_server() {
    let twice = Twice::new();
    let pack = &twice.packs("one")[0];
    let alone = twice.damaged(pack, Vec::clear, &[]).unwrap_err();
    // The other one has lost more.
    for other in twice.packs("two") {
        fs::remove_file(other).unwrap();
    }
    let error = twice
        .damaged(pack, Vec::clear, &["two", "nowhere"])
        .unwrap_err();
    assert_eq!(error.to_string(), alone.to_string());
    assert!(error.to_string().contains("0000.pack"), "{error}");
    assert!(twice.restore(&["two"]).is_ok());
}

/// Frames of a file of twenty megabytes, more than are read at a time.
const MANY_BYTES: usize = 20_000_000;

#[test]
fn both_repositories_are_read_and_each_gives_a_part() {
    let twice = Twice::of(MANY_BYTES);
    let read = Arc::new(Counter::default());
    let seen = Arc::clone(&read);
    // What the first one reads first comes only when the other one reads too.
    let (report, files) = twice.watched(
        move || {
            seen.wait_for(1);
            Ok(())
        },
        move || {
            read.add();
            Ok(())
        },
    );
    assert!(files == twice.whole);
    let [(name, given)] = report.others_bytes.as_slice() else {
        panic!("{:?}", report.others_bytes);
    };
    assert!(name == "two" && *given > 0 && report.own_bytes > 0);
    assert_eq!(given + report.own_bytes, report.bytes);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
}

#[test]
fn a_slow_repository_holds_nobody_up() {
    let twice = Twice::of(MANY_BYTES);
    let read = Arc::new(Counter::default());
    let seen = Arc::clone(&read);
    // It gives nothing before the first one has given half.
    let (report, files) = twice.watched(
        move || {
            read.add();
            Ok(())
        },
        move || {
            seen.wait_for(10);
            Ok(())
        },
    );
    assert!(files == twice.whole);
    assert!(report.own_bytes >= 9 << 20, "{}", report.own_bytes);
}

#[test]
fn a_repository_that_fails_beside_the_first_is_left_alone() {
    let twice = Twice::of(MANY_BYTES);
    let failed = Arc::new(Counter::default());
    let seen = Arc::clone(&failed);
    let (report, files) = twice.watched(
        move || {
            seen.wait_for(3);
            Ok(())
        },
        move || {
            failed.add();
            let error = std::io::Error::other("it is away");
            Err(StorageError::from_io("read", "two", error))
        },
    );
    assert!(files == twice.whole);
    // But for small frames, which are not asked about.
    let given: u64 = report.others_bytes.iter().map(|(_, bytes)| bytes).sum();
    assert!(given < 1 << 20 && given + report.own_bytes == report.bytes);
    let told = |text: &String| text.contains("repository two was not read to the end");
    assert!(report.warnings.iter().any(told), "{:?}", report.warnings);
}

#[test]
fn a_repository_that_dies_leaves_everything_to_the_other() {
    let twice = Twice::of(MANY_BYTES);
    let read = Arc::new(Counter::default());
    let seen = Arc::clone(&read);
    let (report, files) = twice.watched(
        move || {
            seen.wait_for(1);
            let error = std::io::Error::other("it is away");
            Err(StorageError::from_io("read", "one", error))
        },
        move || {
            read.add();
            Ok(())
        },
    );
    assert!(files == twice.whole);
    let given: u64 = report.others_bytes.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(
        (given + report.own_bytes, report.others_bytes.len()),
        (report.bytes, 1)
    );
    let told = |text: &String| text.contains("came from repository two");
    assert!(report.warnings.iter().any(told), "{:?}", report.warnings);
}

#[test]
fn a_repository_that_does_not_answer_is_not_waited_for() {
    let twice = Twice::new();
    let restored = Arc::new(Counter::default());
    let opened = Arc::new(Counter::default());
    let (seen, done, opener) = (Arc::clone(&restored), Arc::clone(&opened), twice.opener());
    let open = move |name: &str| {
        seen.wait_for(1);
        done.add();
        opener(name)
    };
    let own = twice.open("one").unwrap();
    let open: Arc<Opener> = Arc::new(open);
    let (report, files) = twice.restore_from(&own, &["two"], &open).unwrap();
    assert!(files == twice.whole && report.others_bytes.is_empty());
    restored.add();
    // It was asked, and answered in vain.
    opened.wait_for(1);
}
