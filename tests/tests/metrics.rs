//! Metrics and the overview page, as Prometheus and browsers get them from a daemon that works.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use pgm_tests::{
    Certificates, Cluster, HttpAnswer, Major, Pgmd, Port, http, kill_worker, wait_for, wait_until,
};

/// A daemon with metrics; `more` are further settings of them.
struct Watched {
    pgmd: Pgmd,
    port: Port,
}

impl Watched {
    fn configured(servers: &[(&str, &str)], more: &str) -> Self {
        let (pgmd, port) = (Pgmd::configured(&[]), Port::claim());
        let mut entries = String::new();
        for (name, conninfo) in servers {
            let _ = write!(entries, "{name:?}: (conninfo: {conninfo:?}),");
        }
        pgmd.write_configuration(&format!(
            "(servers: {{{entries}}}, metrics: (host: \"127.0.0.1\", port: {}, cache_max_age: \"0\", {more}))",
            port.number()
        ));
        Self { pgmd, port }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    fn get(&self, path: &str) -> HttpAnswer {
        // HTTP/1.0: nothing comes in chunks.
        http(self.address(), &format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    fn metrics(&self) -> String {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}\n{}", answer.head, self.pgmd.log());
        answer.body
    }

    /// The value of a series, if it is there now.
    fn value(&self, series: &str) -> Option<f64> {
        value(&self.metrics(), series)
    }

    fn wait_value(&self, series: &str, wanted: impl Fn(f64) -> bool) {
        wait_until(series, || self.value(series).is_some_and(&wanted));
    }
}

fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// Fails unless `promtool check metrics` has nothing against `metrics`.
fn promtool_accepts(metrics: &str) {
    let folder = std::env::var_os("PGM_TOOLS_DIR").map(PathBuf::from);
    let program = folder.unwrap_or_default().join("promtool");
    let mut child = Command::new(&program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{}: {error}\nHINT: run tests/tools", program.display());
        });
    child
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && said.is_empty(),
        "{said}\n{metrics}"
    );
}

