//! Running pgmd: jobs that outlive their clients and are remembered, and a shutdown in the midst of everything.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgm_tests::{Cluster, Major, Pgmd, Scratch, built, refusal, run_ok, wait_for, wait_until};
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
    let details = pgmd.json(&["status", "--details", "main"]);
    let server = &details["servers"][0];
    assert_eq!(server["newest_backup"]["label"], label.as_str());
    assert_eq!(server["mode"], "online");
    assert_eq!(server["timelines"][0]["timeline"], 1, "{server}");
    assert!(
        server["backup_stored_bytes"].as_u64() > Some(1_000_000),
        "{server}"
    );
    assert!(server["wal_objects"].as_u64() > Some(0), "{server}");
    assert!(server["worker_pid"].as_u64() > Some(0), "{server}");
    assert!(
        details["repository"]["total_bytes"].as_u64() > Some(0),
        "{details}"
    );
    let text = pgmd.cli_ok(&["status", "--details"]);
    assert!(
        text.contains("Restorable") && text.contains(&label),
        "{text}"
    );
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
    assert!(!pid_file.exists(), "the file with the process id is gone");
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

#[test]
fn an_offline_server_is_left_alone_until_it_is_taken_on_again() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = streaming(&cluster);
    assert_eq!(pgmd.cli_ok(&["mode", "main"]), "main is online\n");
    cluster.sql("create table t (n int); insert into t values (1)");
    let written = cluster.value("select pg_current_wal_flush_lsn()");
    pgmd.wait_durable("main", &written);
    let report = pgmd.json(&["mode", "main", "offline"]);
    assert_eq!(
        (&report["mode"], &report["changed"]),
        (&"offline".into(), &true.into())
    );
    let durable: pgm_proto::Lsn = report["durable_lsn"].as_str().unwrap().parse().unwrap();
    assert!(durable >= written.parse().unwrap(), "{report}");
    let slot = "select not active and restart_lsn is not null from pg_replication_slots";
    wait_until("the server is left alone", || cluster.value(slot) == "t");
    assert_eq!(pgmd.status("main")["state"], "offline");
    let refused = pgmd.cli(&["backup", "main"]);
    refusal(&refused, 1, &["main is offline"]);
    // It stays so, until told otherwise, across a restart and a reload.
    assert_eq!(pgmd.stop(), 0);
    pgmd.start();
    pgmd.reload();
    wait_until("the reload is over", || pgmd.log().contains("reload: "));
    assert_eq!(pgmd.status("main")["state"], "offline");
    assert_eq!(pgmd.receive_worker("main"), None);
    let again = pgmd.json(&["mode", "main", "offline"]);
    assert_eq!(again["changed"], false);
    cluster.sql("insert into t values (2)");
    pgmd.cli_ok(&["mode", "main", "online"]);
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
    // A backup that runs needs its WAL.
    let job = begin_slow_backup(&pgmd);
    let refused = pgmd.cli(&["mode", "main", "offline"]);
    refusal(&refused, 1, &[&format!("job {job}")]);
    pgmd.cli_ok(&["job", "cancel", &job]);
    refusal(&pgmd.cli(&["mode", "nobody"]), 4, &["nobody"]);
}

#[test]
fn a_log_that_cannot_be_written_stops_no_wal_and_says_so_when_it_is_over() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[]);
    let log = pgmd.directory().join("log-of-pgmd");
    symlink("/dev/full", &log).unwrap();
    let configuration = |level: &str| {
        format!(
            "(log_type: \"file\", log_path: {log:?}, log_level: {level:?}, pidfile: \"other.pid\", \
             servers: {{ \"main\": (conninfo: {:?}) }})",
            cluster.conninfo()
        )
    };
    pgmd.write_configuration(&configuration("info"));
    pgmd.start();
    pgmd.wait_streaming("main");
    cluster.sql("create table t (n int); insert into t values (1)");
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
    assert!(pgmd.log().contains("cannot log to"), "{}", pgmd.log());
    std::fs::remove_file(&log).unwrap();
    pgmd.write_configuration(&configuration("debug"));
    pgmd.reload();
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("it is said what was lost", || {
        text().contains("messages could not be logged")
    });
    wait_until("the level is another", || {
        pgmd.cli_ok(&["ping"]);
        text().contains(" DEBUG ")
    });
    // Workers log into the same file; what they do is in their short names.
    let worker = pgmd.receive_worker("main").unwrap();
    let name = || std::fs::read_to_string(format!("/proc/{worker}/comm")).unwrap();
    wait_until("the worker is named", || name() == "pgmd:streaming\n");
    let pid_file = pgmd.directory().join("other.pid");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(pid.trim(), pgmd.pid().to_string());
    assert_eq!(pgmd.stop(), 0);
    assert!(
        text().contains("receive main: stopped; durable"),
        "{}",
        text()
    );
    assert!(text().ends_with("pgmd has stopped\n"), "{}", text());
    assert!(!pid_file.exists());
}

