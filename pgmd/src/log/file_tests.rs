//! Log files: how they are named, when the next one begins, and that nothing is lost between two.

use super::*;
use crate::config::Config;

/// Options for the log at `path`.
pub(in crate::log) fn options(path: &Path) -> FileOptions {
    configured(path, "")
}

fn configured(path: &Path, more: &str) -> FileOptions {
    let text = format!("(log_path: {path:?}, {more} servers: {{}})");
    let config = Config::parse(Path::new("/etc/pgm/pgmd.ron"), &text).unwrap();
    FileOptions::new(&config.logging)
}

fn files(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_large_file_is_renamed_and_no_line_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/log");
    let options = configured(&path, "log_rotation_size: \"64B\",");
    let mut log = LogFile::open(options).unwrap();
    for number in 100..120 {
        log.write(&format!("line number {number} of many")).unwrap();
    }
    let files = files(path.parent().unwrap());
    assert_eq!(files.len(), 10, "{files:?}");
    let mut numbers: Vec<&str> = files
        .iter()
        .flat_map(|(_, text)| text.lines())
        .map(|line| line.split(' ').nth(2).unwrap())
        .collect();
    numbers.sort_unstable();
    let expected: Vec<String> = (100..120).map(|number: u32| number.to_string()).collect();
    assert_eq!(numbers, expected);
    assert!(files.iter().all(|(_, text)| text.len() <= 64));
    assert!(files[1].0.starts_with("log.2"), "{}", files[1].0);
}

#[test]
fn a_file_that_exists_is_continued_or_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    for (mode, expected) in [("append", "before\nafter\n"), ("truncate", "after\n")] {
        std::fs::write(&path, "before\n").unwrap();
        let options = configured(&path, &format!("log_mode: {mode:?},"));
        LogFile::open(options).unwrap().write("after").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }
}

#[test]
fn an_old_file_is_followed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log-%H%M%S%N");
    let mut log = LogFile::open(configured(&path, "log_rotation_age: \"1ms\",")).unwrap();
    let first = log.path().to_owned();
    log.write("one").unwrap();
    std::thread::sleep(Duration::from_millis(2));
    log.write("two").unwrap();
    assert_ne!(log.path(), first);
    assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "two\n");
}

#[test]
fn a_file_that_was_moved_away_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut log = LogFile::open(options(&path)).unwrap();
    log.write("one").unwrap();
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    log.write("two").unwrap();
    log.reopen().unwrap();
    log.write("three").unwrap();
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(
        (text("moved"), text("log")),
        ("one\ntwo\n".into(), "three\n".into())
    );
}
