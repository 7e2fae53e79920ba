//! Retention on the real programs: what a dry run says is what a run removes, of backups and of WAL, on command, offline and
//! on schedule; and what is left restores to its end.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;

use pgm_tests::{Cluster, Major, Pgmd, wait_until};
use serde_json::Value;

fn labels(pgmd: &Pgmd) -> Vec<String> {
    let list = pgmd.json(&["list-backup", "main"]);
    let backups = list["servers"][0]["backups"].as_array().unwrap().clone();
    let label = |backup: &Value| backup["label"].as_str().unwrap().to_owned();
    backups.iter().map(label).collect()
}

/// The archived segments, sorted.
fn segments(pgmd: &Pgmd) -> Vec<String> {
    let folder = pgmd.repository().join("main/wal/00000001");
    let names = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The labels that a run keeps and those that it removes.
fn decided(outcome: &Value) -> (Vec<String>, Vec<String>) {
    let backups = outcome["backups"].as_array().unwrap();
    let (stay, go): (Vec<&Value>, Vec<&Value>) =
        backups.iter().partition(|backup| backup["stays"] == true);
    let names = |backups: Vec<&Value>| {
        let label = |backup: &Value| backup["label"].as_str().unwrap().to_owned();
        backups.into_iter().map(label).collect()
    };
    (names(stay), names(go))
}

#[test]
fn what_has_expired_goes_with_its_wal_and_the_rest_restores() {
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    cluster.sql("create table t (n int)");
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    for round in 1..=4 {
        cluster.sql(&format!("insert into t values ({round})"));
        cluster.sql("select pg_switch_wal()");
        pgmd.json(&["backup", "main"]);
    }
    let all = labels(&pgmd);
    assert_eq!(all.len(), 4);
    pgmd.cli_ok(&["retain", "main", &all[0]]);
    // Everything that was written is archived, so that nothing is added while WAL is removed.
    cluster.sql("select pg_switch_wal()");
    wait_until("the newest segments are archived", || {
        let status = pgmd.status("main");
        status["archived_lsn"] == status["durable_lsn"]
    });
    let before = segments(&pgmd);

    let dry = pgmd.json(&["retention", "main", "--policy", "last 2", "--dry-run"]);
    let (stay, go) = decided(&dry);
    assert_eq!(
        (stay.as_slice(), go.as_slice()),
        (&[&all[..1], &all[2..]].concat()[..], &all[1..2])
    );
    assert_eq!(labels(&pgmd), all);
    assert_eq!(segments(&pgmd), before);

    let done = pgmd.json(&["retention", "main", "--policy", "last 2"]);
    assert_eq!(decided(&done), decided(&dry));
    assert_eq!(labels(&pgmd), stay);
    // The retained backup is the oldest, and recovery to any point goes from it on: no WAL behind it has gone.
    assert!(segments(&pgmd).ends_with(&before[before.len() - 4..]));

    pgmd.cli_ok(&["expunge", "main", &all[0]]);
    let done = pgmd.json(&["retention", "main", "--policy", "last 1"]);
    assert_eq!(labels(&pgmd), [all[3].clone()]);
    assert!(done["wal_objects"].as_u64().unwrap() > 0, "{done}");
    let after = segments(&pgmd);
    assert!(after.len() < before.len() && before.ends_with(&after));
    let verified = pgmd.cli_ok(&["verify", "main", "newest"]);
    assert!(verified.contains("sound"), "{verified}");

    let mut restored = Cluster::made_by(Major::V17, |data| {
        pgmd.cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
    });
    restored.start();
    restored.wait_writable();
    assert_eq!(restored.value("select count(*) from t"), "4");

    // Offline, and on schedule.
    pgmd.json(&["backup", "main"]);
    let newest = labels(&pgmd).pop().unwrap();
    pgmd.stop();
    let dry = pgmd.json(&["retention", "main", "--policy", "last 1", "--dry-run"]);
    assert_eq!(decided(&dry), (vec![newest.clone()], vec![all[3].clone()]));
    let text = fs::read_to_string(pgmd.directory().join("pgmd.ron")).unwrap();
    let text = text.replacen(
        '(',
        "(retention: \"last 1\", retention_interval: \"1s\",",
        1,
    );
    pgmd.write_configuration(&text);
    pgmd.start();
    wait_until("the schedule removes what has expired", || {
        labels(&pgmd) == [newest.clone()]
    });
}
