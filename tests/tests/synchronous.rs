//! What was acknowledged is never lost: pgmd as a synchronous standby, its receive worker killed again and again.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use pgm_tests::{Cluster, Committers, Major, Pgmd, kill_worker, wait_for, wait_until};

/// Makes every commit wait until pgmd has it on disk.
fn wait_for_pgmd(cluster: &Cluster) {
    cluster.configure("synchronous_standby_names", "pgmd");
    cluster.configure("synchronous_commit", "on");
    cluster.reload();
    wait_until("pgmd is the synchronous standby", || {
        let rows = cluster
            .sql("select sync_state from pg_stat_replication where application_name = 'pgmd'");
        rows == [["sync"]]
    });
}

fn no_acknowledged_commit_is_lost(major: Major, kills: usize) {
    let mut cluster = Cluster::builder(major).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    wait_for_pgmd(&cluster);

    let committers = Committers::start(&cluster, 4);
    let mut killed = 0;
    for round in 0..kills {
        committers.wait_for_more(20 + round * 7 % 50);
        let worker = wait_for("the receive worker runs", || {
            pgmd.receive_worker("main").filter(|pid| *pid != killed)
        });
        kill_worker(worker);
        killed = worker;
    }
    committers.wait_for_more(50);

    // The disaster, in the middle of commits.
    cluster.destroy();
    let acknowledged = committers.stop();
    assert!(acknowledged.len() > kills * 20, "{}", acknowledged.len());

    let mut restored = Cluster::made_by(major, |data| {
        pgmd.cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
    });
    restored.start();
    restored.wait_writable();
    let missing = acknowledged.missing_in(&restored);
    assert!(
        missing.is_empty(),
        "{} of {} acknowledged rows are lost: {missing:?}",
        missing.len(),
        acknowledged.len()
    );
    assert_eq!(
        pgmd.stop(),
        0,
        "pgmd stops in order although its server is gone"
    );
}

#[test]
fn no_acknowledged_commit_is_lost_over_twenty_kills_of_the_receive_worker() {
    no_acknowledged_commit_is_lost(Major::V17, 20);
}

#[test]
fn no_acknowledged_commit_is_lost_on_the_other_majors() {
    for major in [Major::V14, Major::V15, Major::V16, Major::V18] {
        no_acknowledged_commit_is_lost(major, 3);
    }
}

#[test]
fn no_acknowledged_commit_is_lost_when_pgmd_is_killed_with_all_its_workers() {
    let mut cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    wait_for_pgmd(&cluster);
    let committers = Committers::start(&cluster, 4);
    for _ in 0..5 {
        committers.wait_for_more(30);
        pgmd.kill();
        pgmd.start();
    }
    committers.wait_for_more(30);
    cluster.destroy();
    pgmd.kill();
    let acknowledged = committers.stop();

    // Without a daemon, from the repository and the spool alone.
    let mut restored = Cluster::made_by(Major::V17, |data| {
        pgmd.cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
    });
    restored.start();
    restored.wait_writable();
    assert!(acknowledged.len() > 150);
    assert_eq!(acknowledged.missing_in(&restored), Vec::<i64>::new());
}
