//! `wal find`: what it prints, pasted into `restore`, gives the state just before what was looked for.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use pgm_tests::{Cluster, Major, Pgmd};
use serde_json::Value;

struct Story {
    cluster: Cluster,
    pgmd: Pgmd,
}

impl Story {
    fn wait_durable(&self) {
        self.cluster
            .sql("SELECT pg_logical_emit_message(true, 'pgm', 'flush')");
        let end = self.cluster.value("SELECT pg_current_wal_flush_lsn()");
        self.pgmd.wait_durable("main", &end);
    }

    /// Commits the next row, whose number tells how far a restore got.
    fn commit(&self) -> String {
        self.cluster.value(
            "INSERT INTO numbered SELECT count(*) + 1 FROM numbered RETURNING pg_current_xact_id()::text",
        )
    }

    /// A server restored with what is printed for `wanted`, in words and as a document, and what was found.
    fn restored(&self, wanted: &[&str]) -> (Cluster, Value) {
        let find = [&["wal", "find", "--server", "main"], wanted].concat();
        let text = self.pgmd.cli_ok(&find);
        let printed = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("just before it: "))
            .unwrap_or_else(|| panic!("{text}"));
        let found = self.pgmd.json(&find);
        assert_eq!(found["restore"], printed, "{text}");
        let mut restored = Cluster::made_by(self.cluster.major(), |data| {
            let mut restore = vec!["restore", "main", "newest", data.to_str().unwrap()];
            restore.extend(printed.split(' '));
            self.pgmd.cli_ok(&restore);
        });
        restored.start();
        restored.wait_writable();
        (restored, found)
    }
}

const ROWS: &str = "SELECT count(*) FROM numbered";

fn everything_is_found_and_undone(major: Major) {
    let cluster = Cluster::builder(major).segment_mib(1).start();
    cluster.sql(
        "CREATE TABLE numbered (n bigint);
        CREATE TABLE precious AS SELECT generate_series(1, 100) AS n;
        CREATE TABLE emptied AS SELECT generate_series(1, 50) AS n;
        CREATE TABLE rebuilt AS SELECT generate_series(1, 20) AS n;
        CREATE TABLE numbers_only AS SELECT generate_series(1, 30) AS n",
    );
    let file = cluster.value("SELECT pg_relation_filenode('numbers_only')");
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    let story = Story { cluster, pgmd };
    let sql = |statement: &str| story.cluster.sql(statement);

    let first = story.commit();
    story.commit();
    let moment = story.cluster.value("SELECT clock_timestamp()");
    story.commit();
    // The row of pg_class is a part of a subtransaction.
    sql(
        "BEGIN; SAVEPOINT s; DROP TABLE precious; RELEASE s; INSERT INTO numbered VALUES (4); COMMIT",
    );
    story.commit();
    sql("TRUNCATE emptied");
    sql("VACUUM FULL rebuilt");
    story.commit();
    sql("DROP TABLE numbers_only");
    story.wait_durable();

    let (before, found) = story.restored(&["--xid", &first]);
    assert_eq!(before.value(ROWS), "0", "{major}: {found}");
    assert_eq!(found["what"], format!("commit of transaction {first}"));
    let (before, found) = story.restored(&["--commit-after", &moment]);
    assert_eq!(before.value(ROWS), "2", "{major}: {found}");
    let (before, found) = story.restored(&["--drop-table", "public.precious"]);
    assert_eq!(before.value(ROWS), "3", "{major}: {found}");
    assert_eq!(before.value("SELECT count(*) FROM precious"), "100");
    let (before, found) = story.restored(&["--truncate", "emptied"]);
    assert_eq!(before.value(ROWS), "5", "{major}: {found}");
    assert_eq!(before.value("SELECT count(*) FROM emptied"), "50");
    let (before, found) = story.restored(&["--file", &file]);
    assert_eq!(before.value(ROWS), "6", "{major}: {found}");
    assert_eq!(before.value("SELECT count(*) FROM numbers_only"), "30");
    assert!(
        found["what"]
            .as_str()
            .unwrap()
            .starts_with("drop of numbers_only (file ")
    );

    // Who rewrites a table drops its old place, which is no drop of the table.
    let find = ["wal", "find", "--server", "main"];
    let rewritten = story
        .pgmd
        .json(&[&find[..], &["--truncate", "rebuilt"]].concat());
    let what = rewritten["what"].as_str().unwrap();
    assert!(
        what.contains("rewriting") && what.contains("rebuilt"),
        "{what}"
    );
    let nothing = story
        .pgmd
        .cli(&[&find[..], &["--drop-table", "emptied"]].concat());
    assert_eq!(nothing.status, 4, "{}", nothing.stderr);
    assert!(nothing.stderr.contains("HINT: "), "{}", nothing.stderr);
}

#[test]
fn everything_is_found_and_undone_on_the_oldest_major() {
    everything_is_found_and_undone(Major::V14);
}

#[test]
fn everything_is_found_and_undone_on_the_newest_major() {
    everything_is_found_and_undone(Major::V18);
}
