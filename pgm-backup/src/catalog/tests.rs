//! Catalogs with damaged, foreign and missing entries.

use std::sync::Arc;

use pgm_proto::{Lsn, ServerVersion, SystemId, TimelineId};
use pgm_storage::{Compression, MemoryStorage, ObjectPath, PutMode};

use super::*;
use crate::repository::Repository;

/// An entry with every field set.
pub(crate) fn entry_with(label: &str) -> BackupEntry {
    let label: BackupLabel = label.parse().unwrap();
    let checksum = ObjectChecksum {
        size: 100,
        crc32c: 7,
    };
    BackupEntry {
        format: BackupEntry::FORMAT,
        label,
        server: server(),
        kind: BackupKind::Full,
        method: BackupMethod::BaseBackup,
        reason: "because".into(),
        status: BackupStatus::DamagedPages,
        warnings: vec!["WARNING: \"a\"\n(b)".into()],
        system_id: SystemId::new(u64::MAX),
        version: ServerVersion::from_number(170_010),
        segment_bytes: 16 << 20,
        data_checksums: DataChecksums::On,
        timeline: TimelineId::new(11).unwrap(),
        start_lsn: Lsn::new(0x1_0200_0028),
        end_lsn: Lsn::new(0x1_0200_0138),
        start_facts: StartFacts {
            checkpoint_lsn: Some(Lsn::new(0x1_0200_0060)),
            from: Some("standby".into()),
            start_time: None,
            label: Some("ä".into()),
        },
        started: label.time(),
        stopped: "2026-11-22T02:35:56.123456789Z".parse().unwrap(),
        wal: BackupWal::Included,
        compression: Compression::LZ4,
        size: BackupSize {
            files: 1,
            directories: 2,
            raw_bytes: 3,
            stored_bytes: 4,
            packs: 5,
        },
        reused: ReusedSize::default(),
        sent: Sent::NotCompressed {
            wanted: "zstd:1".parse().unwrap(),
            reason: "it is 14".into(),
        },
        basis: None,
        tablespaces: vec![TablespaceEntry {
            oid: 16385,
            location: "/mnt/ts".into(),
        }],
        manifest: checksum,
        server_manifest: Some(checksum),
    }
}

fn server() -> ServerName {
    "main".parse().unwrap()
}

fn repository_with(labels: &[&str]) -> Repository {
    let repository = Repository::create(Arc::new(MemoryStorage::new())).unwrap();
    for label in labels {
        let entry = entry_with(label);
        put(
            &repository,
            &layout::entry(&server(), entry.label),
            &record::encode(&entry),
        );
    }
    repository
}

fn put(repository: &Repository, path: &ObjectPath, bytes: &[u8]) {
    repository
        .storage()
        .put(path, bytes, PutMode::Replace)
        .unwrap();
}

const LABELS: [&str; 3] = ["20261122T023456Z", "20261122T023457Z", "20261123T000000Z"];

#[test]
fn backups_are_listed_oldest_first() {
    let repository = repository_with(&[LABELS[2], LABELS[0], LABELS[1]]);
    let catalog = repository.catalog(&server()).unwrap();
    assert_eq!(catalog.backups(), LABELS.map(entry_with));
    assert_eq!(catalog.find("newest").unwrap().label.to_string(), LABELS[2]);
    assert_eq!(catalog.find("oldest").unwrap().label.to_string(), LABELS[0]);
    assert_eq!(
        catalog.find(LABELS[1]).unwrap().label.to_string(),
        LABELS[1]
    );
    let error = catalog.find("20200101T000000Z").unwrap_err();
    assert!(matches!(error, Error::NoSuchBackup { .. }) && error.hint().is_some());
}

#[test]
fn server_without_backups_has_an_empty_catalog() {
    let catalog = repository_with(&[]).catalog(&server()).unwrap();
    assert!(catalog.backups().is_empty() && catalog.find("newest").is_err());
}

#[test]
fn damaged_entry_is_reported_beside_the_others() {
    let repository = repository_with(&LABELS);
    let label = LABELS[1].parse().unwrap();
    let path = layout::entry(&server(), label);
    let good = record::encode(&entry_with(LABELS[1]));
    for bit in (0..good.len() * 8).step_by(13) {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        put(&repository, &path, &flipped);
        let catalog = repository.catalog(&server()).unwrap();
        assert_eq!(
            catalog.backups(),
            [entry_with(LABELS[0]), entry_with(LABELS[2])]
        );
        assert_eq!(catalog.damaged().len(), 1);
        assert_eq!(catalog.damaged()[0].label, label);
        let error = catalog.find(LABELS[1]).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(path.as_str()), "{error}");
    }
}

#[test]
fn entry_in_the_folder_of_another_backup_is_damage() {
    let repository = repository_with(&LABELS[..1]);
    let copy = layout::entry(&server(), LABELS[1].parse().unwrap());
    put(&repository, &copy, &record::encode(&entry_with(LABELS[0])));
    let catalog = repository.catalog(&server()).unwrap();
    assert_eq!((catalog.backups().len(), catalog.damaged().len()), (1, 1));
}

#[test]
fn folders_that_are_not_backups_are_not_listed() {
    let repository = repository_with(&LABELS[..1]);
    for path in [
        "main/backup/notes/readme",
        "main/backup/20261124T000000Z/0000.pack",
    ] {
        put(&repository, &ObjectPath::parse(path).unwrap(), b"x");
    }
    let catalog = repository.catalog(&server()).unwrap();
    assert_eq!((catalog.backups().len(), catalog.damaged().len()), (1, 0));
}
