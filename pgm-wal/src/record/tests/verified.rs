//! Damage is named, wherever it is; the end of the WAL is no damage.

use std::sync::LazyLock;

use super::*;

fn stretches() -> Stretches {
    Stretches {
        history: root(),
        size: SIZE,
        from: segment(3),
        to: segment(9),
        readers: 2,
        bytes_min: 1,
    }
}

fn check(folder: &Path) -> Verified {
    verify(&stretches(), || DirectorySource::new(folder, SIZE)).unwrap()
}

/// Records of some kinds over two segments and a bit; the bytes of the first page of the second one, and of the last page.
fn sample() -> Wal {
    let mut wal = Wal::new(3, timeline(1));
    while SIZE.number_at(wal.end()).value() < 5 {
        wal.filler(30_000);
        wal.commit(9, 9);
    }
    wal.filler(100);
    wal.filler(20_000);
    wal.commit(10, 10);
    wal
}

/// Which bits matter: all but padding, and the flag that says nothing about reading.
fn checked_bytes(wal: &Wal, folder: &Path) -> Vec<bool> {
    let mut checked = vec![false; wal.bytes.len()];
    let mut reader =
        RecordReader::seek(DirectorySource::new(folder, SIZE), root(), segment(3)).unwrap();
    while let Some(record) = reader.next().unwrap() {
        let mut at = record.lsn.bytes_since(segment(3)) as usize;
        for index in 0..record.total_len as usize {
            if at.is_multiple_of(8192) {
                let long = SIZE.offset_of(segment(3) + at as u64) == 0;
                at += if long { 40 } else { 24 };
            }
            // Two bytes of a record's header are padding.
            checked[at] = !(18..20).contains(&index);
            at += 1;
        }
    }
    checked
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_flipped_bit_in_a_record_is_damage_at_its_lsn(
        (at, bit) in (prop_oneof![0usize..(2 << 20) + 20_000, (1usize << 20)..(1 << 20) + 9000, (2usize << 20)..(2 << 20) + 24_000], 0u8..8),
    ) {
        static INTACT: LazyLock<(Wal, Vec<bool>, Verified)> = LazyLock::new(|| {
            let (wal, folder) = (sample(), folder());
            wal.write_to(folder.path());
            let checked = checked_bytes(&wal, folder.path());
            (wal, checked, check(folder.path()))
        });
        let (wal, checked, whole) = &*INTACT;
        prop_assume!(checked.get(at) == Some(&true));
        prop_assert!(whole.damages.is_empty(), "{:?}", whole.damages);
        let folder = folder();
        let mut broken = wal.clone();
        broken.bytes[at] ^= 1 << bit;
        broken.write_to(folder.path());
        let verified = check(folder.path());
        prop_assert_eq!(verified.damages.len(), 1, "{:?}", verified);
        prop_assert!(verified.damages[0].lsn <= segment(3) + at as u64);
        prop_assert!(verified.damages[0].lsn + 40_000 > segment(3) + at as u64);
        prop_assert!(verified.records < whole.records);
    }
}

#[test]
fn zeros_and_recycled_pages_are_the_end() {
    let wal = sample();
    let folder = folder();
    wal.write_to(folder.path());
    let verified = check(folder.path());
    assert_eq!(verified.damages, []);
    assert_eq!(verified.end.unwrap().lsn, wal.end());
    // What follows belongs to an earlier position.
    let mut stale = Wal::new(1, timeline(1));
    stale.fill_segment();
    let mut recycled = wal.clone();
    let page = recycled.bytes.len().next_multiple_of(8192);
    recycled.bytes.resize(page, 0);
    let (_, old) = &stale.segments()[0];
    recycled.bytes.extend_from_slice(&old[page % (1 << 20)..]);
    recycled.write_to(folder.path());
    let verified = check(folder.path());
    assert_eq!(verified.damages, []);
    assert_eq!(verified.end.unwrap().lsn, wal.end());
}

#[test]
fn every_damaged_segment_is_named() {
    let mut wal = Wal::new(3, timeline(1));
    while SIZE.number_at(wal.end()).value() < 8 {
        wal.filler(700);
    }
    let folder = folder();
    wal.bytes[1_500_000] ^= 1;
    wal.bytes[3_400_000] ^= 1;
    wal.write_to(folder.path());
    let segments: Vec<String> = check(folder.path())
        .damages
        .into_iter()
        .map(|damage| damage.segment)
        .collect();
    assert_eq!(
        segments,
        ["000000010000000000000004", "000000010000000000000006"]
    );
}
