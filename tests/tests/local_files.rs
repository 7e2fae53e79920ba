//! Backups of servers on the same host, whose files are read where they are: each restores to what the server was, also while everything in it
//! changes, and needs no other one; and where the files cannot be read, the server sends them, and the backup says why.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pgm_proto::{Client, ConnInfo, Session};
use pgm_tests::{Cluster, Major, Pgmd, Scratch, StopMode, run_ok, wait_until};
use serde_json::Value;

fn prepared(major: Major) -> Cluster {
    let cluster = Cluster::builder(major).tablespace("space").start();
    cluster.grant_backups();
    cluster.sql(
        "create table big as select n, md5(n::text) as word from generate_series(1, 200000) n; \
         create index on big (n); create table gone (n int, word text); \
         create table middle as select n, repeat('x', 100) as filler from generate_series(1, 20000) n; \
         create unlogged table light as select generate_series(1, 1000) n; \
         create table far tablespace space as select n, md5(n::text) as word from generate_series(1, 20000) n",
    );
    cluster.sql("create database model");
    cluster.sql("checkpoint");
    cluster
}

/// A checksum over the rows of every table that is logged, also of those in the other databases.
fn rows(cluster: &Cluster) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let databases =
        cluster.sql("select datname from pg_database where not datistemplate order by 1");
    for database in databases.iter().map(|row| &row[0]) {
        let conninfo = cluster.conninfo_superuser();
        let conninfo = conninfo.replace("dbname=postgres", &format!("dbname={database}"));
        let conninfo: ConnInfo = conninfo.parse().unwrap();
        let mut client = Client::connect(&conninfo, Session::Sql).unwrap();
        let mut ask = |sql: &str| client.query(sql).unwrap().pop().unwrap().rows;
        let tables = ask(
            "select relname from pg_class where relkind = 'r' and relpersistence = 'p' \
             and relnamespace = 'public'::regnamespace order by 1",
        );
        for table in tables.into_iter().flatten().flatten() {
            let seqscan = if table == "big" { "off" } else { "on" };
            let sum = format!(
                "set enable_seqscan = {seqscan}; \
                 select count(*), sum(hashtext(t::text)::bigint) from public.{table} t"
            );
            let row = ask(&sum).remove(0);
            let row = row.into_iter().map(Option::unwrap_or_default);
            all.push([database.clone(), table].into_iter().chain(row).collect());
        }
    }
    all
}

/// What changes between two backups.
fn change(cluster: &Cluster, round: u32) {
    cluster.sql(&format!(
        "update big set word = md5('{round}' || n) where n % 997 = {round}; \
         delete from big where n % 991 = {round}; \
         insert into far select n, 'round {round}' from generate_series(1, 1000) n; \
         truncate gone; insert into gone select n, 'round {round}' from generate_series(1, 500) n; \
         insert into light values ({round}); \
         drop table if exists short{0}; create table short{round} as select n from generate_series(1, 3000) n; \
         create index on short{round} (n); create table far{round} tablespace space as select * from far",
        round - 1
    ));
    match round {
        1 => drop(cluster.sql("vacuum full middle")),
        // The end of the table goes, and comes again.
        2 => {
            cluster.sql("delete from big where n > 100000");
            cluster.sql("vacuum (freeze, truncate) big");
            cluster.sql("insert into big select n, 'again' from generate_series(1, 50000) n");
        }
        _ => {
            cluster.sql("truncate middle");
            cluster.sql("alter table middle set tablespace space");
        }
    }
    cluster.sql("drop database if exists other");
    make_database(cluster.major(), round, &mut |sql| drop(cluster.sql(sql)));
    // Hint bits, and pages that only VACUUM touches.
    cluster.sql("select count(*) from big");
    cluster.sql("vacuum gone");
}

/// By its WAL, and by copying files, in turn.
fn make_database(major: Major, round: u32, sql: &mut dyn FnMut(&str)) {
    let strategy = match round % 2 {
        _ if major.number() < 15 => "",
        0 => "strategy = wal_log",
        _ => "strategy = file_copy",
    };
    sql(&format!("create database other template model {strategy}"));
}

