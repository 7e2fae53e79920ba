//! Bytes that nobody should have written.

use super::*;

/// A small WAL over a page boundary, with records of several kinds.
fn sample() -> Wal {
    let mut wal = Wal::new(3, timeline(1));
    wal.commit(10, 1);
    wal.filler(300);
    wal.restore_point("before", 2);
    wal.filler(9000);
    wal.abort(11, 3);
    wal.filler(12);
    wal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_are_the_end(
        noise in prop::collection::vec(any::<u8>(), 0..30_000),
        keep in 0usize..9600,
    ) {
        let mut wal = sample();
        let keep = keep.min(wal.bytes.len());
        wal.bytes.truncate(keep);
        wal.bytes.extend_from_slice(&noise);
        let folder = folder();
        wal.write_to(folder.path());
        let (seen, end) = read_all(folder.path(), &root(), segment(3));
        prop_assert!(seen.len() <= 6);
        prop_assert!(end.is_ok());
    }

    #[test]
    fn random_record_bodies_with_valid_checksums_never_panic(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..10),
        manager in prop_oneof![0u8..22, 0u8..22, any::<u8>()],
        info in any::<u8>(),
        version in prop::sample::select(WalVersion::ALL.to_vec()),
    ) {
        let mut wal = Wal::new(3, timeline(1));
        wal.version = version;
        for body in &bodies {
            wal.raw_record(manager, info, 5, body);
            wal.record(manager, info, 5, body);
        }
        let folder = folder();
        wal.write_to(folder.path());
        let source = DirectorySource::new(folder.path(), SIZE);
        let mut reader = RecordReader::seek(source, root(), segment(3)).unwrap();
        let (mut text, mut page) = (String::new(), [0; BLOCK_BYTES]);
        while let Ok(Some(record)) = reader.next() {
            let _ = Event::of(&record);
            describe::write_line(&record, &mut text);
            for image in record.blocks().filter_map(|block| block.image) {
                let _ = image.restore(&mut page);
            }
        }
    }
}

#[test]
fn impossible_lengths_are_no_records() {
    for length in [1u32, 23, 1021 << 20, u32::MAX] {
        let mut wal = sample();
        let at = wal.bytes.len();
        wal.bytes.extend(length.to_le_bytes());
        let folder = folder();
        wal.write_to(folder.path());
        let (seen, end) = read_all(folder.path(), &root(), segment(3));
        assert_eq!(seen.len(), 6);
        let end = end.unwrap();
        assert_eq!(end.lsn, segment(3) + at as u64);
        assert_eq!(end.reason, EndReason::Invalid(Invalid::Length(length)));
    }
}

#[test]
fn a_recycled_page_is_the_end() {
    let mut wal = Wal::new(3, timeline(1));
    wal.filler(8192 - 40 - 24 - 5);
    assert_eq!(wal.bytes.len(), 8192);
    let mut stale = Wal::new(2, timeline(1));
    stale.filler(20_000);
    let mut recycled = wal.clone();
    recycled.bytes.extend_from_slice(&stale.bytes[8192..16384]);
    let folder = folder();
    recycled.write_to(folder.path());
    let (seen, end) = read_all(folder.path(), &root(), segment(3));
    assert_eq!(seen.len(), 1);
    let found = segment(2) + 8192;
    assert_eq!(
        end.unwrap().reason,
        EndReason::Invalid(Invalid::Page(BadPage::Address { found }))
    );
}

#[test]
fn a_truncated_file_is_the_end() {
    let folder = folder();
    sample().write_to(folder.path());
    let (whole, _) = read_all(folder.path(), &root(), segment(3));
    let path = folder.path().join("000000010000000000000003");
    for length in [9600u64, 8200, 8192, 500, 41, 39, 1, 0] {
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length).unwrap();
        let (seen, end) = read_all(folder.path(), &root(), segment(3));
        // A record that ends with zeros is whole without them.
        assert_eq!(&seen[..], &whole[..seen.len()]);
        assert!(seen.iter().all(|seen| seen.0 < segment(3) + length));
        end.unwrap();
    }
}

#[test]
fn a_segment_of_another_size_or_place_is_refused() {
    let folder = folder();
    sample().write_to(folder.path());
    let path = folder.path().join("000000010000000000000003");
    std::fs::rename(&path, folder.path().join("000000010000000000000004")).unwrap();
    let (seen, end) = read_all(folder.path(), &root(), segment(4));
    assert!(seen.is_empty());
    let reason = end.unwrap().reason;
    assert!(
        matches!(
            reason,
            EndReason::Invalid(Invalid::Page(BadPage::Address { .. }))
        ),
        "{reason}"
    );
}
