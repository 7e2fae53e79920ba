//! `wal filter`: a server that recovers with the filtered archive has all but what was left out, and is sound.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::Path;

use pgm_proto::Client;
use pgm_tests::{Cluster, Major, Pgmd, Run, Scratch, StopMode, run_ok};
use serde_json::Value;

/// What a session commits, and its transaction's number.
fn committed(cluster: &Cluster, statements: &str) -> String {
    cluster.value(&format!(
        "BEGIN; CREATE TEMP TABLE own AS SELECT pg_current_xact_id()::text AS xid; {statements}; COMMIT; SELECT xid FROM own"
    ))
}

struct Story {
    cluster: Cluster,
    pgmd: Pgmd,
    /// The transactions to leave out.
    bulk: String,
    changes: String,
    prepared: String,
    /// Its snapshot keeps what the transactions removed from being pruned.
    holder: Client,
}

const RETURNS: &str = "SELECT count(*), count(*) FILTER (WHERE v = 'bad'), count(*) FILTER (WHERE v = 'good'), min(id), max(id) FROM t";

/// A backup, transactions that nobody wants, and others after them on the same pages, with hints in page images.
fn story(major: Major, compression: &str) -> Story {
    let cluster = Cluster::builder(major)
        .segment_mib(1)
        .setting("autovacuum", "off")
        .setting("max_prepared_transactions", "2")
        .setting("wal_compression", compression)
        .start();
    cluster.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v text);
        INSERT INTO t SELECT n, 'first' FROM generate_series(1, 1000) AS n;
        CREATE TABLE bulk (id int PRIMARY KEY);
        INSERT INTO bulk SELECT generate_series(1, 2000);
        CREATE TABLE precious AS SELECT generate_series(1, 100) AS id;
        CREATE INDEX ON precious (id);
        CREATE TABLE emptied AS SELECT generate_series(1, 50) AS id",
    );
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    cluster.sql("INSERT INTO t SELECT n, 'second' FROM generate_series(1001, 1100) AS n");
    let bulk = committed(
        &cluster,
        "INSERT INTO bulk SELECT generate_series(2001, 9000)",
    );
    let mut holder = cluster.client();
    holder
        .query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t")
        .unwrap();
    let changes = committed(
        &cluster,
        "DELETE FROM t WHERE id % 10 = 0; SAVEPOINT s; INSERT INTO t SELECT n, 'bad' FROM generate_series(5000, 5100) AS n;
        UPDATE t SET v = 'bad' WHERE id % 10 = 1; RELEASE s; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s",
    );
    cluster.sql("DROP TABLE precious");
    cluster.sql("TRUNCATE emptied");
    let mut session = cluster.client();
    let answer = session
        .query("BEGIN; INSERT INTO t VALUES (6000, 'bad'); SELECT pg_current_xact_id()::text")
        .unwrap();
    let prepared = answer.last().unwrap().rows[0][0].clone().unwrap();
    session.query("PREPARE TRANSACTION 'p'").unwrap();
    cluster.sql("COMMIT PREPARED 'p'");
    // Readers set hints; the next checkpoint makes the next changes take whole pages with them.
    for _ in 0..2 {
        cluster.sql("SELECT count(*), max(v) FROM t; SELECT count(*) FROM bulk; SELECT relname FROM pg_class");
        cluster.sql("VACUUM bulk");
        cluster.sql("CHECKPOINT");
        cluster.sql(
            "UPDATE t SET v = 'good' WHERE id % 10 = 5 AND id < 2000; INSERT INTO t SELECT max(id) + 1000, 'good' FROM t;
            INSERT INTO bulk SELECT max(id) + 1 FROM bulk; CREATE TABLE IF NOT EXISTS later AS SELECT 1 AS id",
        );
    }
    let story = Story {
        cluster,
        pgmd,
        bulk,
        changes,
        prepared,
        holder,
    };
    story.wait_durable();
    story
}

impl Story {
    fn wait_durable(&self) {
        // Vacuum flushes nothing by itself.
        self.cluster
            .sql("SELECT pg_logical_emit_message(true, 'pgm', 'flush')");
        let end = self.cluster.value("SELECT pg_current_wal_flush_lsn()");
        self.pgmd.wait_durable("main", &end);
    }

    fn filter(&self, more: &[&str]) -> Run {
        let mut arguments = vec!["wal", "filter", "--server", "main"];
        for xid in [&self.bulk, &self.changes, &self.prepared] {
            arguments.extend(["--without-xid", xid]);
        }
        arguments.extend(["--without-drop-table", "precious"]);
        arguments.extend(["--without-truncate", "emptied"]);
        arguments.extend(more);
        self.pgmd.cli(&arguments)
    }

