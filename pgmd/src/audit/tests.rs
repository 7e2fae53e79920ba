//! The audit log's lines and file.

use std::os::unix::fs::MetadataExt as _;

use pgm_mgmt::{Error, ErrorCode, JobId, Role};
use serde_json::Value;

use super::*;

fn record() -> Record {
    Record::new("ping", "here").outcome(&Outcome::Ok)
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_record_is_one_line_whatever_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let error = Error::new(ErrorCode::BackupFailed, "no\nroom \"left\"");
    let record = Record::new("backup\n{}", "1.2.3.4:5")
        .by("eve\r\n\u{202e}", Some(Role::Admin))
        .server("prod".parse().ok().as_ref())
        .job(JobId::new(7))
        .fact("directory", "/new\ndata")
        .outcome(&Outcome::Failed(&error))
        .took(std::time::Duration::from_millis(1234));
    append(&path, &record).unwrap();
    let lines = lines(&path);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["user"], "eve\r\n\u{202e}");
    assert!(lines[0]["at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(lines[0]["role"], "admin");
    assert_eq!(lines[0]["outcome"], "backup_failed");
    assert_eq!(lines[0]["error"], "no\nroom \"left\"");
    assert_eq!(lines[0]["duration_ms"], 1234);
    assert_eq!(lines[0]["facts"]["directory"], "/new\ndata");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn what_waits_is_written_before_the_log_is_gone_and_the_log_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    for round in 1..=2 {
        let audit = Audit::start(&path).unwrap();
        for number in 0..100 {
            audit.record(&record().fact("number", number));
        }
        drop(audit);
        assert_eq!(lines(&path).len(), round * 100);
    }
}

#[test]
fn a_file_that_was_moved_away_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let mut file = writer::AuditFile::open(&path).unwrap();
    file.append("{}\n").unwrap();
    std::fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
    file.append("{}\n").unwrap();
    assert_eq!(lines(&path).len(), 1);
}

#[test]
fn a_full_disk_stops_nobody() {
    let path = Path::new("/dev/full");
    let audit = Audit::start(path).unwrap();
    for _ in 0..10 {
        audit.record(&record());
    }
    drop(audit);
}

#[test]
fn long_texts_are_cut() {
    let record = record().fact("directory", "ä".repeat(10_000));
    assert!(record.to_line().len() < 2000);
}
