//! Segments ahead of a recovering server: only whole ones, only the right ones, and never more than a convenience.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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

/// A reader that works on a thread of its own, until it is dropped or ends.
struct Reading {
    thread: Option<std::thread::JoinHandle<()>>,
    goes_on: Arc<AtomicBool>,
}

impl Reading {
    /// Reads ahead so many segments behind those that are asked for; None in a place stands for one that cannot be opened.
    fn begin(
        out: &Path,
        archives: Vec<Option<Archive>>,
        spool: Option<Spool>,
        count: usize,
    ) -> Self {
        let plan = move || AheadPlan {
            size: SIZE,
            count: Box::new(move |_| count),
            places: archives.len(),
            archive: Box::new(move |at| archives[at].clone()),
            spool,
        };
        let reader = AheadReader::begin(&destination(out), SOURCE).unwrap();
        let reader = reader.expect("the folder is free");
        let goes_on = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&goes_on);
        let work = move || reader.run(plan(), &|| asked.load(Ordering::Relaxed));
        Self {
            thread: Some(std::thread::spawn(work)),
            goes_on,
        }
    }

    fn wait_ended(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn destination(out: &Path) -> std::path::PathBuf {
    out.join("RECOVERYXLOG")
}

/// The folder, after segment `number` was delivered.
fn asked(out: &Path, number: u64) -> AheadFolder {
    let ahead = AheadFolder::create(&destination(out), SOURCE).unwrap();
    let ahead = ahead.unwrap();
    ahead.ask(&file(number)).unwrap();
    ahead
}

/// Those that come behind segment `number`, and nobody who fetches more.
fn filled(archive: &Archive, out: &Path, number: u64, count: usize) -> AheadFolder {
    let ahead = asked(out, number);
    let reading = Reading::begin(out, vec![Some(archive.clone())], None, count);
    wait_here(out, number + 1..=number + count as u64);
    // As if it were killed: what it has fetched stays.
    let path = out.join("pgm_ahead");
    std::fs::rename(&path, out.join("kept")).unwrap();
    drop(reading);
    std::fs::rename(out.join("kept"), &path).unwrap();
    std::fs::write(path.join("asked"), file(number)).unwrap();
    ahead
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait_here(out: &Path, numbers: std::ops::RangeInclusive<u64>) {
    let wanted = files(numbers);
    wait_for(&format!("{wanted:?} are there"), || here(out) == wanted);
}

fn file(number: u64) -> String {
    name(timeline(1), number).file_name(SIZE)
}

/// The names of finished segments in the folder, without checksums.
fn here(out: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(out.join("pgm_ahead")) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter_map(|name| {
            let (segment, ending) = name.split_once('.')?;
            (ending != "new").then(|| segment.to_owned())
        })
        .collect();
    names.sort();
    names
}

fn files(numbers: std::ops::RangeInclusive<u64>) -> Vec<String> {
    numbers.map(file).collect()
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

#[test]
fn what_was_fetched_ahead_is_taken_once_and_is_what_the_archive_has() {
    let (_, archive, segments) = archive();
    let out = folder();
    let ahead = asked(out.path(), 3);
    let reading = Reading::begin(out.path(), vec![Some(archive)], None, 2);
    wait_here(out.path(), 4..=5);
    assert!(ahead.has_reader());
    let to = destination(out.path());
    for (number, (name, bytes)) in (4..).zip(&segments[1..6]) {
        // It is there already, or waited for: PostgreSQL has none of that to do.
        wait_for("it is on its way", || !here(out.path()).is_empty());
        std::fs::write(&to, "old").unwrap();
        assert!(ahead.take(&name.file_name(SIZE), &to).unwrap());
        assert!(std::fs::read(&to).unwrap() == *bytes);
        assert!(!ahead.take(&name.file_name(SIZE), &to).unwrap());
        // The next ones come when it is said that this one was delivered.
        ahead.ask(&file(number)).unwrap();
        if number < 8 {
            wait_here(out.path(), number + 1..=(number + 2).min(8));
        }
    }
    // Nothing comes any more.
    reading.wait_ended();
    assert!(!out.path().join("pgm_ahead").exists());
}

#[test]
fn what_is_absent_damaged_or_unfinished_is_not_fetched_ahead() {
    let (storage, archive, segments) = archive();
    let out = folder();
    let spool_folder = folder();
    let spool = spool(spool_folder.path());
    let unfinished = spool_folder.path().join(format!("{}.partial", file(9)));
    std::fs::write(&unfinished, &segments[6].1).unwrap();
    let ahead = asked(out.path(), 5);
    let places = vec![Some(archive.clone())];
    let reading = Reading::begin(out.path(), places.clone(), Some(spool), 40);
    wait_here(out.path(), 6..=8);
    // A finished one in the spool is one, when recovery gets further.
    std::fs::rename(&unfinished, spool_folder.path().join(file(9))).unwrap();
    ahead.ask(&file(7)).unwrap();
    wait_here(out.path(), 8..=9);
    ahead.end();
    reading.wait_ended();
    assert!(!out.path().join("pgm_ahead").exists());

    let object = ObjectPath::parse("main/wal/00000001/000000010000000000000004").unwrap();
    storage.put(&object, b"nonsense", PutMode::Replace).unwrap();
    asked(out.path(), 3);
    Reading::begin(out.path(), places, None, 1).wait_ended();
    assert!(!out.path().join("pgm_ahead").exists());
}

#[test]
fn what_one_place_does_not_give_comes_from_another() {
    let (_, whole, segments) = archive();
    let (storage, other) = memory();
    for (name, bytes) in &segments[..6] {
        store(&other, *name, bytes).unwrap();
    }
    let object =
        |number: u64| ObjectPath::parse(&format!("main/wal/00000001/{}", file(number))).unwrap();
    storage
        .put(&object(5), b"nonsense", PutMode::Replace)
        .unwrap();
    storage.delete(&object(7)).unwrap();
    let out = folder();
    let ahead = asked(out.path(), 3);
    let places = vec![None, Some(other), Some(whole)];
    let _reading = Reading::begin(out.path(), places, None, 5);
    wait_here(out.path(), 4..=8);
    let to = destination(out.path());
    for (name, bytes) in &segments[1..6] {
        assert!(ahead.take(&name.file_name(SIZE), &to).unwrap());
        assert!(std::fs::read(&to).unwrap() == *bytes);
    }
}

#[test]
fn a_file_that_is_not_what_was_fetched_is_removed_and_never_given_out() {
    let (_, archive, segments) = archive();
    let out = folder();
    let to = destination(out.path());
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes[700_000] ^= 4,
        |bytes| bytes.truncate(SIZE.bytes() as usize / 2),
        Vec::clear,
        |bytes| bytes.extend_from_slice(&[0; 8192]),
    ];
    for damage in damages {
        let ahead = filled(&archive, out.path(), 3, 1);
        let mut bytes = segments[1].1.clone();
        damage(&mut bytes);
        std::fs::write(path_of(out.path(), 4), bytes).unwrap();
        let error = ahead.take(&file(4), &to).unwrap_err();
        assert!(matches!(error, ArchiveError::Corrupt { .. }), "{error}");
        assert!(here(out.path()).is_empty() && !to.exists());
    }
    // Another segment, sound and with its own checksum, under this one's name.
    let ahead = filled(&archive, out.path(), 3, 2);
    let (right, other) = (path_of(out.path(), 4), path_of(out.path(), 5));
    let crc = other.extension().unwrap().to_str().unwrap();
    std::fs::rename(&other, right.with_extension(crc)).unwrap();
    std::fs::remove_file(&right).unwrap();
    let error = ahead.take(&file(4), &to).unwrap_err();
    assert!(matches!(error, ArchiveError::Corrupt { .. }), "{error}");
    assert!(!to.exists());
    // A link is not followed.
    let target = out.path().join("elsewhere");
    std::fs::write(&target, &segments[1].1).unwrap();
    let link = right.with_extension(format!("{:08X}", crc32c::crc32c(&segments[1].1)));
    std::os::unix::fs::symlink(&target, link).unwrap();
    assert!(ahead.take(&file(4), &to).is_err() && !to.exists());
}

#[test]
fn segments_of_another_source_are_removed() {
    let (_, archive, _) = archive();
    let out = folder();
    let to = destination(out.path());
    for other in [
        "server main\nrepository /srv/pg",
        "",
        "server main\nrepository /srv/pgm\n2",
    ] {
        drop(filled(&archive, out.path(), 3, 2));
        let ahead = AheadFolder::open(&to, other).unwrap().unwrap();
        assert!(!ahead.take(&file(4), &to).unwrap());
        assert!(here(out.path()).is_empty());
        ahead.end();
    }
    // Its reader ends too.
    asked(out.path(), 3);
    let reading = Reading::begin(out.path(), vec![Some(archive.clone())], None, 2);
    wait_here(out.path(), 4..=5);
    assert!(AheadFolder::open(&to, "another").unwrap().is_none());
    reading.wait_ended();
    assert!(!out.path().join("pgm_ahead").exists());

    drop(filled(&archive, out.path(), 3, 2));
    assert!(AheadReader::begin(&to, "another").unwrap().is_none());
    let ahead = AheadFolder::open(&to, SOURCE).unwrap().unwrap();
    assert!(ahead.take(&file(4), &to).unwrap());
}

#[test]
fn what_recovery_left_behind_and_what_a_dead_process_left_goes() {
    let (_, archive, segments) = archive();
    let out = folder();
    let ahead = filled(&archive, out.path(), 3, 2);
    let inside = |name: &str| out.path().join("pgm_ahead").join(name);
    let unfinished = inside(&format!("{}.new", file(4)));
    std::fs::write(&unfinished, &segments[1].1[..5000]).unwrap();
    let other = inside("000000020000000000000005.00000000");
    std::fs::write(&other, "other timeline").unwrap();
    // What nobody writes is not waited for.
    std::fs::remove_file(path_of(out.path(), 5)).unwrap();
    let fifth = inside(&format!("{}.new", file(5)));
    std::fs::write(&fifth, "x").unwrap();
    assert!(!ahead.take(&file(5), &destination(out.path())).unwrap());
    ahead.ask(&file(5)).unwrap();
    let reading = Reading::begin(out.path(), vec![Some(archive)], None, 3);
    wait_here(out.path(), 6..=8);
    wait_for("the rest is gone", || {
        !unfinished.exists() && !other.exists() && !fifth.exists()
    });
    // Another timeline, of which there is nothing.
    ahead.ask(&name(timeline(2), 5).file_name(SIZE)).unwrap();
    reading.wait_ended();
    assert!(!out.path().join("pgm_ahead").exists());
}

#[test]
fn one_reader_at_a_time_uses_a_folder_that_is_ours_alone() {
    let (_, archive, _) = archive();
    let out = folder();
    let to = destination(out.path());
    assert!(AheadFolder::open(&to, SOURCE).unwrap().is_none());
    assert!(AheadReader::begin(&to, SOURCE).unwrap().is_none());
    let ahead = asked(out.path(), 3);
    let reading = Reading::begin(out.path(), vec![Some(archive)], None, 1);
    assert!(AheadReader::begin(&to, SOURCE).unwrap().is_none());
    wait_here(out.path(), 4..=4);
    // When the server has gone, so does all this.
    drop(reading);
    let path = out.path().join("pgm_ahead");
    assert!(!path.exists() && !ahead.has_reader());
    drop(asked(out.path(), 3));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o720)).unwrap();
    assert!(AheadFolder::create(&to, SOURCE).is_err());
    assert!(AheadReader::begin(&to, SOURCE).is_err());
    let aside = out.path().join("aside");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    assert!(AheadFolder::create(&to, SOURCE).is_err());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    assert!(AheadFolder::create(&to, SOURCE).is_err());
    let nowhere = out.path().join("no/such/RECOVERYXLOG");
    assert!(AheadFolder::create(&nowhere, SOURCE).is_err());
}

#[test]
fn a_folder_that_cannot_be_written_to_gives_all_its_room_back() {
    let (_, archive, _) = archive();
    let out = folder();
    let ahead = filled(&archive, out.path(), 3, 2);
    let obstacle = out.path().join(format!("pgm_ahead/{}.new", file(6)));
    std::fs::create_dir(&obstacle).unwrap();
    Reading::begin(out.path(), vec![Some(archive)], None, 5).wait_ended();
    assert!(here(out.path()).is_empty() && !ahead.has_reader());
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
