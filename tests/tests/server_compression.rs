//! Servers that compress what they send for a backup, and those that cannot.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::collections::BTreeSet;

use pgm_tests::{Cluster, Major, Pgmd, majors, run_ok};

/// How the server sent the newest backup.
fn sent(pgmd: &Pgmd) -> String {
    let info = pgmd.json(&["info", "main", "newest"]);
    info["sent"].as_str().unwrap().to_owned()
}

fn restores(pgmd: &Pgmd, cluster: &Cluster) {
    let major = cluster.major();
    let from = cluster.folder().join("tablespaces/other");
    let mut restored = Cluster::made_by(major, |data| {
        let to = data.with_file_name("other");
        let moved = format!("{}={}", from.display(), to.display());
        let data_text = data.to_str().unwrap();
        pgmd.cli_ok(&[
            "restore",
            "main",
            "newest",
            data_text,
            "--tablespace",
            &moved,
        ]);
        // The other majors' servers may come without it.
        if major == Major::V17 {
            run_ok(major.command("pg_verifybackup").arg("-n").arg(data));
        }
    });
    restored.start();
    restored.wait_writable();
    assert_eq!(
        restored.value("select count(*) || ' ' || sum(n) from t"),
        "50000 1250025000"
    );
}

#[test]
fn every_server_compresses_what_it_can_and_sends_the_rest_as_it_is() {
    let mut compressed = BTreeSet::new();
    for major in majors() {
        let cluster = Cluster::builder(major).tablespace("other").start();
        cluster.sql("create table t tablespace other as select n, md5(n::text) from generate_series(1, 50000) n");
        let mut pgmd = Pgmd::configured(&[]);
        let conninfo = cluster.conninfo();
        pgmd.write_configuration(&format!(
            "(servers: {{\"main\": (conninfo: {conninfo:?}, server_compression: \"gzip:1\")}})"
        ));
        pgmd.start();
        pgmd.wait_streaming("main");
        for compression in ["zstd:-3", "lz4", "gzip:1"] {
            // The last one is what the configuration says.
            let flag: &[&str] = match compression {
                "gzip:1" => &[],
                other => &["--server-compression", other],
            };
            let run = pgmd.cli(&[&["backup", "main"], flag].concat());
            assert_eq!(run.status, 0, "{}", run.stderr);
            let sent = sent(&pgmd);
            if sent == format!("compressed with {compression}") {
                assert!(major != Major::V14);
                compressed.insert(compression);
            } else {
                let why = if major == Major::V14 {
                    "before PostgreSQL 15"
                } else {
                    "not support"
                };
                let wanted = format!("not compressed with {compression}: ");
                assert!(
                    sent.contains(&wanted) && sent.contains(why),
                    "{major}: {sent}"
                );
                assert!(run.stderr.contains(why), "{major}: {}", run.stderr);
            }
            assert!(pgmd.cli_ok(&["list-backup", "main"]).contains("valid"));
            restores(&pgmd, &cluster);
        }
        pgmd.cli_ok(&["backup", "main", "--server-compression", "none"]);
        assert_eq!(sent(&pgmd), "as they are");
    }
    assert!(compressed.contains("gzip:1"), "{compressed:?}");
}
