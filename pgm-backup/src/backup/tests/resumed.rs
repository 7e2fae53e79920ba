//! Backups that are interrupted, and those that go on from them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pgm_storage::seal::MasterKey;
use pgm_storage::{ObjectPath, PutMode};

use super::faulty::Faulty;
use super::*;
use crate::repository::{Unfinished, layout};

/// Files of many sizes, each with its own content; `changed` has another one.
fn files(changed: Option<usize>) -> Vec<(String, Vec<u8>)> {
    let sizes = [
        2_500_000,
        30_000,
        8192,
        700_000,
        1_300_000,
        90_000,
        1 << 20,
        5,
        400_000,
        16_384,
        3_000_000,
    ];
    let file = |(number, size): (usize, &usize)| {
        let mut content = vec![0; *size];
        pattern(number as u64 * 100_000_000, &mut content);
        if changed == Some(number) {
            content[size / 2] ^= 1;
        }
        (format!("base/5/{number}"), content)
    };
    // Much more than the buffers hold, so that packs are finished long before everything was read.
    let sizes = sizes.iter().cycle().take(3 * sizes.len());
    sizes.enumerate().map(file).collect()
}

fn steps(files: &[(String, Vec<u8>)]) -> Vec<Step> {
    let files = files.iter();
    data_directory(
        files
            .map(|(name, content)| Step::Bytes(file(name, content)))
            .collect(),
    )
}

fn expected(files: &[(String, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    let mut all: BTreeMap<_, _> = files.iter().cloned().collect();
    all.insert(
        "backup_label".into(),
        super::super::script::LABEL_FILE.to_vec(),
    );
    all.insert("global/pg_control".into(), vec![7; 8192]);
    all
}

/// Packs of one frame or two.
fn small_packs() -> PackOptions {
    PackOptions {
        pack_bytes: 1 << 20,
        ..options(1)
    }
}

fn attempt(
    cx: &Context,
    repository: &Repository,
    source: Script,
    resume: Resume,
) -> Result<BackupEntry> {
    let request = BackupRequest {
        resume,
        ..BackupRequest::default()
    };
    attempt_as(cx, repository, source, &request)
}

fn attempt_as(
    cx: &Context,
    repository: &Repository,
    source: Script,
    request: &BackupRequest,
) -> Result<BackupEntry> {
    let targets = [target(repository, "none")];
    let mut outcomes = take_as(cx, &targets, source, small_packs(), request)?;
    outcomes.pop().unwrap().into_result()
}

fn objects(repository: &Repository) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let folder = layout::backups(&server());
    let list = repository.storage().list(&folder, &mut |meta| {
        found.insert(meta.path.below(&folder).unwrap().to_owned());
        ControlFlow::Continue(())
    });
    list.unwrap();
    found
}

fn lists(repository: &Repository) -> usize {
    let objects = objects(repository);
    objects
        .iter()
        .filter(|path| path.contains("/resume/"))
        .count()
}

/// The bytes of the files in these steps.
fn read_by(steps: &[Step]) -> u64 {
    let bytes = steps.iter().map(|step| match step {
        Step::Bytes(bytes) => bytes.len() as u64,
        _ => 0,
    });
    bytes.sum()
}

fn is_pack(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, ending)| ending == "pack")
}

/// A backup whose process dies once it has finished `packs` packs; false if it came to its end before.
fn die_after(
    storage: &Arc<Faulty>,
    repository: &Repository,
    packs: usize,
    files: &[(String, Vec<u8>)],
) -> bool {
    let mut source = Script::new(steps(files), 65_536);
    let (dying, looking) = (Arc::clone(storage), repository.clone());
    let mut dead = false;
    source.before_next = Box::new(move || {
        if !dead && lists(&looking) >= packs {
            dying.fail_after(0);
            dead = true;
        }
    });
    let taken = attempt(&Context::quiet(), repository, source, Resume::IfPossible);
    storage.repair();
    taken.is_err()
}

fn faulty() -> (Arc<Faulty>, Repository) {
    let storage = Arc::new(Faulty::new(u64::MAX));
    let repository = Repository::create(Arc::clone(&storage) as Arc<dyn Storage>).unwrap();
    (storage, repository)
}