/// Takes a backup; gives everything about it.
fn backup(pgmd: &Pgmd, more: &[&str]) -> Value {
    let backup = pgmd.json(&[&["backup", "main"][..], more].concat());
    let mut info = pgmd.json(&["info", "main", backup["label"].as_str().unwrap()]);
    let summary = info["summary"].take();
    let all = info.as_object_mut().unwrap();
    all.extend(summary.as_object().unwrap().clone());
    info
}

fn label(backup: &Value) -> &str {
    backup["label"].as_str().unwrap()
}

/// The backup, restored to its own end or to that of the archive, has these rows and sound pages, and the right files.
fn check(pgmd: &Pgmd, cluster: &Cluster, label: &str, more: &[&str], expected: &[Vec<String>]) {
    let here = Scratch::new("restored");
    let (data, moved) = (here.join("data"), here.join("space"));
    let path = data.to_str().unwrap();
    let space = cluster.folder().join("tablespaces/space");
    let elsewhere = format!("{}={}", space.display(), moved.display());
    let mut arguments = vec!["restore", "main", label, path];
    if space.exists() {
        arguments.extend(["--tablespace", &elsewhere]);
    }
    pgmd.cli_ok(&[&arguments[..], more].concat());
    let major = cluster.major();
    if major.number() <= 17 {
        // 17 reads the manifests of all servers up to its own version.
        let mut verify = Major::V17.command("pg_verifybackup");
        run_ok(verify.args(["--no-parse-wal", path]));
    }
    let mut restored = Cluster::on(major, &data);
    restored.start();
    restored.wait_writable();
    assert_eq!(rows(&restored), expected, "{label} {more:?}");
    if major == Major::V17 {
        let mut amcheck = major.command("pg_amcheck");
        amcheck.args([
            "--install-missing",
            "--all",
            "--heapallindexed",
            "-U",
            "postgres",
            "-h",
        ]);
        amcheck.arg(restored.socket_folder()).arg("-p");
        run_ok(amcheck.arg(restored.port().to_string()));
    }
    let has_checksums = restored.value("show data_checksums") == "on";
    restored.stop(StopMode::Fast);
    if major == Major::V17 && has_checksums {
        run_ok(major.command("pg_checksums").args(["--check", "-D", path]));
    }
    restored.destroy();
}

fn the_files_are_read(major: Major) {
    let mut cluster = prepared(major);
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let first = backup(&pgmd, &["--source", "local"]);
    assert_eq!(
        (&first["kind"], &first["method"]),
        (&"full".into(), &"files".into()),
        "{first}"
    );
    check(
        &pgmd,
        &cluster,
        label(&first),
        &["--target-immediate"],
        &rows(&cluster),
    );
    let mut taken = Vec::new();
    for round in 1..=3 {
        change(&cluster, round);
        let expected = rows(&cluster);
        // One of them from what the server sends, in between: each goes on from what the other one took.
        let (source, method): (&[&str], _) = match round {
            2 => (&["--source", "stream"], "base_backup"),
            _ => (&[], "files"),
        };
        let backup = backup(&pgmd, &[&["--incremental"], source].concat());
        assert_eq!(backup["kind"], "incremental", "{backup}");
        assert_eq!(backup["method"], method, "{backup}");
        assert_eq!(backup["warnings"], Value::Array(Vec::new()), "{backup}");
        assert!(
            backup["basis"]["kept_bytes"].as_u64() > Some(8 << 20),
            "{backup}"
        );
        assert!(
            backup["stored_bytes"].as_u64() < first["stored_bytes"].as_u64(),
            "{backup}"
        );
        taken.push((label(&backup).to_owned(), expected));
    }
    let verified = pgmd.cli_ok(&["verify", "main", "all"]);
    assert!(verified.matches("sound").count() >= 4, "{verified}");
    for (label, expected) in &taken[..2] {
        check(&pgmd, &cluster, label, &["--target-immediate"], expected);
    }
    // None needs another one.
    for label in [label(&first), &taken[0].0, &taken[1].0] {
        pgmd.cli_ok(&["delete", "main", label]);
    }
    wait_until("only one is left", || {
        pgmd.status("main")["backups"].as_u64() == Some(1)
    });
    let (last, expected) = &taken[2];
    check(&pgmd, &cluster, last, &["--target-immediate"], expected);
    cluster.destroy();
}

