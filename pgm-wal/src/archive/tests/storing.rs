//! Storing: idempotence, split brain, segments that are none.

use super::*;

#[test]
fn what_was_stored_comes_back_from_every_engine() {
    let root = folder();
    let local: Arc<dyn Storage> = Arc::new(LocalStorage::create(root.path()).unwrap());
    for storage in [memory().0, local] {
        let archive = Archive::new(storage.clone(), "main".parse().unwrap());
        assert_eq!(archive.segment_size().unwrap(), None);
        for (name, bytes) in wal().segments() {
            for codec in ["zstd:3", "lz4", "gzip:1", "none"] {
                let folder = folder();
                let path = folder.path().join("x");
                std::fs::write(&path, &bytes).unwrap();
                let stored = archive
                    .store_segment(&path, name, SIZE, codec.parse().unwrap())
                    .unwrap();
                // Compression makes no difference to what is stored.
                assert_eq!(matches!(stored, Stored::New(_)), codec == "zstd:3");
            }
            let out = folder();
            let destination = out.path().join("RECOVERYXLOG");
            let lookup = archive
                .fetch(WalFileName::Segment(name), SIZE, &destination, None)
                .unwrap();
            assert_eq!(lookup, Lookup::Delivered(Origin::Archive));
            assert_eq!(std::fs::read(&destination).unwrap(), bytes);
        }
        assert_eq!(archive.segment_size().unwrap(), Some(SIZE));
        assert_eq!(
            objects(&*storage)[0],
            "main/wal/00000001/000000010000000000000003"
        );
    }
}

#[test]
fn other_bytes_under_the_same_name_are_a_split_brain() {
    let (storage, archive) = memory();
    let (name, bytes) = wal().segments().remove(0);
    store(&archive, name, &bytes).unwrap();
    let mut other = Wal::new(3, timeline(1));
    other.commit(1, 11);
    other.fill_segment();
    let error = store(&archive, name, &other.segments()[0].1).unwrap_err();
    assert!(matches!(error, ArchiveError::SplitBrain { .. }), "{error}");
    assert!(error.needs_attention() && error.hint().is_some());
    assert_eq!(store(&archive, name, &bytes).unwrap(), Stored::Already);
    assert_eq!(objects(&*storage).len(), 1);
}

#[test]
fn what_is_not_the_segment_is_never_archived() {
    let (storage, archive) = memory();
    let (name, bytes) = wal().segments().remove(0);
    let wrong = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        let error = store(&archive, name, &bytes).unwrap_err();
        assert!(matches!(error, ArchiveError::Corrupt { .. }), "{error}");
    };
    wrong(&|bytes| bytes.truncate(1 << 19));
    wrong(&|bytes| bytes.push(0));
    wrong(&|bytes| bytes.clear());
    wrong(&|bytes| bytes.fill(0));
    wrong(&|bytes| bytes[0] ^= 0x80);
    wrong(&|bytes| bytes[1] ^= 0x10);
    wrong(&|bytes| bytes[2] &= !2);
    wrong(&|bytes| bytes[4] = 2);
    wrong(&|bytes| bytes[10] ^= 1);
    wrong(&|bytes| bytes[34] ^= 0x30);
    wrong(&|bytes| bytes[8192 + 8] ^= 1);
    let error = store(&archive, name.next(), &bytes).unwrap_err();
    assert!(matches!(error, ArchiveError::Corrupt { .. }), "{error}");
    assert!(objects(&*storage).is_empty());
}

#[test]
fn the_first_segment_of_a_timeline_may_begin_with_its_parents_pages() {
    let (_, archive) = memory();
    let mut old = Wal::new(3, timeline(9));
    old.commit(1, 1);
    let mut new = old.branch(timeline(10));
    new.fill_segment();
    let (name, bytes) = new.segments().remove(0);
    assert!(matches!(
        store(&archive, name, &bytes).unwrap(),
        Stored::New(_)
    ));
    assert!(archive.index(SIZE, None).unwrap().contains(name));
}

#[test]
fn an_unfinished_segment_is_replaced_only_by_more() {
    let (storage, archive) = memory();
    let mut wal = Wal::new(5, timeline(1));
    let name = name(timeline(1), 5);
    assert_eq!(
        store_partial(&archive, name, &vec![0; 1 << 20]).unwrap(),
        Stored::Nothing
    );
    wal.commit(1, 1);
    let short = wal.clone();
    wal.filler(20_000);
    let long = wal.clone();
    let bytes = |wal: &Wal| wal.segments().remove(0).1;
    assert!(matches!(
        store_partial(&archive, name, &bytes(&short)).unwrap(),
        Stored::New(_)
    ));
    assert!(matches!(
        store_partial(&archive, name, &bytes(&long)).unwrap(),
        Stored::New(_)
    ));
    assert_eq!(
        store_partial(&archive, name, &bytes(&long)).unwrap(),
        Stored::Already
    );
    assert_eq!(
        store_partial(&archive, name, &bytes(&short)).unwrap(),
        Stored::Nothing
    );
    assert_eq!(
        objects(&*storage),
        [
            format!(
                "main/wal/00000001/000000010000000000000005.{:016X}.partial",
                short.end().bytes()
            ),
            format!(
                "main/wal/00000001/000000010000000000000005.{:016X}.partial",
                long.end().bytes()
            ),
        ]
    );
    // Half a record, or noise, behind the last valid one changes nothing.
    let mut torn = bytes(&long);
    let at = (long.end().bytes() % SIZE.bytes()) as usize;
    torn[at..at + 500].fill(0x11);
    assert_eq!(
        store_partial(&archive, name, &torn).unwrap(),
        Stored::Already
    );

    let mut other = Wal::new(5, timeline(1));
    other.commit(9, 9);
    other.filler(50_000);
    let error = store_partial(&archive, name, &bytes(&other)).unwrap_err();
    assert!(matches!(error, ArchiveError::SplitBrain { .. }), "{error}");

    let mut finished = long.clone();
    finished.fill_segment();
    store(&archive, name, &bytes(&finished)).unwrap();
    assert_eq!(
        store_partial(&archive, name, &bytes(&long)).unwrap(),
        Stored::Nothing
    );
    let error = store_partial(&archive, name, &bytes(&other)).unwrap_err();
    assert!(matches!(error, ArchiveError::SplitBrain { .. }), "{error}");
}