/// The names of a process's threads, and their nice values (`proc_pid_stat(5)`).
fn threads(process: u32) -> Vec<(String, i64)> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats
        .map(|stat| {
            let (before, rest) = stat.rsplit_once(") ").unwrap();
            let name = before.split_once('(').unwrap().1.to_owned();
            let nice = rest.split(' ').nth(16).unwrap().parse().unwrap();
            (name, nice)
        })
        .collect()
}

#[test]
fn a_backup_makes_way_for_others_and_has_as_many_threads_as_it_may() {
    let cluster = Cluster::builder(Major::V16).start();
    let pgmd = streaming(&cluster);
    pgmd.cli_ok(&["conf", "set", "job_priority", "idle"]);
    pgmd.cli_ok(&["conf", "set", "servers.main.backup_workers", "5"]);
    for (options, wanted) in [(&[][..], 5), (&["--workers", "3"], 3)] {
        let backup = [&["backup", "main", "--detach"], &SLOW[..], options].concat();
        let job = pgmd.cli_ok(&backup);
        wait_until("the backup copies with its threads", || {
            let workers = pgmd.job_workers();
            let threads = workers.iter().flat_map(|worker| threads(*worker));
            threads.filter(|(name, _)| name == "compress").count() == wanted
        });
        let worker = pgmd.job_workers()[0];
        let threads = threads(worker);
        assert!(threads.iter().all(|(_, nice)| *nice == 19), "{threads:?}");
        pgmd.cli_ok(&["job", "cancel", job.trim()]);
        wait_until("the job has ended", || pgmd.job_workers().is_empty());
    }
    let usual = threads(pgmd.pid())[0].1;
    let receiver = threads(pgmd.receive_worker("main").unwrap());
    assert!(
        receiver.iter().all(|(_, nice)| *nice == usual),
        "{receiver:?}"
    );
    let too_many = pgmd.cli(&["backup", "main", "--workers", "9"]);
    assert_eq!(too_many.status, 2);
}

#[test]
fn systemd_is_told_of_every_change() {
    let pgmd = Pgmd::configured(&[]);
    let path = pgmd.directory().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_nonblocking(true).unwrap();
    let mut command = pgmd.pgmd_command();
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "200000");
    let mut process = command.stderr(Stdio::null()).spawn().unwrap();
    let pid = process.id().to_string();
    let signal = |name: &str| run_ok(Command::new("kill").args([name, &pid]));
    let told = |what: &str| {
        wait_for(&format!("systemd hears {what}"), || {
            let mut bytes = [0; 500];
            let length = systemd.recv(&mut bytes).ok()?;
            let said = String::from_utf8_lossy(&bytes[..length]).into_owned();
            said.lines().any(|line| line == what).then_some(said)
        })
    };
    let said = told("READY=1");
    assert!(said.contains(&format!("MAINPID={pid}\n")), "{said}");
    told("WATCHDOG=1");
    signal("-HUP");
    assert!(told("RELOADING=1").contains("MONOTONIC_USEC="));
    told("READY=1");
    told("WATCHDOG=1");
    signal("-TERM");
    told("STOPPING=1");
    let status = wait_for("pgmd stops", || process.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn manual_pages_and_completions_are_made_for_everybody_to_read() {
    let scratch = Scratch::new("m");
    let pages = scratch.join("man1");
    let pgm_cli = || Command::new(built("pgm-cli"));
    run_ok(pgm_cli().args(["man", "--into"]).arg(&pages));
    for page in [
        "pgmd.1",
        "pgm-cli.1",
        "pgm-cli-job-wait.1",
        "pgm-cli-wal-get.1",
    ] {
        let meta = std::fs::metadata(pages.join(page)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o644, "{page}");
    }
    let page = std::fs::read_to_string(pages.join("pgm-cli-job-wait.1")).unwrap();
    assert!(page.contains("Follow a job to its end"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let script = run_ok(pgm_cli().args(["completions", shell]));
        assert!(script.contains("list-backup"), "{shell}: {script}");
    }
    let script = scratch.join("completions");
    std::fs::write(&script, run_ok(pgm_cli().args(["completions", "bash"]))).unwrap();
    run_ok(Command::new("bash").arg("-n").arg(&script));
}
