//! What archived segments say, kept while real WAL is archived: as much as the WAL itself, and it names the commit of a plan.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;

use pgm_backup::Repository;
use pgm_proto::{Lsn, ServerName, TimelineId};
use pgm_storage::LocalStorage;
use pgm_tests::{Cluster, Major, Pgmd, Scratch, run, wait_until};
use pgm_wal::archive::{Archive, ArchiveSource};
use pgm_wal::digest::changes;
use pgm_wal::record::RecordReader;
use pgm_wal::summary::{Rules, Summary};
use pgm_wal::{History, SegmentSize};

struct Archived {
    archive: Archive,
    size: SegmentSize,
    history: History,
}

impl Archived {
    fn of(pgmd: &Pgmd) -> Self {
        let storage = std::sync::Arc::new(LocalStorage::open(pgmd.repository()).unwrap());
        let repository = Repository::open(storage).unwrap();
        let server: ServerName = "main".parse().unwrap();
        let archive = Archive::new(std::sync::Arc::clone(repository.storage()), server);
        let size = archive.segment_size().unwrap().unwrap();
        Self {
            archive,
            size,
            history: History::root(TimelineId::FIRST),
        }
    }

    fn reader(&self, from: Lsn) -> RecordReader<ArchiveSource> {
        let source = ArchiveSource::new(self.archive.clone(), None, self.size);
        RecordReader::seek(source, self.history.clone(), from).unwrap()
    }

    /// Everything that the records between the two say is said by the digests, too.
    fn compare(&self, from: Lsn, to: Lsn) {
        let mut expected = Summary::new(TimelineId::FIRST, from, Rules::Complete);
        let mut reader = self.reader(from);
        while let Some(record) = reader.next().unwrap() {
            if record.lsn >= to {
                break;
            }
            expected.add(&record).unwrap();
        }
        let expected = expected.completed();
        let found = changes(&self.archive, None, &self.history, self.size, from, to).unwrap();
        assert!(found.start <= from && found.end >= to);
        for (fork, wanted) in expected.forks() {
            let found = found.fork(fork);
            let found = found.unwrap_or_else(|| panic!("{fork:?} between {from} and {to}"));
            let limit =
                |changes: &pgm_wal::summary::ForkChanges| changes.limit().unwrap_or(u32::MAX);
            assert!(limit(found) <= limit(wanted), "{fork:?}");
            let known: Vec<u32> = found.blocks().iter().collect();
            for block in wanted.blocks().iter().filter(|block| *block < limit(found)) {
                assert!(
                    known.binary_search(&block).is_ok(),
                    "{fork:?} block {block}"
                );
            }
        }
        assert!(expected.forks().len() <= found.forks().len());
    }
}

/// Writes into tables that come and go, over several segments; gives the position behind it, archived.
fn work(cluster: &Cluster, pgmd: &Pgmd, round: u32) -> Lsn {
    cluster.sql(&format!(
        "create table t{round} (n int primary key, word text); \
         insert into t{round} select n, md5(n::text) from generate_series(1, 30000) n; \
         update t{round} set word = 'x' where n % 7 = 0; delete from t{round} where n > 20000; \
         drop table if exists t{}",
        round - 1
    ));
    cluster.sql(&format!("vacuum t{round}"));
    cluster.sql("checkpoint");
    let written = cluster.value("select pg_switch_wal()");
    pgmd.wait_durable("main", &written);
    wait_until("it is archived", || {
        let archived = pgmd.status("main")["archived_lsn"].clone();
        let archived = archived.as_str().unwrap_or("0/0").to_owned();
        cluster.value(&format!("select '{archived}'::pg_lsn >= '{written}'")) == "t"
    });
    written.parse().unwrap()
}