#[test]
fn the_files_are_read_of_postgresql_14() {
    the_files_are_read(Major::V14);
}

#[test]
fn the_files_are_read_of_postgresql_17() {
    the_files_are_read(Major::V17);
}

#[test]
fn the_files_are_read_of_postgresql_18() {
    the_files_are_read(Major::V18);
}

/// Changes everything there is, again and again, until it is told to stop; gives how often.
fn keep_changing(conninfo: &str, major: Major, stop: &AtomicBool) -> u32 {
    let mut client = Client::connect(&conninfo.parse().unwrap(), Session::Sql).unwrap();
    let mut round = 0;
    while !stop.load(Ordering::SeqCst) {
        round += 1;
        let mut sql = |sql: &str| drop(client.query(sql).unwrap());
        sql(&format!(
            "insert into gone select n, md5((n + {round})::text) from generate_series(1, 5000) n; \
             update big set word = md5('{round}' || n) where n % 499 = {round} % 499; \
             create table passing{round} as select n from generate_series(1, 2000) n; \
             create index on passing{round} (n); drop table if exists passing{}; \
             insert into light values ({round}); create temp table own as select n from generate_series(1, 3000) n; \
             drop table own",
            round - 1
        ));
        sql("delete from far where n > 10000");
        sql("vacuum far");
        sql("insert into far select n, 'again' from generate_series(10001, 15000) n");
        match round % 4 {
            0 => sql("vacuum full middle"),
            1 => sql("truncate gone; truncate light"),
            2 => sql("alter table middle set tablespace space"),
            _ => sql("alter table middle set tablespace pg_default"),
        }
        sql("drop database if exists other");
        make_database(major, round / 2, &mut sql);
        sql("checkpoint");
    }
    round
}

fn backups_under_load_are_consistent(major: Major) {
    let mut cluster = prepared(major);
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let stop = AtomicBool::new(false);
    let superuser = cluster.conninfo_superuser();
    let taken: Vec<Value> = thread::scope(|scope| {
        let load = scope.spawn(|| keep_changing(&superuser, major, &stop));
        // Slowly, so that much happens meanwhile.
        let slowly = ["--source", "local", "--max-rate", "20480"];
        let mut taken = vec![backup(&pgmd, &slowly)];
        for _ in 0..2 {
            taken.push(backup(&pgmd, &[&["--incremental"], &slowly[..]].concat()));
        }
        stop.store(true, Ordering::SeqCst);
        assert!(load.join().unwrap() > 3, "nothing has changed meanwhile");
        taken
    });
    let kinds: Vec<&Value> = taken.iter().map(|backup| &backup["kind"]).collect();
    assert_eq!(kinds, ["full", "incremental", "incremental"]);
    let expected = rows(&cluster);
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
    for backup in &taken {
        assert_eq!(backup["method"], "files", "{backup}");
        check(&pgmd, &cluster, label(backup), &[], &expected);
    }
    cluster.destroy();
}

#[test]
fn backups_under_load_are_consistent_of_postgresql_14() {
    backups_under_load_are_consistent(Major::V14);
}

#[test]
fn backups_under_load_are_consistent_of_postgresql_17() {
    backups_under_load_are_consistent(Major::V17);
}

