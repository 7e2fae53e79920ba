//! What is done with backups that are there, on the real programs: they are kept, annotated, verified, and deleted, with and
//! without the daemon, and also when the disk is full.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgm_tests::{Cluster, Major, Pgmd, Scratch, refusal, run_ok, wait_until};
use serde_json::Value;

fn streaming() -> (Cluster, Pgmd) {
    let cluster = Cluster::builder(Major::V17)
        .segment_mib(1)
        .tablespace("fast")
        .start();
    cluster.sql(
        "create table t tablespace fast as select n, md5(n::text) from generate_series(1, 5000) n",
    );
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    (cluster, pgmd)
}

fn backup(pgmd: &Pgmd) -> String {
    let taken = pgmd.json(&["backup", "main"]);
    taken["label"].as_str().unwrap().to_owned()
}

fn listed(pgmd: &Pgmd) -> Vec<Value> {
    let list = pgmd.json(&["list-backup", "main"]);
    list["servers"][0]["backups"].as_array().unwrap().clone()
}

fn labels(pgmd: &Pgmd) -> Vec<String> {
    let label = |backup: &Value| backup["label"].as_str().unwrap().to_owned();
    listed(pgmd).iter().map(label).collect()
}

fn folder(pgmd: &Pgmd, label: &str) -> PathBuf {
    pgmd.repository().join("main/backup").join(label)
}

fn flip_a_bit(file: &Path) {
    let mut content = fs::read(file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0x10;
    fs::write(file, content).unwrap();
}

/// What `verify` prints as JSON, and its exit status.
fn verify(pgmd: &Pgmd, arguments: &[&str]) -> (i32, Value) {
    let run = pgmd.cli(&[&["--format", "json", "verify", "main"], arguments].concat());
    let document = serde_json::from_str(&run.stdout);
    (
        run.status,
        document.unwrap_or_else(|error| panic!("{error}: {run:?}")),
    )
}

#[test]
fn backups_are_kept_annotated_and_deleted() {
    let (_cluster, mut pgmd) = streaming();
    let (first, second) = (backup(&pgmd), backup(&pgmd));
    pgmd.cli_ok(&["retain", "main", &first]);
    refusal(
        &pgmd.cli(&["delete", "main", "oldest"]),
        1,
        &["retained", "expunge"],
    );
    refusal(
        &pgmd.cli(&["delete", "main", &first, "--force"]),
        1,
        &["retained"],
    );
    pgmd.cli_ok(&[
        "annotate",
        "main",
        "oldest",
        "add",
        "why",
        "before the upgrade",
    ]);
    refusal(
        &pgmd.cli(&["annotate", "main", &first, "add", "why", "x"]),
        1,
        &["why", "already"],
    );
    refusal(
        &pgmd.cli(&["annotate", "main", &first, "remove", "no"]),
        4,
        &["no annotation"],
    );
    refusal(
        &pgmd.cli(&["annotate", "main", &first, "add", "a b", "x"]),
        2,
        &["a b"],
    );
    let text = pgmd.cli_ok(&["info", "main", &first]);
    assert!(
        text.contains("why: before the upgrade") && text.contains("Retained"),
        "{text}"
    );
    let list = listed(&pgmd);
    assert_eq!(
        (&list[0]["retained"], &list[0]["annotations"]),
        (&true.into(), &1.into())
    );
    let newest_first = pgmd.json(&["list-backup", "main", "--sort", "desc"]);
    assert_eq!(newest_first["servers"][0]["backups"][0]["label"], *second);
    pgmd.cli_ok(&["expunge", "main", &first]);
    pgmd.cli_ok(&["delete", "main", "oldest"]);
    assert_eq!(labels(&pgmd), [second.as_str()]);
    assert!(!folder(&pgmd, &first).exists());
    refusal(&pgmd.cli(&["delete", "main", &first]), 4, &[&first]);
    // Without a daemon all of it works on the repository itself.
    pgmd.stop();
    pgmd.cli_ok(&["annotate", "main", "newest", "add", "by", "ann"]);
    pgmd.cli_ok(&["retain", "main", &second]);
    refusal(&pgmd.cli(&["delete", "main", &second]), 1, &["retained"]);
    pgmd.cli_ok(&["expunge", "main", &second]);
    refusal(
        &pgmd.cli(&["delete", "main", &second]),
        1,
        &["last", "--force"],
    );
    pgmd.cli_ok(&["delete", "main", &second, "--force"]);
    assert_eq!(labels(&pgmd), Vec::<String>::new());
}

#[test]
fn damage_is_found_named_and_remembered() {
    let (cluster, mut pgmd) = streaming();
    let (good, bad) = (backup(&pgmd), backup(&pgmd));
    cluster.sql("select pg_switch_wal(); create table u (n int); select pg_switch_wal()");
    let (status, all) = verify(&pgmd, &["all"]);
    assert_eq!(status, 0, "{all}");
    for backup in all["backups"].as_array().unwrap() {
        assert_eq!(backup["verification"]["outcome"], "sound");
        assert!(backup["frames"].as_u64() > Some(0) && backup["wal_segments"].as_u64() > Some(0));
    }
    let files = verify(&pgmd, &[&good, "--level", "frames", "--all"]).1;
    let files = files["backups"][0]["files"].as_array().unwrap().clone();
    assert!(files.len() > 900 && files.iter().all(|file| file["sound"] == true));
    let pack = folder(&pgmd, &bad).join("0000.pack");
    flip_a_bit(&pack);
    let object = format!("main/backup/{bad}/0000.pack");
    for way in [&[][..], &["--offline"]] {
        let (status, found) = verify(&pgmd, &[&[bad.as_str()], way].concat());
        let finding = &found["backups"][0]["findings"][0];
        assert_eq!(
            (status, &finding["object"]),
            (1, &object.as_str().into()),
            "{found}"
        );
        assert!(
            finding["offset"].is_u64() && finding["file"].is_string(),
            "{finding}"
        );
        let file = &found["backups"][0]["files"][0];
        assert_eq!(
            (&file["path"], &file["sound"]),
            (&finding["file"], &false.into())
        );
    }
    let text = pgmd.cli(&["verify", "main", &bad]);
    assert!(
        text.status == 1 && text.stdout.contains(&object),
        "{text:?}"
    );
    // It is remembered, and such a backup is none to rely on.
    let list = listed(&pgmd);
    assert_eq!(
        (&list[0]["status"], &list[1]["status"]),
        (&"valid".into(), &"damaged".into())
    );
    assert_eq!(list[1]["verified"]["outcome"], "damaged");
    refusal(&pgmd.cli(&["delete", "main", &good]), 1, &["last"]);
    // Damaged WAL of the first backup's own, then behind it.
    let wal = pgmd.repository().join("main/wal/00000001");
    let mut segments: Vec<PathBuf> = fs::read_dir(&wal)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    wait_until("the newest WAL is archived", || {
        pgmd.status("main")["archived_lsn"].is_string()
    });
    flip_a_bit(segments.last().unwrap());
    let (status, found) = verify(&pgmd, &[&good]);
    assert_eq!(
        (status, &found["backups"][0]["verification"]["outcome"]),
        (1, &"flawed".into()),
        "{found}"
    );
    pgmd.stop();
    assert_eq!(verify(&pgmd, &[&good, "--level", "frames"]).0, 0);
}

/// An archive needs neither pgm nor the repository: extracted anywhere, it is the server at its target.
#[test]
fn an_archive_extracted_and_started_is_the_server() {
    let (cluster, pgmd) = streaming();
    backup(&pgmd);
    cluster.sql("create table later as select 1 as n");
    let end = cluster.value("select pg_current_wal_flush_lsn()");
    pgmd.wait_durable("main", &end);
    cluster.sql("insert into later values (2)");
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
    pgmd.cli_ok(&["admin", "master-key"]);
    let scratch = Scratch::new("n");
    for (name, options) in [
        ("a.tar.zst", &[][..]),
        (
            "b.tar.gz.pgm",
            &["--target-lsn", end.as_str(), "--offline"][..],
        ),
    ] {
        let file = scratch.join(name);
        let archive = [
            &["archive", "main", "newest", file.to_str().unwrap()],
            options,
        ]
        .concat();
        let made = pgmd.json(&archive);
        refusal(&pgmd.cli(&archive), 2, &["exists", "--force"]);
        let mut packed = file.clone();
        if made["sealed"] == true {
            pgmd.cli_ok(&["decrypt", file.to_str().unwrap()]);
            packed = scratch.join("b.tar.gz");
        }
        let into = scratch.join(format!("of-{name}"));
        fs::create_dir(&into).unwrap();
        run_ok(
            Command::new("tar")
                .arg("-xf")
                .arg(&packed)
                .arg("-C")
                .arg(&into),
        );
        let data = into.join(made["folder"].as_str().unwrap()).join("data");
        run_ok(Major::V17.command("pg_verifybackup").arg(&data));
        let mut restored = Cluster::on(Major::V17, &data);
        restored.start();
        restored.wait_writable();
        assert_eq!(restored.value("select count(*) from t"), "5000");
        let expected = if options.is_empty() { "2" } else { "1" };
        assert_eq!(restored.value("select count(*) from later"), expected);
    }
    let left: Vec<_> = fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_str().unwrap().contains(".tmp")),
        "{left:?}"
    );
}

