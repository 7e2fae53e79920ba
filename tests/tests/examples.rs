//! The first programs of a library's user do what they say, on a real server.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::Path;
use std::process::Command;

use pgm_tests::{Cluster, Major, Pgmd, Scratch, StopMode, built, run_ok, wait_until};

const LINES_MAX: usize = 59;

#[test]
fn each_is_short() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/src/bin");
    for name in ["stream_wal", "backup_to_folder", "restore_to_time"] {
        let lines = fs::read_to_string(folder.join(format!("{name}.rs")))
            .unwrap()
            .lines()
            .count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines");
    }
}

#[test]
fn wal_is_streamed_to_a_folder() {
    let cluster = Cluster::builder(Major::V17).start();
    let folder = Scratch::new("s");
    cluster.sql("select pg_create_physical_replication_slot('example', true)");
    cluster.sql("create table t as select generate_series(1, 10000) n");
    let until = cluster.value("select pg_switch_wal()");
    let spool = folder.join("wal");
    let mut command = Command::new(built("stream_wal"));
    command
        .arg(cluster.conninfo())
        .arg(&spool)
        .args(["--slot", "example", "--until", &until]);
    let printed = run_ok(&mut command);
    assert!(printed.contains("durable up to"), "{printed}");
    let segment = cluster.value(&format!("select pg_walfile_name('{until}'::pg_lsn - 1)"));
    let received = fs::read(spool.join(&segment)).unwrap();
    assert_eq!(
        received,
        fs::read(cluster.data().join("pg_wal").join(&segment)).unwrap()
    );
}

#[test]
fn a_backup_is_taken_to_a_folder() {
    let cluster = Cluster::builder(Major::V17).start();
    let folder = Scratch::new("s");
    let repository = folder.join("repository");
    let printed = run_ok(
        Command::new(built("backup_to_folder"))
            .arg(cluster.conninfo())
            .arg(&repository),
    );
    assert!(printed.contains("consistent from"), "{printed}");
    assert_eq!(
        fs::read_dir(repository.join("main/backup"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn a_moment_is_restored() {
    let mut cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.cli_ok(&["backup", "main"]);
    cluster.sql("create table t as select 1 as n");
    let moment = cluster.value(
        "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    cluster.sql("insert into t values (2)");
    let end = cluster.value("select pg_switch_wal()");
    let covered = cluster.value(&format!("select pg_walfile_name('{end}'::pg_lsn - 1)"));
    wait_until("the segment is archived", || {
        pgmd.repository()
            .join("main/wal/00000001")
            .join(&covered)
            .exists()
    });
    cluster.stop(StopMode::Fast);
    pgmd.stop();

    let folder = Scratch::new("s");
    let directory = folder.join("restored");
    let repository = pgmd.repository();
    let wal_get = format!(
        "{} wal get --repository {} main %f \"%p\"",
        built("pgm-cli").display(),
        repository.display()
    );
    let mut command = Command::new(built("restore_to_time"));
    command
        .arg(&repository)
        .args(["main", &moment])
        .arg(&directory)
        .arg(wal_get);
    run_ok(&mut command);
    let mut restored = Cluster::on(Major::V17, &directory);
    restored.start();
    wait_until("recovery ends", || {
        restored.value("select pg_is_in_recovery()") == "f"
    });
    assert_eq!(
        restored.value("select string_agg(n::text, ' ') from t"),
        "1"
    );
}
