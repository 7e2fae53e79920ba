//! `verify --level restore`, on real PostgreSQL: a backup is restored, started, replayed and checked, with and without the
//! daemon; what is wrong is told; and nothing stays behind, whoever is killed.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use pgm_tests::{
    Cluster, Major, Pgmd, Run, StopMode, kill_worker, refusal, says, wait_for, wait_until,
};
use serde_json::Value;

/// A server with a tablespace, and a daemon that tries its backups.
struct Surroundings {
    cluster: Cluster,
    pgmd: Pgmd,
}

impl Surroundings {
    fn new(major: Major) -> Self {
        let cluster = Cluster::builder(major)
            .segment_mib(1)
            .tablespace("fast")
            .start();
        cluster.sql(
            "create table t tablespace fast as select n, md5(n::text) as word from generate_series(1, 2000) n; \
             create index on t (word)",
        );
        cluster.sql("create database app");
        let pgmd = Pgmd::configured(&[]);
        let programs = major.program("postgres").parent().unwrap().to_owned();
        pgmd.write_configuration(&format!(
            "(verify: (postgres_bin: \"{}\"), servers: {{\"main\": (conninfo: {:?}, \
             verify_sql: \"select count(*) >= 2000 from t\")}})",
            programs.display(),
            cluster.conninfo()
        ));
        let mut surroundings = Self { cluster, pgmd };
        surroundings.pgmd.start();
        surroundings.pgmd.wait_streaming("main");
        surroundings
    }

    fn scratch(&self) -> PathBuf {
        self.pgmd.directory().join("scratch")
    }

    fn backup(&self) -> String {
        self.pgmd.json(&["backup", "main"])["label"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Everything that the server has committed is with us.
    fn caught_up(&self) {
        self.pgmd.wait_durable(
            "main",
            &self.cluster.value("select pg_current_wal_flush_lsn()"),
        );
    }

    /// What a trial prints as JSON, and its exit status.
    fn verify(&self, arguments: &[&str]) -> (i32, Value) {
        let start = ["--format", "json", "verify", "main", "--level", "restore"];
        document(&self.pgmd.cli(&[&start, arguments].concat()))
    }

    fn nothing_stays(&self) {
        let left = names(&self.scratch());
        assert!(left.is_empty(), "{left:?}");
    }
}

fn document(run: &Run) -> (i32, Value) {
    let document = serde_json::from_str(&run.stdout);
    (
        run.status,
        document.unwrap_or_else(|error| panic!("{error}: {run:?}")),
    )
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).map(|entries| {
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    });
    entries.unwrap_or_default()
}

fn outcome(verified: &Value) -> &str {
    verified["backups"][0]["verification"]["outcome"]
        .as_str()
        .unwrap()
}

fn trial(verified: &Value) -> &Value {
    &verified["backups"][0]["verification"]["trial"]
}

fn check<'a>(verified: &'a Value, name: &str) -> &'a Value {
    let checks = trial(verified)["checks"].as_array().unwrap();
    let found = checks
        .iter()
        .find(|check| check["name"].as_str().unwrap().contains(name));
    &found.unwrap_or_else(|| panic!("no check {name}: {checks:?}"))["outcome"]
}

