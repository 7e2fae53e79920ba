//! The daemon as a process: signals, reloads, a second start, and what it leaves when it is gone.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::process::Command;

use pgm_tests::{Cluster, Major, Pgmd, built, kill_worker, run, run_ok, wait_for, wait_until};

fn streaming(cluster: &Cluster) -> Pgmd {
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd
}

#[test]
fn signals_and_the_command_stop_it_in_order() {
    let cluster = Cluster::builder(Major::V17).start();
    for how in ["-TERM", "-INT", "-ALRM", "shutdown"] {
        let mut pgmd = streaming(&cluster);
        cluster.sql("create table if not exists t (n int); insert into t values (1)");
        let written = cluster.value("select pg_current_wal_flush_lsn()");
        pgmd.wait_durable("main", &written);
        if how == "shutdown" {
            pgmd.cli_ok(&["shutdown"]);
        } else {
            run_ok(Command::new("kill").arg(how).arg(pgmd.pid().to_string()));
        }
        assert_eq!(pgmd.wait_stopped(), 0, "{how}: {}", pgmd.log());
        let run_folder = pgmd.directory().join("run");
        assert!(
            !run_folder.join(".s.pgmd").exists(),
            "{how}: the socket is gone"
        );
        let reported = format!("select restart_lsn >= '{written}' from pg_replication_slots");
        wait_until("the server knows what was flushed", || {
            cluster.value(&reported) == "t"
        });
        let ping = pgmd.cli(&["ping"]);
        assert_eq!(ping.status, 3, "{how}: {}", ping.stderr);
    }
}

#[test]
fn workers_end_with_their_supervisor_and_the_next_one_goes_on() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = streaming(&cluster);
    pgmd.kill_supervisor();
    cluster.sql("create table t as select 1 n");
    pgmd.start();
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
}

#[test]
fn workers_start_again_after_the_program_was_replaced() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    let program = pgmd.directory().join("pgmd-of-today");
    fs::copy(built("pgmd"), &program).unwrap();
    pgmd.start_program(&program);
    pgmd.wait_streaming("main");
    fs::remove_file(&program).unwrap();
    let worker = pgmd.receive_worker("main").unwrap();
    kill_worker(worker);
    wait_for("another worker", || {
        pgmd.receive_worker("main").filter(|pid| *pid != worker)
    });
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
}

#[test]
fn a_reload_adds_and_removes_servers_and_a_broken_one_changes_nothing() {
    let one = Cluster::builder(Major::V17).start();
    let two = Cluster::builder(Major::V15).start();
    let pgmd = streaming(&one);
    let worker = pgmd.receive_worker("main");
    let both = format!(
        "(servers: {{ \"main\": (conninfo: {:?}), \"two\": (conninfo: {:?}) }})",
        one.conninfo(),
        two.conninfo()
    );
    pgmd.write_configuration(&both);
    pgmd.reload();
    wait_until("the new server streams", || {
        let status = pgmd.json(&["status"]);
        status["servers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|server| server["state"] == "streaming")
            .count()
            == 2
    });
    pgmd.write_configuration("(servers: {");
    pgmd.reload();
    wait_until("the trouble is said", || pgmd.log().contains("pgmd.ron:1:"));
    // The command line reads the same file.
    pgmd.write_configuration(&both);
    assert_eq!(pgmd.status("two")["state"], "streaming");
    pgmd.write_configuration(&format!(
        "(servers: {{ \"main\": (conninfo: {:?}) }})",
        one.conninfo()
    ));
    pgmd.reload();
    wait_until("the server is gone", || {
        pgmd.json(&["status"])["servers"].as_array().unwrap().len() == 1
    });
    assert_eq!(
        pgmd.receive_worker("main"),
        worker,
        "the other server's worker never noticed"
    );
}

#[test]
fn what_init_writes_works() {
    let cluster = Cluster::builder(Major::V17).start();
    let pgmd = Pgmd::configured(&[]);
    let directory = pgmd.directory().join("new");
    let made = run(Command::new(built("pgm-cli"))
        .arg("init")
        .arg(&directory)
        .arg("--server")
        .arg(format!("main={}", cluster.conninfo())));
    assert!(
        directory.join("pgmd.ron").exists(),
        "{}{}",
        made.stdout,
        made.stderr
    );
    let check = run(Command::new(built("pgm-cli"))
        .arg("-D")
        .arg(&directory)
        .arg("check"));
    assert_eq!(check.status, 0, "{}{}", check.stdout, check.stderr);
    fs::copy(
        directory.join("pgmd.ron"),
        pgmd.directory().join("pgmd.ron"),
    )
    .unwrap();
    let mut pgmd = pgmd;
    pgmd.start();
    pgmd.wait_streaming("main");
}