#[test]
fn files_that_cannot_be_read_are_sent_by_the_server_and_the_backup_says_why() {
    let mut cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let sent = |why: &str| {
        let refused = pgmd.cli(&["backup", "main", "--source", "local"]);
        assert_ne!(refused.status, 0);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
        assert!(refused.stderr.contains("HINT:"), "{}", refused.stderr);
        let backup = backup(&pgmd, &[]);
        assert_eq!(backup["method"], "base_backup", "{backup}");
        assert!(backup["reason"].as_str().unwrap().contains(why), "{backup}");
        assert_eq!(backup["warnings"], Value::Array(Vec::new()), "{backup}");
    };
    sent("the role may not execute pg_backup_start(text,boolean)");
    cluster.grant_backups();
    // Deeper than any server makes them.
    let deep = cluster.data().join("d");
    fs::create_dir_all(deep.join("d/".repeat(40))).unwrap();
    sent("cannot open d/d/d");
    fs::remove_dir_all(deep).unwrap();
    let pid_file = cluster.data().join("postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    let another = text.replace(&cluster.port().to_string(), "1");
    fs::write(&pid_file, another).unwrap();
    sent("is that of another server");
    fs::write(&pid_file, text).unwrap();
    assert_eq!(backup(&pgmd, &[])["method"], "files");
    cluster.destroy();
}

#[test]
fn damaged_pages_are_named_and_stored_and_mark_the_backup() {
    let mut cluster = Cluster::builder(Major::V17).start();
    cluster.grant_backups();
    cluster.sql(
        "create table t as select n, repeat('x', 500) as word from generate_series(1, 1000) n",
    );
    let path = cluster.value("select pg_relation_filepath('t')");
    cluster.stop(StopMode::Fast);
    let file = OpenOptions::new()
        .write(true)
        .open(cluster.data().join(&path))
        .unwrap();
    file.write_all_at(b"damage", 3 * 8192 + 5000).unwrap();
    cluster.start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let damaged = backup(&pgmd, &["--source", "local"]);
    let warnings = damaged["warnings"].to_string();
    let expected = format!("the checksum of page 3 of {path} is wrong");
    assert!(warnings.contains(&expected), "{damaged}");
    assert_eq!(damaged["status"], "warnings", "{damaged}");
    // Nothing is built on it.
    let next = backup(&pgmd, &["--incremental", "--source", "local"]);
    assert_eq!(next["kind"], "full", "{next}");
    cluster.destroy();
}

#[test]
fn a_backup_ends_with_the_session_that_has_begun_it() {
    let mut cluster = prepared(Major::V17);
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let slowly = ["backup", "main", "--source", "local", "--max-rate", "1024"];
    let run = thread::scope(|scope| {
        let run = scope.spawn(|| pgmd.cli(&slowly));
        let session = "from pg_stat_activity where usename = 'pgm' and query like 'SELECT pg_catalog.pg_backup_start%' \
             and state = 'idle'";
        wait_until("the backup has begun", || {
            cluster.value(&format!("select count(*) {session}")) == "1"
        });
        cluster.sql(&format!("select pg_terminate_backend(pid) {session}"));
        run.join().unwrap()
    });
    assert_ne!(run.status, 0);
    assert!(
        run.stderr
            .contains("the session that had begun the backup failed"),
        "{}",
        run.stderr
    );
    // What it had stored by then is taken over.
    let next = backup(&pgmd, &["--source", "local"]);
    assert_eq!(next["method"], "files", "{next}");
    check(
        &pgmd,
        &cluster,
        label(&next),
        &["--target-immediate"],
        &rows(&cluster),
    );
    cluster.destroy();
}

#[test]
fn a_standby_is_read_too_and_the_server_can_go_on_from_files() {
    let mut primary = Cluster::builder(Major::V17)
        .setting("summarize_wal", "on")
        .without_checksums()
        .start();
    primary.grant_backups();
    primary.sql(
        "create table big as select n, md5(n::text) as word from generate_series(1, 200000) n",
    );
    let mut standby = primary.standby();
    let mut pgmd = Pgmd::configured(&[("main", &standby.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let first = backup(&pgmd, &["--source", "local"]);
    assert_eq!(first["method"], "files", "{first}");
    let steps = [
        ("local", "files"),
        ("native", "base_backup_incremental"),
        ("auto", "files"),
    ];
    for (round, (source, method)) in steps.into_iter().enumerate() {
        primary.sql(&format!(
            "update big set word = '{round}' where n % 1000 = {round}"
        ));
        primary.sql("checkpoint");
        standby.catch_up_with(&primary);
        standby.sql("checkpoint");
        let expected = rows(&standby);
        let taken = backup(&pgmd, &["--incremental", "--source", source]);
        assert_eq!(
            (&taken["kind"], &taken["method"]),
            (&"incremental".into(), &method.into()),
            "{taken}"
        );
        check(
            &pgmd,
            &standby,
            label(&taken),
            &["--target-immediate"],
            &expected,
        );
    }
    primary.destroy();
    standby.destroy();
}