/// The repository's file system is not mounted: what is in the spool stays there, and nothing is made anew.
#[test]
fn a_repository_that_is_not_mounted_is_waited_for() {
    let (cluster, mut pgmd) = streaming();
    backup(&pgmd);
    pgmd.stop();
    let away = pgmd.directory().join("away");
    fs::rename(pgmd.repository(), &away).unwrap();
    fs::create_dir(pgmd.repository()).unwrap();
    pgmd.start();
    pgmd.wait_streaming("main");
    let end = cluster.value("select pg_switch_wal()");
    cluster.sql("create table u (n int)");
    pgmd.wait_durable("main", &end);
    wait_until("the trouble is said", || {
        let status = pgmd.status("main");
        let said = status["last_error"].as_str().unwrap_or_default();
        said.contains("there is no repository")
            && status["hint"]
                .as_str()
                .is_some_and(|hint| hint.contains("accept"))
    });
    refusal(
        &pgmd.cli(&["backup", "main"]),
        1,
        &["no repository", "mount"],
    );
    assert_eq!(fs::read_dir(pgmd.repository()).unwrap().count(), 0);
    // It comes back, and what waited is archived.
    fs::remove_dir(pgmd.repository()).unwrap();
    fs::rename(&away, pgmd.repository()).unwrap();
    wait_until("the archive catches up", || {
        pgmd.status("main")["last_error"].is_null()
    });
    backup(&pgmd);
    assert_eq!(labels(&pgmd).len(), 2);
}
