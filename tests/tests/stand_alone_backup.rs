//! A stand-alone backup, its WAL included, restores byte for byte and starts; on every major.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgm_backup::backup::{BackupRequest, BackupTarget, NoArchive, backup};
use pgm_backup::catalog::BackupWal;
use pgm_backup::restore::{
    BackupChoice, Boundary, Existing, Recovery, RestoreError, RestoreRequest, RestoreSource,
    Target, TargetAction, TimelineChoice, plan, restore,
};
use pgm_backup::{Context, Repository};
use pgm_proto::{Client, ConnInfo, ServerName, Session};
use pgm_storage::{Compression, LocalStorage};
use pgm_tests::{Cluster, Major, Scratch, StopMode, differences, majors, run_ok};
use pgm_wal::archive::Archive;

struct Backups {
    repository: Repository,
    server: ServerName,
    folder: Scratch,
}

impl Backups {
    fn new() -> Self {
        let folder = Scratch::new("b");
        let storage = LocalStorage::create(folder.join("repository")).unwrap();
        let repository = Repository::create(Arc::new(storage)).unwrap();
        Self {
            repository,
            server: "main".parse().unwrap(),
            folder,
        }
    }

    fn take(&self, cluster: &Cluster) {
        let conninfo: ConnInfo = cluster.conninfo().parse().unwrap();
        let mut client = Client::connect(&conninfo, Session::PhysicalReplication).unwrap();
        let request = BackupRequest {
            wal: BackupWal::Included,
            ..BackupRequest::default()
        };
        let targets = [BackupTarget {
            repository: &self.repository,
            compression: Compression::ZSTD,
            coverage: &NoArchive,
        }];
        let cx = Context::quiet();
        backup(&cx, &mut client, &self.server, &targets, &request).unwrap();
    }

    fn restore(&self, tablespaces: Vec<(PathBuf, PathBuf)>) -> Result<PathBuf, RestoreError> {
        let directory = self.folder.join("restored");
        let archive = Archive::new(Arc::clone(self.repository.storage()), self.server.clone());
        let request = RestoreRequest {
            backup: BackupChoice::Newest,
            directory: directory.clone(),
            existing: Existing::Refuse,
            target: Target::Latest,
            boundary: Boundary::Inclusive,
            timeline: TimelineChoice::Newest,
            action: TargetAction::Promote,
            tablespaces,
            recovery: Recovery::None,
        };
        let cx = Context::quiet();
        let plan = plan(&cx, &self.repository, &archive, None, &self.server, request)?;
        restore(&cx, RestoreSource::new(&self.repository, &archive), &plan)?;
        Ok(directory)
    }
}

/// Files whose names and sizes are as odd as a data directory allows.
fn add_oddities(data: &Path) {
    fs::create_dir_all(data.join("empty folder/within")).unwrap();
    fs::write(data.join("zero"), b"").unwrap();
    fs::write(data.join("with space, 'quote' and \"more\""), b"odd").unwrap();
    fs::write(data.join("ümlaut-名"), b"odd").unwrap();
    fs::write(
        data.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff\xfe")),
        b"odd",
    )
    .unwrap();
    std::os::unix::fs::symlink("/etc/hostname", data.join("link")).unwrap();
}

#[test]
fn every_major_restores_byte_for_byte_and_starts() {
    for major in majors() {
        let mut cluster = Cluster::builder(major).tablespace("space").start();
        cluster.sql("create table t tablespace space as select n, md5(n::text) from generate_series(1, 50000) n");
        cluster.sql("create unlogged table u as select 1 as n");
        add_oddities(cluster.data());
        let backups = Backups::new();
        backups.take(&cluster);
        let old = PathBuf::from(cluster.value(
            "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'",
        ));
        let new = backups.folder.join("moved space");
        let expected = cluster.value("select count(*) || ' ' || sum(hashtext(t::text)) from t");
        cluster.stop(StopMode::Fast);

        let directory = backups.restore(vec![(old.clone(), new.clone())]).unwrap();
        verify(major, &directory);
        // Nothing changed between the backup and now but what a shutdown writes.
        let changes = |path: &Path| {
            let text = path.to_string_lossy();
            [
                "pg_wal",
                "global/pg_control",
                "backup_label",
                "backup_manifest",
                "postmaster",
                "pg_stat",
                "pg_logical",
                "pg_xact",
                "pg_subtrans",
                "pg_replslot",
                "pg_notify",
                "pg_dynshmem",
                "pg_snapshots",
                "pg_multixact",
                "link",
                "pg_tblspc",
                "current_logfiles",
                "log",
            ]
            .iter()
            .any(|name| text.starts_with(name) || text.contains("pg_internal.init"))
        };
        let unlogged = |path: &Path| {
            fs::metadata(cluster.data().join(path)).is_ok_and(|_| {
                let init = format!("{}_init", path.to_string_lossy().split('_').next().unwrap());
                cluster.data().join(init).exists()
            })
        };
        let found: Vec<_> = differences(cluster.data(), &directory, |path| {
            changes(path) || unlogged(path)
        })
        .into_iter()
        // Hint bits and statistics that the shutdown wrote after the backup.
        .filter(|difference| {
            !difference.path.starts_with("base") && !difference.path.starts_with("global")
        })
        .collect();
        assert!(
            found.is_empty(),
            "PostgreSQL {major}: {}",
            found
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        );
        assert!(
            fs::symlink_metadata(directory.join("link")).is_err(),
            "PostgreSQL sends no links but those to tablespaces"
        );

        let mut restored = Cluster::on(major, &directory);
        restored.start();
        assert_eq!(
            restored.value("select count(*) || ' ' || sum(hashtext(t::text)) from t"),
            expected
        );
        assert_eq!(
            restored.value("select count(*) from u"),
            "0",
            "unlogged tables are empty after recovery"
        );
        let place = restored
            .value("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'");
        assert_eq!(Path::new(&place), new);
    }
}

/// PostgreSQL's own verdict, where its tool can read the server's files.
fn verify(major: Major, directory: &Path) {
    let mut command = Major::V17.command("pg_verifybackup");
    // The tool of 17 cannot parse the WAL or control files of others.
    if major != Major::V17 {
        command.arg("--no-parse-wal");
    }
    if major.number() <= 17 {
        run_ok(command.arg(directory));
    }
}

#[test]
fn a_relation_over_one_gibibyte_is_restored() {
    let mut cluster = Cluster::builder(Major::V17).start();
    cluster.sql("create table big (n bigint)");
    let file = cluster.value("select pg_relation_filepath('big')");
    cluster.stop(StopMode::Fast);
    // Pages of zeros are valid empty pages; what is checked is that the file is split, stored and put together again.
    let full = fs::File::options()
        .write(true)
        .open(cluster.data().join(&file))
        .unwrap();
    full.set_len(1 << 30).unwrap();
    let second = fs::File::create(cluster.data().join(format!("{file}.1"))).unwrap();
    second.set_len(8192 * 3).unwrap();
    cluster.start();
    let backups = Backups::new();
    backups.take(&cluster);
    cluster.stop(StopMode::Fast);
    let directory = backups.restore(Vec::new()).unwrap();
    verify(Major::V17, &directory);
    assert_eq!(fs::metadata(directory.join(&file)).unwrap().len(), 1 << 30);
    let mut restored = Cluster::on(Major::V17, &directory);
    restored.start();
    assert_eq!(
        restored.value("select pg_relation_size('big')"),
        ((1_u64 << 30) + 8192 * 3).to_string()
    );
}