    /// A server that recovers from the backup with the segments in `archive`.
    fn recovered(&self, archive: &Path) -> Cluster {
        let mut restored = Cluster::made_by(self.cluster.major(), |data| {
            self.pgmd
                .cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
            let settings = data.join("postgresql.auto.conf");
            let text = fs::read_to_string(&settings).unwrap();
            let command = format!("restore_command = 'cp {}/%f %p'\n", archive.display());
            fs::write(&settings, text + &command).unwrap();
        });
        restored.start();
        restored.wait_writable();
        restored
    }
}

fn is_sound(server: &mut Cluster) {
    server.sql("CREATE EXTENSION IF NOT EXISTS amcheck");
    let mut amcheck = Major::V17.command("pg_amcheck");
    amcheck.args([
        "--heapallindexed",
        "--parent-check",
        "-d",
        "postgres",
        "-U",
        "postgres",
    ]);
    amcheck.arg("-h").arg(server.socket_folder());
    amcheck.args(["-p", &server.port().to_string()]);
    run_ok(&mut amcheck);
}

fn filtered_archives_replay(major: Major, compression: &str) {
    let mut story = story(major, compression);
    let before = story.cluster.sql(RETURNS);
    assert_eq!(
        before[0],
        ["1094", "212", "112", "1", "8000"],
        "the story itself"
    );
    let scratch = Scratch::new("filtered");
    let archive = scratch.join("archive");
    let written = story.filter(&["--output", archive.to_str().unwrap(), "--format", "json"]);
    assert_eq!(written.status, 0, "{}", written.stderr);
    let report: Value = serde_json::from_str(&written.stdout).unwrap();
    assert_eq!(report["aborts"], 5, "{report}");
    assert!(report["images"].as_u64().unwrap() > 3, "{report}");
    assert!(report["noops"].as_u64().unwrap() > 3, "{report}");

    let mut restored = story.recovered(&archive);
    assert_eq!(
        restored.sql(RETURNS)[0],
        ["1102", "0", "112", "1", "8000"],
        "{major}: {report}"
    );
    let index_only =
        "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*), max(id) FROM bulk";
    assert_eq!(restored.sql(index_only)[0], ["2002", "9002"], "{major}");
    assert_eq!(
        restored.value("SELECT count(*) FROM bulk"),
        "2002",
        "{major}"
    );
    assert_eq!(
        restored.value("SELECT count(*) FROM precious"),
        "100",
        "{major}"
    );
    assert_eq!(
        restored.value("SELECT count(*) FROM emptied"),
        "50",
        "{major}"
    );
    assert_eq!(restored.value("SELECT id FROM later"), "1", "{major}");
    is_sound(&mut restored);
    // Vacuum finds the rows of aborted transactions, and nothing else.
    restored.sql("VACUUM FREEZE");
    is_sound(&mut restored);
    assert_eq!(restored.sql(RETURNS)[0], ["1102", "0", "112", "1", "8000"]);
    restored.stop(StopMode::Fast);
    run_ok(
        major
            .command("pg_checksums")
            .arg("--check")
            .arg(restored.data()),
    );

    what_cannot_be_left_out_is_refused(&mut story);
}

/// Transactions that build on what is left out, and rows that are gone.
fn what_cannot_be_left_out_is_refused(story: &mut Story) {
    let depending = committed(&story.cluster, "UPDATE t SET v = 'on top' WHERE id = 5001");
    story.wait_durable();
    let refused = story.filter(&["--dry-run"]);
    assert_eq!(refused.status, 1);
    let named = format!("transaction {depending}: it changed a row in t (");
    assert!(refused.stderr.contains(&named), "{}", refused.stderr);
    let all = story.filter(&["--dry-run", "--with-dependents"]);
    assert_eq!(all.status, 0, "{}", all.stderr);
    let named = format!("left out: transaction {depending},");
    assert!(all.stdout.contains(&named), "{}", all.stdout);

    story.holder.query("ROLLBACK").unwrap();
    story.cluster.sql("VACUUM t");
    story.wait_durable();
    let scratch = Scratch::new("refused");
    let output = scratch.join("archive");
    let refused = story.filter(&["--with-dependents", "--output", output.to_str().unwrap()]);
    assert_eq!(refused.status, 1);
    assert!(
        refused.stderr.contains("in t (") && refused.stderr.contains("removed for good"),
        "{}",
        refused.stderr
    );
    assert!(!output.exists());
    let unknown = story.pgmd.cli(&[
        "wal",
        "filter",
        "--server",
        "main",
        "--without-xid",
        "4000000000",
        "--dry-run",
    ]);
    assert_eq!(unknown.status, 4, "{}", unknown.stderr);
}

#[test]
fn a_filtered_archive_of_postgresql_15_replays() {
    filtered_archives_replay(Major::V15, "off");
}

#[test]
fn a_filtered_archive_of_postgresql_17_replays() {
    filtered_archives_replay(Major::V17, "off");
}

#[test]
fn filtered_archives_with_compressed_page_images_replay() {
    for (major, compression) in [(Major::V17, "pglz"), (Major::V15, "lz4")] {
        filtered_archives_replay(major, compression);
    }
}
