//! Segments ahead of a recovering server: only whole ones, only the right ones, and never more than a convenience.

use std::os::unix::fs::PermissionsExt as _;

use super::super::ahead::affordable;
use super::*;

const SOURCE: &str = "server main\nrepository /srv/pgm\n";

type Segments = Vec<(SegmentName, Vec<u8>)>;

/// Segments 3 to 8 are archived; of 9 there is a part.
fn archive() -> (Arc<dyn Storage>, Archive, Segments) {
    let (storage, archive) = memory();
    let mut wal = Wal::new(3, timeline(1));
    for xid in 1..=6 {
        wal.commit(xid, 10);
        wal.fill_segment();
    }
    wal.commit(7, 20);
    let segments = wal.segments();
    let (part, whole) = segments.split_last().unwrap();
    for (name, bytes) in whole {
        store(&archive, *name, bytes).unwrap();
    }
    store_partial(&archive, part.0, &part.1).unwrap();
    (storage, archive, segments)
}

fn range(first: u64, count: usize) -> AheadRange {
    AheadRange {
        first: name(timeline(1), first),
        size: SIZE,
        count,
    }
}

/// The names in the folder, without that of the source and without checksums.
fn here(out: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(out.join("pgm_ahead")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "source")
        .map(|name| name.split('.').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn files(numbers: std::ops::RangeInclusive<u64>) -> Vec<String> {
    let names = numbers.map(|number| name(timeline(1), number).file_name(SIZE));
    names.collect()
}

/// The only file in the folder of this segment.
fn path_of(out: &Path, number: u64) -> std::path::PathBuf {
    let file = name(timeline(1), number).file_name(SIZE);
    let entries = std::fs::read_dir(out.join("pgm_ahead")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths
        .find(|path| path.to_str().unwrap().contains(&file))
        .unwrap()
}

fn filled(archive: &Archive, out: &Path, range: AheadRange) -> AheadFolder {
    let folder = AheadFolder::create(&out.join("RECOVERYXLOG"), SOURCE);
    let folder = folder.unwrap().unwrap();
    folder.fill(archive, None, range).unwrap();
    folder
}

#[test]
fn what_was_fetched_ahead_is_taken_once_and_is_what_the_archive_has() {
    let (_, archive, segments) = archive();
    let out = folder();
    let destination = out.path().join("RECOVERYXLOG");
    let ahead = filled(&archive, out.path(), range(4, 4));
    assert_eq!(here(out.path()), files(4..=7));
    for (name, bytes) in &segments[1..5] {
        std::fs::write(&destination, "old").unwrap();
        assert!(ahead.take(&name.file_name(SIZE), &destination).unwrap());
        assert!(std::fs::read(&destination).unwrap() == *bytes);
        assert!(!ahead.take(&name.file_name(SIZE), &destination).unwrap());
    }
    // The next ones come when they are asked for; what is there already is not fetched again.
    assert_eq!(ahead.fill(&archive, None, range(6, 1)).unwrap(), 1);
    let inode = |number| {
        use std::os::unix::fs::MetadataExt as _;
        path_of(out.path(), number).metadata().unwrap().ino()
    };
    let sixth = inode(6);
    assert_eq!(ahead.fill(&archive, None, range(6, 3)).unwrap(), 3);
    assert_eq!(inode(6), sixth);
    ahead.remove_all();
    assert!(!out.path().join("pgm_ahead").exists());
}

#[test]
fn what_is_absent_damaged_or_unfinished_is_not_fetched_ahead() {
    let (storage, archive, segments) = archive();
    let out = folder();
    let ahead = filled(&archive, out.path(), range(6, 40));
    assert_eq!(here(out.path()), files(6..=8));
    // An unfinished one in the spool is none, a finished one is.
    let spool_folder = folder();
    let spool = spool(spool_folder.path());
    let ninth = name(timeline(1), 9).file_name(SIZE);
    let unfinished = spool_folder.path().join(format!("{ninth}.partial"));
    std::fs::write(&unfinished, &segments[6].1).unwrap();
    ahead.fill(&archive, Some(&spool), range(8, 4)).unwrap();
    assert_eq!(here(out.path()), files(8..=8));
    std::fs::rename(&unfinished, spool_folder.path().join(&ninth)).unwrap();
    ahead.fill(&archive, Some(&spool), range(8, 4)).unwrap();
    assert_eq!(here(out.path()), files(8..=9));

    let object = ObjectPath::parse("main/wal/00000001/000000010000000000000004").unwrap();
    storage.put(&object, b"nonsense", PutMode::Replace).unwrap();
    assert_eq!(ahead.fill(&archive, None, range(4, 1)).unwrap(), 0);
    assert!(here(out.path()).is_empty());
}

#[test]
fn a_file_that_is_not_what_was_fetched_is_removed_and_never_given_out() {
    let (_, archive, segments) = archive();
    let out = folder();
    let destination = out.path().join("RECOVERYXLOG");
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes[700_000] ^= 4,
        |bytes| bytes.truncate(SIZE.bytes() as usize / 2),
        Vec::clear,
        |bytes| bytes.extend_from_slice(&[0; 8192]),
    ];
    let fourth = files(4..=4).remove(0);
    for damage in damages {
        let ahead = filled(&archive, out.path(), range(4, 1));
        let mut bytes = segments[1].1.clone();
        damage(&mut bytes);
        std::fs::write(path_of(out.path(), 4), bytes).unwrap();
        let error = ahead.take(&fourth, &destination).unwrap_err();
        assert!(matches!(error, ArchiveError::Corrupt { .. }), "{error}");
        assert!(here(out.path()).is_empty() && !destination.exists());
    }
    // Another segment, sound and with its own checksum, under this one's name.
    let ahead = filled(&archive, out.path(), range(4, 2));
    let (right, other) = (path_of(out.path(), 4), path_of(out.path(), 5));
    let crc = other.extension().unwrap().to_str().unwrap();
    std::fs::rename(&other, right.with_extension(crc)).unwrap();
    std::fs::remove_file(&right).unwrap();
    let error = ahead.take(&fourth, &destination).unwrap_err();
    assert!(matches!(error, ArchiveError::Corrupt { .. }), "{error}");
    assert!(!destination.exists());
    // A link is not followed.
    let target = out.path().join("elsewhere");
    std::fs::write(&target, &segments[1].1).unwrap();
    let link = right.with_extension(format!("{:08X}", crc32c::crc32c(&segments[1].1)));
    std::os::unix::fs::symlink(&target, link).unwrap();
    assert!(ahead.take(&fourth, &destination).is_err() && !destination.exists());
}

#[test]
fn segments_of_another_source_are_removed() {
    let (_, archive, _) = archive();
    let out = folder();
    let destination = out.path().join("RECOVERYXLOG");
    let third = files(3..=3).remove(0);
    for other in [
        "server main\nrepository /srv/pg",
        "",
        "server main\nrepository /srv/pgm\n2",
    ] {
        drop(filled(&archive, out.path(), range(3, 2)));
        let ahead = AheadFolder::open(&destination, other).unwrap().unwrap();
        assert!(!ahead.take(&third, &destination).unwrap());
        assert!(here(out.path()).is_empty());
        drop(ahead);
    }
    drop(filled(&archive, out.path(), range(3, 2)));
    let ahead = AheadFolder::open(&destination, SOURCE).unwrap().unwrap();
    assert!(ahead.take(&third, &destination).unwrap());
}

#[test]
fn what_recovery_left_behind_and_what_a_dead_process_left_goes() {
    let (_, archive, segments) = archive();
    let out = folder();
    let ahead = filled(&archive, out.path(), range(3, 3));
    let inside = |name: &str| out.path().join("pgm_ahead").join(name);
    std::fs::write(
        inside("000000010000000000000006.new"),
        &segments[3].1[..5000],
    )
    .unwrap();
    std::fs::write(
        inside("000000020000000000000005.00000000"),
        "other timeline",
    )
    .unwrap();
    ahead.fill(&archive, None, range(5, 3)).unwrap();
    assert_eq!(here(out.path()), files(5..=7));
    let mut second = range(5, 3);
    second.first.timeline = timeline(2);
    assert_eq!(ahead.fill(&archive, None, second).unwrap(), 0);
    assert!(here(out.path()).is_empty());
}

#[test]
fn one_process_at_a_time_uses_a_folder_that_is_ours_alone() {
    let (_, archive, _) = archive();
    let out = folder();
    let destination = out.path().join("RECOVERYXLOG");
    assert!(AheadFolder::open(&destination, SOURCE).unwrap().is_none());
    let ahead = filled(&archive, out.path(), range(3, 1));
    assert!(AheadFolder::create(&destination, SOURCE).unwrap().is_none());
    drop(ahead);
    let path = out.path().join("pgm_ahead");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o720)).unwrap();
    assert!(AheadFolder::create(&destination, SOURCE).is_err());
    let aside = out.path().join("aside");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    assert!(AheadFolder::create(&destination, SOURCE).is_err());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    assert!(AheadFolder::create(&destination, SOURCE).is_err());
    let nowhere = out.path().join("no/such/RECOVERYXLOG");
    assert!(AheadFolder::create(&nowhere, SOURCE).is_err());
}

#[test]
fn a_folder_that_cannot_be_written_to_gives_all_its_room_back() {
    let (_, archive, _) = archive();
    let out = folder();
    let ahead = filled(&archive, out.path(), range(3, 2));
    let obstacle = out.path().join("pgm_ahead/000000010000000000000006.new");
    std::fs::create_dir(&obstacle).unwrap();
    let error = ahead.fill(&archive, None, range(3, 6)).unwrap_err();
    assert!(matches!(error, ArchiveError::File { .. }), "{error}");
    std::fs::remove_dir(&obstacle).unwrap();
    assert!(here(out.path()).is_empty());
}

#[test]
fn room_bounds_how_many_are_ahead() {
    let mib = |mib: u64| SegmentSize::new(mib << 20).unwrap();
    let much = u64::MAX;
    assert_eq!(affordable(8, mib(16), much), 8);
    assert_eq!(affordable(8, mib(1), much), 8);
    assert_eq!(affordable(8, mib(64), much), 2);
    assert_eq!(affordable(8, mib(1024), much), 0);
    assert_eq!(affordable(8, mib(16), 100 << 20), 3);
    assert_eq!(affordable(8, mib(16), 31 << 20), 0);
    assert_eq!(affordable(0, mib(16), much), 0);
}
