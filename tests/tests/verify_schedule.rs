//! Backups are verified without being asked: what is damaged is marked, logged, counted and shown, and no restore chooses it
//! without a word; and no more is read than the budget allows.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;

use pgm_tests::{Cluster, Major, Pgmd, Port, Scratch, http, says, wait_for, wait_until};
use serde_json::Value;

fn configure(pgmd: &Pgmd, cluster: &Cluster, port: u16, verify: &str) {
    pgmd.write_configuration(&format!(
        "(verify: ({verify}), metrics: (port: {port}), servers: {{\"main\": (conninfo: {:?})}})",
        cluster.conninfo()
    ));
}

fn backup(pgmd: &Pgmd) -> String {
    let taken = pgmd.json(&["backup", "main"]);
    taken["label"].as_str().unwrap().to_owned()
}

/// When each backup was verified last; nothing for never.
fn verified(pgmd: &Pgmd) -> Vec<Option<String>> {
    let list = pgmd.json(&["list-backup", "main"]);
    let backups = list["servers"][0]["backups"].as_array().unwrap();
    let at = |backup: &Value| backup["verified"]["at"].as_str().map(str::to_owned);
    backups.iter().map(at).collect()
}

#[test]
fn a_schedule_verifies_within_its_budget_and_what_is_damaged_is_known_everywhere() {
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    let port = Port::claim();
    let mut pgmd = Pgmd::configured(&[]);
    // A budget that the first verification exceeds.
    configure(
        &pgmd,
        &cluster,
        port.number(),
        "interval: \"2min\", level: frames, budget: \"1MiB\"",
    );
    pgmd.start();
    pgmd.wait_streaming("main");
    let (good, bad) = (backup(&pgmd), backup(&pgmd));
    // The newest comes first; nothing is left for the other one.
    let spent = pgmd.directory().join("verify.ron");
    wait_until("the budget is spent", || spent.exists());
    let seen = wait_for("the newest is verified", || {
        Some(verified(&pgmd)).filter(|seen| seen[1].is_some())
    });
    assert_eq!(seen[0], None);
    let text = fs::read_to_string(&spent).unwrap();
    let bytes: u64 = text
        .rsplit_once("spent_bytes:")
        .unwrap()
        .1
        .trim_end_matches(')')
        .parse()
        .unwrap();
    assert!(bytes > 1 << 20, "{text}");
    pgmd.stop();
    let pack = pgmd
        .repository()
        .join("main/backup")
        .join(&bad)
        .join("0000.pack");
    let mut content = fs::read(&pack).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0x10;
    fs::write(&pack, content).unwrap();
    // What was spent is remembered; without a limit the rest follows, and both come again.
    configure(
        &pgmd,
        &cluster,
        port.number(),
        "interval: \"1s\", level: frames",
    );
    pgmd.start();
    wait_until("the damage is shown", || {
        let status = pgmd.status("main");
        status["damaged_backups"]
            .as_array()
            .unwrap()
            .iter()
            .any(|label| *label == bad.as_str())
    });
    wait_until("the other one is verified, too", || {
        verified(&pgmd)[0].is_some()
    });
    assert!(fs::read_to_string(&spent).unwrap().contains("spent_bytes:"));
    let log = pgmd.log();
    assert!(
        log.contains(&format!("ERROR backup {bad} of main is damaged")),
        "{log}"
    );
    let text = pgmd.cli_ok(&["status"]);
    assert!(
        says(&text, "damaged backups") && says(&text, &bad),
        "{text}"
    );
    let checked = pgmd.cli(&["status", "--check"]);
    assert!(
        checked.status == 1 && says(&checked.stdout, &bad),
        "{checked:?}"
    );
    let metric = |line: &str| {
        let address = (std::net::Ipv4Addr::LOCALHOST, port.number()).into();
        let answer = http(address, "GET /metrics HTTP/1.0\r\n\r\n");
        answer.body.contains(line)
    };
    for line in [
        "pgm_backups{server=\"main\",repo=\"default\",status=\"damaged\"} 1",
        "pgm_backup_verify_failures_total{server=\"main\",outcome=\"damaged\"}",
        "pgm_backup_verified_timestamp_seconds{server=\"main\",level=\"frames\"}",
    ] {
        wait_until(line, || metric(line));
    }
    // A restore takes the other one, and says why; the damaged one only if it is named.
    let scratch = Scratch::new("n");
    let (first, second) = (scratch.join("first"), scratch.join("second"));
    let run = pgmd.cli(&["restore", "main", "newest", first.to_str().unwrap()]);
    assert!(run.status == 0 && says(&run.stdout, &good), "{run:?}");
    assert!(
        says(&run.stderr, &format!("{bad} is passed over")),
        "{run:?}"
    );
    let run = pgmd.cli(&["restore", "main", &bad, second.to_str().unwrap(), "--plan"]);
    assert!(
        run.status == 0 && says(&run.stderr, "found damage"),
        "{run:?}"
    );
}
