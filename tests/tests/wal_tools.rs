//! `wal info`, `wal verify` and `wal summary` on the WAL of real servers, against PostgreSQL's own programs.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgm_tests::{Cluster, Major, Scratch, StopMode, built, majors, run, run_ok, wait_until};
use serde_json::Value;

/// Rows, indexes of every kind, subtransactions, a prepared transaction, truncation, removal, a database.
const WORK: [&str; 4] = [
    "CREATE TABLE t (id int PRIMARY KEY, a int[], p point, b text);
    INSERT INTO t SELECT n, ARRAY[n % 7, n % 11], point(n % 13, n), md5(n::text) FROM generate_series(1, 3000) AS n;
    CREATE INDEX ON t USING gin (a);
    CREATE INDEX ON t USING gist (p);
    CREATE INDEX ON t USING spgist (p);
    CREATE INDEX ON t USING brin (id);
    CREATE INDEX ON t USING hash (b);
    UPDATE t SET b = b || 'x' WHERE id % 3 = 0;
    DELETE FROM t WHERE id > 2000;
    BEGIN; SAVEPOINT s; INSERT INTO t (id) VALUES (5000); ROLLBACK TO s; SELECT FROM t WHERE id = 1 FOR SHARE; COMMIT;
    BEGIN; CREATE TABLE prepared (x int); PREPARE TRANSACTION 'p'",
    "COMMIT PREPARED 'p'",
    "CREATE TABLE gone AS SELECT generate_series(1, 1000); DROP TABLE gone;
    CREATE SEQUENCE q; SELECT nextval('q')",
    "SELECT pg_logical_emit_message(true, 'prefix', 'text'), pg_create_restore_point('here')",
];

fn server(major: Major) -> Cluster {
    let mut builder = Cluster::builder(major)
        .segment_mib(1)
        .setting("wal_level", "logical")
        .setting("max_prepared_transactions", "2")
        .setting("track_commit_timestamp", "on")
        .setting("wal_keep_size", "1GB")
        .setting("autovacuum", "off");
    if major >= Major::V17 {
        builder = builder.setting("summarize_wal", "on");
    }
    let cluster = builder.start();
    cluster.sql("CHECKPOINT");
    for statement in WORK {
        cluster.sql(statement);
    }
    for statement in ["VACUUM t", "CHECKPOINT", "TRUNCATE t", "CHECKPOINT"] {
        cluster.sql(statement);
    }
    cluster
}

fn wal(command: &str) -> Command {
    let mut cli = Command::new(built("pgm-cli"));
    cli.args(["wal", command]);
    cli
}

/// The segments of a stopped server, in order.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().len() == 24)
        .collect();
    found.sort();
    found
}

/// Every record that `pg_waldump` prints is printed alike; it ends with an error where the WAL does.
fn info_agrees_with_pg_waldump(cluster: &Cluster, pg_wal: &Path) {
    let names = segments(pg_wal);
    let mut waldump = cluster.major().command("pg_waldump");
    waldump.arg("-p").arg(pg_wal);
    waldump.arg(names[0].file_name().unwrap());
    waldump.arg(names[names.len() - 1].file_name().unwrap());
    let theirs = run(&mut waldump).stdout;
    let ours = run_ok(wal("info").arg(pg_wal));
    assert!(
        theirs.lines().count() > 10_000,
        "{}",
        theirs.lines().count()
    );
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
}

/// Each summary that the server made is what we make of the same range, in both directions.
fn summaries_agree_with_pg_walsummary(cluster: &Cluster, pg_wal: &Path) {
    let scratch = Scratch::new("summaries");
    let mut compared = 0;
    for entry in fs::read_dir(pg_wal.join("summaries")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let lsn = |digits: &str| format!("{}/{}", &digits[..8], &digits[8..]);
        let (start, end) = (lsn(&name[8..24]), lsn(&name[24..]));
        let theirs = run_ok(cluster.major().command("pg_walsummary").arg(&path));
        let range = ["--start", &start, "--end", &end];
        let ours = run_ok(wal("summary").args(range).arg(pg_wal));
        assert_eq!(ours, theirs, "{name}");
        let read_by_us = run_ok(wal("summary").arg(&path));
        assert_eq!(read_by_us, theirs, "{name}");
        let written = run_ok(
            wal("summary")
                .args(range)
                .arg(pg_wal)
                .arg("--output")
                .arg(scratch.path()),
        );
        let read_by_them = run_ok(cluster.major().command("pg_walsummary").arg(written.trim()));
        assert_eq!(read_by_them, theirs, "{name}");
        compared += 1;
    }
    assert!(compared >= 4, "{compared} summaries");
}

#[test]
fn records_and_summaries_are_those_of_postgresql_17() {
    let mut cluster = server(Major::V17);
    let (checkpoint, dropped) = drop_a_table(&cluster);
    files_have_names(&cluster);
    let end = cluster.value("SELECT pg_current_wal_lsn()");
    cluster.sql("CHECKPOINT");
    wait_until("the server has summarised its WAL", || {
        cluster.value(&format!(
            "SELECT summarized_lsn >= '{end}' FROM pg_get_wal_summarizer_state()"
        )) == "t"
    });
    cluster.stop(StopMode::Fast);
    let pg_wal = cluster.data().join("pg_wal");
    info_agrees_with_pg_waldump(&cluster, &pg_wal);
    summaries_agree_with_pg_walsummary(&cluster, &pg_wal);
    damage_is_named(&pg_wal);
    the_drop_is_found(&pg_wal, &checkpoint, &dropped);
}

