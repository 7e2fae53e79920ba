//! A restore over a data directory: only what differs is written, the rest stays, and the outcome is what a restore into
//! nothing gives; and an interrupted restore that is gone on with.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use pgm_tests::{Cluster, Major, Pgmd, Scratch, StopMode, differences};
use serde_json::Value;

/// What a server of an older major version has in the folder of a tablespace.
const NEIGHBOUR: &str = "PG_16_202307071";

/// What `restore` says of a restore that went well.
fn restore(pgmd: &Pgmd, label: &str, folder: &Path, more: &[&str]) -> Value {
    let fixed = ["restore", "main", label, folder.to_str().unwrap()];
    pgmd.json(&[&fixed, more].concat())
}

fn refused(pgmd: &Pgmd, label: &str, folder: &Path, more: &[&str]) -> String {
    let fixed = ["restore", "main", label, folder.to_str().unwrap()];
    let run = pgmd.cli(&[&fixed, more].concat());
    assert_ne!(run.status, 0, "{run:?}");
    run.stderr
}

fn number(outcome: &Value, name: &str) -> u64 {
    outcome[name].as_u64().unwrap()
}

/// All but the links of tablespaces, which lead where they were told, and what is another server's.
fn same(left: &Path, right: &Path) {
    let others = |path: &Path| path.starts_with("pg_tblspc") || path.starts_with(NEIGHBOUR);
    let found = differences(left, right, others);
    assert!(found.is_empty(), "{found:#?}");
}

/// What others put into a data directory and the folder of a tablespace: a file, a second name of a file, a link for the WAL, a
/// server of another major version.
struct Others {
    neighbour: PathBuf,
    second_name: PathBuf,
    wal: PathBuf,
    wal_files: usize,
}

impl Others {
    fn leave(data: &Path, space: &Path, scratch: &Scratch) -> Self {
        let neighbour = space.join(NEIGHBOUR).join("5/16384");
        fs::create_dir_all(neighbour.parent().unwrap()).unwrap();
        fs::write(&neighbour, "of another server").unwrap();
        fs::write(data.join("base/5/99999"), "left by somebody").unwrap();
        let second_name = scratch.join("second-name");
        let version = data.join("base/5/PG_VERSION");
        fs::hard_link(&version, &second_name).unwrap();
        fs::write(&version, "of the other name\n").unwrap();
        let wal = scratch.join("wal");
        fs::rename(data.join("pg_wal"), &wal).unwrap();
        symlink(&wal, data.join("pg_wal")).unwrap();
        let wal_files = fs::read_dir(&wal).unwrap().count();
        Self {
            neighbour,
            second_name,
            wal,
            wal_files,
        }
    }

    fn are_as_they_were(&self) {
        assert_eq!(fs::read(&self.neighbour).unwrap(), b"of another server");
        assert_eq!(fs::read(&self.second_name).unwrap(), b"of the other name\n");
        assert_eq!(fs::read_dir(&self.wal).unwrap().count(), self.wal_files);
    }
}

/// As if a restore had not come to its end: there are markers and no `pg_control`, and a file is short and wrong.
fn interrupt(data: &Path, space: &Path) {
    for folder in [data, space] {
        fs::write(folder.join("pgm_restore_is_not_finished"), "").unwrap();
    }
    fs::remove_file(data.join("global/pg_control")).unwrap();
    let large = largest(data);
    let mut content = fs::read(&large).unwrap();
    content[70_000] ^= 1;
    content.truncate(content.len() / 2);
    fs::write(&large, content).unwrap();
}

/// The server goes on, and becomes another one.
fn go_on(cluster: &Cluster) {
    cluster.sql("update large set n = n + 1 where n < 50");
    cluster.sql("delete from shorter where n > 100");
    cluster.sql("vacuum shorter");
    cluster.sql("drop table gone");
    cluster.sql("create table new as select n from generate_series(1, 5000) n");
    cluster.sql("create table new_far tablespace space as select 1 n");
}

