//! A restore that cannot succeed is refused before a byte is written, and says what is missing and how far one can get;
//! what lies just inside that limit is reached.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::{Path, PathBuf};

use pgm_tests::{
    Cluster, Major, Pgmd, Point, Run, Scratch, StopMode, refusal, refusal_in_json, run_ok,
    wait_until,
};

/// A server with small segments that streams into pgmd.
fn streaming(major: Major) -> (Cluster, Pgmd) {
    let cluster = Cluster::builder(major).segment_mib(1).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    (cluster, pgmd)
}

/// Takes a backup and returns its label.
fn backup(pgmd: &Pgmd) -> String {
    let taken = pgmd.json(&["backup", "main"]);
    taken["label"].as_str().unwrap().to_owned()
}

fn wait_for_everything(cluster: &Cluster, pgmd: &Pgmd) {
    // A restore point is no commit, and stays in the server's memory until something makes it write.
    cluster.sql("checkpoint");
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
}

/// Fills the rest of the current segment and returns its name.
fn finish_segment(cluster: &Cluster, pgmd: &Pgmd) -> String {
    // An empty segment would not be finished, and has the name of the one before.
    cluster.value("select pg_create_restore_point('filler')");
    let name = cluster.value("select pg_walfile_name(pg_current_wal_insert_lsn())");
    pgmd.wait_durable("main", &cluster.value("select pg_switch_wal()"));
    name
}

/// Fails the test unless the restore is refused with `words` in every way in which it can be asked for, and writes
/// nothing; returns the message.
fn refused(pgmd: &Pgmd, backup: &str, target: &[&str], words: &[&str]) -> String {
    let scratch = Scratch::new("n");
    let data = scratch.join("parent/data");
    let mut message = String::new();
    for way in [
        &[][..],
        &["--plan"],
        &["--offline"],
        &["--offline", "--plan"],
    ] {
        let restore = ["restore", "main", backup, data.to_str().unwrap()];
        let arguments = [&restore, target, way].concat();
        message = refusal(&pgmd.cli(&arguments), 1, words);
        let json = pgmd.cli(&[&["--format", "json"], &arguments[..]].concat());
        let in_json = refusal_in_json(&json, 1);
        // The newest point may have moved on meanwhile.
        let beginning = |text: &str| text.split("reach").next().map(str::to_owned);
        assert_eq!(beginning(&in_json), beginning(&message));
        let left = fs::read_dir(scratch.path()).unwrap().count();
        assert_eq!(left, 0, "something was written: {arguments:?}");
    }
    message
}

/// The newest reachable point of a refusal: `LSN 0/5000028 on timeline 1, last commit at …`.
fn newest_point(message: &str) -> (String, Option<String>) {
    let (_, point) = message
        .rsplit_once("LSN ")
        .unwrap_or_else(|| panic!("no point: {message}"));
    let lsn = point.split([' ', ',']).next().unwrap().to_owned();
    let commit = point.split_once("last commit at ");
    (lsn, commit.map(|(_, time)| time.trim().to_owned()))
}

/// A server of this restore, not started.
fn restored(pgmd: &Pgmd, major: Major, backup: &str, target: &[&str]) -> Cluster {
    Cluster::made_by(major, |data| {
        pgmd.cli_ok(&[&["restore", "main", backup, data.to_str().unwrap()], target].concat());
    })
}

/// The rows of this restore, after it was opened for writing.
fn rows(pgmd: &Pgmd, major: Major, backup: &str, target: &[&str]) -> Vec<u32> {
    let mut restored = restored(pgmd, major, backup, target);
    restored.start();
    restored.wait_writable();
    Point::rows(&restored)
}

