//! `pgm-cli check` finds what would keep pgm from its work, and names the very SQL that mends it: the next check is content.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::path::Path;

use pgm_proto::{Client, Session};
use pgm_tests::{Cluster, Major, Pgmd, StopMode, run_ok, wait_until};
use serde_json::Value;

fn checking(cluster: &Cluster, settings: &str) -> Pgmd {
    let pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(&format!(
        "(servers: {{ \"main\": (conninfo: {:?}{settings}) }})",
        cluster.conninfo()
    ));
    pgmd
}

/// What `check` says, and its exit status, which must agree with it.
fn check(pgmd: &Pgmd) -> Value {
    let run = pgmd.cli(&["--format", "json", "check", "main"]);
    let report: Value = serde_json::from_str(&run.stdout)
        .unwrap_or_else(|error| panic!("no JSON ({error}): {}{}", run.stdout, run.stderr));
    let failed = report["result"] == "failure";
    assert_eq!(run.status, i32::from(failed), "{report}");
    // People are told the same.
    let text = pgmd.cli(&["check", "main"]);
    assert_eq!(text.status, run.status);
    assert_eq!(text.stdout.contains("FAILURE"), failed, "{}", text.stdout);
    report
}

/// The result and the fix of one requirement.
fn finding(report: &Value, requirement: &str) -> (String, Option<String>) {
    let findings = report["servers"][0]["findings"].as_array().unwrap();
    let found = findings
        .iter()
        .find(|finding| finding["requirement"] == requirement);
    let found = found.unwrap_or_else(|| panic!("no {requirement}: {report}"));
    let fix = found["fix"].as_str().map(str::to_owned);
    (found["result"].as_str().unwrap().to_owned(), fix)
}

/// Fails the test unless the requirement stands so, and returns the SQL that mends it.
fn planted(pgmd: &Pgmd, requirement: &str, result: &str) -> String {
    let report = check(pgmd);
    let (found, fix) = finding(&report, requirement);
    assert_eq!(found, result, "{requirement}: {report}");
    fix.unwrap_or_else(|| panic!("{requirement} has no fix: {report}"))
}

/// Fails the test unless the requirement is met, and nothing else has failed.
fn mended(pgmd: &Pgmd, requirement: &str) {
    let report = check(pgmd);
    assert_eq!(
        finding(&report, requirement),
        ("ok".to_owned(), None),
        "{report}"
    );
    assert_ne!(report["result"], "failure", "{report}");
}

/// Runs SQL as psql does: one statement after the other, without comments; true if a comment asks for a restart.
fn run_sql(cluster: &Cluster, fix: &str) -> bool {
    let (sql, comment) = fix.split_once("--").unwrap_or((fix, ""));
    assert!(sql.trim_end().ends_with(';'), "not SQL: {fix}");
    for statement in sql
        .split_inclusive(';')
        .filter(|statement| !statement.trim().is_empty())
    {
        cluster.sql(statement);
    }
    comment.contains("restart the server")
}

#[test]
fn a_healthy_server_passes() {
    let cluster = Cluster::builder(Major::V17).setting("fsync", "on").start();
    let mut pgmd = checking(&cluster, "");
    let report = check(&pgmd);
    assert_eq!(report["result"], "ok", "{report}");
    pgmd.start();
    pgmd.wait_streaming("main");
    let report = check(&pgmd);
    assert_eq!(report["result"], "ok", "{report}");
}

#[test]
fn a_role_without_replication() {
    let cluster = Cluster::builder(Major::V17).start();
    let pgmd = checking(&cluster, "");
    cluster.sql("alter role pgm noreplication");
    let connection = planted(&pgmd, "connection", "failure");
    assert_eq!(connection, "ALTER ROLE pgm REPLICATION;");
    run_sql(&cluster, &planted(&pgmd, "role attributes", "failure"));
    mended(&pgmd, "role attributes");
    mended(&pgmd, "connection");
    cluster.sql("alter role pgm noreplication");
    run_sql(&cluster, &connection);
    mended(&pgmd, "connection");
}

#[test]
fn a_slot_that_is_missing_of_another_kind_or_lost() {
    let cluster = Cluster::builder(Major::V17)
        .segment_mib(1)
        .setting("wal_level", "logical")
        .setting("max_slot_wal_keep_size", "2MB")
        .setting("min_wal_size", "2MB")
        .setting("max_wal_size", "4MB")
        .start();
    let pgmd = checking(&cluster, ", slot: \"mine\", create_slot: false");
    run_sql(&cluster, &planted(&pgmd, "slot", "failure"));
    mended(&pgmd, "slot");
    wait_until("the slot is lost", || {
        cluster.sql("create table if not exists t (x text); insert into t select repeat('x', 1000) from generate_series(1, 2000)");
        cluster.sql("select pg_switch_wal()");
        cluster.sql("checkpoint");
        cluster.value("select wal_status from pg_replication_slots") == "lost"
    });
    let fix = planted(&pgmd, "slot", "failure");
    assert!(fix.contains("full backup"), "{fix}");
    run_sql(&cluster, &fix);
    mended(&pgmd, "slot");
    let limit = planted(&pgmd, "max_slot_wal_keep_size", "warning");
    run_sql(&cluster, &limit);
    wait_until("the setting is in force", || {
        cluster.value("show max_slot_wal_keep_size") == "-1"
    });
    mended(&pgmd, "max_slot_wal_keep_size");
    cluster.sql("select pg_drop_replication_slot('mine')");
    cluster.sql("select pg_create_logical_replication_slot('mine', 'pgoutput')");
    let fix = planted(&pgmd, "slot", "failure");
    assert!(fix.contains("pg_drop_replication_slot('mine')"), "{fix}");
}

