//! Manifests come back as written, and nothing that happened to their bytes goes unnoticed.

use std::ops::ControlFlow;

use pgm_storage::{Compression, MemoryStorage, ObjectPath, PackWriter, PutMode, Storage};
use proptest::prelude::*;

use super::*;
use crate::catalog::tests::entry_with;
use crate::catalog::{BackupEntry, ObjectChecksum};
use crate::error::Error;

fn path() -> ObjectPath {
    ObjectPath::parse("main/backup/x/manifest").unwrap()
}

fn header(entry: &BackupEntry) -> ManifestHeader {
    ManifestHeader {
        format: MANIFEST_FORMAT,
        server: entry.server.clone(),
        label: entry.label,
    }
}

/// Writes a manifest; gives its storage and the catalog entry that names it.
fn write(entries: &[ManifestEntry], packs: u32) -> (MemoryStorage, BackupEntry) {
    let storage = MemoryStorage::new();
    let mut entry = entry_with("20261122T023456Z");
    let object = storage.create(&path()).unwrap();
    let mut writer = ManifestWriter::new(object, &header(&entry), Compression::ZSTD).unwrap();
    for line in entries {
        writer.entry(line).unwrap();
    }
    let packs: Vec<_> = (0..packs).map(|number| pack(&entry, number)).collect();
    (entry.manifest, _) = writer.finish(&packs).unwrap();
    (storage, entry)
}

fn pack(entry: &BackupEntry, number: u32) -> PackRecord {
    PackRecord {
        label: entry.label,
        number,
        size: 1000,
        raw_bytes: 5000,
        frames: 3,
        index_crc32c: number.is_multiple_of(2).then_some(number),
    }
}

fn file(name: &str, extents: u32) -> ManifestEntry {
    let extent = |number: u32| Extent {
        file_offset: u64::from(number) << 20,
        pack: number % 3,
        frame_offset: 16 + u64::from(number) * 999,
        start: 0,
        length: 1 << 20,
    };
    ManifestEntry::File(FileEntry {
        path: FilePath::new(name).unwrap(),
        size: u64::from(extents) << 20,
        mode: 0o600,
        mtime: 1_700_000_000,
        crc32c: Some(0xE306_9283),
        extents: (0..extents).map(extent).collect(),
    })
}

fn read(storage: &dyn Storage, entry: &BackupEntry) -> crate::Result<Vec<ManifestEntry>> {
    ManifestReader::open(storage, &path(), entry)?.collect()
}

fn sample() -> Vec<ManifestEntry> {
    let directory = FilePath::new("base").unwrap();
    vec![
        ManifestEntry::Directory(DirectoryEntry {
            path: directory,
            mode: 0o700,
            mtime: 5,
        }),
        file("base/1", 3),
        ManifestEntry::Tablespace(TablespaceLink {
            oid: 16385,
            target: "/mnt/ä".into(),
        }),
        ManifestEntry::Symlink(SymlinkEntry {
            path: FilePath::new("pg_wal").unwrap(),
            target: "../wal".into(),
        }),
        file("base/empty", 0),
    ]
}