fn reasons(verified: &Value) -> String {
    let findings = verified["backups"][0]["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|finding| finding["reason"].as_str().unwrap().to_owned() + "\n")
        .collect()
}

/// The PostgreSQL that a trial runs in `area`, by its `postmaster.pid`.
fn trial_server(area: &Path) -> Option<u32> {
    names(area).iter().find_map(|name| {
        let file = area.join(name).join("data/postmaster.pid");
        fs::read_to_string(file)
            .ok()?
            .lines()
            .next()?
            .trim()
            .parse()
            .ok()
    })
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_trial_proves_how_far_and_how_fast_a_backup_recovers() {
    let mut all = Surroundings::new(Major::V17);
    let label = all.backup();
    all.cluster
        .sql("insert into t select n, 'later' from generate_series(2001, 2100) n");
    all.caught_up();
    let asked = "select count(*) = 2100 from t";
    let (status, verified) = all.verify(&[&label, "--sql", asked, "--database", "postgres"]);
    assert_eq!((status, outcome(&verified)), (0, "sound"), "{verified:#}");
    for name in [
        "databases can be used",
        asked,
        ">= 2000",
        "pg_amcheck",
        "pg_checksums",
    ] {
        assert_eq!(check(&verified, name), "passed", "{name}: {verified:#}");
    }
    // The last commit is proven, and everything is remembered.
    let proven = trial(&verified)["proven"].as_str().unwrap();
    assert_eq!(trial(&verified)["last_commit"], proven);
    let age = all.cluster.value(&format!(
        "select now() - '{proven}' between '0' and '10 min'"
    ));
    assert_eq!(age, "t", "{proven}");
    all.nothing_stays();
    let text = all.pgmd.cli_ok(&["info", "main", &label]);
    assert!(says(&text, proven) && says(&text, "restored in"), "{text}");
    // To a target, and without the daemon.
    let middle = all.cluster.value("select pg_current_wal_flush_lsn()");
    all.cluster.sql("delete from t where n > 2000");
    all.caught_up();
    all.pgmd.stop();
    let (status, verified) = all.verify(&[&label, "--target-lsn", &middle, "--sql", asked]);
    assert_eq!((status, outcome(&verified)), (0, "sound"), "{verified:#}");
    let run = all
        .pgmd
        .cli(&["verify", "main", "--level", "restore", "--sql", asked]);
    assert!(
        run.status == 1 && says(&run.stdout, "flawed") && says(&run.stdout, "it is not true"),
        "{run:?}"
    );
    all.nothing_stays();
    refusal(
        &all.pgmd.cli(&[
            "verify",
            "main",
            "--level",
            "restore",
            "--scratch",
            &format!("/tmp/{}", "x".repeat(100)),
        ]),
        1,
        &["too long", "--scratch"],
    );
}

/// PostgreSQL makes a tablespace's folder anew when it replays its creation: the original's would be emptied.
#[test]
fn the_original_servers_tablespaces_are_not_touched() {
    let all = Surroundings::new(Major::V14);
    all.backup();
    let location = all.cluster.folder().join("second");
    fs::create_dir(&location).unwrap();
    all.cluster.sql("insert into t values (3000, 'before')");
    all.cluster.sql(&format!(
        "create tablespace second location '{}'",
        location.display()
    ));
    all.cluster
        .sql("create table u tablespace second as select generate_series(1, 1000) n; checkpoint");
    all.caught_up();
    let (status, verified) = all.verify(&["newest", "--sql", "select count(*) = 2001 from t"]);
    // It went as far as it does no harm, and says so.
    assert_eq!((status, outcome(&verified)), (0, "sound"), "{verified:#}");
    assert_eq!(check(&verified, "replay to the end"), "skipped");
    assert_eq!(check(&verified, "= 2001"), "passed");
    assert_eq!(all.cluster.value("select count(*) from u"), "1000");
    assert_eq!(names(&location).len(), 1);
    // A new backup has it inside.
    all.backup();
    let (status, verified) = all.verify(&["newest", "--sql", "select count(*) = 1000 from u"]);
    assert_eq!((status, outcome(&verified)), (0, "sound"), "{verified:#}");
    assert_eq!(check(&verified, "pg_amcheck"), "skipped");
    all.nothing_stays();
}

#[test]
fn what_is_wrong_inside_a_sound_backup_is_found() {
    let mut all = Surroundings::new(Major::V17);
    let path = all.cluster.value("select pg_relation_filepath('t')");
    all.cluster.sql("checkpoint");
    all.cluster.stop(StopMode::Fast);
    let file = all.cluster.data().join(path);
    let mut bytes = fs::read(&file).unwrap();
    // Into the middle of the rows of the second page.
    for byte in &mut bytes[8192 + 6000..8192 + 6100] {
        *byte ^= 0xFF;
    }
    fs::write(&file, bytes).unwrap();
    all.cluster.start();
    all.pgmd.wait_streaming("main");
    all.backup();
    let (status, verified) = all.verify(&["newest"]);
    assert_eq!((status, outcome(&verified)), (1, "flawed"), "{verified:#}");
    assert_eq!(check(&verified, "pg_checksums"), "failed");
    assert_eq!(check(&verified, "pg_amcheck"), "failed");
    assert!(
        reasons(&verified).contains("checksum verification failed"),
        "{verified:#}"
    );
    all.nothing_stays();
}

#[test]
fn whoever_is_killed_leaves_no_server_and_the_folder_is_swept() {
    let mut all = Surroundings::new(Major::V17);
    all.backup();
    all.caught_up();
    let area = all.scratch();
    let wait = "select pg_sleep(1000)";
    let verify = ["verify", "main", "--level", "restore", "--sql", wait];
    // The daemon's worker.
    all.pgmd.cli_ok(&[&verify[..], &["--detach"]].concat());
    let server = wait_for("a server is tried", || trial_server(&area));
    kill_worker(all.pgmd.job_workers()[0]);
    wait_until("the server ends with the worker", || !is_running(server));
    assert!(!names(&area).is_empty());
    // A cancelled job cleans up by itself.
    let job = all.pgmd.json(&[&verify[..], &["--detach"]].concat())["job"].to_string();
    let server = wait_for("another server is tried", || {
        trial_server(&area).filter(|pid| *pid != server)
    });
    all.pgmd.cli_ok(&["job", "cancel", &job]);
    wait_until("nothing is left", || {
        names(&area).is_empty() && !is_running(server)
    });
    // The command line without the daemon, whose next start sweeps.
    all.pgmd.stop();
    let mut child: Child = all
        .pgmd
        .cli_command()
        .args(verify)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let server = wait_for("a server is tried", || trial_server(&area));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the server ends with the command", || !is_running(server));
    assert!(!names(&area).is_empty());
    all.pgmd.start();
    wait_until("the daemon sweeps", || names(&area).is_empty());
}
