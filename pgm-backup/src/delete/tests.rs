//! Deletion against a calculation of its own, with deaths at every step, and on a full disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use pgm_storage::{Compression, MemoryStorage, PutMode, Storage};
use proptest::prelude::*;

use super::*;
use crate::backup::tests::faulty::Faulty;
use crate::catalog::tests::entry_with;
use crate::manifest::{ManifestHeader, ManifestWriter, PackRecord};
use crate::marks::MarkChange;
use crate::record;
use crate::verify::Level;
use crate::verify::verification::{Counts, Verification};

fn server() -> ServerName {
    "main".parse().unwrap()
}

/// The label of backup `number`.
fn label(number: usize) -> BackupLabel {
    format!("20261122T0200{number:02}Z").parse().unwrap()
}

type Pack = (usize, u32);

/// Commits a backup with these packs of its own, which points into `packs`.
fn commit(repository: &Repository, number: usize, own: u32, packs: &[Pack]) {
    let storage = repository.storage();
    for pack in 0..own {
        let path = layout::pack(&server(), label(number), pack);
        storage.put(&path, b"a pack", PutMode::Create).unwrap();
    }
    let mut entry = entry_with(&label(number).to_string());
    let object = storage
        .create(&layout::manifest(&server(), entry.label))
        .unwrap();
    let header = ManifestHeader {
        format: 1,
        server: server(),
        label: entry.label,
    };
    let writer = ManifestWriter::new(object, &header, Compression::NONE).unwrap();
    let record = |(backup, number): &Pack| PackRecord {
        label: label(*backup),
        number: *number,
        size: 6,
        raw_bytes: 0,
        frames: 0,
        index_crc32c: None,
    };
    let packs: Vec<PackRecord> = packs.iter().map(record).collect();
    (entry.manifest, _) = writer.finish(&packs).unwrap();
    let path = layout::entry(&server(), entry.label);
    storage
        .put(&path, &record::encode(&entry), PutMode::Create)
        .unwrap();
}

/// Three backups that stand alone, the newest with packs of the first, too.
fn three_backups(storage: Arc<dyn Storage>) -> Repository {
    let repository = Repository::create(storage).unwrap();
    commit(&repository, 1, 2, &[(1, 0), (1, 1)]);
    commit(&repository, 2, 1, &[(2, 0)]);
    commit(&repository, 3, 1, &[(3, 0), (1, 1)]);
    repository
}

fn run(repository: &Repository, choice: BackupChoice, force: Force) -> Result<DeleteReport> {
    let archive = Archive::new(Arc::clone(repository.storage()), server());
    let wal = WalAtHand {
        archive: &archive,
        spool: None,
    };
    delete(&Context::quiet(), repository, wal, &server(), choice, force)
}

fn run_label(repository: &Repository, number: usize, force: Force) -> Result<DeleteReport> {
    run(repository, BackupChoice::Label(label(number)), force)
}

/// Everything in the folders of backups but the records beside them, by backup.
fn stored(repository: &Repository) -> BTreeMap<BackupLabel, BTreeSet<String>> {
    let mut found: BTreeMap<BackupLabel, BTreeSet<String>> = BTreeMap::new();
    let folder = layout::backups(&server());
    let list = repository.storage().list(&folder, &mut |meta| {
        let below = meta.path.below(&folder).unwrap();
        let (backup, object) = below.split_once('/').unwrap();
        let objects = found.entry(backup.parse().unwrap()).or_default();
        objects.insert(object.to_owned());
        ControlFlow::Continue(())
    });
    list.unwrap();
    found
}

fn listed(repository: &Repository) -> Vec<BackupLabel> {
    let catalog = repository.catalog(&server()).unwrap();
    catalog.backups().iter().map(|entry| entry.label).collect()
}

#[test]
fn packs_that_a_later_backup_needs_stay_until_it_goes() {
    let repository = three_backups(Arc::new(MemoryStorage::new()));
    let report = run(&repository, BackupChoice::Oldest, Force::No).unwrap();
    assert_eq!((report.label, report.objects), (label(1), 3));
    assert_eq!(report.kept.len(), 1);
    assert!(report.kept[0].doubt.is_none() && report.warnings.len() == 1);
    assert_eq!(listed(&repository), [label(2), label(3)]);
    assert_eq!(
        stored(&repository)[&label(1)],
        ["0001.pack".to_owned()].into()
    );
    run(&repository, BackupChoice::Newest, Force::No).unwrap();
    assert_eq!(stored(&repository).keys().collect::<Vec<_>>(), [&label(2)]);
}

