//! Backups of servers that read their files for ordinary sessions: each restores to what the server was, also while everything in it
//! changes, and needs no other one. What is missing for that is named.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;

use pgm_tests::{
    Cluster, FileReads, Major, Pgmd, Scratch, backup_label, check_restored, table_rows,
    take_backup, wait_until,
};
use serde_json::Value;

const BLOCKS: FileReads = FileReads {
    source: "blocks",
    method: "blocks",
    grant: |cluster| {
        cluster.grant_backups();
        cluster.grant_file_reads();
    },
    hide,
};

/// Makes the files seem to be another server's.
fn hide(cluster: &Cluster) {
    let pid_file = cluster.data().join("postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    let another = text.replace(&format!("\n{}\n", cluster.port()), "\n1\n");
    fs::write(&pid_file, another).unwrap();
}

#[test]
fn the_server_reads_of_postgresql_14() {
    BLOCKS.each_is_the_server(Major::V14);
}

#[test]
fn the_server_reads_of_postgresql_16() {
    BLOCKS.each_is_the_server(Major::V16);
}

#[test]
fn the_server_reads_of_postgresql_18() {
    BLOCKS.each_is_the_server(Major::V18);
}

#[test]
fn backups_under_load_are_consistent_of_postgresql_14() {
    BLOCKS.under_load_all_are_consistent(Major::V14);
}

#[test]
fn backups_under_load_are_consistent_of_postgresql_16() {
    BLOCKS.under_load_all_are_consistent(Major::V16);
}

#[test]
fn backups_under_load_are_consistent_of_postgresql_18() {
    BLOCKS.under_load_all_are_consistent(Major::V18);
}

#[test]
fn damaged_pages_are_named_and_stored_and_mark_the_backup() {
    BLOCKS.damaged_pages_are_named();
}

#[test]
fn a_backup_ends_with_the_session_that_has_begun_it() {
    BLOCKS.ends_with_the_session(
        "query like 'SELECT pg_catalog.pg_backup_start%'",
        "the session that had begun the backup failed",
    );
}

#[test]
fn a_backup_ends_with_a_session_that_reads() {
    BLOCKS.ends_with_the_session(
        "query like 'COPY (SELECT number%pg_read_binary_file%'",
        "a session in which the server read its files failed",
    );
}

/// A session that nobody waits for any more ends at the server, whatever it is doing there.
#[test]
fn a_backup_that_is_cancelled_leaves_no_session_behind() {
    let mut cluster = Cluster::builder(Major::V17)
        .setting("checkpoint_timeout", "1h")
        .start();
    (BLOCKS.grant)(&cluster);
    cluster.sql("create table t as select generate_series(1, 500000) n");
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    // The checkpoint takes its time, and the server says nothing until then.
    let slowly = [
        "backup",
        "main",
        "--source",
        "blocks",
        "--spread-checkpoint",
    ];
    let of_pgm = "select count(*) from pg_stat_activity \
                  where usename = 'pgm' and backend_type = 'client backend'";
    let run = thread::scope(|scope| {
        let run = scope.spawn(|| pgmd.cli(&slowly));
        wait_until("the checkpoint is waited for", || {
            let waits = format!("{of_pgm} and query like '%pg_backup_start%' and state = 'active'");
            cluster.value(&waits) == "1"
        });
        pgmd.cli_ok(&["job", "cancel", "1"]);
        run.join().unwrap()
    });
    assert_ne!(run.status, 0);
    wait_until("the sessions have ended", || cluster.value(of_pgm) == "0");
    cluster.destroy();
}

#[test]
fn the_promotion_of_a_standby_ends_a_backup() {
    BLOCKS.a_promotion_ends_it();
}

#[test]
fn a_standby_is_read_too_and_the_server_can_go_on_from_it() {
    BLOCKS.a_standby_is_read_too();
}

#[test]
fn what_the_role_may_not_do_is_named_with_what_lets_it() {
    let mut cluster = Cluster::builder(Major::V16).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let refused = |why: &str, hint: &str| {
        let refused = pgmd.cli(&["backup", "main", "--source", "blocks"]);
        assert_ne!(refused.status, 0);
        for said in [why, "HINT:", hint] {
            assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
        }
    };
    refused(
        "the role may not execute pg_backup_start(text,boolean) and pg_backup_stop(boolean) and pg_ls_dir",
        "in database `postgres`: GRANT EXECUTE ON FUNCTION pg_backup_start(text,boolean), pg_backup_stop(boolean), pg_ls_dir",
    );
    cluster.grant_backups();
    cluster.grant_file_reads();
    cluster.sql("revoke execute on function pg_stat_file(text, boolean) from pgm");
    refused(
        "the role may not execute pg_stat_file(text,boolean)",
        "in database `postgres`: GRANT EXECUTE ON FUNCTION pg_stat_file(text,boolean) TO pgm",
    );
    cluster.sql("alter role pgm connection limit 1");
    cluster.grant_file_reads();
    // One for the WAL, which does not count, and one that begins the backup; none for reading is left beside that for replication.
    refused("too many connections for role", "HINT:");
    cluster.destroy();
}

/// A role and a database that make everything as hard as they can.
#[test]
fn settings_of_the_role_and_strange_names_do_not_matter() {
    let mut cluster = BLOCKS.server(Major::V18);
    cluster.sql(
        "alter role pgm set statement_timeout = '200ms'; alter role pgm set transaction_timeout = '200ms'; \
         alter role pgm set idle_session_timeout = '1s'; alter role pgm set lock_timeout = '200ms'; \
         alter role pgm set search_path = evil, pg_catalog; alter role pgm set bytea_output = 'escape'; \
         alter role pgm set datestyle = 'German'; alter role pgm set standard_conforming_strings = off; \
         alter role pgm set default_transaction_isolation = 'serializable'; alter role pgm set timezone = 'Asia/Tokyo'; \
         create schema evil; grant usage on schema evil to public; \
         create function evil.pg_stat_file(text, boolean) returns text language sql as 'select 1::text'; \
         create function evil.concat(text, text) returns text language sql as $$ select '/etc/passwd' $$",
    );
    let strange = cluster.data().join("it's\\ \"ä\" $1 %");
    fs::create_dir(&strange).unwrap();
    let outside = Scratch::new("outside");
    fs::write(outside.join("linked"), "what a link leads to").unwrap();
    symlink(outside.join("linked"), strange.join("link")).unwrap();
    symlink(outside.join("nowhere"), strange.join("dangling")).unwrap();
    let contents = [
        ("empty", Vec::new()),
        ("ÿ'\\", b"short".to_vec()),
        // Read as a whole up to here, and by the workers from here on.
        ("half", vec![7; 512 << 10]),
        ("more", vec![8; (512 << 10) + 1]),
        (
            "large",
            (0..3_000_001_u32).map(|n| (n % 251) as u8).collect(),
        ),
    ];
    for (name, bytes) in &contents {
        fs::write(strange.join(name), bytes).unwrap();
    }
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    // Longer than a session of the role may be idle.
    let taken = take_backup(&pgmd, &["--source", "blocks", "--max-rate", "20480"]);
    assert_eq!(taken["warnings"], Value::Array(Vec::new()), "{taken}");
    let here = Scratch::new("restored");
    let (data, space) = (here.join("data"), here.join("space"));
    let elsewhere = format!(
        "{}={}",
        cluster.folder().join("tablespaces/space").display(),
        space.display()
    );
    let label = backup_label(&taken);
    let path = data.to_str().unwrap();
    pgmd.cli_ok(&["restore", "main", label, path, "--tablespace", &elsewhere]);
    let restored = data.join(strange.file_name().unwrap());
    for (name, bytes) in &contents {
        assert!(fs::read(restored.join(name)).unwrap() == *bytes, "{name}");
    }
    assert_eq!(
        fs::read(restored.join("link")).unwrap(),
        b"what a link leads to"
    );
    assert!(!restored.join("dangling").exists());
    let rows = table_rows(&cluster);
    check_restored(&pgmd, &cluster, label, &["--target-immediate"], &rows);

    // A name that is no text in the encoding of the database cannot be asked for: whoever wants it, has it sent.
    let latin: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"f\xFCr");
    fs::write(strange.join(latin), "x").unwrap();
    let refused = pgmd.cli(&["backup", "main", "--source", "blocks"]);
    assert_ne!(refused.status, 0);
    assert!(
        refused.stderr.contains("no text in UTF8") && refused.stderr.contains("--source stream"),
        "{}",
        refused.stderr
    );
    let sent = take_backup(&pgmd, &["--incremental"]);
    assert_eq!(sent["method"], "base_backup", "{sent}");
    assert!(
        sent["reason"].as_str().unwrap().contains("no text in UTF8"),
        "{sent}"
    );
    cluster.destroy();
}

