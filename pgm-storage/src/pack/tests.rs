//! Packs: reading back, damage, recovery without an index.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::codec::Compression;
use crate::error::StorageError;
use crate::frame::{FRAME_RAW_MAX, FrameDecoder, FrameEncoder, FrameError};
use crate::memory::MemoryStorage;
use crate::path::ObjectPath;
use crate::storage::{PutMode, Storage};

fn path() -> ObjectPath {
    ObjectPath::parse("main/0001.pack").unwrap()
}

/// The bytes of a pack of `raws`.
fn pack(compression: Compression, kind: PackKind, raws: &[Vec<u8>]) -> Vec<u8> {
    let storage = MemoryStorage::new();
    let object = storage.create(&path()).unwrap();
    let mut writer = PackWriter::with_kind(object, compression, kind).unwrap();
    for raw in raws {
        writer.append(raw).unwrap();
    }
    let summary = writer.finish().unwrap();
    let bytes = storage.get(&path(), u64::MAX).unwrap();
    assert_eq!(summary.size, bytes.len() as u64);
    bytes
}

fn stored(bytes: &[u8]) -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.put(&path(), bytes, PutMode::Create).unwrap();
    storage
}

fn open(bytes: &[u8]) -> crate::Result<PackReader> {
    PackReader::open(stored(bytes).open(&path()).unwrap())
}

fn recover(bytes: &[u8]) -> crate::Result<PackReader> {
    PackReader::recover(stored(bytes).open(&path()).unwrap())
}

fn contents(reader: &PackReader) -> crate::Result<Vec<Vec<u8>>> {
    let (mut decoder, mut scratch) = (FrameDecoder::new().unwrap(), Vec::new());
    let read = |frame| {
        let mut raw = Vec::new();
        reader
            .read(frame, &mut decoder, &mut scratch, &mut raw)
            .map(|()| raw)
    };
    reader.frames().iter().map(read).collect()
}

fn some_raws() -> Vec<Vec<u8>> {
    vec![
        vec![1; 5000],
        Vec::new(),
        b"short".to_vec(),
        (0..=255).cycle().take(9000).collect(),
    ]
}

#[test]
fn a_pack_gives_back_its_frames_and_tells_what_it_is() {
    let raws: Vec<Vec<u8>> = (0..5)
        .map(|n| vec![n; FRAME_RAW_MAX - usize::from(n)])
        .collect();
    for compression in [
        Compression::NONE,
        Compression::ZSTD,
        Compression::LZ4,
        Compression::GZIP,
    ] {
        let reader = open(&pack(compression, PackKind(7), &raws)).unwrap();
        assert_eq!(reader.kind(), PackKind(7));
        assert!(contents(&reader).unwrap() == raws);
        let summary = reader.verify().unwrap();
        assert_eq!(summary.frames, 5);
        assert_eq!(summary.raw_bytes, 5 * FRAME_RAW_MAX as u64 - 10);
    }
}

#[test]
fn an_empty_pack_is_a_pack() {
    let reader = open(&pack(Compression::ZSTD, PackKind::UNSPECIFIED, &[])).unwrap();
    assert_eq!(
        reader.verify().unwrap(),
        PackSummary {
            size: 56,
            raw_bytes: 0,
            frames: 0,
            index_crc: crate::crc32c(b"PGMI\0\0\0\0"),
        }
    );
}

#[test]
fn frames_that_were_encoded_elsewhere_make_the_same_pack() {
    let storage = MemoryStorage::new();
    let object = storage.create(&path()).unwrap();
    let mut writer = PackWriter::new(object, Compression::NONE).unwrap();
    let mut encoder = FrameEncoder::new(Compression::ZSTD).unwrap();
    for raw in some_raws() {
        let mut frame = Vec::new();
        encoder.encode(&raw, &mut frame).unwrap();
        let location = writer.append_encoded(&frame).unwrap();
        assert_eq!(location.end(), writer.bytes());
        for damaged in [&frame[1..], &frame[..frame.len() - 1], b""] {
            assert!(matches!(
                writer.append_encoded(damaged),
                Err(StorageError::Frame {
                    source: FrameError::Damaged(_),
                    ..
                })
            ));
        }
    }
    writer.finish().unwrap();
    let expected = pack(Compression::ZSTD, PackKind::UNSPECIFIED, &some_raws());
    assert_eq!(storage.get(&path(), u64::MAX).unwrap(), expected);
}

#[test]
fn a_pack_that_is_not_finished_is_not_there() {
    let storage = MemoryStorage::new();
    let mut writer = PackWriter::new(storage.create(&path()).unwrap(), Compression::ZSTD).unwrap();
    writer.append(&[1; 1000]).unwrap();
    drop(writer);
    assert!(storage.head(&path()).unwrap_err().is_not_found());
}

#[test]
fn too_many_bytes_for_a_frame_are_refused_and_the_pack_goes_on() {
    let storage = MemoryStorage::new();
    let mut writer = PackWriter::new(storage.create(&path()).unwrap(), Compression::ZSTD).unwrap();
    let error = writer.append(&vec![0; FRAME_RAW_MAX + 1]).unwrap_err();
    assert!(matches!(
        error,
        StorageError::Frame {
            source: FrameError::TooLarge { .. },
            ..
        }
    ));
    writer.append(b"fits").unwrap();
    writer.finish().unwrap();
    let reader = PackReader::open(storage.open(&path()).unwrap()).unwrap();
    assert_eq!(contents(&reader).unwrap(), [b"fits"]);
}