/// The only file below `folder` whose name begins so.
fn find(folder: &Path, name: &str) -> PathBuf {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            let below = fs::read_dir(entry.path()).unwrap().flatten();
            found.extend(below.map(|entry| entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.retain(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(name)
    });
    assert_eq!(
        found.len(),
        1,
        "{name} below {}: {found:?}",
        folder.display()
    );
    found.remove(0)
}

/// Waits until this segment, and everything before it, has gone from the spool to the repository.
fn wait_archived(pgmd: &Pgmd, segment: &str) {
    wait_until("the segment is archived", || {
        let folder = pgmd.repository().join("main/wal").join(&segment[..8]);
        folder.join(segment).exists()
    });
}

/// Takes a segment away from everywhere; the daemon must not run.
fn lose(pgmd: &Pgmd, segment: &str) {
    fs::remove_file(find(&pgmd.repository().join("main/wal"), segment)).unwrap();
    let _ = fs::remove_file(pgmd.spool("main").join(segment));
}

/// Takes everything behind a segment of timeline 1 away from the repository.
fn lose_all_behind(pgmd: &Pgmd, segment: &str) {
    for entry in fs::read_dir(pgmd.repository().join("main/wal/00000001"))
        .unwrap()
        .flatten()
    {
        if entry.file_name().to_str().unwrap()[..24] > *segment {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn flip_a_bit_in_the_middle(file: &Path) {
    let mut content = fs::read(file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 0x10;
    fs::write(file, content).unwrap();
}

#[test]
fn targets_beyond_the_archive_are_refused_and_the_point_that_is_named_is_reached() {
    let (cluster, pgmd) = streaming(Major::V17);
    Point::commit(&cluster, 1);
    backup(&pgmd);
    let last = Point::commit(&cluster, 2);
    wait_for_everything(&cluster, &pgmd);
    let beyond = [
        ["--target-lsn", "FF/0"],
        ["--target-time", "2100-01-01 00:00:00+00"],
        ["--target-xid", "999999"],
        ["--target-name", "never made"],
    ];
    let mut point = None;
    for target in &beyond {
        let wanted = target[1].split(' ').next().unwrap();
        let message = refused(&pgmd, "newest", target, &[wanted, "reache", "timeline 1"]);
        point = Some(newest_point(&message));
    }
    let (lsn, commit) = point.unwrap();
    let commit = commit.expect("there was a commit");
    assert_eq!(
        rows(&pgmd, Major::V17, "newest", &["--target-lsn", &lsn]),
        [1, 2]
    );
    assert_eq!(
        rows(&pgmd, Major::V17, "newest", &["--target-time", &commit]),
        [1, 2]
    );
    assert_eq!(
        rows(&pgmd, Major::V17, "newest", &["--target-xid", &last.xid]),
        [1, 2]
    );
    assert_eq!(
        rows(&pgmd, Major::V17, "newest", &["--target-name", &last.name]),
        [1, 2]
    );
    // What the server itself calls its end is no less.
    let end = cluster.value("select pg_current_wal_flush_lsn()");
    wait_for_everything(&cluster, &pgmd);
    assert_eq!(
        rows(&pgmd, Major::V17, "newest", &["--target-lsn", &end]),
        [1, 2]
    );
    let exclusive = ["--target-time", &commit, "--exclusive"];
    assert_eq!(rows(&pgmd, Major::V17, "newest", &exclusive), [1]);
}

#[test]
fn targets_before_the_oldest_backup_are_refused() {
    let (cluster, pgmd) = streaming(Major::V17);
    let early = Point::commit(&cluster, 1);
    Point::commit(&cluster, 2);
    let oldest = backup(&pgmd);
    Point::commit(&cluster, 3);
    backup(&pgmd);
    Point::commit(&cluster, 4);
    wait_for_everything(&cluster, &pgmd);
    for target in [
        ["--target-lsn", &early.lsn],
        ["--target-time", &early.time],
        ["--target-time", "2001-01-01 00:00:00+00"],
        ["--target-lsn", "0/1"],
    ] {
        for backup in ["newest", "oldest", &oldest] {
            let wanted = target[1].split(' ').next().unwrap();
            refused(
                &pgmd,
                backup,
                &target,
                &[wanted, "before", &oldest, "reache"],
            );
        }
    }
    // These are in no WAL that belongs to a backup.
    for target in [["--target-xid", &early.xid], ["--target-name", &early.name]] {
        refused(&pgmd, "newest", &target, &[target[1], "reache"]);
    }
    // The earliest point there is.
    let earliest = ["--target-immediate"];
    assert_eq!(rows(&pgmd, Major::V17, "oldest", &earliest), [1, 2]);
    let info = pgmd.json(&["info", "main", "oldest"]);
    let end = info["summary"]["end_lsn"].as_str();
    let earliest = [
        "--target-lsn",
        end.unwrap_or_else(|| panic!("{info}")),
        "--exclusive",
    ];
    assert_eq!(rows(&pgmd, Major::V17, "newest", &earliest), [1, 2]);
}

/// The newest backup is too new for these: the one before it has to be taken, whether or not there was anything going on
/// while the newest was made.
#[test]
fn a_target_between_two_backups_is_reached_from_the_older_one() {
    let (cluster, pgmd) = streaming(Major::V17);
    Point::commit(&cluster, 1);
    let older = backup(&pgmd);
    let two = Point::commit(&cluster, 2);
    Point::commit(&cluster, 3);
    let newer = backup(&pgmd);
    Point::commit(&cluster, 4);
    wait_for_everything(&cluster, &pgmd);
    for target in [
        ["--target-lsn", &two.lsn],
        ["--target-time", &two.time],
        ["--target-xid", &two.xid],
        ["--target-name", &two.name],
    ] {
        assert_eq!(
            rows(&pgmd, Major::V17, "newest", &target),
            [1, 2],
            "{target:?}"
        );
        refused(
            &pgmd,
            &newer,
            &target,
            &[target[1].split(' ').next().unwrap(), &newer],
        );
    }
    let at = ["--target-time", &two.time];
    assert_eq!(rows(&pgmd, Major::V17, &older, &at), [1, 2]);
}

#[test]
fn a_restore_across_a_missing_segment_is_refused_and_ends_before_it_when_told_to() {
    let (cluster, mut pgmd) = streaming(Major::V17);
    Point::commit(&cluster, 1);
    backup(&pgmd);
    let two = Point::commit(&cluster, 2);
    finish_segment(&cluster, &pgmd);
    Point::commit(&cluster, 3);
    let missing = finish_segment(&cluster, &pgmd);
    let four = Point::commit(&cluster, 4);
    wait_archived(&pgmd, &finish_segment(&cluster, &pgmd));
    wait_for_everything(&cluster, &pgmd);
    pgmd.stop();
    lose(&pgmd, &missing);
    for daemon in ["without", "with"] {
        if daemon == "with" {
            pgmd.start();
        }
        let mut point = None;
        for target in [
            &[][..],
            &["--target-lsn", &four.lsn],
            &["--target-time", &four.time],
            &["--target-xid", &four.xid],
            &["--target-name", &four.name],
        ] {
            let message = refused(&pgmd, "newest", target, &[&missing, "missing", "reache"]);
            point = Some(newest_point(&message));
        }
        let (lsn, _) = point.unwrap();
        for target in [["--target-lsn", &lsn], ["--target-name", &two.name]] {
            assert_eq!(
                rows(&pgmd, Major::V17, "newest", &target),
                [1, 2],
                "{target:?}"
            );
        }
    }
}

#[test]
fn a_backup_without_the_wal_that_makes_it_consistent_is_refused() {
    let (cluster, mut pgmd) = streaming(Major::V17);
    Point::commit(&cluster, 1);
    let older = backup(&pgmd);
    let info = pgmd.json(&["info", "main"]);
    let start = info["summary"]["start_lsn"].as_str().unwrap();
    let missing = cluster.value(&format!("select pg_walfile_name('{start}')"));
    wait_archived(&pgmd, &finish_segment(&cluster, &pgmd));
    let newer = backup(&pgmd);
    wait_for_everything(&cluster, &pgmd);
    pgmd.stop();
    lose(&pgmd, &missing);
    refused(&pgmd, &older, &[], &[&missing, &older]);
    refused(&pgmd, &older, &["--target-immediate"], &[&missing, &older]);
    assert_eq!(rows(&pgmd, Major::V17, &newer, &[]), [1]);
}

/// Timeline 1 goes on as 2 (a promotion) and as 3 (a restore to an earlier point), and each has a backup.
#[test]
fn another_branch_of_the_timelines_is_refused_and_each_branch_is_reached() {
    let mut one = Cluster::builder(Major::V17).segment_mib(1).start();
    let mut two = one.standby();
    let mut pgmd = Pgmd::configured(&[]);
    let configure = |pgmd: &Pgmd, conninfo: &str| {
        pgmd.write_configuration(&format!(
            "(servers: {{ \"main\": (conninfo: {conninfo:?}) }})"
        ));
    };
    configure(&pgmd, &one.conninfo());
    pgmd.start();
    pgmd.wait_streaming("main");
    Point::commit(&one, 1);
    let on_one = backup(&pgmd);
    let point_one = Point::commit(&one, 2);
    two.catch_up_with(&one);
    wait_for_everything(&one, &pgmd);
    one.stop(StopMode::Fast);
    two.promote();
    configure(&pgmd, &two.conninfo());
    pgmd.reload();
    Point::commit(&two, 22);
    wait_until("the new timeline streams", || {
        pgmd.status("main")["timeline"] == 2
    });
    let on_two = backup(&pgmd);
    let point_two = Point::commit(&two, 23);
    wait_for_everything(&two, &pgmd);
    two.stop(StopMode::Fast);

    let to_one = ["--timeline", "1", "--target-name", &point_one.name];
    let mut three = restored(&pgmd, Major::V17, "newest", &to_one);
    three.start();
    three.wait_writable();
    assert_eq!(
        three.value("select timeline_id from pg_control_checkpoint()"),
        "3"
    );
    Point::commit(&three, 33);
    configure(&pgmd, &three.conninfo());
    pgmd.reload();
    // The daemon does not mix branches; what its hint says is what a person does then.
    wait_until("the other branch is refused", || {
        let status = pgmd.status("main");
        let error = status["last_error"].as_str().unwrap_or_default();
        let hint = status["hint"].as_str().unwrap_or_default();
        error.contains("timeline 3") && hint.contains("move the spool folder aside")
    });
    pgmd.stop();
    fs::rename(pgmd.spool("main"), pgmd.directory().join("aside")).unwrap();
    pgmd.start();
    pgmd.wait_streaming("main");
    let on_three = backup(&pgmd);
    Point::commit(&three, 34);
    wait_for_everything(&three, &pgmd);

    refused(
        &pgmd,
        &on_three,
        &["--timeline", "2"],
        &["timeline 2", &on_three, "reache"],
    );
    refused(
        &pgmd,
        &on_two,
        &["--timeline", "3"],
        &["timeline 3", &on_two, "reache"],
    );
    refused(
        &pgmd,
        "newest",
        &["--timeline", "9"],
        &["timeline 9", "reache"],
    );
    let beyond = ["--timeline", "1", "--target-name", &point_two.name];
    refused(&pgmd, "newest", &beyond, &[&point_two.name, "timeline 1"]);

    let all = |backup: &str, target: &[&str]| rows(&pgmd, Major::V17, backup, target);
    assert_eq!(all("newest", &[]), [1, 2, 33, 34]);
    assert_eq!(all("newest", &["--timeline", "2"]), [1, 2, 22, 23]);
    assert_eq!(all("newest", &["--timeline", "1"]), [1, 2]);
    assert_eq!(all(&on_one, &["--timeline", "3"]), [1, 2, 33, 34]);
    assert_eq!(all(&on_one, &["--timeline", "2"]), [1, 2, 22, 23]);
    assert_eq!(
        all(
            &on_one,
            &["--target-xid", &point_two.xid, "--timeline", "2"]
        ),
        [1, 2, 22, 23]
    );
}

/// Without its history nobody can tell where a timeline branched off; its commits must not be forgotten without a word.
#[test]
fn a_timeline_whose_history_is_missing_or_damaged_is_named() {
    let mut one = Cluster::builder(Major::V17).segment_mib(1).start();
    let two = one.standby();
    let hosts = format!(
        "host=127.0.0.1,127.0.0.1 port={},{}",
        one.port(),
        two.port()
    );
    let conninfo = format!("{hosts} user=pgm dbname=postgres target_session_attrs=read-write");
    let mut pgmd = Pgmd::configured(&[("main", &conninfo)]);
    pgmd.start();
    pgmd.wait_streaming("main");
    Point::commit(&one, 1);
    backup(&pgmd);
    let last = Point::commit(&one, 2);
    wait_for_everything(&one, &pgmd);
    two.catch_up_with(&one);
    one.destroy();
    two.promote();
    Point::commit(&two, 3);
    wait_until("the new timeline streams", || {
        pgmd.status("main")["timeline"] == 2
    });
    wait_for_everything(&two, &pgmd);
    pgmd.stop();
    assert_eq!(rows(&pgmd, Major::V17, "newest", &[]), [1, 2, 3]);
    let history = find(&pgmd.repository().join("main/wal"), "00000002.history");
    let _ = fs::remove_file(pgmd.spool("main").join("00000002.history"));
    flip_a_bit_in_the_middle(&history);
    for trouble in ["damaged", "missing"] {
        if trouble == "missing" {
            fs::remove_file(&history).unwrap();
        }
        for target in [
            &[][..],
            &["--timeline", "2"],
            &["--target-name", "never made"],
        ] {
            refused(&pgmd, "newest", target, &["00000002.history", trouble]);
        }
        // The number of the branch that cannot be followed stays taken.
        let mut three = restored(&pgmd, Major::V17, "newest", &["--timeline", "1"]);
        three.start();
        three.wait_writable();
        let timeline = "select timeline_id from pg_control_checkpoint()";
        wait_until("the new timeline is written down", || {
            three.value(timeline) == "3"
        });
        assert_eq!(Point::rows(&three), [1, 2]);
        let to_one = ["--timeline", "1", "--target-name", &last.name];
        assert_eq!(rows(&pgmd, Major::V17, "newest", &to_one), [1, 2]);
    }
}

/// What made it a standby must not come with it: it would wait for its primary for ever, or stream from it.
#[test]
fn a_backup_of_a_standby_is_restored_as_a_server_of_its_own() {
    let mut primary = Cluster::builder(Major::V17).segment_mib(1).start();
    let standby = primary.standby();
    let mut pgmd = Pgmd::configured(&[("main", &standby.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    Point::commit(&primary, 1);
    standby.catch_up_with(&primary);
    backup(&pgmd);
    let two = Point::commit(&primary, 2);
    Point::commit(&primary, 3);
    standby.catch_up_with(&primary);
    let replayed = primary.value("select pg_current_wal_flush_lsn()");
    pgmd.wait_durable("main", &replayed);
    assert_eq!(rows(&pgmd, Major::V17, "newest", &[]), [1, 2, 3]);
    assert_eq!(
        rows(&pgmd, Major::V17, "newest", &["--target-xid", &two.xid]),
        [1, 2]
    );
    let scratch = Scratch::new("n");
    let data = scratch.join("data");
    pgmd.cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
    run_ok(Major::V17.command("pg_verifybackup").arg(&data));
}

#[test]
fn options_without_an_effect_are_refused() {
    let pgmd = Pgmd::configured(&[]);
    for options in [
        &["--target-name", "x", "--exclusive"][..],
        &["--target-immediate", "--exclusive"],
        &["--target-action", "pause"],
        &["--exclusive"],
        &["--target-lsn", "0/1", "--target-xid", "7"],
        &["--target-lsn", "nonsense"],
        &["--target-time", "yesterday"],
        &["--timeline", "0"],
    ] {
        let restore = ["restore", "main", "newest", "/nowhere/data"];
        let run = pgmd.cli(&[&restore, options].concat());
        assert_eq!(run.status, 2, "{options:?}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn damage_in_the_archive_stops_recovery_and_never_opens_the_server_early() {
    let (cluster, mut pgmd) = streaming(Major::V17);
    Point::commit(&cluster, 1);
    backup(&pgmd);
    let two = Point::commit(&cluster, 2);
    finish_segment(&cluster, &pgmd);
    Point::commit(&cluster, 3);
    let damaged = finish_segment(&cluster, &pgmd);
    Point::commit(&cluster, 4);
    wait_archived(&pgmd, &finish_segment(&cluster, &pgmd));
    wait_for_everything(&cluster, &pgmd);
    pgmd.stop();
    let _ = fs::remove_file(pgmd.spool("main").join(&damaged));
    let mut server = restored(&pgmd, Major::V17, "newest", &[]);
    flip_a_bit_in_the_middle(&find(&pgmd.repository().join("main/wal"), &damaged));
    assert!(!server.start_expecting_exit().success());
    let log = server.log();
    assert!(log.contains("FATAL:  could not restore file"), "{log}");
    assert!(log.contains(&damaged) && log.contains("damaged"), "{log}");
    assert!(!log.contains("archive recovery complete"), "{log}");
    // What does not need the damaged segment is reached.
    let before = ["--target-name", &two.name];
    assert_eq!(rows(&pgmd, Major::V17, "newest", &before), [1, 2]);
    // And the damaged one is no less missing than one that is gone: whoever reads it while planning, says so.
    let scratch = Scratch::new("n");
    let data = scratch.join("data");
    let xid = [
        "restore",
        "main",
        "newest",
        data.to_str().unwrap(),
        "--target-xid",
        "999999",
    ];
    refusal(&pgmd.cli(&xid), 1, &[&damaged, "damaged"]);
    assert!(!data.exists());
}

#[test]
fn damage_in_the_newest_wal_leaves_everything_before_it_within_reach() {
    let (cluster, mut pgmd) = streaming(Major::V17);
    Point::commit(&cluster, 1);
    backup(&pgmd);
    let two = Point::commit(&cluster, 2);
    finish_segment(&cluster, &pgmd);
    cluster.sql("insert into numbered select generate_series(1000, 7000)");
    let damaged = finish_segment(&cluster, &pgmd);
    wait_archived(&pgmd, &damaged);
    wait_for_everything(&cluster, &pgmd);
    pgmd.stop();
    fs::rename(pgmd.spool("main"), pgmd.directory().join("aside")).unwrap();
    lose_all_behind(&pgmd, &damaged);
    flip_a_bit_in_the_middle(&find(&pgmd.repository().join("main/wal"), &damaged));
    let mut lsn = String::new();
    for target in [
        &[][..],
        &["--target-lsn", "FF/0"],
        &["--target-xid", "999999"],
        &["--target-time", "2100-01-01 00:00:00+00"],
    ] {
        let message = refused(&pgmd, "newest", target, &[&damaged, "damaged", "reache"]);
        lsn = newest_point(&message).0;
    }
    for target in [
        ["--target-lsn", &lsn],
        ["--target-name", &two.name],
        ["--target-xid", &two.xid],
    ] {
        assert_eq!(rows(&pgmd, Major::V17, "newest", &target), [1, 2]);
    }
}

#[test]
fn a_gap_that_opens_after_the_restore_stops_recovery() {
    let (cluster, mut pgmd) = streaming(Major::V17);
    Point::commit(&cluster, 1);
    backup(&pgmd);
    Point::commit(&cluster, 2);
    let missing = finish_segment(&cluster, &pgmd);
    Point::commit(&cluster, 3);
    wait_archived(&pgmd, &finish_segment(&cluster, &pgmd));
    wait_for_everything(&cluster, &pgmd);
    pgmd.stop();
    let mut gap = restored(&pgmd, Major::V17, "newest", &[]);
    let mut nothing_left = restored(&pgmd, Major::V17, "newest", &[]);
    lose(&pgmd, &missing);
    assert!(!gap.start_expecting_exit().success());
    assert!(
        gap.log().contains("is missing from the archive"),
        "{}",
        gap.log()
    );
    // The plan reached further than what is left: that, too, is no end of recovery.
    fs::rename(pgmd.spool("main"), pgmd.directory().join("aside")).unwrap();
    lose_all_behind(&pgmd, &missing);
    assert!(!nothing_left.start_expecting_exit().success());
    let log = nothing_left.log();
    assert!(!log.contains("archive recovery complete"), "{log}");
}

#[test]
fn wal_get_tells_absent_files_from_those_that_must_stop_recovery() {
    let (cluster, mut pgmd) = streaming(Major::V17);
    backup(&pgmd);
    let first = finish_segment(&cluster, &pgmd);
    let segment = fs::read(cluster.data().join("pg_wal").join(&first)).unwrap();
    Point::commit(&cluster, 1);
    let second = finish_segment(&cluster, &pgmd);
    Point::commit(&cluster, 2);
    wait_archived(&pgmd, &finish_segment(&cluster, &pgmd));
    Point::commit(&cluster, 3);
    wait_for_everything(&cluster, &pgmd);
    let current = cluster.value("select pg_walfile_name(pg_current_wal_lsn())");
    let scratch = Scratch::new("n");
    let out = scratch.join("out");
    let get = |pgmd: &Pgmd, file: &str| {
        let _ = fs::remove_file(&out);
        pgmd.cli(&["wal", "get", "main", file, out.to_str().unwrap()])
    };
    let delivered = |run: &Run| {
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{}", run.stdout);
        fs::read(&out).unwrap()
    };
    assert!(delivered(&get(&pgmd, &first)) == segment);
    assert_eq!(
        delivered(&get(&pgmd, &current)).len(),
        1 << 20,
        "the unfinished one"
    );
    for absent in [
        "0000000100000FFF00000000",
        "00000009.history",
        "000000090000000000000001",
        "x",
    ] {
        let run = get(&pgmd, absent);
        assert_eq!((run.status, run.stderr.as_str()), (1, ""), "{absent}");
        assert!(!out.exists());
    }
    pgmd.stop();
    let object = find(&pgmd.repository().join("main/wal"), &first);
    let _ = fs::remove_file(pgmd.spool("main").join(&first));
    flip_a_bit_in_the_middle(&object);
    refusal(&get(&pgmd, &first), 128, &[&first, "damaged"]);
    assert!(!out.exists());
    lose(&pgmd, &second);
    refusal(&get(&pgmd, &second), 128, &[&second, "missing"]);
    let out_of_reach = scratch.join("no/such/folder");
    let run = pgmd.cli(&[
        "wal",
        "get",
        "main",
        &current,
        out_of_reach.to_str().unwrap(),
    ]);
    refusal(&run, 128, &["no/such/folder"]);
    let nobody = pgmd.cli(&["wal", "get", "nobody", &first, out.to_str().unwrap()]);
    refusal(&nobody, 128, &["nobody"]);
    fs::rename(pgmd.repository(), pgmd.directory().join("away")).unwrap();
    refusal(&get(&pgmd, &current), 128, &["repository"]);
}

/// The server does at its target what it was told.
fn each_action(major: Major) {
    let (cluster, pgmd) = streaming(major);
    Point::commit(&cluster, 1);
    backup(&pgmd);
    let two = Point::commit(&cluster, 2);
    Point::commit(&cluster, 3);
    wait_for_everything(&cluster, &pgmd);
    let target = |action| ["--target-xid", two.xid.as_str(), "--target-action", action];
    let mut paused = restored(&pgmd, major, "newest", &target("pause"));
    paused.start();
    wait_until("recovery pauses", || {
        paused.value("select pg_is_wal_replay_paused()") == "t"
    });
    assert_eq!(paused.value("select pg_is_in_recovery()"), "t", "{major}");
    assert_eq!(Point::rows(&paused), [1, 2], "{major}");
    let mut down = restored(&pgmd, major, "newest", &target("shutdown"));
    down.start_expecting_exit();
    let log = down.log();
    assert!(
        log.contains("shutdown at recovery target"),
        "{major}: {log}"
    );
    assert!(!log.contains("archive recovery complete"), "{major}: {log}");
    assert_eq!(
        rows(&pgmd, major, "newest", &target("promote")),
        [1, 2],
        "{major}"
    );
    let before = ["--target-xid", &two.xid, "--exclusive"];
    assert_eq!(rows(&pgmd, major, "newest", &before), [1], "{major}");
}

#[test]
fn the_server_does_at_its_target_what_it_was_told_on_14() {
    each_action(Major::V14);
}

#[test]
fn the_server_does_at_its_target_what_it_was_told_on_15() {
    each_action(Major::V15);
}

#[test]
fn the_server_does_at_its_target_what_it_was_told_on_16() {
    each_action(Major::V16);
}

#[test]
fn the_server_does_at_its_target_what_it_was_told_on_17() {
    each_action(Major::V17);
}

#[test]
fn the_server_does_at_its_target_what_it_was_told_on_18() {
    each_action(Major::V18);
}

#[test]
fn pg_verifybackup_accepts_a_restored_directory_as_it_is() {
    let cluster = Cluster::builder(Major::V17).tablespace("space").start();
    cluster.sql("create table t tablespace space as select generate_series(1, 1000) n");
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    backup(&pgmd);
    let location = cluster
        .value("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'");
    for offline in [&[][..], &["--offline"]] {
        let scratch = Scratch::new("n");
        let data = scratch.join("data");
        let mapping = format!("{location}={}", scratch.join("space").display());
        let restore = ["restore", "main", "newest", data.to_str().unwrap()];
        let moved = [&restore[..], &["--tablespace", &mapping], offline].concat();
        let plan = pgmd.cli_ok(&[&moved[..], &["--plan"]].concat());
        assert!(plan.contains("nothing was written"), "{plan}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        pgmd.cli_ok(&moved);
        run_ok(Major::V17.command("pg_verifybackup").arg(&data));
        let mut restored = Cluster::on(Major::V17, &data);
        restored.start();
        restored.wait_writable();
        assert_eq!(restored.value("select count(*) from t"), "1000");
        restored.kill();
    }
    // Where the tablespace was, it still is: another restore must not touch it.
    let scratch = Scratch::new("n");
    let data = scratch.join("data");
    let in_place = ["restore", "main", "newest", data.to_str().unwrap()];
    refusal(&pgmd.cli(&in_place), 2, &[&location, "empty"]);
    let unknown = [&in_place[..], &["--tablespace", "/no/such=/place"]].concat();
    refusal(&pgmd.cli(&unknown), 2, &["/no/such", "no tablespace"]);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    assert_eq!(cluster.value("select count(*) from t"), "1000");
}
