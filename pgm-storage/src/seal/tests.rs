//! Sealed objects: vectors of another program, and that nothing can be changed unnoticed.

use std::io::Read as _;

use proptest::prelude::*;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::header::Material;
use super::*;

/// As `tests/data/seal_vectors.py` computed it.
#[derive(Debug, Deserialize)]
struct Vector {
    name: String,
    raw_bytes: usize,
    chunk_power: u8,
    context: String,
    master_key: String,
    key_id: String,
    data_key: String,
    prefix: String,
    wrap_nonce: String,
    sealed: String,
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn raw(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 % 251) as u8).collect()
}

fn key(byte: u8) -> MasterKey {
    MasterKey::new(&[byte; MASTER_KEY_BYTES])
}

/// Sealed with chunks of 1 KiB, so that little data has many.
fn sealed(raw: &[u8], context: &[u8]) -> Vec<u8> {
    let material = Material::random().unwrap();
    let mut writer =
        SealWriter::with_material(Vec::new(), &key(1), context, &material, 10).unwrap();
    writer.write_all(raw).unwrap();
    writer.finish().unwrap()
}

#[test]
fn the_vectors_of_another_program_are_written_and_read() {
    let text = include_str!("../../tests/data/seal_vectors.json");
    let vectors: Vec<Vector> = serde_json::from_str(text).unwrap();
    assert_eq!(vectors.len(), 5);
    for vector in vectors {
        let key: MasterKey = vector.master_key.parse().unwrap();
        assert_eq!(key.id().to_string(), vector.key_id, "{}", vector.name);
        let material = Material {
            data_key: Zeroizing::new(hex(&vector.data_key).try_into().unwrap()),
            prefix: hex(&vector.prefix).try_into().unwrap(),
            wrap_nonce: hex(&vector.wrap_nonce).try_into().unwrap(),
        };
        let context = vector.context.as_bytes();
        let power = vector.chunk_power;
        let mut writer =
            SealWriter::with_material(Vec::new(), &key, context, &material, power).unwrap();
        writer.write_all(&raw(vector.raw_bytes)).unwrap();
        let sealed = hex(&vector.sealed);
        assert!(writer.finish().unwrap() == sealed, "{}", vector.name);
        let opened = unseal(&sealed, &key, context).unwrap();
        assert!(opened == raw(vector.raw_bytes), "{}", vector.name);
    }
}

#[test]
fn the_documented_example_is_the_second_vector() {
    let page = include_str!("../../../docs/on-disk.md");
    let section = page.split("\n## Sealed objects\n").nth(1).unwrap();
    let dump = section.split("```\n0000  ").nth(1).unwrap();
    let dump = format!("0000  {}", dump.split("```").next().unwrap());
    let rows = dump
        .lines()
        .map(|line| line[4..].split('#').next().unwrap());
    let bytes: Vec<u8> = rows.flat_map(|row| hex(&row.replace(' ', ""))).collect();
    let text = include_str!("../../tests/data/seal_vectors.json");
    let vectors: Vec<Vector> = serde_json::from_str(text).unwrap();
    assert_eq!(bytes, hex(&vectors[1].sealed));
    assert!(section.contains(&vectors[1].master_key) && section.contains(&vectors[1].data_key));
}

#[test]
fn every_length_around_the_chunks_comes_back() {
    for length in [0, 1, 1023, 1024, 1025, 2047, 2048, 2049, 10_000] {
        let raw = raw(length);
        assert!(unseal(&sealed(&raw, b"x"), &key(1), b"x").unwrap() == raw);
    }
    let large = raw(200_000);
    assert!(unseal(&seal(&large, &key(1), b"").unwrap(), &key(1), b"").unwrap() == large);
}

#[test]
fn the_same_bytes_are_never_sealed_to_the_same() {
    let (one, other) = (sealed(b"same", b""), sealed(b"same", b""));
    assert_ne!(one[SEAL_HEADER_BYTES..], other[SEAL_HEADER_BYTES..]);
}

#[test]
fn a_wrong_key_is_told_from_tampering_and_names_the_right_one() {
    let sealed = sealed(b"secret", b"x");
    let Err(SealError::WrongKey { needed, given }) = unseal(&sealed, &key(2), b"x") else {
        panic!()
    };
    assert_eq!((needed, given), (key(1).id(), key(2).id()));
    // The same key id, but the wrap was changed by somebody who knows how to make checksums.
    let mut forged = sealed.clone();
    forged[50] ^= 1;
    let checksum = crate::crc32c(&forged[..92]).to_le_bytes();
    forged[92..96].copy_from_slice(&checksum);
    assert!(matches!(
        unseal(&forged, &key(1), b"x"),
        Err(SealError::TamperedHeader)
    ));
    let mut damaged = sealed;
    damaged[50] ^= 1;
    assert!(matches!(
        unseal(&damaged, &key(1), b"x"),
        Err(SealError::DamagedHeader)
    ));
}

#[test]
fn one_object_cannot_stand_in_for_another() {
    let sealed = sealed(b"secret", b"main/a");
    assert!(matches!(
        unseal(&sealed, &key(1), b"main/b"),
        Err(SealError::TamperedHeader)
    ));
}

