//! Backups of which pgm reads the files itself, wherever: what they are put through, whichever way the files are read.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pgm_proto::{Client, ConnInfo, Session};
use serde_json::Value;

use crate::{Cluster, Major, Pgmd, Run, Scratch, StopMode, run_ok, wait_until};

/// A way to read the files of a server.
#[derive(Debug, Clone, Copy)]
pub struct FileReads {
    /// How it is asked for.
    pub source: &'static str,
    /// How a backup says that it was taken in this way.
    pub method: &'static str,
    /// Lets the role of the tests read in this way.
    pub grant: fn(&Cluster),
    /// Keeps a running server from being read in a way that would come before this one.
    pub hide: fn(&Cluster),
}

impl FileReads {
    /// A server with something of everything.
    #[must_use]
    pub fn server(&self, major: Major) -> Cluster {
        let cluster = Cluster::builder(major)
            .setting("allow_in_place_tablespaces", "on")
            .tablespace("space")
            .start();
        (self.grant)(&cluster);
        (self.hide)(&cluster);
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

    /// A full backup, and three incremental ones: each is the server, and needs none of the others.
    pub fn each_is_the_server(&self, major: Major) {
        let mut cluster = self.server(major);
        let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
        pgmd.start();
        pgmd.wait_streaming("main");
        let first = take_backup(&pgmd, &["--source", self.source]);
        assert_eq!(
            (&first["kind"], &first["method"]),
            (&"full".into(), &self.method.into()),
            "{first}"
        );
        check_restored(
            &pgmd,
            &cluster,
            backup_label(&first),
            &["--target-immediate"],
            &table_rows(&cluster),
        );
        let mut taken = Vec::new();
        for round in 1..=3 {
            change(&cluster, round);
            let expected = table_rows(&cluster);
            // One of them from what the server sends, in between: each goes on from what the other one took.
            let (source, method): (&[&str], _) = match round {
                2 => (&["--source", "stream"], "base_backup"),
                _ => (&[], self.method),
            };
            let backup = take_backup(&pgmd, &[&["--incremental"], source].concat());
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
            taken.push((backup_label(&backup).to_owned(), expected));
        }
        let verified = pgmd.cli_ok(&["verify", "main", "all"]);
        assert!(verified.matches("sound").count() >= 4, "{verified}");
        for (label, expected) in &taken[..2] {
            check_restored(&pgmd, &cluster, label, &["--target-immediate"], expected);
        }
        // None needs another one.
        for label in [backup_label(&first), &taken[0].0, &taken[1].0] {
            pgmd.cli_ok(&["delete", "main", label]);
        }
        wait_until("only one is left", || {
            pgmd.status("main")["backups"].as_u64() == Some(1)
        });
        let (last, expected) = &taken[2];
        check_restored(&pgmd, &cluster, last, &["--target-immediate"], expected);
        cluster.destroy();
    }

    /// Backups while everything changes lead to what the server was in the end.
    pub fn under_load_all_are_consistent(&self, major: Major) {
        let mut cluster = self.server(major);
        // One in a folder of the data directory, where there is no link.
        cluster.sql("create tablespace near location ''");
        cluster
            .sql("create table near tablespace near as select n from generate_series(1, 5000) n");
        let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
        pgmd.start();
        pgmd.wait_streaming("main");
        let stop = AtomicBool::new(false);
        let superuser = cluster.conninfo_superuser();
        let taken: Vec<Value> = thread::scope(|scope| {
            let load = scope.spawn(|| keep_changing(&superuser, major, &stop));
            // Slowly, so that much happens meanwhile.
            let slowly = ["--source", self.source, "--max-rate", "20480"];
            let mut taken = vec![take_backup(&pgmd, &slowly)];
            for _ in 0..2 {
                taken.push(take_backup(
                    &pgmd,
                    &[&["--incremental"], &slowly[..]].concat(),
                ));
            }
            stop.store(true, Ordering::SeqCst);
            assert!(load.join().unwrap() > 3, "nothing has changed meanwhile");
            taken
        });
        let kinds: Vec<&Value> = taken.iter().map(|backup| &backup["kind"]).collect();
        assert_eq!(kinds, ["full", "incremental", "incremental"]);
        let expected = table_rows(&cluster);
        pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
        for backup in &taken {
            assert_eq!(backup["method"], self.method, "{backup}");
            check_restored(&pgmd, &cluster, backup_label(backup), &[], &expected);
        }
        cluster.destroy();
    }

    /// Damaged pages are named and stored, and mark the backup.
    pub fn damaged_pages_are_named(&self) {
        let mut cluster = Cluster::builder(Major::V17).start();
        (self.grant)(&cluster);
        (self.hide)(&cluster);
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
        let damaged = take_backup(&pgmd, &["--source", self.source]);
        let warnings = damaged["warnings"].to_string();
        let expected = format!("the checksum of page 3 of {path} is wrong");
        assert!(warnings.contains(&expected), "{damaged}");
        assert_eq!(damaged["status"], "warnings", "{damaged}");
        // Nothing is built on it.
        let next = take_backup(&pgmd, &["--incremental", "--source", self.source]);
        assert_eq!(next["kind"], "full", "{next}");
        cluster.destroy();
    }

    /// Takes a backup of at most so many KiB a second, in which something happens while the server knows that it runs.
    fn in_the_middle(
        &self,
        pgmd: &Pgmd,
        cluster: &Cluster,
        rate: &str,
        happens: impl FnOnce(),
    ) -> Run {
        let source = self.source;
        let slowly = ["backup", "main", "--source", source, "--max-rate", rate];
        thread::scope(|scope| {
            let run = scope.spawn(|| pgmd.cli(&slowly));
            wait_until("the backup has begun", || {
                cluster.value(
                    "select count(*) from pg_stat_activity where usename = 'pgm' and state = 'idle' \
                     and query like 'SELECT pg_catalog.pg_backup_start%'",
                ) == "1"
            });
            happens();
            run.join().unwrap()
        })
    }

    /// A backup ends when the session does that `which` names, among those of pgm in `pg_stat_activity`, and the next one goes on from it.
    pub fn ends_with_the_session(&self, which: &str, says: &str) {
        let mut cluster = self.server(Major::V17);
        let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
        pgmd.start();
        pgmd.wait_streaming("main");
        let session = format!("from pg_stat_activity where usename = 'pgm' and {which}");
        let run = self.in_the_middle(&pgmd, &cluster, "1024", || {
            // One that reads has not read yet when the backup begins.
            wait_until("the session is ended", || {
                let ended =
                    format!("select count(*) filter (where pg_terminate_backend(pid)) {session}");
                cluster.value(&ended) != "0"
            });
        });
        assert_ne!(run.status, 0);
        assert!(run.stderr.contains(says), "{}", run.stderr);
        // What it had stored by then is taken over.
        let next = take_backup(&pgmd, &["--source", self.source]);
        assert_eq!(next["method"], self.method, "{next}");
        check_restored(
            &pgmd,
            &cluster,
            backup_label(&next),
            &["--target-immediate"],
            &table_rows(&cluster),
        );
        cluster.destroy();
    }

    /// The promotion of a standby ends the backup, which says so, and the next one is taken from the new primary.
    pub fn a_promotion_ends_it(&self) {
        let mut primary = Cluster::builder(Major::V17).start();
        (self.grant)(&primary);
        primary.sql(
            "create table big as select n, md5(n::text) as word from generate_series(1, 200000) n; \
             create table gone (n int, word text)",
        );
        let mut standby = primary.standby();
        (self.hide)(&standby);
        let mut pgmd = Pgmd::configured(&[("main", &standby.conninfo())]);
        pgmd.start();
        pgmd.wait_streaming("main");
        let run = self.in_the_middle(&pgmd, &standby, "20480", || {
            standby.sql("select pg_promote()");
        });
        assert_ne!(run.status, 0);
        for said in ["the standby was promoted during online backup", "HINT:"] {
            assert!(run.stderr.contains(said), "{}", run.stderr);
        }
        assert_eq!(pgmd.status("main")["backups"], 0);
        standby.sql("insert into gone select n, 'after' from generate_series(1, 500) n");
        pgmd.wait_streaming("main");
        let next = take_backup(&pgmd, &["--source", self.source]);
        assert_eq!(next["method"], self.method, "{next}");
        assert_eq!(next["timeline"], 2, "{next}");
        let rows = table_rows(&standby);
        check_restored(
            &pgmd,
            &standby,
            backup_label(&next),
            &["--target-immediate"],
            &rows,
        );
        primary.destroy();
        standby.destroy();
    }

    /// A standby is read, too, and the server can go on from such a backup.
    pub fn a_standby_is_read_too(&self) {
        let mut primary = Cluster::builder(Major::V17)
            .setting("summarize_wal", "on")
            .without_checksums()
            .start();
        (self.grant)(&primary);
        primary.sql(
            "create table big as select n, md5(n::text) as word from generate_series(1, 200000) n",
        );
        let mut standby = primary.standby();
        (self.hide)(&standby);
        let mut pgmd = Pgmd::configured(&[("main", &standby.conninfo())]);
        pgmd.start();
        pgmd.wait_streaming("main");
        let first = take_backup(&pgmd, &["--source", self.source]);
        assert_eq!(first["method"], self.method, "{first}");
        let steps = [
            (self.source, self.method),
            ("native", "base_backup_incremental"),
        ];
        for (round, (source, method)) in steps.into_iter().enumerate() {
            primary.sql(&format!(
                "update big set word = '{round}' where n % 1000 = {round}"
            ));
            primary.sql("checkpoint");
            standby.catch_up_with(&primary);
            standby.sql("checkpoint");
            let expected = table_rows(&standby);
            let taken = take_backup(&pgmd, &["--incremental", "--source", source]);
            assert_eq!(
                (&taken["kind"], &taken["method"]),
                (&"incremental".into(), &method.into()),
                "{taken}"
            );
            check_restored(
                &pgmd,
                &standby,
                backup_label(&taken),
                &["--target-immediate"],
                &expected,
            );
        }
        primary.destroy();
        standby.destroy();
    }
}

/// A checksum over the rows of every table that is logged, also of those in the other databases.
pub fn table_rows(cluster: &Cluster) -> Vec<Vec<String>> {
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
pub fn take_backup(pgmd: &Pgmd, more: &[&str]) -> Value {
    let taken = pgmd.json(&[&["backup", "main"][..], more].concat());
    let mut info = pgmd.json(&["info", "main", taken["label"].as_str().unwrap()]);
    let summary = info["summary"].take();
    let all = info.as_object_mut().unwrap();
    all.extend(summary.as_object().unwrap().clone());
    info
}

/// The label of a backup.
pub fn backup_label(backup: &Value) -> &str {
    backup["label"].as_str().unwrap()
}

/// The backup, restored to its own end or to that of the archive, has these rows and sound pages, and the right files.
pub fn check_restored(
    pgmd: &Pgmd,
    cluster: &Cluster,
    label: &str,
    more: &[&str],
    expected: &[Vec<String>],
) {
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
    assert_eq!(table_rows(&restored), expected, "{label} {more:?}");
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
             update near set n = -n where abs(n) % 10 = {round} % 10; \
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