#[test]
fn every_flipped_bit_of_a_pack_is_found() {
    let raws = [
        b"first first first first".to_vec(),
        vec![7; 200],
        b"third".to_vec(),
    ];
    for compression in [
        Compression::NONE,
        Compression::ZSTD,
        Compression::LZ4,
        Compression::GZIP,
    ] {
        let mut bytes = pack(compression, PackKind(1), &raws);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verified = open(&bytes).and_then(|reader| reader.verify());
            assert!(verified.is_err(), "{compression}: bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn opening_a_pack_finds_every_flipped_bit_outside_its_frames() {
    let mut bytes = pack(Compression::ZSTD, PackKind(1), &some_raws());
    let frames = 16 * 8..open(&bytes).unwrap().frames()[3].end() as usize * 8;
    for bit in (0..frames.start).chain(frames.end..bytes.len() * 8) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn damage_names_the_object_and_the_place_in_it() {
    let mut bytes = pack(Compression::NONE, PackKind(1), &some_raws());
    let second_to_last = open(&bytes).unwrap().frames()[2];
    bytes[second_to_last.offset as usize + 33] ^= 1;
    let error = open(&bytes).unwrap().verify().unwrap_err();
    let expected = format!(
        "main/0001.pack is damaged: frame at offset {}: the frame's payload does not match its checksum",
        second_to_last.offset
    );
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().is_some());
}

#[test]
fn a_location_that_describes_another_frame_is_refused() {
    let bytes = pack(Compression::ZSTD, PackKind(1), &some_raws());
    let reader = open(&bytes).unwrap();
    let (mut decoder, mut scratch, mut out) = (FrameDecoder::new().unwrap(), vec![], vec![]);
    let frame = reader.frames()[0];
    for wrong in [
        FrameLocation {
            crc: frame.crc ^ 1,
            ..frame
        },
        FrameLocation {
            raw_bytes: frame.raw_bytes + 1,
            ..frame
        },
        FrameLocation {
            stored_bytes: frame.stored_bytes - 1,
            ..frame
        },
        FrameLocation {
            stored_bytes: u32::MAX,
            ..frame
        },
        FrameLocation {
            offset: frame.offset + 1,
            ..frame
        },
        FrameLocation {
            offset: u64::MAX,
            ..frame
        },
    ] {
        let error = reader
            .read(&wrong, &mut decoder, &mut scratch, &mut out)
            .unwrap_err();
        assert!(
            matches!(error, StorageError::Damaged { .. }),
            "{wrong:?}: {error}"
        );
        assert!(out.is_empty());
    }
}

#[test]
fn a_pack_of_a_later_format_is_not_called_damaged() {
    let mut bytes = pack(Compression::NONE, PackKind(1), &some_raws());
    bytes[4] = 2;
    let crc = crate::crc32c(&bytes[..12]).to_le_bytes();
    bytes[12..16].copy_from_slice(&crc);
    let error = open(&bytes).unwrap_err();
    assert!(matches!(
        error,
        StorageError::Frame {
            source: FrameError::Unsupported { .. },
            ..
        }
    ));
    assert!(error.hint().unwrap().contains("newer"), "{error}");
}

proptest! {
    #[test]
    fn a_truncated_pack_is_found_and_its_whole_frames_are_recovered(cut in any::<Index>()) {
        let raws = some_raws();
        let bytes = pack(Compression::ZSTD, PackKind(1), &raws);
        let ends: Vec<u64> = open(&bytes).unwrap().frames().iter().map(FrameLocation::end).collect();
        let cut = cut.index(bytes.len());
        prop_assert!(open(&bytes[..cut]).is_err());
        if cut >= 16 {
            let whole = ends.iter().filter(|&&end| end <= cut as u64).count();
            let reader = recover(&bytes[..cut]).unwrap();
            prop_assert_eq!(contents(&reader).unwrap(), &raws[..whole]);
        } else {
            prop_assert!(recover(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn bytes_that_are_no_pack_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..500),
        header in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if header {
            bytes.splice(..0, index::header_bytes(PackKind(1)));
        }
        prop_assert!(open(&bytes).is_err());
    }
}

/// What `docs/on-disk.md` shows byte by byte is what this code writes and reads.
#[test]
fn the_example_in_the_manual_is_a_pack() {
    let raws = [b"hello, pgm".to_vec(), b"bye".to_vec()];
    let bytes = pack(Compression::NONE, PackKind(1), &raws);
    let dump: Vec<String> = bytes.chunks(16).enumerate().map(dump_line).collect();
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/on-disk.md");
    let manual = fs::read_to_string(manual).unwrap();
    let shown: Vec<&str> = manual
        .lines()
        .skip_while(|line| !line.starts_with("0000  50 47 4d 50"))
        .take_while(|line| !line.starts_with("```"))
        .map(|line| line.split("  #").next().unwrap_or_default().trim_end())
        .collect();
    assert_eq!(shown, dump, "docs/on-disk.md shows other bytes");
    assert_eq!(contents(&open(&bytes).unwrap()).unwrap(), raws);
}

fn dump_line((line, bytes): (usize, &[u8])) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{:04x}  {}", line * 16, bytes.join(" "))
}
