//! Incremental backups of which the server itself sends what has changed (PostgreSQL 17 and later): each restores to what the server
//! was, and needs no other one; and where the server cannot, everything is read, and the backup says why.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;

use pgm_proto::{Client, ConnInfo, Session};
use pgm_tests::{Cluster, Major, Pgmd, Scratch, StopMode, run_ok, wait_until};
use serde_json::Value;

/// A checksum over the rows of every table, also of those in the other databases.
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
        let tables = ask("select tablename from pg_tables where schemaname = 'public' order by 1");
        for table in tables.into_iter().flatten().flatten() {
            let sum =
                format!("select count(*), sum(hashtext(t::text)::bigint) from public.{table} t");
            // By the index, where there is one: it must be the right one.
            let sum = format!(
                "set enable_seqscan = {}; {sum}",
                if table == "big" { "off" } else { "on" }
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
            cluster.sql("truncate big");
            cluster.sql("insert into big select n, md5(n::text) from generate_series(1, 1000) n");
            cluster.sql("alter table middle set tablespace space");
        }
    }
    cluster.sql("drop database if exists other");
    let strategy = ["wal_log", "file_copy"][round as usize % 2];
    cluster.sql(&format!(
        "create database other template model strategy = {strategy}"
    ));
    // Hint bits, and pages that only VACUUM touches.
    cluster.sql("select count(*) from big");
    cluster.sql("vacuum gone");
}

