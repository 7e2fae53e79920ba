//! Directories that are kept ready to be started as standbys: each backup brings them up to date, a server that runs there is
//! let alone, and one that was promoted is nobody's to write to.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pgm_tests::{Cluster, Major, Pgmd, Scratch, StopMode, wait_for, wait_until};
use serde_json::Value;

struct Kept {
    primary: Cluster,
    pgmd: Pgmd,
    scratch: Scratch,
}

impl Kept {
    /// A server with a tablespace, whose standby `near` has that elsewhere, and settings of its own.
    fn start() -> Self {
        let primary = Cluster::builder(Major::V17)
            .segment_mib(1)
            .tablespace("space")
            .start();
        let scratch = Scratch::new("standby");
        let own = scratch.join("own");
        fs::create_dir(&own).unwrap();
        let settings = fs::read_to_string(primary.data().join("postgresql.conf")).unwrap();
        let settings = format!(
            "{settings}\nwork_mem = '7MB'\nhot_standby = on\nwal_retrieve_retry_interval = '50ms'\n"
        );
        fs::write(own.join("postgresql.conf"), settings).unwrap();
        let mut pgmd = Pgmd::configured(&[]);
        pgmd.write_configuration(&format!(
            "(servers: {{\"main\": (conninfo: {:?})}}, standbys: {{\"near\": (server: \"main\", directory: \"{}\", \
             overrides: \"{}\", tablespaces: \"{}={}\")}})",
            primary.conninfo(),
            scratch.join("near").display(),
            own.display(),
            primary.folder().join("tablespaces/space").display(),
            scratch.join("space").display(),
        ));
        pgmd.start();
        pgmd.wait_streaming("main");
        Self {
            primary,
            pgmd,
            scratch,
        }
    }

    fn data(&self) -> PathBuf {
        self.scratch.join("near")
    }

    /// Takes a backup, and waits for what becomes of the standby.
    fn backup(&self, options: &[&str]) -> (String, Value) {
        let before = self.status()["at"].clone();
        // Ends are told by the second.
        if let Some(before) = before.as_str() {
            let passed = format!("select date_trunc('second', clock_timestamp()) > '{before}'");
            wait_until("another second has begun", || {
                self.primary.value(&passed) == "t"
            });
        }
        let count = self.jobs().len();
        let taken = self.pgmd.json(&[&["backup", "main"], options].concat());
        wait_until("the job for the standby is over", || {
            let jobs = self.jobs();
            jobs.len() > count && jobs.iter().all(|job| job["ended"].is_string())
        });
        let status = wait_for("the status tells its end", || {
            let status = self.status();
            (status["result"].is_string() && status["at"] != before).then_some(status)
        });
        (taken["label"].as_str().unwrap().to_owned(), status)
    }

    fn status(&self) -> Value {
        self.pgmd.status("main")["standbys"][0].clone()
    }

    fn jobs(&self) -> Vec<Value> {
        let listed = self.pgmd.json(&["job", "ls", "--all"]);
        let jobs = listed["jobs"].as_array().unwrap().iter();
        jobs.filter(|job| job["kind"] == "standby" || job["kind"] == "Standby")
            .cloned()
            .collect()
    }

    fn follows(&self, standby: &Cluster) {
        self.primary.sql("select pg_switch_wal()");
        let sum = "select (select sum(n) from still), (select sum(n) from changing), (select sum(n) from far)";
        let expected = self.primary.sql(sum);
        wait_until("the standby has the rows", || standby.sql(sum) == expected);
        assert_eq!(standby.value("select pg_is_in_recovery()"), "t");
    }
}

fn modified(path: &Path) -> (i64, i64) {
    let found = fs::metadata(path).unwrap();
    (found.mtime(), found.mtime_nsec())
}

#[test]
fn each_backup_brings_a_standby_up_to_date_that_starts_and_follows() {
    let kept = Kept::start();
    let primary = &kept.primary;
    primary.sql(
        "create table still as select n, repeat('x', 300) filler from generate_series(1, 20000) n",
    );
    primary.sql("create table changing as select generate_series(1, 1000) n");
    primary.sql("create table far tablespace space as select generate_series(1, 1000) n");
    primary.sql("vacuum freeze still");
    let (label, status) = kept.backup(&[]);
    assert_eq!(
        (&status["result"], &status["label"]),
        (&"updated".into(), &label.as_str().into())
    );
    let data = kept.data();
    assert!(data.join("standby.signal").exists() && !data.join("recovery.signal").exists());
    let said = kept.pgmd.cli_ok(&["status"]);
    assert!(
        said.contains(&format!(
            "standby near in {} has backup {label}",
            data.display()
        )),
        "{said}"
    );

    let mut standby = Cluster::on(Major::V17, &data);
    standby.start();
    primary.sql("update changing set n = n + 1");
    kept.follows(&standby);
    assert_eq!(standby.value("show work_mem"), "7MB");
    let spaces = fs::read_dir(kept.scratch.join("space")).unwrap().count();
    assert_eq!(spaces, 1, "the tablespace is in its own place");

    // While it runs it is let alone.
    let (_, status) = kept.backup(&[]);
    assert_eq!(
        (&status["result"], &status["label"]),
        (&"skipped".into(), &label.as_str().into())
    );
    assert!(
        status["reason"]
            .as_str()
            .unwrap()
            .contains("follows by itself"),
        "{status}"
    );
    primary.sql("insert into far values (7)");
    kept.follows(&standby);
    standby.stop(StopMode::Fast);

    // What has not changed is not written again.
    let still = data.join(primary.value("select pg_relation_filepath('still')"));
    let before = modified(&still);
    primary.sql("update changing set n = n + 1; insert into far values (8)");
    let (newer, status) = kept.backup(&["--incremental"]);
    assert_eq!(
        (&status["result"], &status["label"]),
        (&"updated".into(), &newer.as_str().into())
    );
    assert_eq!(modified(&still), before);
    standby.start();
    kept.follows(&standby);
    standby.stop(StopMode::Fast);
}

#[test]
fn a_standby_that_was_promoted_keeps_its_data_and_the_backup_succeeds() {
    let kept = Kept::start();
    kept.primary
        .sql("create table rows as select generate_series(1, 10) n");
    kept.backup(&[]);
    let mut standby = Cluster::on(Major::V17, &kept.data());
    standby.start();
    standby.promote();
    standby.sql("insert into rows values (11)");
    for mode in [None, Some(StopMode::Fast)] {
        if let Some(mode) = mode {
            standby.stop(mode);
        }
        let (label, status) = kept.backup(&[]);
        assert_eq!(status["result"], "failed");
        assert!(
            status["reason"].as_str().unwrap().contains("not a standby"),
            "{status}"
        );
        assert!(status["hint"].is_string());
        let newest = kept.pgmd.json(&["info", "main", "newest"]);
        assert_eq!(newest["summary"]["label"], label.as_str());
        assert_eq!(kept.pgmd.cli(&["status", "--check"]).status, 1);
    }
    standby.start();
    assert_eq!(standby.value("select count(*) from rows"), "11");
    standby.stop(StopMode::Fast);
}
