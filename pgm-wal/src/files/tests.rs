//! The same records come from every kind of file.

use std::io::Write as _;

use super::*;
use crate::record::fixture::{SIZE, Wal, timeline};
use crate::record::{RecordReader, SegmentSource as _};

fn sample() -> Wal {
    let mut wal = Wal::new(3, timeline(1));
    while SIZE.number_at(wal.end()).value() < 6 {
        wal.filler(9000);
    }
    wal.commit(7, 7);
    wal
}

fn lsns(files: &SegmentFiles) -> Vec<Lsn> {
    let timeline = files.newest_timeline().unwrap();
    let history = files.history(timeline);
    let mut found = Vec::new();
    for run in files.runs(&history) {
        let mut reader = RecordReader::seek(files.source(run), history.clone(), run.start).unwrap();
        while let Some(record) = reader.next().unwrap() {
            found.push(record.lsn);
        }
    }
    found
}

type Encode = fn(&[u8]) -> Vec<u8>;

/// A tar archive with these members.
fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in members {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = b'0';
        header[257..262].copy_from_slice(b"ustar");
        archive.extend(header);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.extend([0; 1024]);
    archive
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bz2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

#[test]
fn plain_and_compressed_segments_and_archives_give_the_same_records() {
    let wal = sample();
    let folder = tempfile::tempdir().unwrap();
    wal.write_to(folder.path());
    let expected = lsns(&SegmentFiles::find(&[folder.path().to_owned()]).unwrap());
    assert!(expected.len() > 300);
    let segments: Vec<(String, Vec<u8>)> = wal
        .segments()
        .into_iter()
        .map(|(name, bytes)| (name.file_name(SIZE), bytes))
        .collect();
    let encodings: [(&str, Encode); 4] = [("gz", gzip), ("zst", zst), ("lz4", lz4), ("bz2", bz2)];
    for (suffix, encode) in encodings {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in &segments {
            let path = folder.path().join(format!("{name}.{suffix}"));
            std::fs::write(path, encode(bytes)).unwrap();
        }
        let files = SegmentFiles::find(&[folder.path().to_owned()]).unwrap();
        assert_eq!(lsns(&files), expected, "{suffix}");
    }
    let members: Vec<_> = segments
        .iter()
        .map(|(name, bytes)| (format!("pg_wal/{name}"), bytes.clone()))
        .collect();
    let archive = tar(&members);
    for (name, bytes) in [
        ("a.tar", archive.clone()),
        ("b.tar.gz", gzip(&archive)),
        ("c.tgz", gzip(&archive)),
        ("d.tar.zst", zst(&archive)),
        ("e.tar.bz2", bz2(&archive)),
        ("f.tar.lz4", lz4(&archive)),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let files = SegmentFiles::find(&[path]).unwrap();
        assert_eq!(lsns(&files), expected, "{name}");
    }
}

#[test]
fn objects_of_a_repository_are_read() {
    use pgm_storage::{Compression, LocalStorage, ObjectPath, PackWriter, Storage as _};

    let wal = sample();
    let folder = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(folder.path()).unwrap();
    for (name, bytes) in wal.segments() {
        let path = ObjectPath::parse(&format!("wal/{}", name.file_name(SIZE))).unwrap();
        let mut pack = PackWriter::new(storage.create(&path).unwrap(), Compression::ZSTD).unwrap();
        for chunk in bytes.chunks(300_000) {
            pack.append(chunk).unwrap();
        }
        pack.finish().unwrap();
    }
    let files = SegmentFiles::find(&[folder.path().join("wal")]).unwrap();
    assert_eq!(files.size(), SIZE);
    assert!(lsns(&files).len() > 300);
}

#[test]
fn holes_part_the_runs_and_histories_lead_over_timelines() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = sample();
    let switch = old.end();
    let mut new = old.branch(timeline(2));
    new.commit(8, 8);
    old.commit(99, 9);
    old.write_to(folder.path());
    for (name, bytes) in &new.segments()[3..] {
        std::fs::write(folder.path().join(name.file_name(SIZE)), bytes).unwrap();
    }
    std::fs::write(
        folder.path().join("00000002.history"),
        format!("1\t{switch}\tpromoted\n"),
    )
    .unwrap();
    std::fs::remove_file(folder.path().join("000000010000000000000004")).unwrap();
    let files = SegmentFiles::find(&[folder.path().to_owned()]).unwrap();
    assert_eq!(files.newest_timeline(), Some(timeline(2)));
    let history = files.history(timeline(2));
    assert_eq!(history.entries().len(), 1);
    let starts: Vec<u64> = files
        .runs(&history)
        .iter()
        .map(|run| SIZE.number_at(run.start).value())
        .collect();
    assert_eq!(starts, [3, 5]);
    let run = files.runs(&history)[0];
    let mut source = files.source(run);
    assert_eq!(
        source
            .newest(timeline(1))
            .unwrap()
            .map(SegmentNumber::value),
        Some(3)
    );
}

#[test]
fn files_that_wait_to_be_used_again_are_passed_over() {
    let wal = sample();
    let folder = tempfile::tempdir().unwrap();
    wal.write_to(folder.path());
    let expected = lsns(&SegmentFiles::find(&[folder.path().to_owned()]).unwrap());
    let recycled = &wal.segments()[0].1;
    std::fs::write(folder.path().join("000000010000000000000007"), recycled).unwrap();
    std::fs::write(
        folder.path().join("000000010000000000000008"),
        vec![0; 1 << 20],
    )
    .unwrap();
    let found = lsns(&SegmentFiles::find(&[folder.path().to_owned()]).unwrap());
    assert_eq!(found, expected);
}

#[test]
fn what_is_sealed_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("000000010000000000000005");
    std::fs::write(&path, b"PGMS and what follows").unwrap();
    let error = SegmentFiles::find(&[path]).unwrap_err();
    assert!(matches!(error, FilesError::Sealed { .. }), "{error}");
    assert!(error.hint().unwrap().contains("repository"));
}

#[test]
fn what_is_no_wal_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = SegmentFiles::find(&[folder.path().to_owned()]).unwrap_err();
    assert!(matches!(error, FilesError::Nothing { .. }), "{error}");
    assert!(error.hint().is_some());
    let path = folder.path().join("000000010000000000000004");
    std::fs::write(&path, [7; 100]).unwrap();
    let error = SegmentFiles::find(&[path]).unwrap_err();
    assert!(matches!(error, FilesError::NoSegment { .. }), "{error}");
    let path = folder.path().join("x.tar");
    std::fs::write(&path, [7; 1024]).unwrap();
    let error = SegmentFiles::find(&[path]).unwrap_err();
    assert!(matches!(error, FilesError::Tar { .. }), "{error}");
    let path = folder.path().join("000000010000000000000004.gz");
    std::fs::write(&path, [0x1F, 0x8B, 8, 1, 2, 3]).unwrap();
    assert!(SegmentFiles::find(&[path]).is_err());
}

proptest::proptest! {
    #[test]
    fn random_archives_never_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        let mut archive = tar(&[("000000010000000000000004".to_owned(), vec![1; 600])]);
        for (at, byte) in bytes.iter().enumerate() {
            archive[at % 700] ^= byte & (at as u8);
        }
        std::fs::write(&path, archive).unwrap();
        let _ = SegmentFiles::find(&[path]);
    }
}
