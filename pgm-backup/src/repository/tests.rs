//! Repositories that are created, opened, locked, swept and shared.

use std::ops::ControlFlow;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use pgm_proto::{ServerVersion, SystemId};
use pgm_storage::{LocalStorage, MemoryStorage, ObjectPath, PutMode};

use super::lock::Lease;
use super::*;
use crate::catalog::tests::entry_with;
use crate::record;

fn server() -> ServerName {
    "main".parse().unwrap()
}

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

fn repository() -> Repository {
    Repository::create(memory()).unwrap()
}

fn put(repository: &Repository, path: &str, bytes: &[u8]) {
    let path = ObjectPath::parse(path).unwrap();
    repository
        .storage()
        .put(&path, bytes, PutMode::Replace)
        .unwrap();
}

fn objects(repository: &Repository, folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let folder = ObjectPath::parse(folder).unwrap();
    let list = repository.storage().list(&folder, &mut |meta| {
        found.push(meta.path.to_string());
        ControlFlow::Continue(())
    });
    list.unwrap();
    found
}

#[test]
fn repository_is_created_once_and_opened_again() {
    let storage = memory();
    let error = Repository::open(Arc::clone(&storage)).unwrap_err();
    assert!(matches!(error, Error::RepositoryMissing { .. }) && error.hint().is_some());
    let created = Repository::open_or_create(Arc::clone(&storage)).unwrap();
    let opened = Repository::open_or_create(Arc::clone(&storage)).unwrap();
    assert_eq!(created.id(), opened.id());
    assert_eq!(created.id().to_string().len(), 32);
    let error = Repository::create(storage).unwrap_err();
    assert!(matches!(error, Error::RepositoryExists { .. }) && error.hint().is_some());
}

#[derive(serde::Serialize)]
struct Newer {
    format: u32,
}

#[test]
fn repository_of_a_newer_format_is_refused() {
    let repository = repository();
    let newer = record::encode(&Newer { format: 3 });
    put(&repository, "repository.ron", &newer);
    let error = Repository::open(Arc::clone(repository.storage())).unwrap_err();
    assert!(matches!(error, Error::UnknownFormat { found: 3, .. }) && error.hint().is_some());
}

fn facts(system_id: u64) -> ServerFacts {
    ServerFacts {
        system_id: SystemId::new(system_id),
        version: ServerVersion::from_number(170_010),
        segment_bytes: 16 << 20,
    }
}

#[test]
fn another_server_under_the_same_name_is_refused() {
    let repository = repository();
    assert_eq!(repository.server(&server()).unwrap(), None);
    let first = repository.register(&server(), &facts(1)).unwrap();
    assert_eq!(repository.register(&server(), &facts(1)).unwrap(), first);
    let newer = ServerFacts {
        version: ServerVersion::from_number(170_011),
        ..facts(1)
    };
    assert!(repository.register(&server(), &newer).is_ok());
    let error = repository.register(&server(), &facts(2)).unwrap_err();
    assert!(
        matches!(error, Error::OtherSystem { .. }) && error.hint().is_some(),
        "{error}"
    );
    let resized = ServerFacts {
        segment_bytes: 1 << 20,
        ..facts(1)
    };
    let error = repository.register(&server(), &resized).unwrap_err();
    assert!(matches!(error, Error::OtherSegmentSize { .. }), "{error}");
    assert_eq!(repository.servers().unwrap(), [server()]);
}

#[test]
fn lock_excludes_its_purpose_and_is_free_again_when_dropped() {
    let repository = repository();
    for _ in 0..3 {
        let lock = repository.lock(&server(), Purpose::Backup).unwrap();
        let error = repository.lock(&server(), Purpose::Backup).unwrap_err();
        assert!(matches!(error, Error::LockHeld { .. }), "{error}");
        assert!(
            error.to_string().contains(&std::process::id().to_string()) && error.hint().is_some()
        );
        repository.lock(&server(), Purpose::Retention).unwrap();
        repository
            .lock(&"other".parse().unwrap(), Purpose::Backup)
            .unwrap();
        lock.check().unwrap();
    }
    assert_eq!(objects(&repository, "main/lock/backup").len(), 1);
}