#[test]
fn what_is_there_and_right_stays_and_the_outcome_is_that_of_a_restore_into_nothing() {
    let mut cluster = Cluster::builder(Major::V17)
        .segment_mib(1)
        .tablespace("space")
        .start();
    let mut other = Cluster::builder(Major::V17).segment_mib(1).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    cluster.sql(
        "create table large as select n, repeat('x', 300) filler from generate_series(1, 60000) n",
    );
    cluster.sql("create table far tablespace space as select n from generate_series(1, 30000) n");
    cluster.sql("create table gone as select n from generate_series(1, 1000) n");
    cluster.sql("create table shorter as select n from generate_series(1, 30000) n");
    cluster.sql("checkpoint");
    let label = pgmd.json(&["backup", "main"])["label"]
        .as_str()
        .unwrap()
        .to_owned();
    let was = cluster.value("select sum(n) from large");
    let shared = cluster.value("select pg_relation_filepath('gone')");
    let end = cluster.value("select pg_switch_wal()");

    go_on(&cluster);
    let last = cluster.value("select pg_current_wal_flush_lsn()");
    pgmd.wait_durable("main", &last);

    let data = cluster.data().to_owned();
    let running = refused(&pgmd, &label, &data, &["--delta"]);
    assert!(
        running.contains("a server runs there") && running.contains("pg_ctl"),
        "{running}"
    );
    cluster.stop(StopMode::Fast);
    other.stop(StopMode::Fast);
    let foreign = refused(&pgmd, &label, other.data(), &["--delta"]);
    assert!(foreign.contains("system identifier"), "{foreign}");
    let not_asked = refused(&pgmd, &label, &data, &[]);
    assert!(
        not_asked.contains("not empty") && not_asked.contains("--delta"),
        "{not_asked}"
    );

    let scratch = Scratch::new("delta");
    let space = cluster.folder().join("tablespaces/space");
    let others = Others::leave(&data, &space, &scratch);
    let target = ["--target-lsn", &end, "--exclusive"];
    let outcome = restore(&pgmd, &label, &data, &[&target[..], &["--delta"]].concat());
    let (raw, kept) = (
        number(&outcome, "raw_bytes"),
        number(&outcome, "kept_bytes"),
    );
    assert!(kept < raw && kept > raw / 2, "{outcome}");
    assert!(number(&outcome, "removed") > 3, "{outcome}");
    let warnings = outcome["warnings"].to_string();
    assert!(warnings.contains("pg_wal was a link to"), "{warnings}");
    others.are_as_they_were();
    assert!(data.join(&shared).exists());

    let fresh = scratch.join("fresh");
    let elsewhere = scratch.join("space");
    let mapping = format!("{}={}", space.display(), elsewhere.display());
    let outcome = restore(
        &pgmd,
        &label,
        &fresh,
        &[&target[..], &["--tablespace", &mapping]].concat(),
    );
    assert_eq!(
        (number(&outcome, "kept_bytes"), number(&outcome, "removed")),
        (0, 0)
    );
    same(&data, &fresh);
    same(&space, &elsewhere);

    interrupt(&fresh, &elsewhere);
    fs::remove_file(fresh.join(&shared)).unwrap();
    let outcome = restore(
        &pgmd,
        &label,
        &fresh,
        &[&target[..], &["--tablespace", &mapping]].concat(),
    );
    let (raw, kept) = (
        number(&outcome, "raw_bytes"),
        number(&outcome, "kept_bytes"),
    );
    assert!(kept < raw && kept > raw / 4, "{outcome}");
    same(&data, &fresh);
    same(&space, &elsewhere);

    pgmd.stop();
    cluster.start();
    cluster.wait_writable();
    assert_eq!(cluster.value("select sum(n) from large"), was);
    assert_eq!(cluster.value("select count(*) from gone"), "1000");
    assert_eq!(cluster.value("select count(*) from shorter"), "30000");
    assert_eq!(cluster.value("select count(*) from far"), "30000");
    assert_eq!(
        cluster.value("select to_regclass('new') is null and to_regclass('new_far') is null"),
        "t"
    );
}

/// The largest file below `base`.
fn largest(data: &Path) -> PathBuf {
    let databases = fs::read_dir(data.join("base")).unwrap().flatten();
    let files = databases.flat_map(|database| fs::read_dir(database.path()).unwrap().flatten());
    let largest = files
        .max_by_key(|file| file.metadata().unwrap().len())
        .unwrap();
    largest.path()
}
