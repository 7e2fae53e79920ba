//! Incremental backups of real servers: they store what has changed, restore like full ones, and need no other backup.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::path::Path;

use pgm_tests::{Cluster, Major, Pgmd, Scratch, StopMode, wait_until};
use serde_json::Value;

/// A checksum over the rows of every table of the database, and of the other one if it is there.
fn rows(cluster: &Cluster) -> Vec<Vec<String>> {
    let tables = cluster.sql(
        "select format('%I.%I', schemaname, tablename) from pg_tables \
         where schemaname in ('public') order by 1",
    );
    let mut all = Vec::new();
    for table in tables {
        let name = &table[0];
        let row = cluster.sql(&format!(
            "select '{name}', count(*), sum(hashtext(t::text)::bigint) from {name} t"
        ));
        all.extend(row);
    }
    all
}

/// What changes between two backups: pages here and there, truncation, drop and creation, rewriting, a database.
fn change(cluster: &Cluster, round: u32) {
    cluster.sql(&format!(
        "update big set word = md5('{round}' || n) where n % 997 = {round}; \
         delete from big where n % 991 = {round}; \
         truncate gone; insert into gone select n, 'round {round}' from generate_series(1, 500) n; \
         drop table if exists short{0}; create table short{round} as select n from generate_series(1, 3000) n; \
         create index on short{round} (n); \
         insert into spots select n, point(n % 1000, {round}) from generate_series(1, 5000) n",
        round - 1
    ));
    match round {
        1 => drop(cluster.sql("vacuum full middle")),
        2 => drop(cluster.sql("vacuum big")),
        _ => {
            cluster.sql("truncate big");
            cluster.sql("insert into big select n, md5(n::text) from generate_series(1, 1000) n");
        }
    }
    let strategy = if cluster.major().number() >= 15 && round == 1 {
        "strategy = file_copy"
    } else {
        ""
    };
    cluster.sql("drop database if exists other");
    cluster.sql(&format!("create database other {strategy}"));
}

fn backup(pgmd: &Pgmd, incremental: &[&str]) -> Value {
    let arguments = [&["backup", "main"][..], incremental].concat();
    pgmd.json(&arguments)
}

