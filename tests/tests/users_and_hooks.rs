//! Users, secrets, hooks and the audit log: what is told to whom, and what to nobody. And files that are sealed.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use pgm_tests::{Auth, Cluster, Major, Pgmd, Run, processes_of, run, wait_for, wait_until};
use serde_json::Value;

/// Passwords that must be found nowhere.
const VAULT: &str = "canary-vault-7f3a";
const CHANGED: &str = "canary-changed-91bc";
const ADMIN: &str = "canary-admin-c04d";
const OTHER: &str = "canary-conninfo-55e1";

/// A pgmd that is driven by the command line, whose every word is kept.
struct Watched {
    pgmd: Pgmd,
    said: String,
}

impl Watched {
    fn new(pgmd: Pgmd) -> Self {
        let said = String::new();
        Self { pgmd, said }
    }

    fn cli(&mut self, arguments: &[&str]) -> Run {
        let run = run(self.pgmd.cli_command().args(arguments).env("SECRET", ADMIN));
        self.said += &run.stdout;
        self.said += &run.stderr;
        run
    }

    fn ok(&mut self, arguments: &[&str]) -> String {
        let run = self.cli(arguments);
        assert!(
            run.status == 0,
            "{arguments:?}: {}\n{}",
            run.stderr,
            self.pgmd.log()
        );
        run.stdout
    }

    /// Writes a file for its owner alone.
    fn private(&self, name: &str, text: &str) -> String {
        let path = self.pgmd.directory().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }
}