fn prepared(major: Major) -> Cluster {
    let cluster = Cluster::builder(major)
        .setting("summarize_wal", "on")
        .tablespace("space")
        .start();
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

/// The newest backup, restored to its own end, has these rows, sound pages and the right files.
fn check(pgmd: &Pgmd, cluster: &Cluster, label: &str, expected: &[Vec<String>], here: &Scratch) {
    let (data, moved) = (here.join(label), here.join(format!("{label}-space")));
    let path = data.to_str().unwrap();
    let space = cluster.folder().join("tablespaces/space");
    let elsewhere = format!("{}={}", space.display(), moved.display());
    pgmd.cli_ok(&[
        "restore",
        "main",
        label,
        path,
        "--target-immediate",
        "--tablespace",
        &elsewhere,
    ]);
    let major = cluster.major();
    if major == Major::V17 {
        run_ok(
            major
                .command("pg_verifybackup")
                .args(["--no-parse-wal", path]),
        );
    }
    let mut restored = Cluster::on(major, &data);
    restored.start();
    restored.wait_writable();
    assert_eq!(rows(&restored), expected, "{label}");
    restored.stop(StopMode::Fast);
    if major == Major::V17 {
        run_ok(major.command("pg_checksums").args(["--check", "-D", path]));
    }
    restored.destroy();
    fs::remove_dir_all(moved).unwrap();
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

fn the_server_sends_what_has_changed(major: Major) {
    let here = Scratch::new("native");
    let mut cluster = prepared(major);
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let first = backup(&pgmd, &["--incremental"]);
    assert_eq!(first["kind"], "full", "there is none before: {first}");
    let mut taken = Vec::new();
    for round in 1..=3 {
        change(&cluster, round);
        let mut expected = rows(&cluster);
        // The rows of unlogged tables are in no backup.
        for row in expected.iter_mut().filter(|row| row[1] == "light") {
            *row = ["postgres", "light", "0", ""].map(str::to_owned).to_vec();
        }
        // One of them the other way, in between: each goes on from what the other one took.
        let source: &[&str] = match round {
            2 => &["--source", "stream"],
            3 => &["--server-compression", "gzip:1"],
            _ => &[],
        };
        let backup = backup(&pgmd, &[&["--incremental"], source].concat());
        assert_eq!(backup["kind"], "incremental", "{backup}");
        let method = if round == 2 {
            "base_backup"
        } else {
            "base_backup_incremental"
        };
        assert_eq!(backup["method"], method, "{backup}");
        assert!(
            backup["warnings"].as_array().unwrap().is_empty(),
            "{backup}"
        );
        assert!(
            backup["basis"]["kept_bytes"].as_u64() > Some(8 << 20),
            "{backup}"
        );
        assert!(
            backup["stored_bytes"].as_u64() < first["stored_bytes"].as_u64(),
            "{backup}"
        );
        taken.push((backup["label"].as_str().unwrap().to_owned(), expected));
    }
    let verified = pgmd.cli_ok(&["verify", "main", "all"]);
    assert!(verified.matches("sound").count() >= 4, "{verified}");
    for (label, expected) in &taken[..2] {
        check(&pgmd, &cluster, label, expected, &here);
    }
    // None needs another one.
    let first = first["label"].as_str().unwrap();
    for label in [first, &taken[0].0, &taken[1].0] {
        pgmd.cli_ok(&["delete", "main", label]);
    }
    wait_until("only one is left", || {
        pgmd.status("main")["backups"].as_u64() == Some(1)
    });
    let (last, expected) = &taken[2];
    check(&pgmd, &cluster, last, expected, &here);
    cluster.destroy();
}

#[test]
fn the_server_sends_what_has_changed_of_postgresql_17() {
    the_server_sends_what_has_changed(Major::V17);
}

#[test]
fn the_server_sends_what_has_changed_of_postgresql_18() {
    the_server_sends_what_has_changed(Major::V18);
}

#[test]
fn where_the_server_cannot_everything_is_read_and_the_backup_says_why() {
    let cluster = prepared(Major::V17);
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let first = backup(&pgmd, &[]);

    // The summaries since then are gone: the server refuses when it has begun.
    cluster.sql("update big set word = 'x' where n % 100 = 0");
    cluster.sql("checkpoint");
    let end = first["end_lsn"].as_str().unwrap();
    let later =
        format!("select count(*) > 0 from pg_available_wal_summaries() where end_lsn > '{end}'");
    wait_until("it is summarized", || cluster.value(&later) == "t");
    for file in fs::read_dir(cluster.data().join("pg_wal/summaries")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let refused = backup(&pgmd, &["--incremental"]);
    assert_eq!(
        (&refused["kind"], &refused["method"]),
        (&"incremental".into(), &"base_backup".into())
    );
    let warnings = refused["warnings"].to_string();
    assert!(warnings.contains("WAL summaries are required"), "{refused}");
    assert!(
        refused["reason"]
            .as_str()
            .unwrap()
            .contains("WAL summaries are required"),
        "{refused}"
    );

    // Known before: no warning, unless the server was to do it.
    cluster.configure("summarize_wal", "off");
    cluster.reload();
    wait_until("it is off", || cluster.value("show summarize_wal") == "off");
    let off = backup(&pgmd, &["--incremental"]);
    assert_eq!(off["method"], "base_backup", "{off}");
    assert!(
        off["reason"]
            .as_str()
            .unwrap()
            .contains("summarize_wal is off"),
        "{off}"
    );
    assert!(off["warnings"].as_array().unwrap().is_empty(), "{off}");
    let wanted = backup(&pgmd, &["--incremental", "--source", "native"]);
    assert!(
        wanted["warnings"]
            .to_string()
            .contains("summarize_wal is off"),
        "{wanted}"
    );
}

#[test]
fn without_page_checksums_only_the_server_can_tell_and_it_tells_all_repositories_at_once() {
    let here = Scratch::new("native-unchecked");
    let mut cluster = Cluster::builder(Major::V17)
        .without_checksums()
        .setting("summarize_wal", "on")
        .start();
    cluster.sql(
        "create table big as select n, md5(n::text) as word from generate_series(1, 200000) n",
    );
    // One stream for both; the second one lacks the newest backup at first.
    let mut pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(&format!(
        "(repositories: {{ \"one\": (path: {:?}, compression: \"lz4\"), \"other\": (path: {:?}) }}, \
         servers: {{ \"main\": (conninfo: {:?}) }})",
        here.join("one"),
        here.join("other"),
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    let first = backup(&pgmd, &[]);
    let newer = backup(&pgmd, &[]);
    let newer = newer["label"].as_str().unwrap();
    pgmd.cli_ok(&["delete", "main", newer, "--repo", "other"]);
    cluster.sql("update big set word = 'x' where n % 1000 = 0");
    let expected = rows(&cluster);
    let taken = backup(&pgmd, &["--incremental"]);
    assert_eq!(taken["method"], "base_backup_incremental", "{taken}");
    assert_eq!(taken["basis"]["label"], first["label"], "{taken}");
    for repository in ["one", "other"] {
        let data = here.join(format!("data-{repository}"));
        let path = data.to_str().unwrap();
        pgmd.cli_ok(&[
            "restore",
            "main",
            "newest",
            path,
            "--repo",
            repository,
            "--target-immediate",
        ]);
        let mut restored = Cluster::on(Major::V17, &data);
        restored.start();
        restored.wait_writable();
        assert_eq!(rows(&restored), expected);
        restored.destroy();
    }
    cluster.destroy();
}