#[test]
fn manifest_looks_as_the_format_page_draws_it() {
    let (storage, entry) = write(&sample(), 3);
    let pack = pgm_storage::PackReader::open(storage.open(&path()).unwrap()).unwrap();
    let mut decoder = pgm_storage::FrameDecoder::new().unwrap();
    let (mut scratch, mut raw, mut text) = (Vec::new(), Vec::new(), Vec::new());
    for frame in pack.frames() {
        pack.read(frame, &mut decoder, &mut scratch, &mut raw)
            .unwrap();
        text.extend_from_slice(&raw);
    }
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"header":{"format":1,"server":"main","label":"20261122T023456Z"}}"#,
            r#"{"directory":{"path":"base","mode":448,"mtime":5}}"#,
            r#"{"file":{"path":"base/1","size":3145728,"mode":384,"mtime":1700000000,"crc32c":3808858755,"extents":[[0,0,16,0,1048576],[1048576,1,1015,0,1048576],[2097152,2,2014,0,1048576]]}}"#,
            r#"{"tablespace":{"oid":16385,"target":"/mnt/ä"}}"#,
            r#"{"symlink":{"path":"pg_wal","target":"../wal"}}"#,
            r#"{"file":{"path":"base/empty","size":0,"mode":384,"mtime":1700000000,"crc32c":3808858755,"extents":[]}}"#,
            r#"{"pack":{"label":"20261122T023456Z","number":0,"size":1000,"raw_bytes":5000,"frames":3,"index_crc32c":0}}"#,
            r#"{"pack":{"label":"20261122T023456Z","number":1,"size":1000,"raw_bytes":5000,"frames":3}}"#,
            r#"{"pack":{"label":"20261122T023456Z","number":2,"size":1000,"raw_bytes":5000,"frames":3,"index_crc32c":2}}"#,
            r#"{"end":{"table_frames":1,"packs":3,"files":2,"directories":1,"links":2,"raw_bytes":3145728}}"#,
        ]
    );
    let reader = ManifestReader::open(&storage, &path(), &entry).unwrap();
    assert_eq!(
        (
            reader.packs().len(),
            reader.totals().files,
            reader.header().format
        ),
        (3, 2, 1)
    );
}

#[test]
fn every_flipped_bit_of_a_manifest_is_damage() {
    let (storage, entry) = write(&sample(), 3);
    let bytes = storage.get(&path(), 1 << 20).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        storage.put(&path(), &flipped, PutMode::Replace).unwrap();
        let error = read(&storage, &entry).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "bit {bit}: {error}");
        assert!(error.to_string().contains("main/backup/x/manifest") && error.hint().is_some());
    }
}

#[test]
fn truncated_manifest_is_damage() {
    let (storage, entry) = write(&sample(), 3);
    let bytes = storage.get(&path(), 1 << 20).unwrap();
    for length in 0..bytes.len() {
        storage
            .put(&path(), &bytes[..length], PutMode::Replace)
            .unwrap();
        assert!(
            matches!(read(&storage, &entry), Err(Error::Damaged { .. })),
            "{length} bytes"
        );
    }
}

/// A manifest made of these frames, with right checksums all the way up.
fn forged(frames: &[&str]) -> crate::Result<Vec<ManifestEntry>> {
    let storage = MemoryStorage::new();
    let mut pack = PackWriter::new(storage.create(&path()).unwrap(), Compression::NONE).unwrap();
    for frame in frames {
        pack.append(frame.as_bytes()).unwrap();
    }
    pack.finish().unwrap();
    let bytes = storage.get(&path(), 1 << 24).unwrap();
    let mut entry = entry_with("20261122T023456Z");
    entry.manifest = ObjectChecksum {
        size: bytes.len() as u64,
        crc32c: pgm_storage::crc32c(&bytes),
    };
    read(&storage, &entry)
}