fn set_password(cluster: &Cluster, password: &str) {
    cluster.sql(&format!("alter role pgm password '{password}'"));
}

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn audit(pgmd: &Pgmd) -> Vec<Value> {
    let text = fs::read_to_string(pgmd.directory().join("audit.log")).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// How the records of `action` came out, in their order.
fn outcomes(pgmd: &Pgmd, action: &str) -> Vec<String> {
    let records = audit(pgmd);
    let of_action = records.iter().filter(|record| record["action"] == action);
    of_action
        .map(|record| record["outcome"].as_str().unwrap().to_owned())
        .collect()
}

/// Neither what anybody can see of the daemon's processes nor a core file would tell a secret.
fn processes_keep(secrets: &[&str], pgmd: &Pgmd) {
    let processes = processes_of(pgmd.pid());
    assert!(
        processes.len() >= 2,
        "a supervisor and its workers: {processes:?}"
    );
    for pid in processes {
        for name in ["cmdline", "environ", "comm"] {
            // The environment of a process that cannot be dumped is nobody's to read.
            let text = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            assert!(
                !secrets.iter().any(|secret| contains(&text, secret)),
                "{name} of {pid}"
            );
        }
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"));
        let core = limits.map(|text| {
            let line = text.lines().find(|line| line.starts_with("Max core"));
            line.unwrap_or_default().split_whitespace().nth(4) == Some("0")
        });
        assert!(core.unwrap_or(true), "process {pid} may dump core");
    }
}

/// Only the files that are meant to hold a secret do, and others can read none.
fn files_keep(secrets: &[&str], key: &str, folder: &Path) {
    for path in files(folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap();
        let found = secrets.iter().find(|secret| contains(&bytes, secret));
        // The master key is in its file, and a password that was written into the configuration is there.
        let meant = match name.as_str() {
            "master.key" => found == Some(&key),
            "pgmd.ron" => found == Some(&OTHER),
            _ => found.is_none(),
        };
        assert!(meant, "{} holds {found:?}", path.display());
        if name != "log" {
            let mode = fs::metadata(&path).unwrap().mode();
            assert_eq!(mode & 0o077, 0, "{} can be read by others", path.display());
        }
    }
}

/// Cancels a backup while the hook before it runs.
fn cancel_during_a_hook(pgmd: &Pgmd) {
    fs::write(pgmd.directory().join("hang"), "").unwrap();
    let mut waiting = pgmd.cli_command().args(["backup", "main"]).spawn().unwrap();
    let job = wait_for("the hook runs", || {
        let jobs = pgmd.json(&["job", "ls"]);
        let job = jobs["jobs"].as_array()?.first()?.clone();
        (job["phase"] == "hook: before_backup").then(|| job["job"].to_string())
    });
    pgmd.cli_ok(&["job", "cancel", &job]);
    let ended = wait_for("the job ends", || waiting.try_wait().unwrap());
    assert!(!ended.success());
}

#[test]
fn a_password_from_the_vault_reaches_the_server_and_nobody_else() {
    let cluster = Cluster::builder(Major::V17).auth(Auth::ScramSha256).start();
    set_password(&cluster, VAULT);
    let conninfo = format!(
        "host=127.0.0.1 port={} user=pgm dbname=postgres",
        cluster.port()
    );
    let mut it = Watched::new(Pgmd::configured(&[]));
    it.pgmd.write_configuration(&format!(
        "(log_level: \"trace\", audit_reads: true, hooks: (before_backup: \"env; echo done\"), servers: {{\n\
         \"main\": (conninfo: {conninfo:?}),\n\
         \"gone\": (conninfo: \"host=127.0.0.1 port=1 user=x password={OTHER}\"),\n}})\n"
    ));
    let made = it.ok(&["admin", "master-key"]);
    assert!(made.contains("master.key"), "{made}");
    let key = fs::read_to_string(it.pgmd.directory().join("master.key")).unwrap();
    assert_ne!(
        it.cli(&["admin", "master-key"]).status,
        0,
        "it is never overwritten"
    );
    let file = it.private("password", &format!("{VAULT}\n"));
    it.ok(&[
        "admin",
        "user",
        "add",
        "pgm",
        "--postgres",
        "--password-file",
        &file,
    ]);
    it.ok(&[
        "admin",
        "user",
        "add",
        "ann",
        "--admin",
        "--role",
        "read_only",
        "--password-env",
        "SECRET",
    ]);
    let users = it.ok(&["admin", "user", "ls"]);
    assert!(
        users.contains("ann") && users.contains("read_only"),
        "{users}"
    );

    it.pgmd.start();
    it.pgmd.wait_streaming("main");
    it.ok(&["check", "main"]);
    it.ok(&["backup", "main"]);
    let restored = it.pgmd.directory().join("restored");
    it.ok(&["restore", "main", "newest", restored.to_str().unwrap()]);
    it.ok(&["status"]);
    it.ok(&["conf", "ls"]);
    it.cli(&["backup", "nobody"]);

    // Another password on both sides: the worker that was connected is replaced.
    set_password(&cluster, CHANGED);
    let worker = it.pgmd.receive_worker("main");
    let file = it.private("password", CHANGED);
    it.ok(&[
        "admin",
        "user",
        "edit",
        "pgm",
        "--postgres",
        "--password-file",
        &file,
    ]);
    wait_until("another worker streams", || {
        let now = it.pgmd.receive_worker("main");
        now.is_some() && now != worker && it.pgmd.status("main")["state"] == "streaming"
    });
    fs::remove_file(&file).unwrap();

    let secrets = [VAULT, CHANGED, ADMIN, OTHER, key.trim()];
    processes_keep(&secrets, &it.pgmd);
    assert_eq!(it.pgmd.stop(), 0);
    assert!(
        it.pgmd.log().contains("hook before_backup"),
        "{}",
        it.pgmd.log()
    );
    for secret in secrets {
        assert!(!it.said.contains(secret), "said by pgm-cli: {secret}");
    }
    files_keep(&secrets, key.trim(), it.pgmd.directory());
    assert_eq!(outcomes(&it.pgmd, "admin user add"), ["ok", "ok"]);
    assert_eq!(outcomes(&it.pgmd, "reload-users"), ["ok"]);
    assert!(
        outcomes(&it.pgmd, "status").contains(&"ok".to_owned()),
        "reads were asked for"
    );
}

#[test]
fn hooks_are_told_the_facts_may_refuse_and_are_ended_with_the_job() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[]);
    let base = pgmd.directory().display().to_string();
    let before = format!(
        "env | grep ^PGM_ > {base}/before.env; while test -e {base}/hang; do sleep 0.05; done; \
         if test -e {base}/refuse; then echo not today >&2; exit 3; fi"
    );
    let after = format!("env | grep ^PGM_ > {base}/after.env; echo all is said; exit 7");
    let configuration = format!(
        "(hooks: (before_backup: {before:?}, after_backup: [\"sh\", \"-c\", {after:?}]), \
         servers: {{ \"main\": (conninfo: {:?}) }})",
        cluster.conninfo()
    );
    pgmd.write_configuration(&configuration);
    pgmd.start();
    pgmd.wait_streaming("main");
    let facts = |name: &str| fs::read_to_string(pgmd.directory().join(name)).unwrap();

    let backup = pgmd.cli(&["--format", "json", "backup", "main"]);
    assert_eq!(backup.status, 0, "{}", backup.stderr);
    assert!(
        backup.stderr.contains("after_backup ended with status 7"),
        "{}",
        backup.stderr
    );
    let summary: Value = serde_json::from_str(&backup.stdout).unwrap();
    let label = summary["label"].as_str().unwrap();
    assert!(facts("before.env").contains("PGM_EVENT=before_backup\n"));
    for fact in [
        "PGM_EVENT=after_backup".to_owned(),
        "PGM_STATUS=ok".to_owned(),
        "PGM_SERVER=main".to_owned(),
        format!("PGM_LABEL={label}"),
        format!("PGM_END_LSN={}", summary["end_lsn"].as_str().unwrap()),
        format!("PGM_STORED_BYTES={}", summary["stored_bytes"]),
    ] {
        assert!(
            facts("after.env").lines().any(|line| line == fact),
            "{fact}"
        );
    }
    // The client has its answer as soon as the job is done; the log is written by others.
    wait_until("what the hook printed is in the log", || {
        pgmd.log().contains("hook after_backup: all is said")
    });

    fs::remove_file(pgmd.directory().join("after.env")).unwrap();
    fs::write(pgmd.directory().join("refuse"), "").unwrap();
    let refused = pgmd.cli(&["backup", "main"]);
    assert_eq!(refused.status, 1);
    assert!(
        refused.stderr.contains("before_backup ended with status 3")
            && refused.stderr.contains("HINT"),
        "{}",
        refused.stderr
    );
    assert!(pgmd.log().contains("not today"));
    assert!(
        !pgmd.directory().join("after.env").exists(),
        "nothing was begun"
    );
    fs::remove_file(pgmd.directory().join("refuse")).unwrap();

    cancel_during_a_hook(&pgmd);
    assert_eq!(
        pgmd.json(&["list-backup", "main"])["servers"][0]["backups"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    pgmd.reload();
    wait_until("the reload is recorded", || {
        outcomes(&pgmd, "conf reload") == ["ok"]
    });
    assert_eq!(pgmd.stop(), 0);
    assert_eq!(
        outcomes(&pgmd, "backup"),
        [
            "started",
            "ok",
            "started",
            "hook_failed",
            "started",
            "cancelled"
        ]
    );
    assert_eq!(outcomes(&pgmd, "job cancel"), ["ok"]);
    assert_eq!(outcomes(&pgmd, "shutdown"), ["ok"]);
    assert!(
        outcomes(&pgmd, "status").is_empty(),
        "reads are not recorded"
    );
    let records = audit(&pgmd);
    let stop = records.last().unwrap();
    assert_eq!(
        (&stop["action"], &stop["from"]),
        (&"shutdown".into(), &"SIGTERM".into())
    );
    assert!(records[0]["user"].is_string() && records[0]["duration_ms"].is_u64());
}

#[test]
fn secrets_that_others_can_read_or_that_do_not_fit_keep_the_daemon_from_starting() {
    let mut it = Watched::new(Pgmd::configured(&[]));
    it.ok(&["admin", "master-key"]);
    let file = it.private("password", VAULT);
    it.ok(&[
        "admin",
        "user",
        "add",
        "pgm",
        "--postgres",
        "--password-file",
        &file,
    ]);
    let key = it.pgmd.directory().join("master.key");
    let started = |it: &Watched| run(&mut it.pgmd.pgmd_command());
    for name in ["master.key", "vault.ron", "admins.ron", "scram.secret"] {
        let path = it.pgmd.directory().join(name);
        if !path.exists() {
            it.private(name, "");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = started(&it);
        assert_eq!(refused.status, 2, "{name}: {}", refused.stderr);
        let hint = format!("HINT: chmod 600 {}", path.display());
        assert!(refused.stderr.contains(&hint), "{}", refused.stderr);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if fs::metadata(&path).unwrap().len() == 0 {
            fs::remove_file(&path).unwrap();
        }
    }
    fs::rename(&key, it.pgmd.directory().join("old.key")).unwrap();
    it.ok(&["admin", "master-key"]);
    let other = started(&it);
    assert!(
        other.stderr.contains("is sealed with the key"),
        "{}",
        other.stderr
    );
    let add = it.cli(&["admin", "user", "add", "x", "--postgres", "--generate"]);
    assert!(
        add.status == 1 && add.stderr.contains("is sealed with the master key"),
        "{}",
        add.stderr
    );
    let typo = it.cli(&["admin", "user", "del", "pgn", "--postgres"]);
    assert!(
        typo.status == 4 && typo.stderr.contains("`pgm`"),
        "{}",
        typo.stderr
    );
}

#[test]
fn files_are_sealed_and_compressed_without_a_daemon_and_come_back() {
    let mut it = Watched::new(Pgmd::configured(&[]));
    it.ok(&["admin", "master-key"]);
    let large: Vec<u8> = (0..3_000_000_u32)
        .map(|at| (u64::from(at) * u64::from(at) % 251) as u8)
        .collect();
    for (name, raw) in [
        ("empty", &[][..]),
        ("small", b"hello, pgm\n"),
        ("large", &large),
    ] {
        let path = it.pgmd.directory().join(name);
        let text = path.to_str().unwrap();
        fs::write(&path, raw).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        for (there, suffix, back) in [
            (&["encrypt", text][..], "pgm", "decrypt"),
            (&["compress", text], "zst", "decompress"),
            (&["compress", text, "--with", "lz4"], "lz4", "decompress"),
            (&["compress", text, "--with", "gzip:9"], "gz", "decompress"),
        ] {
            it.ok(there);
            assert!(!path.exists(), "{there:?}: the source is removed");
            let made = format!("{text}.{suffix}");
            assert!(
                raw.len() < 100 || !contains(&fs::read(&made).unwrap(), "hello"),
                "{made}"
            );
            it.ok(&[back, &made]);
            assert!(fs::read(&path).unwrap() == raw, "{there:?}");
            assert!(!Path::new(&made).exists());
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        }
    }
    let made = run(Command::new("bzip2")
        .arg("-k")
        .arg(it.pgmd.directory().join("small")));
    if made.status == 0 {
        let name = it.pgmd.directory().join("small.bz2");
        let other = it.pgmd.directory().join("other");
        it.ok(&[
            "decompress",
            name.to_str().unwrap(),
            "-o",
            other.to_str().unwrap(),
        ]);
        assert_eq!(fs::read(other).unwrap(), b"hello, pgm\n");
    }
}

#[test]
fn a_file_that_cannot_be_opened_or_would_be_overwritten_leaves_everything_as_it_was() {
    let mut it = Watched::new(Pgmd::configured(&[]));
    it.ok(&["admin", "master-key"]);
    let base = it.pgmd.directory().to_owned();
    let path = |name: &str| base.join(name).to_str().unwrap().to_owned();
    fs::write(path("f"), vec![7; 200_000]).unwrap();
    it.ok(&["encrypt", &path("f"), "--keep"]);
    let listing = || {
        let mut names: Vec<_> = fs::read_dir(&base)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        names
    };
    let before = listing();
    let mut refused = |arguments: &[&str], why: &str| {
        let run = it.cli(arguments);
        assert!(
            run.status != 0 && run.stderr.contains(why),
            "{arguments:?}: {}",
            run.stderr
        );
        assert_eq!(listing(), before, "{arguments:?}");
    };
    refused(&["encrypt", &path("f")], "exists already");
    refused(&["decrypt", &path("f.pgm")], "exists already");
    refused(&["decrypt", &path("f")], "--output");
    refused(
        &["decrypt", &path("f"), "-o", &path("g")],
        "not sealed by pgm",
    );
    refused(
        &["decompress", &path("f"), "-o", &path("g")],
        "not compressed",
    );
    refused(&["decompress", &path("absent.gz")], "No such file");
    let sealed = fs::read(path("f.pgm")).unwrap();
    for (change, why) in [
        (150_000, "tampered"),
        (60, "header of the sealed data is damaged"),
    ] {
        let mut changed = sealed.clone();
        changed[change] ^= 1;
        fs::write(path("f.pgm"), &changed).unwrap();
        refused(&["decrypt", &path("f.pgm"), "-o", &path("g")], why);
    }
    fs::write(path("f.pgm"), &sealed[..96 + 3 * (65536 + 16)]).unwrap();
    refused(&["decrypt", &path("f.pgm"), "-o", &path("g")], "cut off");
    fs::write(path("f.pgm"), &sealed).unwrap();
    fs::write(path("master.key"), format!("{}\n", "0".repeat(64))).unwrap();
    refused(
        &["decrypt", &path("f.pgm"), "-o", &path("g")],
        "find the master key whose id is",
    );
}
