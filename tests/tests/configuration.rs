//! The configuration of a running pgmd: what is changed in its file or by `conf set` acts at once or waits for a
//! restart, and says which; what cannot be used changes nothing.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use pgm_tests::{Cluster, Major, Pgmd, wait_until};
use serde_json::Value;

/// A configuration as people write it, with a setting of each reload class.
fn written(conninfo: &str, level: &str, compression: &str, spool: &str) -> String {
    format!(
        "// our databases\n(\n    log_level: \"{level}\", // how much\n    /* a fast disk */\n    spool: \"{spool}\",\n    \
         repository: (compression: \"{compression}\"),\n\n    servers: {{\n        // the first\n        \"main\": (\n            \
         conninfo: {conninfo:?}, // no password\n        ),\n    }},\n)\n"
    )
}

fn file(pgmd: &Pgmd) -> String {
    fs::read_to_string(pgmd.directory().join("pgmd.ron")).unwrap()
}

/// The effects in a document of `conf set` or `conf reload`: `KEY EFFECT`.
fn effects(reloaded: &Value) -> Vec<String> {
    let changes = reloaded["changes"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    changes
        .map(|change| format!("{} {}", text(&change["key"]), text(&change["effect"])))
        .collect()
}

#[test]
fn each_change_acts_at_once_or_waits_for_a_restart() {
    let cluster = Cluster::builder(Major::V17).start();
    let conninfo = cluster.conninfo();
    let mut pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(&written(&conninfo, "info", "zstd:3", "spool"));
    pgmd.start();
    pgmd.wait_streaming("main");
    let worker = pgmd.receive_worker("main").unwrap();
    assert!(!pgmd.log().contains("DEBUG"), "{}", pgmd.log());

    // One of each kind: at once, with new workers, at a restart.
    pgmd.write_configuration(&written(&conninfo, "debug", "lz4", "other"));
    let reloaded = pgmd.json(&["conf", "reload"]);
    assert_eq!(
        effects(&reloaded),
        [
            "spool restart_required",
            "log_level applied",
            "repository.compression applied"
        ]
    );
    wait_until("there is a new worker", || {
        pgmd.receive_worker("main").is_some_and(|new| new != worker)
    });
    pgmd.wait_streaming("main");
    wait_until("more is logged", || pgmd.log().contains("DEBUG"));
    let base = pgmd.directory().to_owned();
    let old = base.join("spool").display().to_string();
    assert_eq!(pgmd.cli_ok(&["conf", "get", "spool"]).trim(), old);
    let listed = &pgmd.json(&["conf", "ls", "spool"])["settings"][0];
    let new = base.join("other").display().to_string();
    assert_eq!(listed["value"], Value::from(old));
    assert_eq!(listed["pending"], Value::from(new.clone()));

    // Until then it works with the old one, afterwards with the new one.
    cluster.sql("create table t as select 1 n");
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
    assert!(pgmd.spool("main").is_dir() && !base.join("other").exists());
    assert_eq!(pgmd.stop(), 0, "{}", pgmd.log());
    pgmd.start();
    assert_eq!(pgmd.cli_ok(&["conf", "get", "spool"]).trim(), new);
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
    assert!(base.join("other/main").is_dir());
}

#[test]
fn a_broken_file_leaves_the_old_configuration_running() {
    // A server that nobody can reach: this is about the file.
    let mut pgmd = Pgmd::configured(&[("main", "host=127.0.0.1 port=1 user=nobody")]);
    let good = file(&pgmd);
    pgmd.start();
    for (number, broken) in ["(servers: {", "(jobs_max: 0, servers: {})", "(jobs_max: 3"]
        .into_iter()
        .enumerate()
    {
        pgmd.write_configuration(broken);
        pgmd.reload();
        wait_until("the trouble is said", || {
            pgmd.log().matches("pgmd.ron:1:").count() > number
        });
        let refused = pgmd.cli(&["conf", "reload"]);
        assert_eq!(refused.status, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains("pgmd.ron:1:"), "{}", refused.stderr);
    }
    pgmd.write_configuration(&good);
    let listed = pgmd.json(&["conf", "ls"]);
    let settings = listed["settings"].as_array().unwrap();
    let value = |key: &str| {
        let setting = settings.iter().find(|setting| setting["key"] == key);
        setting.unwrap()["value"].clone()
    };
    assert_eq!(value("jobs_max"), Value::from("2"));
    assert_eq!(value("servers.main.slot"), Value::from("pgmd"));
    assert_eq!(effects(&pgmd.json(&["conf", "reload"])), [""; 0]);
}

#[test]
fn settings_are_changed_in_place() {
    let mut pgmd = Pgmd::configured(&[]);
    let conninfo = "host=127.0.0.1 port=1 user=nobody";
    let text = written(conninfo, "info", "none", "spool");
    pgmd.write_configuration(&text);
    // Without a daemon the file is changed all the same.
    pgmd.cli_ok(&["conf", "set", "repository.compression", "lz4"]);
    let text = text.replace("\"none\"", "\"lz4\"");
    assert_eq!(file(&pgmd), text);

    pgmd.start();
    let set = pgmd.json(&["conf", "set", "log_level", "debug"]);
    assert_eq!(effects(&set["reloaded"]), ["log_level applied"]);
    let text = text.replace("\"info\"", "\"debug\"");
    assert_eq!(file(&pgmd), text, "comments and order stay");
    wait_until("more is logged", || pgmd.log().contains("DEBUG"));

    let set = pgmd.json(&["conf", "set", "metrics.port", "9187"]);
    assert!(effects(&set["reloaded"]).contains(&"metrics.port restart_required".to_owned()));
    let text = text.replace(
        "\"lz4\"),\n",
        "\"lz4\"),\n    metrics: (\n        port: 9187,\n    ),\n",
    );
    assert_eq!(file(&pgmd), text);

    // A password is set, and shown to nobody.
    let secret = format!("{conninfo} password=geheim");
    let set = pgmd.cli_ok(&["conf", "set", "server.main.conninfo", &secret]);
    let got = pgmd.cli_ok(&["conf", "get", "servers.main.conninfo"]);
    let listed = pgmd.cli_ok(&["--format", "json", "conf", "ls", "servers.main"]);
    for shown in [set, got, listed, pgmd.log()] {
        assert!(!shown.contains("geheim"), "{shown}");
    }
    let text = text.replace(conninfo, &secret);
    assert_eq!(file(&pgmd), text);
    let meta = fs::metadata(pgmd.directory().join("pgmd.ron")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);

    // What cannot be is refused with what can, and changes nothing.
    for (arguments, status, expected) in [
        (["jobs_max", "0"], 2, "`jobs_max` is 1 to 64, not 0"),
        (["log_level", "inof"], 2, "did you mean `info`?"),
        (["shutdown_timeout", "soon"], 2, "is a duration such as"),
        (["spol", "x"], 4, "did you mean `spool`?"),
        (["servers.mian.slot", "x"], 4, "did you mean `main`?"),
        (["audit_log", "$NOWHERE/x"], 2, "NOWHERE is not set"),
    ] {
        let refused = pgmd.cli(&[&["conf", "set"], &arguments[..]].concat());
        assert_eq!(refused.status, status, "{arguments:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(expected),
            "{arguments:?}: {}",
            refused.stderr
        );
    }
    assert_eq!(file(&pgmd), text);

    pgmd.cli_ok(&["conf", "set", "log_level", "--default"]);
    let text = text.replace(
        "    log_level: \"debug\", // how much\n",
        "    // how much\n",
    );
    assert_eq!(file(&pgmd), text);
    assert_eq!(pgmd.cli_ok(&["conf", "get", "log_level"]), "info\n");
    assert_eq!(pgmd.stop(), 0, "{}", pgmd.log());
}