#[test]
fn digests_say_what_the_wal_says_and_a_plan_names_its_commit() {
    // Nothing commits but the test.
    let cluster = Cluster::builder(Major::V17)
        .setting("autovacuum", "off")
        .start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    let mut ends = vec![work(&cluster, &pgmd, 1)];
    // A start in between leaves a seam.
    pgmd.stop();
    pgmd.start();
    pgmd.wait_streaming("main");
    for round in 2..=4 {
        ends.push(work(&cluster, &pgmd, round));
    }
    let summaries = pgmd.repository().join("main/summary/00000001");
    let count = || fs::read_dir(&summaries).unwrap().count();
    assert!(count() >= 4, "{}", count());

    let archived = Archived::of(&pgmd);
    let beginning = |from: Lsn| archived.reader(from).next().unwrap().unwrap().lsn;
    let middle = beginning(Lsn::new(ends[1].bytes() - 1_000_000));
    let starts = [beginning(Lsn::new(0x0200_0000)), beginning(ends[0]), middle];
    for from in starts {
        for to in [ends[2], ends[3]] {
            archived.compare(from, to);
        }
    }

    the_commit_is_named(&cluster, &pgmd);
    the_window_has_true_ends(&cluster, &mut pgmd);
    // Without digests, and with damaged ones, the same is read from the WAL.
    for (number, entry) in fs::read_dir(&summaries).unwrap().flatten().enumerate() {
        if number % 2 == 0 {
            fs::remove_file(entry.path()).unwrap();
        } else {
            fs::write(entry.path(), "damaged").unwrap();
        }
    }
    archived.compare(starts[0], ends[3]);
    the_commit_is_named(&cluster, &pgmd);
}

fn the_commit_is_named(cluster: &Cluster, pgmd: &Pgmd) {
    let here = Scratch::new("planned");
    cluster.sql("create table if not exists moments (n int, xid text)");
    let commit = || {
        cluster.value("insert into moments values (1, pg_current_xact_id()::text) returning xid")
    };
    let before = commit();
    let time = cluster.value("select clock_timestamp()::text");
    let after = commit();
    work(cluster, pgmd, 5);
    cluster.sql("drop table t5");
    let data = here.join("data");
    let plan = pgmd.json(&[
        "restore",
        "main",
        "newest",
        data.to_str().unwrap(),
        "--target-time",
        &time,
        "--plan",
    ]);
    assert_eq!(plan["last_commit"]["xid"].to_string(), before, "{plan}");
    assert_eq!(plan["stops_before"]["xid"].to_string(), after, "{plan}");
}

/// A window ends with the last commit: that moment can be restored, the next microsecond cannot.
fn the_window_has_true_ends(cluster: &Cluster, pgmd: &mut Pgmd) {
    let last =
        cluster.value("insert into moments values (2, pg_current_xact_id()::text) returning xid");
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));

    let details = pgmd.json(&["info", "main", "newest"]);
    let window = details["window"].clone();
    assert_eq!(window["last_commit"]["xid"].to_string(), last, "{details}");
    assert_eq!(window["from_lsn"], details["summary"]["end_lsn"]);
    assert_eq!(window["from_time"], details["summary"]["stopped"]);
    assert_eq!(pgmd.status("main")["window"], window);
    let listed = || pgmd.json(&["list-backup", "main"])["servers"][0]["windows"].clone();
    assert_eq!(listed(), serde_json::json!([window]));

    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let time = text(&window["last_commit"]["time"]);
    let text = format!(
        "restorable from {} ({}) to {time} ({}), timeline 1",
        text(&window["from_time"]),
        text(&window["from_lsn"]),
        text(&window["to_lsn"])
    );
    let shown = pgmd.cli_ok(&["list-backup", "main"]);
    assert!(shown.contains(&text), "{shown}");

    let here = Scratch::new("ends");
    let data = here.join("data");
    let plan = |time: &str| {
        let data = data.to_str().unwrap();
        pgmd.cli(&[
            "restore",
            "main",
            "newest",
            data,
            "--target-time",
            time,
            "--plan",
        ])
    };
    let planned = plan(&time);
    assert_eq!(planned.status, 0, "{planned:?}");
    assert!(
        planned.stdout.contains(&format!("to {time}")),
        "{planned:?}"
    );
    let later = format!("select (timestamptz '{time}' + interval '1 microsecond')::text");
    assert_ne!(plan(&cluster.value(&later)).status, 0);

    // Without the daemon it is told from the spool, too.
    pgmd.stop();
    let listed = pgmd.json(&["list-backup", "main"]);
    assert_eq!(
        listed["servers"][0]["windows"][0]["last_commit"],
        window["last_commit"]
    );
    pgmd.start();
    pgmd.wait_streaming("main");
}