#[test]
fn chunks_cannot_be_cut_off_exchanged_left_out_or_added() {
    const SEALED: usize = 1024 + 16;
    let raw = raw(4096);
    let whole = sealed(&raw, b"");
    let (header, chunks) = whole.split_at(SEAL_HEADER_BYTES);
    let build = |order: &[usize]| {
        let mut object = header.to_vec();
        for number in order {
            object.extend_from_slice(&chunks[number * SEALED..(number + 1) * SEALED]);
        }
        object
    };
    assert!(unseal(&build(&[0, 1, 2, 3]), &key(1), b"").unwrap() == raw);
    let cut = unseal(&build(&[0, 1, 2]), &key(1), b"");
    assert!(
        matches!(cut, Err(SealError::Truncated { raw_bytes: 3072 })),
        "{cut:?}"
    );
    let none = unseal(header, &key(1), b"");
    assert!(
        matches!(none, Err(SealError::Truncated { raw_bytes: 0 })),
        "{none:?}"
    );
    for order in [
        &[0, 2, 1, 3][..],
        &[0, 2, 3],
        &[3],
        &[0, 1, 2, 3, 3],
        &[1, 1, 2, 3],
    ] {
        let got = unseal(&build(order), &key(1), b"");
        assert!(
            matches!(got, Err(SealError::Tampered { .. })),
            "{order:?}: {got:?}"
        );
    }
    // An empty last chunk would be a second way to write the same.
    let mut padded = build(&[0, 1, 2, 3]);
    padded.extend_from_slice(&[0; 16]);
    assert!(unseal(&padded, &key(1), b"").is_err());
}

#[test]
fn bytes_are_given_only_when_they_are_genuine() {
    let raw = raw(5000);
    let mut object = sealed(&raw, b"");
    object[SEAL_HEADER_BYTES + 2 * 1040 + 5] ^= 0x80;
    let mut reader = SealReader::open(object.as_slice(), &key(1), b"").unwrap();
    let mut given = Vec::new();
    let error = SealError::from_io(reader.read_to_end(&mut given).unwrap_err());
    assert!(
        matches!(error, SealError::Tampered { offset: 2048 }),
        "{error:?}"
    );
    assert!(given == raw[..2048]);
    assert!(reader.read(&mut [0; 10]).is_err(), "and it stays so");
}

#[test]
fn a_header_never_makes_a_reader_allocate_much_or_panic() {
    for power in 0..=255 {
        let mut object = sealed(b"x", b"");
        object[6] = power;
        let checksum = crate::crc32c(&object[..92]).to_le_bytes();
        object[92..96].copy_from_slice(&checksum);
        let opened = unseal(&object, &key(1), b"");
        assert_eq!(opened.is_ok(), power == 10, "{power}");
    }
    assert!(matches!(
        unseal(b"hello", &key(1), b""),
        Err(SealError::NotSealed)
    ));
    assert!(matches!(
        unseal(b"", &key(1), b""),
        Err(SealError::NotSealed)
    ));
    assert!(matches!(
        unseal(b"PGMS", &key(1), b""),
        Err(SealError::Truncated { .. })
    ));
}

/// Fails on its second write.
struct Failing(usize);

impl std::io::Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += 1;
        if self.0 == 2 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn after_a_failed_write_an_object_cannot_be_finished() {
    let mut writer = SealWriter::new(Failing(0), &key(1), b"").unwrap();
    let error = writer.write_all(&raw(200_000)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(writer.write_all(&raw(200_000)).is_err());
    assert!(writer.finish().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sealed_comes_back(raw: Vec<u8>, context: Vec<u8>, seed: [u8; 32]) {
        let key = MasterKey::new(&seed);
        let sealed = seal(&raw, &key, &context).unwrap();
        prop_assert!(is_sealed(&sealed));
        prop_assert_eq!(unseal(&sealed, &key, &context).unwrap(), raw);
    }

    #[test]
    fn any_flipped_bit_is_an_error(length in 0..3000_usize, at: prop::sample::Index, bit in 0..8) {
        let mut object = sealed(&raw(length), b"x");
        let at = at.index(object.len());
        object[at] ^= 1_u8 << bit;
        prop_assert!(unseal(&object, &key(1), b"x").is_err(), "byte {}", at);
    }

    #[test]
    fn any_cut_is_an_error(length in 0..3000_usize, at: prop::sample::Index) {
        let mut object = sealed(&raw(length), b"x");
        object.truncate(at.index(object.len()));
        prop_assert!(unseal(&object, &key(1), b"x").is_err());
    }

    #[test]
    fn anything_behind_the_end_is_an_error(length in 0..3000_usize, more in prop::collection::vec(any::<u8>(), 1..2000)) {
        let mut object = sealed(&raw(length), b"x");
        object.extend_from_slice(&more);
        prop_assert!(unseal(&object, &key(1), b"x").is_err());
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes: Vec<u8>) {
        let mut object = b"PGMS\x01\x01".to_vec();
        object.extend_from_slice(&bytes);
        prop_assert!(unseal(&object, &key(1), b"").is_err());
    }
}
