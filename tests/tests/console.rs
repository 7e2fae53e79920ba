//! The admin console, as psql's users have it: over TLS, with SCRAM, with psql's own conveniences.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use pgm_tests::{Certificates, Cluster, Major, Pgmd, Port, Run, run, wait_until};
use rustix::process::{Pid, Signal, kill_process};

const PASSWORD: &str = "correct horse battery";

/// A daemon with remote management and two admins.
struct Console {
    pgmd: Pgmd,
    port: Port,
}

impl Console {
    fn start(conninfo: &str) -> Self {
        let (mut pgmd, port) = (Pgmd::configured(&[]), Port::claim());
        let files = Certificates::write(&pgmd.directory().join("tls"), "nobody");
        pgmd.write_configuration(&format!(
            "(servers: {{\"main\": (conninfo: {conninfo:?})}}, management: (host: \"127.0.0.1\", port: {}, \
             tls_cert_file: {:?}, tls_key_file: {:?}))",
            port.number(),
            files.server.to_str().unwrap(),
            files.server_key.to_str().unwrap(),
        ));
        let password = pgmd.directory().join("password");
        fs::write(&password, PASSWORD).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        let file = password.to_str().unwrap();
        let add = ["admin", "user", "add", "--admin", "--password-file", file];
        pgmd.cli_ok(&[&add[..], &["ann"]].concat());
        pgmd.cli_ok(&[&add[..], &["bob", "--role", "read_only"]].concat());
        pgmd.start();
        pgmd.wait_streaming("main");
        Self { pgmd, port }
    }

    fn command(&self, major: Major, user: &str) -> Command {
        let mut psql = major.command("psql");
        psql.arg("-XAt")
            .arg(format!(
                "host=localhost hostaddr=127.0.0.1 port={} user={user} dbname=pgm sslmode=require",
                self.port.number()
            ))
            .env("PGPASSWORD", PASSWORD)
            .stdin(Stdio::null());
        psql
    }

    fn psql(&self, user: &str, text: &str) -> Run {
        run(self.command(Major::V17, user).args(["-c", text]))
    }

    /// What is printed for a command that must succeed.
    fn ok(&self, text: &str) -> String {
        let run = self.psql("ann", text);
        assert_eq!(run.status, 0, "{text}: {}\n{}", run.stderr, self.pgmd.log());
        run.stdout
    }

    /// What is said of a command that must not.
    fn refused(&self, user: &str, text: &str) -> String {
        let mut psql = self.command(Major::V17, user);
        let run = run(psql.args(["-v", "VERBOSITY=verbose", "-c", text]));
        assert_ne!(run.status, 0, "{text}: {}", run.stdout);
        run.stderr
    }
}