#[test]
fn a_commit_that_began_in_the_segment_before_is_kept_in_an_unfinished_one() {
    let (_, archive) = memory();
    let mut wal = Wal::new(4, timeline(1));
    let before = Lsn::new(start(5).bytes() - 200);
    while wal.end() < before {
        let room = before.bytes_since(wal.end()) as usize;
        wal.filler(room.min(3000));
    }
    wal.record(1, 0, 77, &[7; 600]);
    let segments = wal.segments();
    assert_eq!(segments.len(), 2);
    store(&archive, segments[0].0, &segments[0].1).unwrap();
    let stored = store_partial(&archive, segments[1].0, &segments[1].1).unwrap();
    assert!(matches!(stored, Stored::New(_)));
    let source = ArchiveSource::new(archive, None, SIZE);
    let mut reader =
        RecordReader::seek(source, crate::History::root(timeline(1)), start(4)).unwrap();
    let mut last = 0;
    while let Some(record) = reader.next().unwrap() {
        last = record.xid;
    }
    assert_eq!(last, 77);
}

#[test]
fn histories_are_stored_once() {
    let (_, archive) = memory();
    let folder = folder();
    let path = folder.path().join("0000000A.history");
    let content = b"9\t0/3000000\tno recovery target specified\n";
    std::fs::write(&path, content).unwrap();
    let ten = timeline(10);
    assert_eq!(archive.history(ten, None).unwrap(), None);
    assert!(matches!(
        archive.store_history(&path, ten).unwrap(),
        Stored::New(_)
    ));
    assert_eq!(archive.store_history(&path, ten).unwrap(), Stored::Already);
    let history = archive.history(ten, None).unwrap().unwrap();
    assert_eq!(history.parent().unwrap().timeline, timeline(9));
    std::fs::write(&path, b"8\t0/3000000\tno recovery target specified\n").unwrap();
    let error = archive.store_history(&path, ten).unwrap_err();
    assert!(matches!(error, ArchiveError::SplitBrain { .. }), "{error}");
    std::fs::write(&path, b"nonsense").unwrap();
    let error = archive.store_history(&path, ten).unwrap_err();
    assert!(matches!(error, ArchiveError::Corrupt { .. }), "{error}");
    assert_eq!(
        archive
            .history(TimelineId::FIRST, None)
            .unwrap()
            .unwrap()
            .entries(),
        []
    );
}

/// A storage that flips a bit of what is written to it.
#[derive(Debug)]
struct Lying(MemoryStorage);

impl Storage for Lying {
    fn create(&self, path: &ObjectPath) -> pgm_storage::Result<Box<dyn ObjectWriter>> {
        self.0.create(path)
    }
    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> pgm_storage::Result<()> {
        self.0.put(path, bytes, mode)
    }
    fn open(&self, path: &ObjectPath) -> pgm_storage::Result<Box<dyn ObjectReader>> {
        let mut bytes = self.0.get(path, 1 << 30)?;
        bytes[200] ^= 4;
        self.0.put(path, &bytes, PutMode::Replace)?;
        self.0.open(path)
    }
    fn get(&self, path: &ObjectPath, bytes_max: u64) -> pgm_storage::Result<Vec<u8>> {
        self.0.get(path, bytes_max)
    }
    fn head(&self, path: &ObjectPath) -> pgm_storage::Result<ObjectMeta> {
        self.0.head(path)
    }
    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> pgm_storage::Result<()> {
        self.0.list(prefix, visit)
    }
    fn folders(&self, prefix: &ObjectPath) -> pgm_storage::Result<Vec<String>> {
        self.0.folders(prefix)
    }
    fn delete(&self, path: &ObjectPath) -> pgm_storage::Result<()> {
        self.0.delete(path)
    }
    fn sweep(&self, prefix: &ObjectPath) -> pgm_storage::Result<u64> {
        self.0.sweep(prefix)
    }
    fn space(&self) -> pgm_storage::Result<Option<Space>> {
        self.0.space()
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[test]
fn what_does_not_come_back_as_it_was_written_is_not_stored() {
    let storage = Arc::new(Lying(MemoryStorage::new()));
    let archive = Archive::new(storage.clone(), "main".parse().unwrap());
    let (name, bytes) = wal().segments().remove(0);
    let error = store(&archive, name, &bytes).unwrap_err();
    assert!(matches!(error, ArchiveError::ReadBack { .. }), "{error}");
    assert!(objects(&*storage).is_empty());
}
