//! The archiver: order, failures, what stays in the spool.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use pgm_storage::Cancel;

use super::*;

/// Remembers what it is told, and cancels when a pass leaves nothing to do.
#[derive(Debug, Default)]
struct Watch {
    archived: Vec<WalFileName>,
    failed: Vec<String>,
    cancel: Option<Cancel>,
}

impl ArchiveObserver for Watch {
    fn archived(&mut self, file: WalFileName, _stored: Stored, _took: Duration) {
        self.archived.push(file);
    }

    fn failed(&mut self, incident: &Incident<'_>) {
        self.failed.push(incident.error.to_string());
    }

    fn waiting(&mut self, backlog: usize, _wait: Duration) {
        if backlog == 0
            && let Some(cancel) = &self.cancel
        {
            cancel.cancel();
        }
    }
}

fn options() -> ArchiverOptions {
    ArchiverOptions {
        retry_min: Duration::from_millis(1),
        retry_max: Duration::from_millis(4),
        ..ArchiverOptions::default()
    }
}

/// Runs until everything is archived.
fn drain(archiver: &mut Archiver) -> Watch {
    let cancel = Cancel::new();
    let mut watch = Watch {
        cancel: Some(cancel.clone()),
        ..Watch::default()
    };
    archiver.run(&cancel, &mut watch);
    watch
}

fn names(spool: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(spool).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.starts_with("0000"));
    names.sort();
    names
}

#[test]
fn finished_segments_go_to_the_archive_and_the_newest_stays() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    wal().write_unfinished_to(folder.path());
    let mut archiver = Archiver::new(spool, archive.clone(), options());
    let watch = drain(&mut archiver);
    assert_eq!(watch.failed, Vec::<String>::new());
    assert_eq!(
        watch.archived,
        [3, 4].map(|number| WalFileName::Segment(name(timeline(1), number)))
    );
    assert_eq!(
        names(folder.path()),
        [
            "000000010000000000000004",
            "000000010000000000000005.partial"
        ]
    );
    let index = archive.index(SIZE, None).unwrap();
    assert_eq!(index.newest_end(timeline(1)), Some(start(5)));
    // Nothing is done twice.
    assert!(drain(&mut archiver).archived.is_empty());
}

#[test]
fn histories_go_before_their_segments_and_the_rest_of_a_left_timeline_follows() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    let old = wal();
    old.write_unfinished_to(folder.path());
    let mut new = old.branch(timeline(2));
    new.fill_segment();
    new.commit(4, 40);
    let segments = new.segments();
    for (name, bytes) in &segments[2..] {
        let file = if name.number.value() == 6 {
            WalFileName::Partial(*name)
        } else {
            WalFileName::Segment(*name)
        };
        std::fs::write(folder.path().join(file.file_name(SIZE)), bytes).unwrap();
    }
    let history = format!("1\t{}\tno recovery target specified\n", old.end());
    spool
        .store_history(timeline(2), history.as_bytes())
        .unwrap();
    let mut archiver = Archiver::new(spool, archive.clone(), options());
    let watch = drain(&mut archiver);
    assert_eq!(
        watch.archived,
        [
            WalFileName::History(timeline(2)),
            WalFileName::Segment(name(timeline(1), 3)),
            WalFileName::Segment(name(timeline(1), 4)),
            WalFileName::Segment(name(timeline(2), 5)),
            WalFileName::Partial(name(timeline(1), 5)),
        ]
    );
    assert_eq!(
        names(folder.path()),
        [
            "00000002.history",
            "000000020000000000000005",
            "000000020000000000000006.partial"
        ]
    );
    let index = archive.index(SIZE, None).unwrap();
    assert_eq!(index.newest_end(timeline(1)), Some(old.end()));
    let history = archive.history(timeline(2), None).unwrap().unwrap();
    assert_eq!(index.reach(&history, start(3)), start(6));

    let mut watch = Watch::default();
    assert_eq!(archiver.archive_rest(&Cancel::new(), &mut watch), 0);
    assert_eq!(watch.archived, [WalFileName::Partial(name(timeline(2), 6))]);
    assert!(names(folder.path()).contains(&"000000020000000000000006.partial".to_owned()));
    let index = archive.index(SIZE, None).unwrap();
    assert_eq!(index.reach(&history, start(3)), new.end());
}