#[test]
fn everything_is_done_and_seen_from_psql() {
    let cluster = Cluster::builder(Major::V17).start();
    let console = Console::start(&cluster.conninfo());
    assert!(console.ok("show servers").starts_with("main|streaming|17."));
    assert!(console.ok("SHOW HELP;").contains("BACKUP server"));
    let backup = console.psql("ann", "backup main");
    assert_eq!(backup.status, 0, "{}", backup.stderr);
    assert!(
        backup.stderr.contains("NOTICE:  job 1: "),
        "{}",
        backup.stderr
    );
    let label = backup.stdout.split('|').nth(1).unwrap().to_owned();
    assert!(
        console
            .ok("Show Backups main")
            .contains(&format!("main|{label}|full|valid|"))
    );
    assert!(
        console
            .ok("show backup main newest")
            .contains(&format!("label|{label}"))
    );
    let new = console.pgmd.directory().join("new");
    let plan = console.ok(&format!("explain restore main to '{}'", new.display()));
    assert!(plan.contains(&label) && !new.exists(), "{plan}");
    assert!(console.ok("show jobs all").contains("|done|"));
    assert!(
        console
            .ok("show wal main; show gaps")
            .starts_with("main|pgmd|")
    );

    assert!(console.ok("verify main newest frames").contains("outcome"));
    assert!(
        console
            .ok("retain main newest")
            .contains(&format!("main|{label}|t|"))
    );
    assert!(
        console
            .ok("expunge main newest")
            .contains(&format!("main|{label}|f|"))
    );
    assert!(console.ok("mode main").starts_with("main|online|f|"));

    // Settings: changed, shown, and set back.
    let set = console.ok("set jobs_max = 3; show config jobs_max");
    assert!(set.contains("jobs_max|3|2|file|"), "{set}");
    console.ok("reset jobs_max");
    assert!(
        console
            .ok("show config jobs_max")
            .starts_with("jobs_max|2|")
    );

    // The extended protocol, as drivers use it.
    let mut psql = console.command(Major::V17, "ann");
    let file = console.pgmd.directory().join("bind.sql");
    fs::write(
        &file,
        "show version \\bind \\g\nselect version() \\bind \\g\n",
    )
    .unwrap();
    let extended = run(psql.arg("-f").arg(&file));
    assert_eq!(extended.status, 0, "{}", extended.stderr);
    assert!(
        extended.stdout.contains("the console of pgm"),
        "{}",
        extended.stdout
    );

    // The older psql, where it is at hand; that of 17 is everywhere.
    let psql = Major::V17.program("psql");
    let folder = psql.ancestors().nth(3).unwrap();
    if folder.join("15/bin/psql").exists() {
        let old = run(console
            .command(Major::V15, "ann")
            .args(["-c", "show status"]));
        assert!(
            old.stdout.contains("servers|1"),
            "{}{}",
            old.stdout,
            old.stderr
        );
    }
}

#[test]
fn what_is_wrong_is_said_with_code_place_and_hint() {
    let cluster = Cluster::builder(Major::V17).start();
    let console = Console::start(&cluster.conninfo());
    for (text, said) in [
        (
            "show serverz",
            vec!["42601", "LINE 1: show serverz", "did you mean `SERVERS`?"],
        ),
        (
            "show servers; bakup main",
            vec!["42601", "did you mean `BACKUP`?"],
        ),
        ("backup nosuch", vec!["42704", "nosuch", "HINT"]),
        ("show job 99", vec!["42704", "99"]),
        ("show job x", vec!["22023", "x"]),
        ("select * from pg_class", vec!["0A000", "SHOW HELP"]),
        ("reload", vec!["42501", "own host"]),
        ("set jobs_max = many", vec!["22023", "jobs_max", "many"]),
    ] {
        let error = console.refused("ann", text);
        for part in said {
            assert!(error.contains(part), "{text}: {part} is not in {error}");
        }
    }
    let reader = console.refused("bob", "backup main");
    assert!(
        reader.contains("42501") && reader.contains("read_only"),
        "{reader}"
    );
    assert!(
        console
            .psql("bob", "show servers")
            .stdout
            .starts_with("main|")
    );
    // psql's own questions neither hang nor break anything.
    for question in ["\\d", "\\l", "\\du", "\\dt+ x*"] {
        assert!(
            console
                .psql("ann", question)
                .stderr
                .contains("pgm's console"),
            "{question}"
        );
    }
    let conninfo = console.psql("ann", "\\conninfo");
    assert!(conninfo.stdout.contains("SSL"), "{}", conninfo.stdout);
}

#[test]
fn who_loses_patience_leaves_the_job_running() {
    let cluster = Cluster::builder(Major::V17).start();
    let console = Console::start(&cluster.conninfo());
    let mut psql = console.command(Major::V17, "ann");
    let waiting = psql
        .args(["-c", "backup main rate 256"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the job runs", || {
        console.ok("show jobs").contains("|running|")
    });
    let pid = Pid::from_raw(i32::try_from(waiting.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let output = waiting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("job 1 goes on") && said.contains("CANCEL 1"),
        "{said}"
    );
    assert!(console.ok("show jobs").contains("|running|"));
    console.ok("cancel 1");
    assert!(console.ok("wait 1").contains("state|cancelled"));
}