fn go_on(repository: &Repository, files: &[(String, Vec<u8>)], resume: Resume) -> BackupEntry {
    let source = Script::new(steps(files), 65_536);
    attempt(&Context::quiet(), repository, source, resume).unwrap()
}

#[test]
fn a_backup_that_died_after_any_pack_goes_on_from_it() {
    let files = files(None);
    let mut most = 0;
    for packs in 0.. {
        let (storage, repository) = faulty();
        if !die_after(&storage, &repository, packs, &files) {
            break;
        }
        let finished = lists(&repository);
        assert!(finished >= packs);
        let entry = go_on(&repository, &files, Resume::IfPossible);
        assert_eq!(contents(&repository, &entry), expected(&files));
        assert_eq!(entry.reused.packs as usize, finished, "died after {packs}");
        assert!(entry.reused.frames as usize >= finished);
        assert_eq!(lists(&repository), 0, "{:?}", objects(&repository));
        let manifest = repository.manifest(&entry).unwrap();
        let own = manifest
            .packs()
            .iter()
            .filter(|pack| pack.label == entry.label);
        assert_eq!(own.count(), entry.size.packs as usize);
        // Nothing is there but what the backup needs, and a sweep knows that.
        let packs: BTreeSet<String> = manifest
            .packs()
            .iter()
            .map(|pack| format!("{}/{:04}.pack", pack.label, pack.number))
            .collect();
        let stored = objects(&repository)
            .into_iter()
            .filter(|path| is_pack(path));
        assert_eq!(stored.collect::<BTreeSet<_>>(), packs);
        let lock = repository.lock(&server(), Purpose::Backup).unwrap();
        repository.sweep(&lock, Unfinished::Remove).unwrap();
        drop(lock);
        assert_eq!(contents(&repository, &entry), expected(&files));
        most = finished;
    }
    assert!(most > 7, "{most}");
}

#[test]
fn a_backup_may_die_again_and_again() {
    let files = files(None);
    let (storage, repository) = faulty();
    let mut died = 0;
    for packs in [2, 4, 6, 8] {
        died += usize::from(die_after(&storage, &repository, packs, &files));
        assert!(lists(&repository) >= packs);
    }
    assert_eq!(died, 4);
    // How many packs one finishes before it is dead depends on its threads.
    let dead: BTreeSet<String> = objects(&repository)
        .into_iter()
        .filter(|path| path.contains("/resume/"))
        .filter_map(|path| path.split('/').next().map(str::to_owned))
        .collect();
    let entry = go_on(&repository, &files, Resume::IfPossible);
    assert_eq!(contents(&repository, &entry), expected(&files));
    assert!(entry.reused.packs >= 8, "{:?}", entry.reused);
    let manifest = repository.manifest(&entry).unwrap();
    let labels = manifest.packs().iter().map(|pack| pack.label.to_string());
    let labels: BTreeSet<String> = labels.collect();
    assert!(
        !dead.is_empty() && labels.is_superset(&dead),
        "{dead:?} {labels:?}"
    );
    // The next one stands on its own, and deleting this one takes everything with it.
    let next = go_on(&repository, &files, Resume::IfPossible);
    assert_eq!(next.reused, crate::catalog::ReusedSize::default());
    assert_eq!(contents(&repository, &entry), expected(&files));
}

#[test]
fn a_connection_that_breaks_leaves_finished_packs_and_nothing_else() {
    let files = files(None);
    let repository = repository();
    let mut cut = steps(&files);
    cut.truncate(cut.len() - 6);
    let cx = Context::quiet();
    let read = read_by(&cut);
    let broken = Script::new(cut, 65_536);
    attempt(&cx, &repository, broken, Resume::IfPossible).unwrap_err();
    let left = objects(&repository);
    let (lists, packs): (Vec<_>, Vec<_>) = left.iter().partition(|path| path.contains("/resume/"));
    assert!(lists.len() > 3 && lists.len() == packs.len(), "{left:?}");
    let finished = lists.len();
    assert!(packs.iter().all(|path| is_pack(path)), "{left:?}");
    let entry = go_on(&repository, &files, Resume::IfPossible);
    assert_eq!(entry.reused.packs as usize, finished);
    // All that had come is there, but for the frame that was being filled.
    assert!(
        entry.reused.raw_bytes + (1 << 20) >= read,
        "{:?}",
        entry.reused
    );
    assert_eq!(contents(&repository, &entry), expected(&files));
}