#[test]
fn a_split_brain_is_reported_and_keeps_its_file_while_the_others_go_on() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    wal().write_unfinished_to(folder.path());
    let mut other = Wal::new(3, timeline(1));
    other.commit(9, 9);
    other.fill_segment();
    store(&archive, name(timeline(1), 3), &other.segments()[0].1).unwrap();
    let mut archiver = Archiver::new(spool, archive, options());
    let mut watch = Watch::default();
    assert_eq!(archiver.archive_rest(&Cancel::new(), &mut watch), 1);
    assert_eq!(watch.failed.len(), 1);
    assert!(watch.failed[0].contains("differs"), "{}", watch.failed[0]);
    assert!(
        watch
            .archived
            .contains(&WalFileName::Segment(name(timeline(1), 4)))
    );
    assert!(names(folder.path()).contains(&"000000010000000000000003".to_owned()));
}

#[test]
fn local_copies_can_be_kept() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    wal().write_unfinished_to(folder.path());
    let options = ArchiverOptions {
        local_copy: LocalCopy::Keep,
        ..options()
    };
    let mut archiver = Archiver::new(spool, archive, options);
    assert_eq!(drain(&mut archiver).archived.len(), 2);
    assert_eq!(names(folder.path()).len(), 3);
    assert!(drain(&mut archiver).archived.is_empty());
}

/// A storage that is away for its first creations.
#[derive(Debug)]
struct Flaky {
    inner: MemoryStorage,
    failures: AtomicU32,
}