#[test]
fn retained_and_last_backups_stay() {
    let repository = three_backups(Arc::new(MemoryStorage::new()));
    repository
        .mark(&server(), label(2), &MarkChange::Retain)
        .unwrap();
    for force in [Force::No, Force::Yes] {
        let error = run_label(&repository, 2, force).unwrap_err();
        assert!(matches!(error, Error::BackupRetained { .. }), "{error}");
        assert!(error.hint().unwrap().contains("expunge main"));
    }
    repository
        .mark(&server(), label(2), &MarkChange::Expunge)
        .unwrap();
    run_label(&repository, 1, Force::No).unwrap();
    run_label(&repository, 3, Force::No).unwrap();
    let error = run_label(&repository, 2, Force::No).unwrap_err();
    assert!(matches!(error, Error::LastRestorable { .. }), "{error}");
    assert_eq!(listed(&repository), [label(2)]);
    run_label(&repository, 2, Force::Yes).unwrap();
    assert_eq!(stored(&repository), BTreeMap::new());
    assert!(matches!(
        run(&repository, BackupChoice::Oldest, Force::Yes),
        Err(Error::NoSuchBackup { .. })
    ));
}

#[test]
fn a_backup_that_was_found_damaged_does_not_count_as_restorable() {
    let repository = three_backups(Arc::new(MemoryStorage::new()));
    run_label(&repository, 1, Force::No).unwrap();
    let found = Verification {
        trial: None,
        format: 1,
        level: Level::Frames,
        outcome: Outcome::Damaged,
        started: jiff::Timestamp::now(),
        finished: jiff::Timestamp::now(),
        counts: Counts::default(),
        findings_total: 0,
        findings: Vec::new(),
    };
    repository
        .note_verification(&server(), label(2), &found)
        .unwrap();
    let error = run_label(&repository, 3, Force::No).unwrap_err();
    assert!(matches!(error, Error::LastRestorable { .. }), "{error}");
    run_label(&repository, 2, Force::No).unwrap();
}

#[test]
fn a_backup_that_cannot_be_read_keeps_what_it_may_need_and_goes_only_by_force() {
    let repository = three_backups(Arc::new(MemoryStorage::new()));
    let damaged = layout::entry(&server(), label(2));
    repository
        .storage()
        .put(&damaged, b"?", PutMode::Replace)
        .unwrap();
    let report = run_label(&repository, 1, Force::No).unwrap();
    let doubt = report.kept[0].doubt.as_ref().unwrap();
    assert_eq!((report.kept[0].packs, doubt.label), (2, label(2)));
    assert!(
        report.warnings[0].contains("20261122T020002Z"),
        "{:?}",
        report.warnings
    );
    let error = run_label(&repository, 2, Force::No).unwrap_err();
    assert!(matches!(error, Error::DoubtfulBackup { .. }) && error.hint().is_some());
    // Without the doubt, what the first deletion had to leave goes with the second.
    run_label(&repository, 2, Force::Yes).unwrap();
    assert_eq!(
        stored(&repository)[&label(1)],
        ["0001.pack".to_owned()].into()
    );
}

#[test]
fn the_folder_of_a_backup_under_way_is_left_alone() {
    let repository = three_backups(Arc::new(MemoryStorage::new()));
    let lock = repository.lock(&server(), Purpose::Backup).unwrap();
    let under_way = layout::pack(&server(), label(9), 0);
    repository
        .storage()
        .put(&under_way, b"a pack", PutMode::Create)
        .unwrap();
    run_label(&repository, 2, Force::No).unwrap();
    assert!(stored(&repository).contains_key(&label(9)));
    drop(lock);
    run_label(&repository, 1, Force::No).unwrap();
    assert!(!stored(&repository).contains_key(&label(9)));
}

