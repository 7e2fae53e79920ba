//! A backup that is killed leaves nothing that is listed, nothing behind but packs that the next one takes over, and nothing
//! in the next one's way.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use pgm_tests::{Cluster, Major, Pgmd, kill_worker, run_ok, wait_until};

fn labels(pgmd: &Pgmd) -> BTreeSet<String> {
    let list = pgmd.json(&["list-backup", "main"]);
    let backups = list["servers"][0]["backups"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    backups
        .iter()
        .map(|backup| backup["label"].as_str().unwrap().to_owned())
        .collect()
}

/// Every file below `folder`.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path().to_str().unwrap().to_owned());
        }
    }
    found
}

#[test]
fn a_backup_job_killed_at_twenty_moments_never_leaves_a_backup_that_does_not_restore() {
    let cluster = Cluster::builder(Major::V17).start();
    cluster.sql("create table t as select n, md5(n::text) from generate_series(1, 300000) n");
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");

    let started = Instant::now();
    pgmd.cli_ok(&["backup", "main"]);
    let whole = started.elapsed();

    let mut finished = 1;
    let mut listed = labels(&pgmd);
    for round in 0..20 {
        let mut backup = pgmd
            .cli_command()
            .args(["backup", "main"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut workers = Vec::new();
        wait_until("the job runs or is over already", || {
            workers = pgmd.job_workers();
            !workers.is_empty() || backup.try_wait().unwrap().is_some()
        });
        // The moments cover the whole length of a backup, and a little more.
        let moment = Instant::now() + whole.mul_f64(f64::from(round) / 18.0);
        wait_until("the moment to kill", || Instant::now() >= moment);
        for pid in &workers {
            kill_worker(*pid);
        }
        let reported = backup.wait().unwrap().success();
        finished += usize::from(reported);
        // A job that dies between the commit point and its report leaves a backup that is listed, and whole.
        let now = labels(&pgmd);
        let more = now.difference(&listed).count();
        assert!(
            more == 1 || (more == 0 && !reported),
            "{more} more backups are listed, reported as done: {reported}"
        );
        listed = now;
    }
    assert!(
        finished < 20,
        "most of the jobs were killed before their end"
    );

    let before = listed.len();
    pgmd.cli_ok(&["backup", "main"]);
    let listed = labels(&pgmd);
    assert_eq!(listed.len(), before + 1);
    let folder = pgmd.repository().join("main/backup");
    for file in files(&folder) {
        let label = Path::new(&file)
            .strip_prefix(&folder)
            .unwrap()
            .iter()
            .next()
            .unwrap();
        assert!(
            listed.contains(label.to_str().unwrap())
                || Path::new(&file).extension() == Some("pack".as_ref()),
            "left behind: {file}"
        );
    }
    for label in &listed {
        let mut restored = Cluster::made_by(Major::V17, |data| {
            pgmd.cli_ok(&["restore", "main", label, data.to_str().unwrap()]);
            run_ok(Major::V17.command("pg_verifybackup").arg("-n").arg(data));
        });
        if Some(label) == listed.last() {
            restored.start();
            restored.wait_writable();
            assert_eq!(restored.value("select count(*) from t"), "300000");
        }
    }
    assert!(
        pgmd.receive_worker("main").is_some(),
        "the receive worker never noticed"
    );
}