/// By itself it is chosen for what is incremental where the server cannot send changed pages alone.
#[test]
fn an_incremental_backup_takes_it_by_itself_and_a_full_one_only_when_asked() {
    let mut cluster = BLOCKS.server(Major::V16);
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    let method = |more: &[&str], expected: [&str; 2]| {
        let taken = take_backup(&pgmd, more);
        assert_eq!([&taken["kind"], &taken["method"]], expected, "{taken}");
        taken
    };
    method(&["--incremental"], ["full", "base_backup"]);
    method(&["--incremental"], ["incremental", "blocks"]);
    method(&[], ["full", "base_backup"]);
    method(&["--source", "blocks"], ["full", "blocks"]);
    cluster.sql("revoke execute on function pg_ls_dir(text, boolean, boolean) from pgm");
    let without = method(&["--incremental"], ["incremental", "base_backup"]);
    let reason = without["reason"].as_str().unwrap();
    assert!(
        reason.contains(
            "nor did the server read them for ordinary sessions: the role may not execute pg_ls_dir"
        ),
        "{reason}"
    );
    cluster.destroy();
}

/// Where the server can send changed pages, it does that; where it refuses, it reads them.
#[test]
fn the_servers_own_changes_come_first() {
    let mut cluster = BLOCKS.server(Major::V17);
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    take_backup(&pgmd, &["--source", "blocks"]);
    assert_eq!(take_backup(&pgmd, &["--incremental"])["method"], "blocks");
    cluster.configure("summarize_wal", "on");
    cluster.restart();
    hide(&cluster);
    pgmd.wait_streaming("main");
    assert_eq!(take_backup(&pgmd, &["--source", "blocks"])["kind"], "full");
    let native = take_backup(&pgmd, &["--incremental"]);
    assert_eq!(native["method"], "base_backup_incremental", "{native}");
    cluster.destroy();
}
