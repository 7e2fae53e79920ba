//! Several readers at once find what one finds.

use super::*;

fn stretches(wal: &Wal, readers: usize, bytes_min: u64) -> Stretches {
    Stretches {
        history: root(),
        size: SIZE,
        from: segment(3),
        to: wal.end(),
        readers,
        bytes_min,
    }
}

fn read(folder: &Path, stretches: &Stretches) -> Result<Vec<Lsn>, RecordError> {
    let joined = read_stretches(
        stretches,
        || DirectorySource::new(folder, SIZE),
        Vec::new,
        |found: &mut Vec<Lsn>, record| {
            found.push(record.lsn);
            Ok(())
        },
    )?;
    Ok(joined.outcomes.concat())
}

/// Records of many lengths over several segments, one of them longer than a segment.
fn sample() -> Wal {
    let mut wal = Wal::new(3, timeline(1));
    for index in 0..400usize {
        wal.filler(index * 977 % 30_000);
        if index == 200 {
            wal.filler(3 << 20);
        }
    }
    wal.commit(1, 1);
    wal
}

#[test]
fn every_record_is_read_once() {
    let wal = sample();
    let folder = folder();
    wal.write_to(folder.path());
    let (seen, _) = read_all(folder.path(), &root(), segment(3));
    let expected: Vec<Lsn> = seen.iter().map(|seen| seen.0).collect();
    for (readers, bytes_min) in [(1, 1), (3, 1), (2, 3 << 20), (8, 100 << 20)] {
        let found = read(folder.path(), &stretches(&wal, readers, bytes_min)).unwrap();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_stretch_that_does_not_follow_the_one_before_is_damage() {
    let wal = sample();
    let folder = folder();
    wal.write_to(folder.path());
    // Another server's segment, valid in itself.
    let mut other = Wal::new(3, timeline(1));
    while SIZE.number_at(other.end()).value() < 7 {
        other.filler(500);
    }
    let (name, bytes) = &other.segments()[1];
    let intact = std::fs::read(folder.path().join(name.file_name(SIZE))).unwrap();
    std::fs::write(folder.path().join(name.file_name(SIZE)), bytes).unwrap();
    let error = read(folder.path(), &stretches(&wal, 2, 1)).unwrap_err();
    assert!(matches!(error, RecordError::Damaged { .. }), "{error}");
    std::fs::write(folder.path().join(name.file_name(SIZE)), intact).unwrap();
    read(folder.path(), &stretches(&wal, 2, 1)).unwrap();
}

#[test]
fn a_missing_segment_is_named() {
    let wal = sample();
    let folder = folder();
    wal.write_to(folder.path());
    std::fs::remove_file(folder.path().join("000000010000000000000005")).unwrap();
    let error = read(folder.path(), &stretches(&wal, 2, 1)).unwrap_err();
    assert!(
        matches!(&error, RecordError::Missing { segment } if segment == "000000010000000000000005"),
        "{error}"
    );
}
