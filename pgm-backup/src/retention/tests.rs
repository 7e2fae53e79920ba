//! Runs of retention over repositories: what a dry run says is what is done, and what is in doubt stays.

use std::sync::Arc;

use pgm_storage::{Compression, MemoryStorage, PutMode};
use pgm_wal::archive::Archive;

use super::*;
use crate::catalog::BackupWal;
use crate::catalog::tests::entry_with;
use crate::manifest::{ManifestHeader, ManifestWriter, PackRecord};
use crate::marks::MarkChange;
use crate::record;
use crate::repository::layout;
use crate::verify::Level;
use crate::verify::verification::{Counts, Verification};

fn server() -> ServerName {
    "main".parse().unwrap()
}

fn policy(text: &str) -> RetentionPolicy {
    text.parse().unwrap()
}

/// Commits a small backup that stands alone.
fn commit(repository: &Repository, label: &str) -> BackupLabel {
    let storage = repository.storage();
    let mut entry = entry_with(label);
    entry.wal = BackupWal::Included;
    entry.started = entry.label.time();
    entry.stopped = entry.label.time() + jiff::SignedDuration::from_mins(5);
    let pack = layout::pack(&server(), entry.label, 0);
    storage.put(&pack, b"a pack", PutMode::Create).unwrap();
    let object = storage
        .create(&layout::manifest(&server(), entry.label))
        .unwrap();
    let header = ManifestHeader {
        format: 1,
        server: server(),
        label: entry.label,
    };
    let record = PackRecord {
        label: entry.label,
        number: 0,
        size: 6,
        raw_bytes: 0,
        frames: 0,
        index_crc32c: None,
    };
    let writer = ManifestWriter::new(object, &header, Compression::NONE).unwrap();
    (entry.manifest, _) = writer.finish(&[record]).unwrap();
    let path = layout::entry(&server(), entry.label);
    storage
        .put(&path, &record::encode(&entry), PutMode::Create)
        .unwrap();
    entry.label
}

/// Backups on so many days in a row.
fn daily(days: u32) -> (Repository, Vec<BackupLabel>) {
    let repository = Repository::create(Arc::new(MemoryStorage::new())).unwrap();
    let labels = (1..=days).map(|day| commit(&repository, &format!("202611{day:02}T020000Z")));
    let labels = labels.collect();
    (repository, labels)
}

fn run(repository: &Repository, policy: &RetentionPolicy, mode: Mode) -> Result<RetentionReport> {
    let archive = Archive::new(Arc::clone(repository.storage()), server());
    let wal = WalAtHand {
        archive: &archive,
        spool: None,
    };
    carry_out(&Context::quiet(), repository, wal, &server(), policy, mode)
}

fn listed(repository: &Repository) -> Vec<BackupLabel> {
    let catalog = repository.catalog(&server()).unwrap();
    catalog.backups().iter().map(|entry| entry.label).collect()
}

fn note_damage(repository: &Repository, label: BackupLabel) {
    let now = jiff::Timestamp::now();
    let verification = Verification {
        trial: None,
        format: Verification::FORMAT,
        level: Level::Frames,
        outcome: Outcome::Damaged,
        started: now,
        finished: now,
        counts: Counts::default(),
        findings_total: 1,
        findings: Vec::new(),
    };
    repository
        .note_verification(&server(), label, &verification)
        .unwrap();
}

#[test]
fn a_dry_run_removes_nothing_and_says_what_a_run_does() {
    let (repository, labels) = daily(20);
    let rules = policy("last 2, days 3, weeks 2");
    let dry = run(&repository, &rules, Mode::DryRun).unwrap();
    assert_eq!(listed(&repository), labels);
    let said: Vec<BackupLabel> = dry
        .decisions
        .iter()
        .filter(|decision| !decision.stays())
        .map(|decision| decision.label)
        .collect();
    let done = run(&repository, &rules, Mode::Apply).unwrap();
    assert_eq!(done.deleted, said);
    assert_eq!(done.decisions, dry.decisions);
    assert!(done.warnings.is_empty(), "{:?}", done.warnings);
    let left: Vec<String> = listed(&repository)
        .iter()
        .map(ToString::to_string)
        .collect();
    // 20261116 is the Monday of the newest week, 20261109 that of the one before.
    assert_eq!(
        left,
        [
            "20261109T020000Z",
            "20261116T020000Z",
            "20261118T020000Z",
            "20261119T020000Z",
            "20261120T020000Z"
        ]
    );
    // Again: there is nothing left to do.
    assert!(
        run(&repository, &rules, Mode::Apply)
            .unwrap()
            .deleted
            .is_empty()
    );
}

#[test]
fn retained_and_damaged_backups_stay_and_the_damaged_one_stands_for_nothing() {
    let (repository, labels) = daily(6);
    repository
        .mark(&server(), labels[1], &MarkChange::Retain)
        .unwrap();
    note_damage(&repository, labels[5]);
    run(&repository, &policy("last 1"), Mode::Apply).unwrap();
    assert_eq!(listed(&repository), [labels[1], labels[4], labels[5]]);
}

#[test]
fn without_a_rule_nothing_goes() {
    let (repository, labels) = daily(3);
    run(&repository, &RetentionPolicy::EVERYTHING, Mode::Apply).unwrap();
    assert_eq!(listed(&repository), labels);
}

#[test]
fn an_entry_that_cannot_be_read_stays_and_is_said() {
    let (repository, labels) = daily(4);
    let storage = repository.storage();
    let path = layout::entry(&server(), labels[0]);
    storage.delete(&path).unwrap();
    storage.put(&path, b"rubbish", PutMode::Create).unwrap();
    let report = run(&repository, &policy("last 1"), Mode::Apply).unwrap();
    assert_eq!(report.deleted, labels[1..3]);
    assert_eq!(report.decisions[0].reasons, [Reason::Damaged]);
    assert!(storage.head(&path).is_ok());
}