#[test]
fn manifests_that_contradict_themselves_are_damage() {
    const HEADER: &str = r#"{"header":{"format":1,"server":"main","label":"20261122T023456Z"}}"#;
    const END: &str =
        r#"{"end":{"table_frames":0,"packs":0,"files":0,"directories":0,"links":0,"raw_bytes":0}}"#;
    const ONE: &str =
        r#"{"end":{"table_frames":0,"packs":0,"files":1,"directories":0,"links":0,"raw_bytes":5}}"#;
    const HOLE: &str = concat!(
        r#"{"file":{"path":"a","size":5,"mode":384,"mtime":0,"crc32c":0,"extents":[[1,0,16,0,4]]}}"#,
        "\n"
    );
    assert_eq!(forged(&[HEADER, END]).unwrap(), []);
    let other = HEADER.replace("56Z", "57Z");
    let far = END.replace(r#""table_frames":0"#, r#""table_frames":9"#);
    let hidden = END.replace(r#""table_frames":0"#, r#""table_frames":1"#);
    let escaping = HOLE.replace(r#""a""#, r#""../a""#);
    for frames in [
        vec![],
        vec![HEADER],
        vec![END, HEADER],
        vec![HEADER, HEADER],
        vec![&other, END],
        vec![HEADER, ONE],
        vec![HEADER, HOLE, ONE],
        vec![HEADER, &escaping, ONE],
        vec![HEADER, HOLE.trim(), ONE],
        vec![HEADER, "{\"pack\":{}}\n", END],
        vec![HEADER, END, END],
        vec![HEADER, &far],
        vec![HEADER, &hidden],
        vec![HEADER, HOLE, &hidden],
        vec!["[[[[[[", END],
    ] {
        let error = forged(&frames).unwrap_err();
        assert!(
            matches!(error, Error::Damaged { .. }),
            "{frames:?}: {error}"
        );
    }
    let newer = HEADER.replace("\"format\":1", "\"format\":2,\"new\":[]");
    assert!(matches!(
        forged(&[&newer, END]),
        Err(Error::UnknownFormat { found: 2, .. })
    ));
}

#[test]
fn lines_longer_than_a_frame_come_back() {
    let entries = [file("huge", 60_000), file("small", 1)];
    let (storage, entry) = write(&entries, 3);
    assert_eq!(read(&storage, &entry).unwrap(), entries);
}

#[test]
fn manifest_that_was_not_finished_leaves_nothing() {
    let storage = MemoryStorage::new();
    let entry = entry_with("20261122T023456Z");
    let object = storage.create(&path()).unwrap();
    drop(ManifestWriter::new(object, &header(&entry), Compression::ZSTD).unwrap());
    let mut objects = 0;
    let count = &mut |_| {
        objects += 1;
        ControlFlow::Continue(())
    };
    storage.list(&ObjectPath::root(), count).unwrap();
    assert_eq!(objects, 0);
}

fn any_entry() -> impl Strategy<Value = ManifestEntry> {
    let path = prop::collection::vec(any::<u8>(), 1..40)
        .prop_filter_map("not a path", |bytes| FilePath::new(bytes).ok());
    let pieces = prop::collection::vec(
        (0_u32..4, any::<u64>(), any::<u32>(), 1_u32..=1 << 20),
        0..20,
    );
    let file = (
        path.clone(),
        any::<u32>(),
        any::<u64>(),
        any::<Option<u32>>(),
        pieces,
    )
        .prop_map(|(path, mode, mtime, crc32c, pieces)| {
            let mut size = 0;
            let extents = pieces
                .into_iter()
                .map(|(pack, frame_offset, start, length)| {
                    let file_offset = size;
                    size += u64::from(length);
                    Extent {
                        file_offset,
                        pack,
                        frame_offset,
                        start,
                        length,
                    }
                });
            let extents = extents.collect();
            ManifestEntry::File(FileEntry {
                path,
                size,
                mode,
                mtime,
                crc32c,
                extents,
            })
        });
    prop_oneof![
        4 => file,
        1 => (path.clone(), any::<u32>(), any::<u64>())
            .prop_map(|(path, mode, mtime)| ManifestEntry::Directory(DirectoryEntry { path, mode, mtime })),
        1 => (any::<u32>(), any::<String>())
            .prop_map(|(oid, target)| ManifestEntry::Tablespace(TablespaceLink { oid, target })),
        1 => (path, any::<String>())
            .prop_map(|(path, target)| ManifestEntry::Symlink(SymlinkEntry { path, target })),
    ]
}

proptest! {
    #[test]
    fn manifest_is_read_back_as_written(entries in prop::collection::vec(any_entry(), 0..40)) {
        let (storage, entry) = write(&entries, 4);
        prop_assert_eq!(read(&storage, &entry).unwrap(), entries);
    }
}