#[test]
fn death_at_any_step_leaves_the_backup_whole_or_unlisted_and_the_next_sweep_finishes() {
    for operations in 0.. {
        let storage = Arc::new(Faulty::new(u64::MAX));
        let repository = three_backups(Arc::<Faulty>::clone(&storage));
        storage.fail_after(operations);
        let done = run_label(&repository, 2, Force::No);
        storage.repair();
        let whole: BTreeSet<String> = ["0000.pack", "backup.ron", "manifest"]
            .map(str::to_owned)
            .into();
        if listed(&repository).contains(&label(2)) {
            assert_eq!(stored(&repository)[&label(2)], whole, "{operations}");
        } else {
            let lock = repository.lock(&server(), Purpose::Backup).unwrap();
            repository
                .sweep(&lock, crate::repository::Unfinished::Keep)
                .unwrap();
            assert!(!stored(&repository).contains_key(&label(2)), "{operations}");
        }
        assert!(stored(&repository)[&label(1)].contains("0001.pack"));
        if done.is_ok_and(|report| report.warnings.is_empty()) {
            assert!(operations > 10);
            return;
        }
    }
}

#[test]
fn a_full_disk_is_no_obstacle() {
    let storage = Arc::new(Faulty::new(u64::MAX));
    let repository = three_backups(Arc::<Faulty>::clone(&storage));
    storage.set_full();
    run_label(&repository, 2, Force::No).unwrap();
    assert_eq!(listed(&repository), [label(1), label(3)]);
    // Whoever comes meanwhile sees a lock whose holder had no room for its name.
    let lock = repository.lock(&server(), Purpose::Retention);
    let error = run_label(&repository, 1, Force::No).unwrap_err();
    assert!(matches!(error, Error::LockHeld { .. }), "{error}: {lock:?}");
}

/// What a random history does.
#[derive(Debug, Clone)]
enum Step {
    Delete(usize),
    DamageEntry(usize),
    DamageManifest(usize),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..8_usize).prop_map(Step::Delete),
        1 => (0..8_usize).prop_map(Step::DamageEntry),
        1 => (0..8_usize).prop_map(Step::DamageManifest),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..14)
}

/// For each backup its own packs, and for each of them and of all earlier ones whether it points there.
fn catalogs() -> impl Strategy<Value = Vec<(u32, Vec<bool>)>> {
    prop::collection::vec((0..4_u32, prop::collection::vec(any::<bool>(), 32)), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_goes_is_exactly_what_nothing_needs(catalog in catalogs(), steps in steps()) {
        let repository = Repository::create(Arc::new(MemoryStorage::new())).unwrap();
        let mut all: Vec<Pack> = Vec::new();
        // Which backups are there, what they need, and whether they can be read.
        let mut there: BTreeMap<usize, (BTreeSet<Pack>, bool)> = BTreeMap::new();
        for (number, (own, points)) in catalog.iter().enumerate() {
            all.extend((0..*own).map(|pack| (number, pack)));
            let needs: Vec<Pack> = all.iter().copied().zip(points).filter(|(_, points)| **points).map(|(pack, _)| pack).collect();
            commit(&repository, number, *own, &needs);
            there.insert(number, (needs.into_iter().collect(), true));
        }
        let mut packs: BTreeSet<Pack> = all.iter().copied().collect();
        for step in steps {
            match step {
                Step::Delete(number) => {
                    let deleted = run_label(&repository, number, Force::Yes);
                    prop_assert_eq!(deleted.is_ok(), there.remove(&number).is_some());
                    if deleted.is_err() {
                        continue;
                    }
                }
                Step::DamageEntry(number) | Step::DamageManifest(number) => {
                    let Some((_, readable)) = there.get_mut(&number) else { continue };
                    *readable = false;
                    let path = match step {
                        Step::DamageEntry(_) => layout::entry(&server(), label(number)),
                        _ => layout::manifest(&server(), label(number)),
                    };
                    repository.storage().put(&path, b"?", PutMode::Replace).unwrap();
                    continue;
                }
                Step::Sweep => {
                    let lock = repository.lock(&server(), Purpose::Backup).unwrap();
                    repository.sweep(&lock, crate::repository::Unfinished::Keep).unwrap();
                }
            }
            packs.retain(|pack| {
                there.contains_key(&pack.0)
                    || there.iter().any(|(number, (needs, readable))| {
                        *number > pack.0 && (!readable || needs.contains(pack))
                    })
            });
            let stored = stored(&repository);
            let left: BTreeSet<Pack> = (0..catalog.len()).flat_map(|number| {
                let objects = stored.get(&label(number)).cloned().unwrap_or_default();
                let packs = objects.into_iter().filter_map(|name| name.strip_suffix(".pack")?.parse().ok());
                packs.map(move |pack| (number, pack)).collect::<Vec<_>>()
            }).collect();
            prop_assert_eq!(&left, &packs);
        }
    }
}