#[test]
fn a_backup_is_watched_from_its_beginning_to_its_recovery_window() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut watched = Watched::configured(&[("main", &cluster.conninfo())], "");
    watched.pgmd.start();
    watched.wait_value(r#"pgm_server_up{server="main"}"#, |up| up > 0.0);
    promtool_accepts(&watched.metrics());

    let mut backup = watched
        .pgmd
        .cli_command()
        .args(["backup", "main", "--max-rate", "4096"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let job = r#"{server="main",job="backup"}"#;
    watched.wait_value(&format!("pgm_job_processed_bytes{job}"), |done| done > 0.0);
    let metrics = watched.metrics();
    let ratio = value(&metrics, &format!("pgm_job_progress_ratio{job}"));
    assert!(
        ratio.is_none_or(|ratio| (0.0..=1.0).contains(&ratio)),
        "{metrics}"
    );
    assert!(watched.get("/").body.contains("backup of main"));
    promtool_accepts(&metrics);
    cluster.sql("create table t as select generate_series(1, 200000) n; select pg_switch_wal()");
    assert!(backup.wait().unwrap().success(), "{}", watched.pgmd.log());

    for (series, least) in [
        (
            r#"pgm_backups{server="main",repo="default",status="valid"}"#,
            1.0,
        ),
        (r#"pgm_recovery_windows{server="main"}"#, 1.0),
        (
            r#"pgm_wal_segments_stored_total{server="main",repo="default"}"#,
            1.0,
        ),
        (
            r#"pgm_wal_store_seconds_count{server="main",repo="default"}"#,
            1.0,
        ),
        (r#"pgm_wal_fsync_seconds_count{server="main"}"#, 1.0),
        (r#"pgm_wal_ack_seconds_count{server="main"}"#, 1.0),
        (
            r#"pgm_management_requests_total{request="backup",result="ok"}"#,
            1.0,
        ),
        ("pgm_repo_up", 1.0),
    ] {
        let series = series.replace("pgm_repo_up", r#"pgm_repo_up{repo="default"}"#);
        watched.wait_value(&series, |value| value >= least);
    }
    watched.wait_value(r#"pgm_rpo_bytes{server="main",stage="flushed"}"#, |rpo| {
        rpo == 0.0
    });
    watched.wait_value(r#"pgm_rpo_seconds{server="main",stage="flushed"}"#, |rpo| {
        rpo == 0.0
    });
    let metrics = watched.metrics();
    promtool_accepts(&metrics);
    let moment = |name: &str| {
        let series = format!(
            r#"pgm_recovery_window_{name}_timestamp_seconds{{server="main",repo="default"}}"#
        );
        value(&metrics, &series).unwrap()
    };
    assert!(moment("start") < moment("end"));

    // Counters are the server's, not the worker's.
    let received = r#"pgm_wal_received_bytes_total{server="main"}"#;
    let before = watched.value(received).unwrap();
    let worker = watched.pgmd.receive_worker("main").unwrap();
    kill_worker(worker);
    wait_for("another worker", || {
        watched
            .pgmd
            .receive_worker("main")
            .filter(|pid| *pid != worker)
    });
    watched.wait_value(
        r#"pgm_wal_receiver_restarts_total{server="main",reason="worker"}"#,
        |restarts| restarts >= 1.0,
    );
    assert!(watched.value(received).unwrap() >= before);
    assert_eq!(watched.pgmd.stop(), 0, "{}", watched.pgmd.log());
}

#[test]
fn there_is_nothing_else_and_patience_with_nobody() {
    let mut watched = Watched::configured(&[], "max_connections: 3, timeout: \"2s\"");
    watched.pgmd.start();
    let page = watched.get("/");
    assert!(
        page.body.contains("No server is configured"),
        "{}",
        page.body
    );
    assert!(
        page.head.contains("content-security-policy"),
        "{}",
        page.head
    );
    for path in ["/metrics/", "/anything", "/../etc/passwd", "/favicon.ico"] {
        assert_eq!(watched.get(path).status, 403, "{path}");
    }
    let ask = |request: &str| http(watched.address(), request);
    assert_eq!(
        ask("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").status,
        405
    );
    let header = "x".repeat(17 << 10);
    let huge = ask(&format!(
        "GET /metrics HTTP/1.1\r\nhost: x\r\nx: {header}\r\n\r\n"
    ));
    assert_eq!(huge.status, 431, "{}", huge.head);
    let garbage = ask("\u{1}\u{2}\u{3}\r\n\r\n");
    assert!(matches!(garbage.status, 0 | 400), "{}", garbage.head);
    let open =
        ask("GET /metrics HTTP/1.1\r\nhost: x\r\naccept: application/openmetrics-text\r\n\r\n");
    assert!(
        open.head.contains("application/openmetrics-text"),
        "{}",
        open.head
    );
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);

    // Ten times as many as there are places, and one that gets its answer all the same.
    let mut silent: Vec<_> = (0..30)
        .map(|number| {
            let mut stream = TcpStream::connect(watched.address()).unwrap();
            stream.write_all(&b"GET /metr"[..number % 10]).unwrap();
            stream
        })
        .collect();
    assert_eq!(watched.get("/metrics").status, 200);
    // All of them are cut off: reading ends, with or without a word.
    for stream in &mut silent {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    promtool_accepts(&watched.metrics());
}

#[test]
fn a_key_that_cannot_be_used_keeps_it_from_starting() {
    let folder = pgm_tests::Scratch::new("tls");
    let files = Certificates::write(folder.path(), "nobody");
    let tls = |key: &str| {
        format!(
            "tls_cert_file: {:?}, tls_key_file: {key:?}",
            files.server.to_str().unwrap()
        )
    };
    let open = folder.path().join("open.key");
    fs::copy(&files.server_key, &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    for (key, said) in [
        ("/nowhere/key.pem", "/nowhere/key.pem"),
        (open.to_str().unwrap(), "open.key"),
        (files.server.to_str().unwrap(), "key"),
        (files.client_key.to_str().unwrap(), "unusable"),
    ] {
        let watched = Watched::configured(&[], &tls(key));
        let run = pgm_tests::run(&mut watched.pgmd.pgmd_command());
        assert_eq!(run.status, 2, "{key}: {}", run.stderr);
        assert!(
            run.stderr.contains(said) && run.stderr.contains("HINT"),
            "{}",
            run.stderr
        );
    }
    let mut watched = Watched::configured(&[], &tls(files.server_key.to_str().unwrap()));
    watched.pgmd.start();
    assert!(
        !matches!(watched.get("/metrics").status, 200..300),
        "plain HTTP is no way in"
    );
    assert!(
        watched.pgmd.log().contains("https://127.0.0.1:"),
        "{}",
        watched.pgmd.log()
    );
}