/// What the server's own summarizer wrote is what comes out of our digests, over the same ranges.
#[test]
fn digests_convert_to_the_summaries_of_postgresql_17_and_18() {
    for major in [Major::V17, Major::V18] {
        let cluster = Cluster::builder(major)
            .segment_mib(1)
            .setting("autovacuum", "off")
            .setting("summarize_wal", "on")
            .setting("max_wal_size", "4GB")
            .start();
        let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
        pgmd.start();
        pgmd.wait_streaming("main");
        let mut end = Lsn::INVALID;
        for round in 1..=3 {
            // A fork that is made, written to, and removed, over several segments.
            cluster.sql("create table if not exists gone (n int primary key, word text)");
            cluster.sql(
                "insert into gone select n, md5(n::text) from generate_series(1, 30000) n; \
                 truncate gone; insert into gone values (0)",
            );
            end = work(&cluster, &pgmd, round);
        }
        wait_until("the server has summarised its WAL", || {
            let summarised =
                format!("select summarized_lsn >= '{end}' from pg_get_wal_summarizer_state()");
            cluster.sql("checkpoint");
            cluster.value(&summarised) == "t"
        });
        let digests = compare_with_summarizer(&cluster, &pgmd);
        assert!(digests >= 10, "{digests} digests");
    }
}

/// How many digests were used for it.
fn compare_with_summarizer(cluster: &Cluster, pgmd: &Pgmd) -> u64 {
    let here = Scratch::new("converted");
    // The form is the same since 17, whose program reads both.
    let walsummary = |path: &std::path::Path| {
        let run = run(Major::V17.command("pg_walsummary").arg(path));
        assert_eq!(run.status, 0, "{run:?}");
        run.stdout
    };
    let (mut digests, mut compared, mut unlisted) = (0, 0, 0);
    let folder = cluster.data().join("pg_wal/summaries");
    for path in fs::read_dir(folder).unwrap().flatten() {
        let name = path.file_name().into_string().unwrap();
        let lsn = |digits: &str| format!("{}/{}", &digits[..8], &digits[8..]);
        let (start, end) = (lsn(&name[8..24]), lsn(&name[24..40]));
        let range = [
            "wal", "summary", "--server", "main", "--start", &start, "--end", &end,
        ];
        let mut write = range.to_vec();
        write.extend(["--output", here.path().to_str().unwrap()]);
        // What was written before the daemon came is not there.
        let written = pgmd.cli(&write);
        if written.status != 0 && !written.stderr.contains("from the digests") {
            assert!(written.stderr.contains("no WAL"), "{written:?}");
            continue;
        }
        assert_eq!(written.status, 0, "{written:?}");
        let theirs = walsummary(&path.path());
        assert_eq!(walsummary(&here.join(&name)), theirs, "{name}");
        let mut complete = range.to_vec();
        complete.push("--complete");
        unlisted += usize::from(pgmd.cli_ok(&complete) != theirs);
        let counted = written.stderr.split_once("from the digests of ").unwrap().1;
        digests += counted.split(' ').next().unwrap().parse::<u64>().unwrap();
        compared += 1;
    }
    assert!(compared >= 3, "{compared} summaries");
    assert!(unlisted > 0, "no bits of a visibility map were cleared");
    digests
}