#[test]
fn of_many_contenders_one_gets_the_lock() {
    let repository = repository();
    let (begin, end) = (Barrier::new(8), Barrier::new(8));
    let winners: usize = std::thread::scope(|scope| {
        let contend = || {
            begin.wait();
            let lock = repository.lock(&server(), Purpose::Backup);
            end.wait();
            usize::from(lock.is_ok())
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(contend)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(winners, 1);
}

/// What a process that was killed leaves: its generation, held for another minute.
fn leave_lock_of(repository: &Repository, change: impl Fn(&str) -> String) {
    let lock = repository.lock(&server(), Purpose::Backup).unwrap();
    let path = objects(repository, "main/lock/backup").pop().unwrap();
    let bytes = repository
        .storage()
        .get(&ObjectPath::parse(&path).unwrap(), 1 << 20)
        .unwrap();
    drop(lock);
    let text = String::from_utf8(bytes).unwrap();
    let body = &text[..text.rfind("// crc32c").unwrap()];
    let body = change(body);
    let sealed = format!(
        "{body}// crc32c {:08x}\n",
        pgm_storage::crc32c(body.as_bytes())
    );
    put(repository, &path, sealed.as_bytes());
}

#[test]
fn lock_of_a_dead_process_is_taken_over_at_once() {
    let repository = repository();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let ours = format!("pid: {},", std::process::id());
    leave_lock_of(&repository, |body| {
        body.replace(&ours, &format!("pid: {pid},"))
    });
    repository.lock(&server(), Purpose::Backup).unwrap();
    // The same pid, used again by a younger process.
    leave_lock_of(&repository, |body| {
        body.replace("started_ticks: ", "started_ticks: 9")
    });
    repository.lock(&server(), Purpose::Backup).unwrap();
}

#[test]
fn lock_of_another_host_is_respected_until_its_lease_is_over() {
    let repository = repository();
    leave_lock_of(&repository, |body| {
        body.replace("pid_space: \"", "pid_space: \"elsewhere ")
    });
    let error = repository.lock(&server(), Purpose::Backup).unwrap_err();
    assert!(
        matches!(error, Error::LockHeld { .. }) && error.hint().unwrap().contains("runs out"),
        "{error}"
    );
    let path = objects(&repository, "main/lock/backup").pop().unwrap();
    repository
        .storage()
        .delete(&ObjectPath::parse(&path).unwrap())
        .unwrap();
    leave_lock_of(&repository, |body| {
        let until = body.find("until: \"").unwrap() + 8;
        let elsewhere = body.replace("pid_space: \"", "pid_space: \"elsewhere ");
        let until = until + "elsewhere ".len();
        format!("{}2020{}", &elsewhere[..until], &elsewhere[until + 4..])
    });
    repository.lock(&server(), Purpose::Backup).unwrap();
}

#[test]
fn damaged_lock_is_respected_while_it_is_young() {
    let repository = repository();
    leave_lock_of(&repository, |body| body.replace("Held", "Hold"));
    let error = repository.lock(&server(), Purpose::Backup).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    let short = Lease {
        length: Duration::ZERO,
        renew_every: Duration::from_mins(1),
    };
    Lock::take(repository.storage(), &server(), Purpose::Backup, short).unwrap();
}

#[test]
fn lock_that_is_not_renewed_in_time_is_lost() {
    let repository = repository();
    let lease = Lease {
        length: Duration::ZERO,
        renew_every: Duration::from_mins(10),
    };
    let lock = Lock::take(repository.storage(), &server(), Purpose::Backup, lease).unwrap();
    let error = lock.check().unwrap_err();
    assert!(
        matches!(error, Error::LockLost { .. }) && error.hint().is_some(),
        "{error}"
    );
    // Others may have it now, and its old holder does not take it from them when it lets go.
    let next = repository.lock(&server(), Purpose::Backup).unwrap();
    drop(lock);
    next.check().unwrap();
    assert!(repository.lock(&server(), Purpose::Backup).is_err());
}

#[test]
fn lock_lives_on_while_it_is_renewed() {
    let repository = repository();
    let lease = Lease {
        length: Duration::from_secs(5),
        renew_every: Duration::from_millis(1),
    };
    let lock = Lock::take(repository.storage(), &server(), Purpose::Backup, lease).unwrap();
    let path = objects(&repository, "main/lock/backup").pop().unwrap();
    let read = || {
        repository
            .storage()
            .get(&ObjectPath::parse(&path).unwrap(), 1 << 20)
            .unwrap()
    };
    let (first, deadline) = (read(), Instant::now() + Duration::from_mins(1));
    while read() == first {
        assert!(Instant::now() < deadline, "never renewed");
        std::thread::yield_now();
    }
    lock.check().unwrap();
}

/// Whether the next one took over, or one behind it that has removed the next one and ours.
#[test]
fn a_holder_that_renews_notices_who_took_over() {
    for (generation, removed) in [(2, None), (3, Some(1))] {
        let repository = repository();
        let lease = Lease {
            length: Duration::from_mins(5),
            renew_every: Duration::from_millis(1),
        };
        let lock = Lock::take(repository.storage(), &server(), Purpose::Backup, lease).unwrap();
        let object = |generation: u64| format!("main/lock/backup/{generation:020}");
        put(&repository, &object(generation), b"another's");
        if let Some(removed) = removed {
            let path = ObjectPath::parse(&object(removed)).unwrap();
            repository.storage().delete(&path).unwrap();
        }
        let deadline = Instant::now() + Duration::from_mins(1);
        while lock.check_lease().is_ok() {
            assert!(
                Instant::now() < deadline,
                "generation {generation}: never noticed"
            );
            std::thread::yield_now();
        }
    }
}

#[test]
fn sweep_removes_what_was_never_committed_and_nothing_else() {
    let repository = repository();
    let lock = repository.lock(&server(), Purpose::Backup).unwrap();
    let kept = entry_with("20261122T023456Z");
    put(
        &repository,
        "main/backup/20261122T023456Z/backup.ron",
        &record::encode(&kept),
    );
    put(
        &repository,
        "main/backup/20261122T023456Z/0000.pack",
        b"pack",
    );
    put(
        &repository,
        "main/backup/20261122T023457Z/backup.ron",
        b"damaged",
    );
    put(
        &repository,
        "main/backup/20261122T023457Z/0000.pack",
        b"pack",
    );
    put(
        &repository,
        "main/backup/20261122T023458Z/0000.pack",
        b"pack",
    );
    put(
        &repository,
        "main/backup/20261122T023458Z/manifest",
        b"manifest",
    );
    put(&repository, "main/backup/mine/notes", b"not ours");
    put(&repository, "main/wal/00000001/x", b"wal");
    put(
        &repository,
        "other/backup/20261122T023458Z/0000.pack",
        b"pack",
    );
    let report = repository.sweep(&lock, Unfinished::Keep).unwrap();
    assert_eq!(report.backups, ["20261122T023458Z".parse().unwrap()]);
    assert_eq!(report.objects, 2);
    assert_eq!(objects(&repository, "main/backup").len(), 5);
    assert_eq!(objects(&repository, "main/wal").len(), 1);
    assert_eq!(objects(&repository, "other").len(), 1);
    assert_eq!(
        repository.sweep(&lock, Unfinished::Keep).unwrap(),
        SweepReport::default()
    );
}

#[test]
fn sweep_with_a_lost_lock_removes_nothing() {
    let repository = repository();
    put(
        &repository,
        "main/backup/20261122T023458Z/0000.pack",
        b"pack",
    );
    let lease = Lease {
        length: Duration::ZERO,
        renew_every: Duration::from_mins(10),
    };
    let lock = Lock::take(repository.storage(), &server(), Purpose::Backup, lease).unwrap();
    assert!(matches!(
        repository.sweep(&lock, Unfinished::Keep),
        Err(Error::LockLost { .. })
    ));
    assert_eq!(objects(&repository, "main/backup").len(), 1);
}

#[test]
fn labels_are_unique_and_ordered_whatever_the_clock_says() {
    let repository = repository();
    let now: jiff::Timestamp = "2026-11-22T02:34:56Z".parse().unwrap();
    let mut labels = Vec::new();
    for clock in [
        now,
        now,
        now - jiff::SignedDuration::from_hours(24),
        now + jiff::SignedDuration::from_hours(24),
    ] {
        let lock = repository.lock(&server(), Purpose::Backup).unwrap();
        let staging = repository
            .stage_after(lock, clock, labels.last().copied())
            .unwrap();
        labels.push(staging.label());
        let entry = entry_with(&staging.label().to_string());
        staging.commit(&entry).unwrap();
    }
    assert!(
        labels.is_sorted_by(|earlier, later| earlier < later),
        "{labels:?}"
    );
    assert_eq!(repository.catalog(&server()).unwrap().backups().len(), 4);
}

#[test]
fn staging_that_lost_its_lock_touches_nothing_more() {
    let repository = repository();
    let lease = Lease {
        length: Duration::from_millis(1),
        renew_every: Duration::from_mins(1),
    };
    let lock = Lock::take(repository.storage(), &server(), Purpose::Backup, lease).unwrap();
    let staging = repository.stage(lock).unwrap();
    let mut pack = staging.create_pack(0).unwrap();
    std::io::Write::write_all(&mut pack, b"bytes").unwrap();
    pack.finish().unwrap();
    std::thread::sleep(Duration::from_millis(5));
    drop(staging);
    assert_eq!(objects(&repository, "main/backup").len(), 1);
}

#[test]
fn staging_that_is_given_up_leaves_nothing_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(LocalStorage::create(folder.path().join("repository")).unwrap());
    let repository = Repository::create(storage).unwrap();
    let lock = repository.lock(&server(), Purpose::Backup).unwrap();
    let staging = repository.stage(lock).unwrap();
    let mut pack = staging.create_pack(0).unwrap();
    std::io::Write::write_all(&mut pack, b"bytes").unwrap();
    pack.finish().unwrap();
    let unfinished = staging.create_manifest().unwrap();
    drop(unfinished);
    drop(staging);
    assert_eq!(objects(&repository, "main/backup"), Vec::<String>::new());
    let lock = repository.lock(&server(), Purpose::Backup).unwrap();
    assert_eq!(
        repository.sweep(&lock, Unfinished::Keep).unwrap(),
        SweepReport::default()
    );
    assert_eq!(
        std::fs::read_dir(folder.path().join("repository/main/backup")).map_or(0, Iterator::count),
        0
    );
}
