//! Two daemons for one server and one repository: the second names the first and waits, and takes over when that is gone: at
//! once on the same host, when the lease ends from another. On a folder and on S3.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgm_storage::{ObjectPath, PutMode, Storage, crc32c};
use pgm_tests::{
    Cluster, Major, Pgmd, Scratch, StoreKind, StoreServer, processes_of, refusal, says, wait_until,
};
use pgmd::place::RepositoryPlace;
use rustix::process::{Pid, Signal, kill_process};

/// A daemon with a slot and a spool of its own, whose repository is as `repository` says.
fn daemon(cluster: &Cluster, slot: &str, repository: &str) -> Pgmd {
    let mut pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(&format!(
        "(repository: ({repository}), servers: {{\"main\": (conninfo: {:?}, slot: {slot:?})}})",
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd
}

/// Ends a segment and gives the position to which it must be archived.
fn segment(cluster: &Cluster) -> String {
    cluster.sql("create table if not exists t (n int); insert into t values (1)");
    let end = cluster.value("select pg_switch_wal()");
    cluster.sql("insert into t values (2)");
    end
}

fn archived(pgmd: &Pgmd) -> u64 {
    pgmd.status("main")["archived_segments"].as_u64().unwrap()
}

/// What the daemon says is wrong with the server, and what to do.
fn trouble(pgmd: &Pgmd) -> String {
    let status = pgmd.status("main");
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    format!("{}\n{}", text("last_error"), text("hint"))
}

/// Waits until `second` refuses to archive because of `first`.
fn wait_refusal(second: &Pgmd, first: &Pgmd) {
    let owner = format!("process {}", first.receive_worker("main").unwrap());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    wait_until("the second names the first", || {
        let said = trouble(second);
        ["archive lock of server `main`", &owner, host.trim()]
            .iter()
            .all(|word| says(&said, word))
            && said.lines().nth(1).is_some_and(|hint| !hint.is_empty())
    });
}

/// Waits until `pgmd` archives again, and has nothing to complain of.
fn wait_archiving(cluster: &Cluster, pgmd: &Pgmd) {
    let before = archived(pgmd);
    segment(cluster);
    wait_until("it archives", || {
        archived(pgmd) > before && trouble(pgmd) == "\n"
    });
}

fn signal_all(pgmd: &Pgmd, signal: Signal) {
    for pid in processes_of(pgmd.pid()) {
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
    }
}

#[test]
fn the_second_refuses_and_takes_over_when_the_first_is_killed() {
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    let place = Scratch::new("r");
    let repository = format!("path: \"{}\"", place.join("repository").display());
    let mut first = daemon(&cluster, "first", &repository);
    wait_archiving(&cluster, &first);
    let second = daemon(&cluster, "second", &repository);
    let end = segment(&cluster);
    second.wait_durable("main", &end);
    wait_refusal(&second, &first);
    assert_eq!(archived(&second), 0);
    // The spool has what the first one archives, until it is known to be archived.
    assert!(fs::read_dir(second.spool("main")).unwrap().count() > 1);
    wait_archiving(&cluster, &first);
    // A backup is one daemon's, too.
    let backup = ["backup", "main", "--max-rate", "64"];
    first.cli_ok(&[&backup[..], &["--detach"]].concat());
    wait_until("the first takes a backup", || {
        !first.job_workers().is_empty()
    });
    let worker = format!("process {}", first.job_workers()[0]);
    wait_until("the first holds the lock of backups", || {
        place.join("repository/main/lock/backup").exists()
    });
    let refused = second.cli(&["backup", "main"]);
    refusal(&refused, 1, &["backup lock", &worker]);
    first.kill();
    wait_archiving(&cluster, &second);
    let label = second.json(&["backup", "main"])["label"].to_string();
    assert!(label.len() > 2);
    let verified = second.cli_ok(&["verify", "main", "all"]);
    assert!(says(&verified, "sound"), "{verified}");
}

/// The lock of the archive, as somebody on another host would see it.
struct LockObject {
    storage: Arc<dyn Storage>,
}

impl LockObject {
    fn newest(&self) -> (ObjectPath, String) {
        let folder = ObjectPath::parse("main/lock/archive").unwrap();
        let mut found = Vec::new();
        let list = self.storage.list(&folder, &mut |meta| {
            found.push(meta.path);
            ControlFlow::Continue(())
        });
        list.unwrap();
        let path = found.into_iter().max().unwrap();
        let bytes = self.storage.get(&path, 1 << 20).unwrap();
        (path, String::from_utf8(bytes).unwrap())
    }

    /// The owner is on a host of which nothing is known here, and its lease ends at `until`.
    fn move_elsewhere(&self, until: SystemTime) {
        let (path, text) = self.newest();
        let (body, _) = text.rsplit_once("// crc32c ").unwrap();
        let seconds = until.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let until = rfc3339(seconds);
        let lines = body
            .lines()
            .map(|line| match line.trim_start().split(':').next() {
                Some("pid_space") => "pid_space: \"another boot pid:[1]\",".to_owned(),
                Some("until") => format!("until: \"{until}\","),
                Some("host") => "host: \"elsewhere\",".to_owned(),
                _ => line.to_owned(),
            });
        let body = lines.fold(String::new(), |body, line| body + &line + "\n");
        let sealed = format!("{body}// crc32c {:08x}\n", crc32c(body.as_bytes()));
        self.storage
            .put(&path, sealed.as_bytes(), PutMode::Replace)
            .unwrap();
    }
}

/// RFC 3339 of seconds since 1970.
fn rfc3339(seconds: u64) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn from_another_host_it_waits_for_the_end_of_the_lease_and_the_first_notices() {
    let store = StoreServer::start(StoreKind::S3);
    let address = store.address("pgm/two");
    let scratch = Scratch::new("c");
    let credentials: PathBuf = scratch.join("credentials");
    fs::write(&credentials, store.credentials()).unwrap();
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).unwrap();
    let repository = format!(
        "url: {address:?}, credentials_file: \"{}\"",
        credentials.display()
    );
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    let first = daemon(&cluster, "first", &repository);
    wait_archiving(&cluster, &first);
    let mut second = daemon(&cluster, "second", &repository);
    segment(&cluster);
    wait_refusal(&second, &first);
    // The first one's host stands still, and nobody here can tell whether it lives.
    signal_all(&first, Signal::STOP);
    let place = RepositoryPlace {
        name: pgm_proto::RepositoryName::default(),
        address: address.parse().unwrap(),
        credentials: Some(credentials),
        key: None,
    };
    let lock = LockObject {
        storage: place.open().unwrap(),
    };
    let until = SystemTime::now() + Duration::from_secs(8);
    lock.move_elsewhere(until);
    wait_until("it is said where the owner is", || {
        says(&trouble(&second), "elsewhere")
    });
    wait_archiving(&cluster, &second);
    assert!(SystemTime::now() >= until, "the lease had not ended");
    let (_, text) = lock.newest();
    let owner = format!("pid: {},", second.receive_worker("main").unwrap());
    assert!(text.contains(&owner), "{text}");
    // It wakes up, sees that it was replaced, and waits in turn.
    signal_all(&first, Signal::CONT);
    segment(&cluster);
    wait_refusal(&first, &second);
    let log = first.log();
    assert!(log.contains("archiving pauses"), "{log}");
    second.kill();
    wait_archiving(&cluster, &first);
    let verified = first.cli_ok(&["wal", "verify", "--server", "main"]);
    assert!(!verified.is_empty());
    first.cli_ok(&["backup", "main"]);
    first.cli_ok(&["verify", "main", "newest"]);
}