#[test]
fn files_that_changed_are_stored_again() {
    let before = files(None);
    for changed in (0..before.len()).step_by(3) {
        let after = files(Some(changed));
        let (storage, repository) = faulty();
        assert!(die_after(&storage, &repository, 7, &before));
        let entry = go_on(&repository, &after, Resume::IfPossible);
        assert_eq!(contents(&repository, &entry), expected(&after), "{changed}");
        assert!(entry.reused.packs >= 5, "{changed}: {:?}", entry.reused);
    }
    // A file that came, or went, or grew moves the others only so far.
    let mut other = before.clone();
    other[1].1.extend_from_slice(&[1; 8192]);
    other.remove(5);
    other.insert(3, ("base/5/new".into(), vec![3; 20_000]));
    let (storage, repository) = faulty();
    assert!(die_after(&storage, &repository, 7, &before));
    let entry = go_on(&repository, &other, Resume::IfPossible);
    assert_eq!(contents(&repository, &entry), expected(&other));
    assert!(entry.reused.packs >= 4, "{:?}", entry.reused);
}

#[test]
fn packs_that_are_cut_or_gone_and_lists_that_are_damaged_are_not_used() {
    let files = files(None);
    let (storage, repository) = faulty();
    assert!(die_after(&storage, &repository, 6, &files));
    let stored = objects(&repository);
    let path = |end: &str| {
        let found = stored.iter().find(|path| path.ends_with(end)).unwrap();
        ObjectPath::parse(&format!("main/backup/{found}")).unwrap()
    };
    let cut = storage.get(&path("/0000.pack"), 1 << 24).unwrap();
    storage
        .put(&path("/0000.pack"), &cut[..cut.len() - 1], PutMode::Replace)
        .unwrap();
    storage.delete(&path("/0001.pack")).unwrap();
    let mut list = storage.get(&path("/resume/0002"), 1 << 24).unwrap();
    list[100] ^= 4;
    storage
        .put(&path("/resume/0002"), &list, PutMode::Replace)
        .unwrap();
    let finished = lists(&repository);
    let entry = go_on(&repository, &files, Resume::IfPossible);
    assert_eq!(contents(&repository, &entry), expected(&files));
    assert_eq!(entry.reused.packs as usize, finished - 3);
}

#[test]
fn a_cancelled_backup_is_kept_unless_it_is_discarded() {
    let files = files(None);
    for discarded in [false, true] {
        let repository = repository();
        let cx = Context::quiet();
        let request = BackupRequest::default();
        let mut source = Script::new(steps(&files), 65_536);
        let (cancel, discard) = (cx.cancel.clone(), request.discard.clone());
        let looking = repository.clone();
        source.before_next = Box::new(move || {
            if lists(&looking) > 4 {
                if discarded {
                    discard.cancel();
                }
                cancel.cancel();
            }
        });
        let error = attempt_as(&cx, &repository, source, &request).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        if discarded {
            assert_nothing_at_all_left(&repository);
        } else {
            assert_nothing_left(&repository);
            let finished = lists(&repository);
            let entry = go_on(&repository, &files, Resume::IfPossible);
            assert_eq!(contents(&repository, &entry), expected(&files));
            assert_eq!(entry.reused.packs as usize, finished);
        }
    }
}

#[test]
fn a_backup_that_filled_the_disk_leaves_nothing() {
    let files = files(None);

    let (storage, repository) = faulty();
    let mut source = Script::new(steps(&files), 65_536);
    let (filling, looking) = (Arc::clone(&storage), repository.clone());
    source.before_next = Box::new(move || {
        if lists(&looking) > 4 {
            filling.set_full();
        }
    });
    attempt(&Context::quiet(), &repository, source, Resume::IfPossible).unwrap_err();
    assert_nothing_at_all_left(&repository);
}

#[test]
fn without_resuming_everything_is_stored_again() {
    let files = files(None);
    let (storage, repository) = faulty();
    assert!(die_after(&storage, &repository, 5, &files));
    let entry = go_on(&repository, &files, Resume::Never);
    assert_eq!(entry.reused, crate::catalog::ReusedSize::default());
    assert_eq!(contents(&repository, &entry), expected(&files));
    let folders = repository.storage().folders(&layout::backups(&server()));
    assert_eq!(folders.unwrap(), [entry.label.to_string()]);
}