/// The newest backup, restored to its own end, has these rows, sound pages and the right files.
fn check(pgmd: &Pgmd, major: Major, label: &str, expected: &[Vec<String>], here: &Scratch) {
    let data = here.join(label);
    let path = data.to_str().unwrap();
    pgmd.cli_ok(&["restore", "main", label, path, "--target-immediate"]);
    let verified = Major::V17
        .command("pg_verifybackup")
        .args(["--no-parse-wal", path])
        .output()
        .unwrap();
    // 17 reads the manifests of all servers up to its own version.
    assert!(
        verified.status.success() || major.number() > 17,
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
    let mut restored = Cluster::on(major, &data);
    restored.start();
    restored.wait_writable();
    assert_eq!(rows(&restored), expected, "{label}");
    restored.stop(StopMode::Fast);
    // Only 17 has the program here; servers of the others have read every row, and so every page of tables.
    if major == Major::V17 {
        checksums_match(major, &data);
    }
    restored.destroy();
}

fn checksums_match(major: Major, data: &Path) {
    let checked = major
        .command("pg_checksums")
        .args(["--check", "-D"])
        .arg(data)
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

fn an_incremental_is_as_good_as_a_full_one(major: Major) {
    let here = Scratch::new("incremental");
    let mut cluster = Cluster::builder(major).start();
    cluster.sql(
        "create table big as select n, md5(n::text) as word from generate_series(1, 200000) n; \
         create index on big (n); create table gone (n int, word text); \
         create table middle as select n, repeat('x', 100) as filler from generate_series(1, 20000) n; \
         create unlogged table light as select generate_series(1, 1000) n; \
         create table spots as select n, point(n % 1000, n / 1000) spot from generate_series(1, 20000) n; \
         create index on spots using spgist (spot)",
    );
    cluster.sql("checkpoint");
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let first = backup(&pgmd, &["--incremental"]);
    assert_eq!(first["kind"], "full", "there is none before: {first}");
    let info = pgmd.cli_ok(&["info", "main", "newest"]);
    assert!(info.contains("there is no backup before"), "{info}");
    let mut taken = Vec::new();
    for round in 1..=3 {
        change(&cluster, round);
        let expected = rows(&cluster);
        let backup = backup(&pgmd, &["--incremental"]);
        assert_eq!(backup["kind"], "incremental", "{backup}");
        assert!(
            backup["basis"]["kept_bytes"].as_u64().unwrap() > 8 << 20,
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
    // The rows of unlogged tables are in no backup.
    for (_, expected) in &mut taken {
        for row in expected.iter_mut().filter(|row| row[0] == "public.light") {
            *row = vec!["public.light".to_owned(), "0".to_owned(), String::new()];
        }
    }
    for (label, expected) in &taken {
        check(&pgmd, major, label, expected, &here);
    }
    // None needs another one.
    let first = first["label"].as_str().unwrap();
    for label in [first, &taken[0].0, &taken[1].0] {
        pgmd.cli_ok(&["delete", "main", label]);
    }
    wait_until("only one is left", || {
        pgmd.status("main")["backups"].as_u64() == Some(1)
    });
    let verified = pgmd.cli_ok(&["verify", "main", "all"]);
    assert!(verified.contains("sound"), "{verified}");
    let again = Scratch::new("incremental-again");
    check(&pgmd, major, &taken[2].0, &taken[2].1, &again);
    cluster.destroy();
}

#[test]
fn an_incremental_is_as_good_as_a_full_one_of_postgresql_14() {
    an_incremental_is_as_good_as_a_full_one(Major::V14);
}

#[test]
fn an_incremental_is_as_good_as_a_full_one_of_postgresql_17() {
    an_incremental_is_as_good_as_a_full_one(Major::V17);
}

/// Bytes of packs in the repository, by backup.
fn packs(pgmd: &Pgmd) -> Vec<(String, u64)> {
    let folder = pgmd.repository().join("main/backup");
    let mut found = Vec::new();
    for backup in std::fs::read_dir(folder).unwrap().flatten() {
        let objects = std::fs::read_dir(backup.path()).unwrap().flatten();
        let packs = objects.filter(|object| object.path().extension() == Some("pack".as_ref()));
        let bytes = packs.map(|pack| pack.metadata().unwrap().len()).sum();
        found.push((backup.file_name().into_string().unwrap(), bytes));
    }
    found
}

/// Replaces a server's tables one after the other, with an incremental backup after each and no more than two that are kept; gives
/// the bytes of packs that the last one needs, and how much of that is the first backup's.
fn bytes_in_the_end(compact_below: u32) -> (u64, u64) {
    let here = Scratch::new("compacted");
    let mut cluster = Cluster::builder(Major::V17)
        .setting("summarize_wal", "on")
        .start();
    let fill = |table: usize| {
        format!(
            "insert into part{table} select n, md5(n::text || {table}) from generate_series(1, 120000) n"
        )
    };
    for table in 0..6 {
        cluster.sql(&format!("create table part{table} (n int, word text)"));
        cluster.sql(&fill(table));
    }
    let mut pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(&format!(
        "(servers: {{ \"main\": (conninfo: {:?}, compact_below: {compact_below}) }})",
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    let first = backup(&pgmd, &[])["label"].clone();
    let mut labels = vec![first.as_str().unwrap().to_owned()];
    let mut given_up = 0;
    for round in 0..8 {
        if round < 6 {
            cluster.sql(&format!("truncate part{round}"));
            cluster.sql(&fill(round));
        }
        let source = ["native", "stream"][round % 2];
        let taken = backup(&pgmd, &["--incremental", "--source", source]);
        assert_eq!(taken["kind"], "incremental", "{taken}");
        given_up += taken["basis"]["packs_given_up"].as_u64().unwrap();
        labels.push(taken["label"].as_str().unwrap().to_owned());
        if labels.len() > 2 {
            pgmd.cli_ok(&["delete", "main", &labels.remove(0)]);
        }
    }
    assert_eq!(given_up > 0, compact_below > 0, "{given_up}");
    let expected = rows(&cluster);
    check(&pgmd, Major::V17, &labels[0], &expected, &here);
    pgmd.cli_ok(&["delete", "main", &labels[0]]);
    check(&pgmd, Major::V17, &labels[1], &expected, &here);
    let left = packs(&pgmd);
    let of_first = left.iter().filter(|(label, _)| *label == first);
    let of_first = of_first.map(|(_, bytes)| bytes).sum();
    cluster.destroy();
    (left.iter().map(|(_, bytes)| bytes).sum(), of_first)
}

#[test]
fn old_packs_of_which_little_is_needed_go_with_the_backups_that_made_them() {
    let (never, of_first) = bytes_in_the_end(0);
    assert!(of_first > 0);
    let (compacted, of_first) = bytes_in_the_end(90);
    assert_eq!(of_first, 0);
    assert!(compacted < never, "{compacted}, else {never}");
}

#[test]
fn without_page_checksums_it_is_a_full_one_and_says_why() {
    let cluster = Cluster::builder(Major::V17).without_checksums().start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    backup(&pgmd, &[]);
    let second = backup(&pgmd, &["--incremental"]);
    assert_eq!(second["kind"], "full", "{second}");
    let info = pgmd.cli_ok(&["info", "main", "newest"]);
    assert!(info.contains("page checksums"), "{info}");
}
