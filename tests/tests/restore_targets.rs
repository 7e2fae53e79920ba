//! A restore ends exactly where it was told to, on every major.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use pgm_tests::{Cluster, Major, Pgmd, majors, wait_until};

/// The moment after one numbered row was committed, in every form in which it can be named.
struct Point {
    number: u32,
    xid: String,
    lsn: String,
    time: String,
    name: String,
}

fn commit(cluster: &Cluster, number: u32) -> Point {
    let xid = cluster.value(&format!(
        "insert into numbered values ({number}) returning pg_current_xact_id()::text"
    ));
    let name = format!("after row {number}");
    let [lsn, time] = cluster.sql("select pg_current_wal_insert_lsn(), clock_timestamp()")[0]
        .clone()
        .try_into()
        .unwrap();
    cluster.value(&format!("select pg_create_restore_point('{name}')"));
    Point {
        number,
        xid,
        lsn,
        time,
        name,
    }
}

/// The rows of a restore with these arguments.
fn rows(pgmd: &Pgmd, major: Major, arguments: &[&str]) -> Vec<u32> {
    let mut restored = Cluster::made_by(major, |data| {
        let mut all = vec!["restore", "main", "newest", data.to_str().unwrap()];
        all.extend(arguments);
        pgmd.cli_ok(&all);
    });
    restored.start();
    if arguments.contains(&"pause") {
        wait_until("recovery pauses", || {
            restored.value("select pg_get_wal_replay_pause_state()") == "paused"
        });
    } else {
        restored.wait_writable();
    }
    let rows = restored.sql("select number from numbered order by 1");
    rows.iter().map(|row| row[0].parse().unwrap()).collect()
}

fn every_target(major: Major) {
    let cluster = Cluster::builder(major).segment_mib(1).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    cluster.sql("create table numbered (number int primary key)");
    commit(&cluster, 1);
    pgmd.cli_ok(&["backup", "main"]);
    let points: Vec<Point> = (2..=6).map(|number| commit(&cluster, number)).collect();
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));

    let four = &points[2];
    assert_eq!(four.number, 4);
    let to_four = vec![1, 2, 3, 4];
    assert_eq!(
        rows(&pgmd, major, &[]),
        [1, 2, 3, 4, 5, 6],
        "{major}: to the end"
    );
    assert_eq!(
        rows(&pgmd, major, &["--target-immediate"]),
        [1],
        "{major}: immediate"
    );
    assert_eq!(
        rows(&pgmd, major, &["--target-time", &four.time]),
        to_four,
        "{major}: time"
    );
    assert_eq!(
        rows(&pgmd, major, &["--target-lsn", &four.lsn]),
        to_four,
        "{major}: lsn"
    );
    assert_eq!(
        rows(&pgmd, major, &["--target-xid", &four.xid]),
        to_four,
        "{major}: xid"
    );
    assert_eq!(
        rows(&pgmd, major, &["--target-name", &four.name]),
        to_four,
        "{major}: name"
    );
    let exclusive = ["--target-xid", &four.xid, "--exclusive"];
    assert_eq!(
        rows(&pgmd, major, &exclusive),
        [1, 2, 3],
        "{major}: xid, exclusive"
    );
    let paused = [
        "--target-lsn",
        &four.lsn,
        "--exclusive",
        "--target-action",
        "pause",
    ];
    assert_eq!(
        rows(&pgmd, major, &paused),
        to_four,
        "{major}: lsn, exclusive, paused"
    );
}

#[test]
fn every_target_is_met_on_the_oldest_major() {
    every_target(Major::V14);
}

#[test]
fn every_target_is_met_on_the_newest_major() {
    every_target(Major::V18);
}

#[test]
fn every_target_is_met_where_most_are() {
    every_target(Major::V17);
}

#[test]
fn the_other_majors_restore_to_a_time() {
    for major in majors()
        .into_iter()
        .filter(|major| [Major::V15, Major::V16].contains(major))
    {
        let cluster = Cluster::builder(major).start();
        let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
        pgmd.start();
        pgmd.wait_streaming("main");
        cluster.sql("create table numbered (number int primary key)");
        pgmd.cli_ok(&["backup", "main"]);
        commit(&cluster, 1);
        let two = commit(&cluster, 2);
        commit(&cluster, 3);
        pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
        assert_eq!(
            rows(&pgmd, major, &["--target-time", &two.time]),
            [1, 2],
            "{major}"
        );
    }
}

#[test]
fn a_server_told_to_shut_down_at_its_target_does() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    cluster.sql("create table numbered (number int primary key)");
    pgmd.cli_ok(&["backup", "main"]);
    let one = commit(&cluster, 1);
    commit(&cluster, 2);
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
    let mut restored = Cluster::made_by(Major::V17, |data| {
        let target = [
            "restore",
            "main",
            "newest",
            data.to_str().unwrap(),
            "--target-name",
            &one.name,
        ];
        pgmd.cli_ok(&[&target[..], &["--target-action", "shutdown"]].concat());
    });
    restored.start_expecting_exit();
    assert!(
        restored
            .log()
            .contains("recovery stopping at restore point \"after row 1\""),
        "{}",
        restored.log()
    );
}

/// After a promotion there are two branches; without being told, recovery takes the newest.
#[test]
fn either_branch_after_a_promotion_can_be_restored() {
    let mut primary = Cluster::builder(Major::V17).segment_mib(1).start();
    let standby = primary.standby();
    let hosts = format!(
        "host=127.0.0.1,127.0.0.1 port={},{}",
        primary.port(),
        standby.port()
    );
    let conninfo = format!("{hosts} user=pgm dbname=postgres target_session_attrs=read-write");
    let mut pgmd = Pgmd::configured(&[("main", &conninfo)]);
    pgmd.start();
    pgmd.wait_streaming("main");
    primary.sql("create table numbered (number int primary key)");
    pgmd.cli_ok(&["backup", "main"]);
    commit(&primary, 1);
    standby.catch_up_with(&primary);
    pgmd.wait_durable("main", &primary.value("select pg_current_wal_flush_lsn()"));
    primary.destroy();
    standby.promote();
    commit(&standby, 2);
    wait_until("the new timeline streams", || {
        pgmd.status("main")["timeline"] == 2
    });
    pgmd.wait_durable("main", &standby.value("select pg_current_wal_flush_lsn()"));
    assert_eq!(rows(&pgmd, Major::V17, &[]), [1, 2]);
    assert_eq!(rows(&pgmd, Major::V17, &["--timeline", "1"]), [1]);
}