/// Names come from the server, also of a catalog that is found by a map, and of a table that was rewritten.
fn files_have_names(cluster: &Cluster) {
    let begin = cluster.value("SELECT pg_current_wal_insert_lsn()");
    cluster.sql("CREATE TABLE \"Named\" (n int)");
    cluster.sql("VACUUM FULL \"Named\"");
    cluster.sql("INSERT INTO \"Named\" VALUES (1)");
    cluster.sql("SELECT pg_logical_emit_message(true, 'pgm', 'flush')");
    let file = cluster.value("SELECT pg_relation_filenode('\"Named\"')");
    let info = |more: &[&str]| {
        let mut info = wal("info");
        info.args(["--conninfo", &cluster.conninfo_superuser()]);
        info.args(["--start", &begin]).args(more);
        run_ok(info.arg(cluster.data().join("pg_wal")))
    };
    let text = info(&[]);
    assert!(
        text.contains(&format!("/{file} (public.Named) blk 0")),
        "{text}"
    );
    assert!(text.contains("/1259 (pg_catalog.pg_class) blk"), "{text}");
    let line = info(&["--relation", &file, "--format", "json"]);
    let record: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!(record["blocks"][0]["name"], "public.Named", "{record}");
}

/// Gives the position of the checkpoint before, and the transaction.
fn drop_a_table(cluster: &Cluster) -> (String, String) {
    cluster.sql("CREATE TABLE lost AS SELECT generate_series(1, 100) AS n");
    cluster.sql("CHECKPOINT");
    let checkpoint = cluster.value("SELECT redo_lsn FROM pg_control_checkpoint()");
    let xid = cluster.value("BEGIN; DROP TABLE lost; SELECT pg_current_xact_id()");
    // The session ended, and with it the transaction: the table is still there.
    let again = cluster.value(
        "BEGIN; DROP TABLE lost; CREATE TEMP TABLE x AS SELECT pg_current_xact_id() AS x; COMMIT; SELECT x FROM x",
    );
    assert_ne!(xid, again);
    (checkpoint, again)
}

/// The name is learned from the page of `pg_class` that the drop changed.
fn the_drop_is_found(pg_wal: &Path, checkpoint: &str, xid: &str) {
    let find = |name: &str| {
        let mut find = wal("find");
        find.args(["--drop-table", name, "--start", checkpoint]);
        run(find.args(["--format", "json"]).arg(pg_wal))
    };
    let found: Value = serde_json::from_str(&find("lost").stdout).unwrap();
    assert_eq!(found["xid"].to_string(), xid, "{found}");
    let lsn = found["lsn"].as_str().unwrap();
    assert_eq!(found["restore"], format!("--target-lsn {lsn} --exclusive"));
    let record = run_ok(wal("info").args(["-n", "1", "--start", lsn]).arg(pg_wal));
    assert!(record.contains("desc: COMMIT"), "{record}");
    assert_eq!(find("t").status, 4);
}

/// A flipped bit in the middle of the WAL is found, and only that.
fn damage_is_named(pg_wal: &Path) {
    let scratch = Scratch::new("damaged");
    for path in segments(pg_wal) {
        fs::copy(&path, scratch.join(path.file_name().unwrap())).unwrap();
    }
    let intact = run(wal("verify").args(["--format", "json"]).arg(scratch.path()));
    let intact: Value = serde_json::from_str(&intact.stdout).unwrap();
    assert_eq!(
        intact["runs"][0]["damages"],
        serde_json::json!([]),
        "{intact}"
    );
    let victim = segments(scratch.path())[1].clone();
    let mut bytes = fs::read(&victim).unwrap();
    bytes[600_000] ^= 0x10;
    fs::write(&victim, bytes).unwrap();
    let damaged = run(wal("verify").arg(scratch.path()));
    assert_eq!(damaged.status, 1);
    let name = victim.file_name().unwrap().to_str().unwrap();
    assert!(damaged.stdout.contains("damaged: "), "{}", damaged.stdout);
    assert!(damaged.stdout.contains(name), "{}", damaged.stdout);
}

#[test]
fn records_of_every_major_are_read_and_described() {
    for major in majors() {
        let mut cluster = server(major);
        cluster.stop(StopMode::Fast);
        let pg_wal = cluster.data().join("pg_wal");
        let records = run_ok(wal("info").args(["--format", "json"]).arg(&pg_wal));
        let mut previous = Value::Null;
        let mut kinds = std::collections::BTreeSet::new();
        for line in records.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            if !previous.is_null() {
                assert_eq!(record["prev"], previous, "{major}: {record}");
            }
            previous = record["lsn"].clone();
            let description = record["description"].as_str().unwrap();
            assert!(!description.contains("ends here"), "{major}: {record}");
            let kind = record["record"].as_str().unwrap();
            assert!(!kind.contains("UNKNOWN"), "{major}: {record}");
            kinds.insert(format!("{}/{kind}", record["rmgr"].as_str().unwrap()));
        }
        assert!(kinds.len() > 40, "{major}: {kinds:?}");
        let here = run_ok(wal("info").args(["--rmgr", "xlog"]).arg(&pg_wal));
        assert!(here.contains("RESTORE_POINT here"), "{major}");
        let stats = run_ok(wal("info").arg("--stats").arg(&pg_wal));
        assert!(stats.starts_with("WAL statistics between"), "{stats}");
    }
}
