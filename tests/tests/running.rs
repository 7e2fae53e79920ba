//! Running pgmd: jobs that outlive their clients and are remembered, and a shutdown in the midst of everything.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use pgm_tests::{Cluster, Major, Pgmd, refusal, wait_until};
use serde_json::Value;

/// A backup at this rate takes a minute.
const SLOW: [&str; 2] = ["--max-rate", "400"];

fn streaming(cluster: &Cluster) -> Pgmd {
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd
}

/// Begins a backup that takes a minute, and returns its number once it copies.
fn begin_slow_backup(pgmd: &Pgmd) -> String {
    let job = pgmd.cli_ok(&[&["backup", "main", "--detach"], &SLOW[..]].concat());
    let job = job.trim().to_owned();
    wait_until("the backup copies", || {
        let record = pgmd.json(&["job", "show", &job]);
        record["phase"].as_str().unwrap().starts_with("copy")
    });
    job
}

/// A `pgm-cli` that goes on by itself.
fn in_background(pgmd: &Pgmd, arguments: &[&str]) -> Child {
    let mut command = pgmd.cli_command();
    command.args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn states(pgmd: &Pgmd) -> Vec<String> {
    let list = pgmd.json(&["job", "ls", "--all"]);
    let jobs = list["jobs"].as_array().unwrap().iter();
    jobs.map(|job| {
        format!(
            "{} {} {}",
            job["job"],
            job["kind"].as_str().unwrap(),
            job["state"].as_str().unwrap()
        )
    })
    .collect()
}

#[test]
fn jobs_outlive_their_clients_and_are_remembered_by_the_next_daemon() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = streaming(&cluster);
    // One that is done: its number is printed, and whoever waits for it gets its end.
    let job = pgmd.cli_ok(&["backup", "main", "--detach"]);
    assert_eq!(job, "1\n");
    let waited = pgmd.json(&["job", "wait", "1"]);
    assert_eq!(waited["state"], "done");
    let label = waited["outcome"].as_str().unwrap().to_owned();
    assert!(pgmd.cli_ok(&["list-backup", "main"]).contains(&label));
    // One that is cancelled while its client is gone and others follow it.
    let job = begin_slow_backup(&pgmd);
    let follower = in_background(&pgmd, &["job", "wait", &job]);
    let progress = pgmd.json(&["progress"]);
    assert_eq!(progress["jobs"][0]["kind"], "backup");
    refusal(&pgmd.cli(&["backup", "main"]), 1, &["runs already (job 2)"]);
    pgmd.cli_ok(&["job", "cancel", &job]);
    let follower = follower.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&follower.stderr).into_owned();
    assert_eq!(follower.status.code(), Some(1), "{said}");
    assert!(said.contains("cancelled"), "{said}");
    refusal(&pgmd.cli(&["job", "cancel", &job]), 4, &["over already"]);
    refusal(&pgmd.cli(&["job", "show", "99"]), 4, &["no job 99"]);
    // One that fails.
    let directory = pgmd.directory().to_str().unwrap().to_owned();
    let restore = ["restore", "main", "newest", &directory, "--detach"];
    assert_eq!(pgmd.cli_ok(&restore), "3\n");
    refusal(&pgmd.cli(&["job", "wait", "3"]), 2, &[&directory]);
    // One that the daemon does not live to see.
    assert_eq!(begin_slow_backup(&pgmd), "4");
    pgmd.kill();
    pgmd.start();
    let remembered = [
        "4 backup lost",
        "3 restore failed",
        "2 backup cancelled",
        "1 backup done",
    ];
    assert_eq!(states(&pgmd), remembered);
    pgmd.wait_streaming("main");
    assert_eq!(pgmd.cli_ok(&["backup", "main", "--detach"]), "5\n");
    pgmd.cli_ok(&["job", "wait", "5"]);
    let text = pgmd.cli_ok(&["job", "ls", "--all", "main"]);
    assert!(text.contains(&label) && text.contains("lost"), "{text}");
    assert_eq!(pgmd.cli_ok(&["clear", "jobs"]), "5 jobs are forgotten\n");
    assert!(states(&pgmd).is_empty());
    assert_eq!(pgmd.stop(), 0);
    pgmd.start();
    pgmd.wait_streaming("main");
    assert_eq!(pgmd.cli_ok(&["backup", "main", "--detach"]), "6\n");
}

#[test]
fn a_shutdown_in_the_midst_of_everything_is_quick_and_loses_nothing() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = streaming(&cluster);
    let job = begin_slow_backup(&pgmd);
    let follower = in_background(&pgmd, &["job", "wait", &job]);
    let socket = pgmd.directory().join("run/.s.pgmd");
    let mut idle = UnixStream::connect(&socket).unwrap();
    cluster.sql("create table t (n int); insert into t values (1)");
    let written = cluster.value("select pg_current_wal_flush_lsn()");
    pgmd.wait_durable("main", &written);
    let begun = Instant::now();
    assert_eq!(pgmd.stop(), 0, "{}", pgmd.log());
    // Far more than the ten seconds that are promised to a machine that has time for us.
    assert!(begun.elapsed() < Duration::from_mins(1));
    assert!(!pgmd.log().contains("killed"), "{}", pgmd.log());
    let mut said = Vec::new();
    idle.read_to_end(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("shutting_down"), "{said:?}");
    let follower = follower.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&follower.stderr).into_owned();
    assert_eq!(follower.status.code(), Some(1), "{said}");
    assert!(said.contains("shutting down"), "{said}");
    assert!(!socket.exists(), "the socket is gone");
    let pid_file = pgmd.directory().join("run/pgmd.pid");
    let left = std::fs::read_to_string(&pid_file).unwrap_or_default();
    assert!(left.is_empty(), "the process id is gone");
    wait_until("the server knows what was flushed", || {
        let reported = format!("select restart_lsn >= '{written}' from pg_replication_slots");
        cluster.value(&reported) == "t"
    });
    pgmd.start();
    let record: Value = pgmd.json(&["job", "show", &job]);
    assert_eq!(record["state"], "cancelled");
    assert_eq!(record["error"]["code"], "shutting_down");
    assert_eq!(
        pgmd.json(&["list-backup", "main"])["servers"][0]["backups"],
        serde_json::json!([])
    );
}