#[test]
fn deleting_other_backups_leaves_what_was_taken_over_and_what_can_be_resumed() {
    let files = files(None);
    let (storage, repository) = faulty();
    let first = go_on(&repository, &files, Resume::IfPossible);
    assert!(die_after(&storage, &repository, 4, &files));
    let second = go_on(&repository, &files, Resume::IfPossible);
    assert!(second.reused.packs >= 4);
    assert!(die_after(&storage, &repository, 3, &files));
    let finished = lists(&repository);
    let archive = pgm_wal::archive::Archive::new(Arc::clone(repository.storage()), server());
    let wal = crate::delete::WalAtHand {
        archive: &archive,
        spool: None,
    };
    let delete = |entry: &BackupEntry| {
        let choice = crate::restore::BackupChoice::Label(entry.label);
        let force = crate::delete::Force::Yes;
        crate::delete::delete(
            &Context::quiet(),
            &repository,
            wal,
            &server(),
            choice,
            force,
        )
        .unwrap()
    };
    delete(&first);
    assert_eq!(contents(&repository, &second), expected(&files));
    assert_eq!(lists(&repository), finished);
    let third = go_on(&repository, &files, Resume::IfPossible);
    assert_eq!(third.reused.packs as usize, finished);
    delete(&second);
    assert_eq!(contents(&repository, &third), expected(&files));
    delete(&third);
    assert_eq!(objects(&repository), BTreeSet::new());
}

#[test]
fn a_sealed_repository_is_gone_on_from_as_well() {
    let files = files(None);
    let storage = Arc::new(Faulty::new(u64::MAX));
    let shared = Arc::clone(&storage) as Arc<dyn Storage>;
    let repository = Repository::create_sealed(shared, &MasterKey::generate().unwrap()).unwrap();
    assert!(die_after(&storage, &repository, 5, &files));
    let finished = lists(&repository);
    let entry = go_on(&repository, &files, Resume::IfPossible);
    assert_eq!(entry.reused.packs as usize, finished);
    assert_eq!(contents(&repository, &entry), expected(&files));
}

#[test]
fn what_two_backups_left_in_two_repositories_is_not_mixed_up() {
    let files = files(None);
    let (first_storage, first) = faulty();
    let (second_storage, second) = faulty();
    assert!(die_after(&first_storage, &first, 5, &files));
    assert!(die_after(&second_storage, &second, 5, &files));
    let targets = [target(&first, "none"), target(&second, "none")];
    let (cx, request) = (Context::quiet(), BackupRequest::default());
    let source = Script::new(steps(&files), 65_536);
    let outcomes = take_as(&cx, &targets, source, small_packs(), &request).unwrap();
    let entries: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.into_result().unwrap())
        .collect();
    // Two keys hashed what was left: that of the first repository is taken over.
    assert!(entries[0].reused.packs >= 5, "{:?}", entries[0].reused);
    assert_eq!(entries[1].reused, crate::catalog::ReusedSize::default());
    for (entry, repository) in entries.iter().zip([&first, &second]) {
        assert_eq!(contents(repository, entry), expected(&files));
        assert_eq!(lists(repository), 0);
    }

    // One backup for both has one key, and what it left is taken over in both.
    let mut source = Script::new(steps(&files), 65_536);
    let (dying, looking) = (
        [Arc::clone(&first_storage), Arc::clone(&second_storage)],
        second.clone(),
    );
    let mut dead = false;
    source.before_next = Box::new(move || {
        if !dead && lists(&looking) >= 5 {
            for storage in &dying {
                storage.fail_after(0);
            }
            dead = true;
        }
    });
    take_as(&cx, &targets, source, small_packs(), &request).unwrap_err();
    first_storage.repair();
    second_storage.repair();
    let source = Script::new(steps(&files), 65_536);
    let outcomes = take_as(&cx, &targets, source, small_packs(), &request).unwrap();
    for (outcome, repository) in outcomes.into_iter().zip([&first, &second]) {
        let entry = outcome.into_result().unwrap();
        assert!(entry.reused.packs >= 4, "{:?}", entry.reused);
        assert_eq!(contents(repository, &entry), expected(&files));
    }
}