#[test]
fn no_free_senders_or_slots() {
    let mut cluster = Cluster::builder(Major::V17)
        .setting("max_wal_senders", "1")
        .setting("max_replication_slots", "1")
        .start();
    let pgmd = checking(&cluster, "");
    cluster.sql("select pg_create_physical_replication_slot('other', true)");
    let conninfo = cluster.conninfo().parse().unwrap();
    let other = Client::connect(&conninfo, Session::PhysicalReplication).unwrap();
    let (connection, _) = finding(&check(&pgmd), "connection");
    assert_eq!(connection, "failure");
    let restart = run_sql(&cluster, &planted(&pgmd, "max_wal_senders", "failure"));
    assert!(restart);
    assert!(run_sql(
        &cluster,
        &planted(&pgmd, "max_replication_slots", "failure")
    ));
    drop(other);
    cluster.restart();
    mended(&pgmd, "max_wal_senders");
    mended(&pgmd, "max_replication_slots");
}

#[test]
fn a_wal_level_that_is_too_low() {
    let mut cluster = Cluster::builder(Major::V17)
        .setting("wal_level", "minimal")
        .setting("max_wal_senders", "0")
        .start();
    let pgmd = checking(&cluster, "");
    assert!(run_sql(&cluster, &planted(&pgmd, "wal_level", "failure")));
    assert!(run_sql(
        &cluster,
        &planted(&pgmd, "max_wal_senders", "failure")
    ));
    cluster.restart();
    mended(&pgmd, "wal_level");
    mended(&pgmd, "max_wal_senders");
}

#[test]
fn commits_that_would_wait_for_an_archive_to_apply() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = checking(&cluster, "");
    pgmd.start();
    pgmd.wait_streaming("main");
    let report = check(&pgmd);
    let synchronous = report["servers"][0]["findings"].as_array().unwrap().iter();
    let synchronous =
        synchronous.filter(|finding| finding["requirement"] == "synchronous_standby_names");
    let detail = synchronous
        .map(|finding| finding["detail"].as_str().unwrap())
        .collect::<String>();
    assert!(
        detail.contains("ALTER SYSTEM SET synchronous_standby_names = 'pgmd';"),
        "{detail}"
    );
    cluster.configure("synchronous_commit", "remote_apply");
    cluster.configure("synchronous_standby_names", "pgmd");
    cluster.reload();
    wait_until("pgmd is synchronous", || {
        cluster.sql("select sync_state from pg_stat_replication") == [["sync"]]
    });
    run_sql(
        &cluster,
        &planted(&pgmd, "synchronous_standby_names", "failure"),
    );
    wait_until("the setting is in force", || {
        cluster.value("show synchronous_commit") == "on"
    });
    mended(&pgmd, "synchronous_standby_names");
    cluster.sql("create table waits_for_pgm ()");
}

#[test]
fn settings_that_risk_the_server_itself_are_warnings() {
    let mut cluster = Cluster::builder(Major::V17)
        .setting("full_page_writes", "off")
        .without_checksums()
        .start();
    let pgmd = checking(&cluster, "");
    for setting in ["fsync", "full_page_writes"] {
        run_sql(&cluster, &planted(&pgmd, setting, "warning"));
        wait_until("the setting is in force", || {
            cluster.value(&format!("show {setting}")) == "on"
        });
        mended(&pgmd, setting);
    }
    let fix = planted(&pgmd, "data_checksums", "warning");
    let command = fix.strip_prefix("stop the server, then: ").unwrap();
    let words: Vec<&str> = command
        .split(' ')
        .map(|word| word.trim_matches('\''))
        .collect();
    assert_eq!(words[0], "pg_checksums");
    assert_eq!(Path::new(words[3]), cluster.data());
    cluster.stop(StopMode::Fast);
    run_ok(cluster.command(words[0]).args(&words[1..]));
    cluster.start();
    mended(&pgmd, "data_checksums");
}

#[test]
fn what_a_role_may_not_see_is_no_failure() {
    let cluster = Cluster::builder(Major::V17).setting("fsync", "on").start();
    cluster.sql("revoke pg_monitor from pgm");
    let pgmd = checking(&cluster, "");
    let report = check(&pgmd);
    assert_eq!(report["result"], "ok", "{report}");
    // Replication alone is enough to be protected.
    cluster.sql("revoke connect on database postgres from public");
    let report = check(&pgmd);
    assert_eq!(report["result"], "warning", "{report}");
    let (settings, fix) = finding(&report, "settings");
    assert_eq!(settings, "warning");
    run_sql(&cluster, &fix.unwrap());
    assert_eq!(check(&pgmd)["result"], "ok");
}