impl Storage for Flaky {
    fn create(&self, path: &ObjectPath) -> pgm_storage::Result<Box<dyn ObjectWriter>> {
        let left = self.failures.load(Ordering::Relaxed);
        if left > 0 {
            self.failures.store(left - 1, Ordering::Relaxed);
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(StorageError::from_io("create", path.to_string(), error));
        }
        self.inner.create(path)
    }
    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> pgm_storage::Result<()> {
        self.inner.put(path, bytes, mode)
    }
    fn open(&self, path: &ObjectPath) -> pgm_storage::Result<Box<dyn ObjectReader>> {
        self.inner.open(path)
    }
    fn get(&self, path: &ObjectPath, bytes_max: u64) -> pgm_storage::Result<Vec<u8>> {
        self.inner.get(path, bytes_max)
    }
    fn head(&self, path: &ObjectPath) -> pgm_storage::Result<ObjectMeta> {
        self.inner.head(path)
    }
    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> pgm_storage::Result<()> {
        self.inner.list(prefix, visit)
    }
    fn folders(&self, prefix: &ObjectPath) -> pgm_storage::Result<Vec<String>> {
        self.inner.folders(prefix)
    }
    fn delete(&self, path: &ObjectPath) -> pgm_storage::Result<()> {
        self.inner.delete(path)
    }
    fn sweep(&self, prefix: &ObjectPath) -> pgm_storage::Result<u64> {
        self.inner.sweep(prefix)
    }
    fn space(&self) -> pgm_storage::Result<Option<Space>> {
        self.inner.space()
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[test]
fn a_repository_that_is_away_is_tried_again_and_nothing_is_lost() {
    let storage = Arc::new(Flaky {
        inner: MemoryStorage::new(),
        failures: AtomicU32::new(5),
    });
    let archive = Archive::new(storage, "main".parse().unwrap());
    let folder = folder();
    let spool = spool(folder.path());
    wal().write_unfinished_to(folder.path());
    let watch = drain(&mut Archiver::new(spool, archive.clone(), options()));
    assert_eq!(watch.failed.len(), 5);
    assert_eq!(watch.archived.len(), 2);
    assert_eq!(
        archive.index(SIZE, None).unwrap().newest_end(timeline(1)),
        Some(start(5))
    );
}

#[test]
fn a_signal_wakes_an_archiver_on_its_own_thread() {
    struct Tell(std::sync::mpsc::Sender<(String, WalFileName)>);
    impl ArchiveObserver for Tell {
        fn archived(&mut self, file: WalFileName, _stored: Stored, _took: Duration) {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            self.0.send((thread, file)).unwrap();
        }
        fn failed(&mut self, incident: &Incident<'_>) {
            panic!("{}", incident.error);
        }
    }
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    let options = ArchiverOptions {
        poll: Duration::from_hours(1),
        ..options()
    };
    let archiver = Archiver::new(spool, archive, options);
    let signal = archiver.signal();
    let cancel = Cancel::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = archiver
        .spawn(cancel.clone(), Box::new(Tell(sender)))
        .unwrap();
    // Finished files appear by a rename, as the receiver's do.
    let aside = folder.path().join("aside");
    std::fs::create_dir(&aside).unwrap();
    wal().write_unfinished_to(&aside);
    for file in names(&aside) {
        std::fs::rename(aside.join(&file), folder.path().join(&file)).unwrap();
    }
    signal.notify();
    for number in [3, 4] {
        let (thread, file) = receiver.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(thread, "archiver");
        assert_eq!(file, WalFileName::Segment(name(timeline(1), number)));
    }
    cancel.cancel();
    let mut archiver = thread.join().unwrap();
    assert_eq!(
        archiver.archive_rest(&Cancel::new(), &mut Watch::default()),
        0
    );
}

#[test]
fn an_empty_spool_needs_nothing() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = Spool::open(folder.path()).unwrap();
    let watch = Mutex::new(drain(&mut Archiver::new(spool, archive, options())));
    assert!(watch.into_inner().unwrap().archived.is_empty());
}

#[test]
fn without_a_permit_nothing_is_written_and_it_is_asked_again() {
    let (storage, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    wal().write_unfinished_to(folder.path());
    let asked = Arc::new(AtomicU32::new(0));
    let times = Arc::clone(&asked);
    let ask = move || {
        // Given at the third time, taken away in the middle, and given again.
        match times.fetch_add(1, Ordering::Relaxed) {
            0 | 1 | 4 => Err(ArchiveError::NotPermitted {
                reason: "another one writes".to_owned(),
                advice: None,
            }),
            _ => Ok(()),
        }
    };
    let quick = ArchiverOptions {
        poll: Duration::from_millis(1),
        ..options()
    };
    let mut archiver = Archiver::new(spool, archive, quick).permitted_by(Box::new(ask));
    assert_eq!(
        archiver.archive_rest(&Cancel::new(), &mut Watch::default()),
        3
    );
    assert!(objects(&*storage).is_empty());
    let watch = drain(&mut archiver);
    assert_eq!(watch.failed, ["another one writes"; 2]);
    assert_eq!(watch.archived.len(), 2);
    assert!(asked.load(Ordering::Relaxed) > 5);
}

#[test]
fn the_backlog_is_told_beside_the_archiver() {
    let (_, archive) = memory();
    let folder = folder();
    let spool = spool(folder.path());
    let watch = BacklogWatch::new(spool.clone());
    assert_eq!(watch.measure().unwrap(), Backlog::default());
    wal().write_unfinished_to(folder.path());
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    let times = std::fs::FileTimes::new().set_modified(hour_ago);
    for name in names(folder.path()) {
        let file = std::fs::File::options()
            .append(true)
            .open(folder.path().join(name));
        file.unwrap().set_times(times).unwrap();
    }
    let waiting = watch.measure().unwrap();
    assert_eq!((waiting.files, waiting.since), (2, Some(hour_ago)));
    let mut archiver = Archiver::new(spool, archive, options()).watched_by(&watch);
    drain(&mut archiver);
    // The newest one stays, but it waits for nothing.
    assert_eq!(watch.measure().unwrap(), Backlog::default());
}
