//! Backups of servers on the same host, whose files are read where they are: each restores to what the server was, also while everything in it
//! changes, and needs no other one; and where the files cannot be read, the server sends them, and the backup says why.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;

use pgm_tests::{Cluster, FileReads, Major, Pgmd, take_backup};
use serde_json::Value;

const LOCAL: FileReads = FileReads {
    source: "local",
    method: "files",
    grant: Cluster::grant_backups,
    hide: |_| {},
};

#[test]
fn the_files_are_read_of_postgresql_14() {
    LOCAL.each_is_the_server(Major::V14);
}

#[test]
fn the_files_are_read_of_postgresql_17() {
    LOCAL.each_is_the_server(Major::V17);
}

#[test]
fn the_files_are_read_of_postgresql_18() {
    LOCAL.each_is_the_server(Major::V18);
}

#[test]
fn backups_under_load_are_consistent_of_postgresql_14() {
    LOCAL.under_load_all_are_consistent(Major::V14);
}

#[test]
fn backups_under_load_are_consistent_of_postgresql_17() {
    LOCAL.under_load_all_are_consistent(Major::V17);
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
        let backup = take_backup(&pgmd, &[]);
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
    assert_eq!(take_backup(&pgmd, &[])["method"], "files");
    cluster.destroy();
}

#[test]
fn damaged_pages_are_named_and_stored_and_mark_the_backup() {
    LOCAL.damaged_pages_are_named();
}

#[test]
fn a_backup_ends_with_the_session_that_has_begun_it() {
    LOCAL.ends_with_the_session(
        "query like 'SELECT pg_catalog.pg_backup_start%'",
        "the session that had begun the backup failed",
    );
}

#[test]
fn the_promotion_of_a_standby_ends_a_backup() {
    LOCAL.a_promotion_ends_it();
}

#[test]
fn a_standby_is_read_too_and_the_server_can_go_on_from_files() {
    LOCAL.a_standby_is_read_too();
}
