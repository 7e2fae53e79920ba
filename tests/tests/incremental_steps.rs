//! A server goes through random steps; after each of them an incremental backup is taken from each source, and each of them is
//! the server: page by page as its files are, and started, row by row, in its indexes, and by PostgreSQL's own checks.
//!
//! `PGM_TEST_STEPS` says how often backups are taken, with one step before each time; without it, it is a few times with several
//! steps before each. `PGM_TEST_SEED` gives the seed that a run has printed, and `PGM_TEST_SOURCES=blocks,local` takes backups from these alone.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pgm_tests::{
    Cluster, Major, Pgmd, Random, Rows, Scratch, Steps, StopMode, Writers, differences, run, run_ok,
};
use serde_json::Value;

/// How an incremental backup may learn what has changed, and the first major version in which it can.
const SOURCES: [(&str, u32); 4] = [
    ("stream", 14),
    ("native", 17),
    ("local", 14),
    ("blocks", 14),
];
/// Unless more is asked for.
const ROUNDS: usize = 2;
const STEPS_BEFORE_EACH: usize = 12;
/// What is in a data directory, and in no backup or another one in it.
const OF_THE_PLACE: [&str; 18] = [
    "backup_label",
    "backup_manifest",
    "global/pg_control",
    "log",
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_wal",
    "postgresql.auto.conf",
    "postmaster.opts",
    "postmaster.pid",
    "recovery.signal",
];

/// A server, its steps, and its backups.
struct Walk {
    cluster: Cluster,
    pgmd: Pgmd,
    steps: Steps,
    /// Those that are not deleted.
    backups: Vec<String>,
    /// What was done so far, for whoever has to find out why.
    said: Vec<String>,
}

/// A backup that was restored and not started.
struct Restored {
    source: &'static str,
    data: PathBuf,
    /// Where its tablespaces are, by those of the server.
    spaces: Vec<(PathBuf, PathBuf)>,
}

/// Until when a restored server replays.
enum Until {
    EndOfBackup,
    RestorePoint(String),
}

impl Walk {
    fn begin(major: Major) -> Self {
        let mut builder = Cluster::builder(major)
            .segment_mib(1)
            .setting("autovacuum", "off")
            .setting("max_prepared_transactions", "10")
            .setting("max_wal_size", "64MB");
        if major >= Major::V17 {
            builder = builder.setting("summarize_wal", "on");
        }
        let cluster = builder.start();
        cluster.grant_backups();
        cluster.grant_file_reads();
        let steps = Steps::new(&cluster, Random::announced(&format!("PostgreSQL {major}")));
        // Sessions of backups look at it, and must not leave hints there.
        cluster.sql("vacuum (freeze) pg_proc");
        let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
        pgmd.start();
        pgmd.wait_streaming("main");
        let first = pgmd.json(&["backup", "main"]);
        let first = first["label"].as_str().unwrap().to_owned();
        Self {
            cluster,
            pgmd,
            steps,
            backups: vec![first],
            said: Vec::new(),
        }
    }

    fn round(&mut self, number: usize, steps: usize) {
        for _ in 0..steps {
            let said = self.steps.take(&mut self.cluster);
            eprintln!("{number}: {said}");
            self.said.push(said);
        }
        self.pgmd.wait_streaming("main");
        let here = Scratch::new("steps");
        if self.steps.random().percent(25) {
            self.under_load(number, &here);
        } else {
            self.at_rest(number, &here);
        }
        // None needs another one.
        while self.backups.len() > 12 || self.steps.random().percent(15) && self.backups.len() > 2 {
            let at = self.steps.random().below(self.backups.len() - 1);
            let label = self.backups.remove(at);
            self.pgmd.cli_ok(&["delete", "main", &label]);
        }
    }

    /// Backups while nothing changes: each must be the files of the server.
    fn at_rest(&mut self, number: usize, here: &Scratch) {
        let stops = number % 10 == 3 || number == 1;
        if stops {
            self.steps.let_go();
        }
        let expected = Rows::of(&self.cluster);
        let spaces = self.spaces();
        // From here on nobody reads anything: a reader may leave hints in pages.
        self.cluster.sql("checkpoint");
        let backups = self.each_source();
        let restored: Vec<Restored> = backups
            .iter()
            .map(|(source, label)| {
                self.restore((source, label), &spaces, &Until::EndOfBackup, here)
            })
            .collect();
        if stops {
            self.cluster.stop(StopMode::Fast);
        }
        for one in &restored {
            self.same_files(one);
        }
        if stops {
            self.cluster.start();
            self.cluster.wait_writable();
        }
        for one in restored {
            self.check(one, &expected);
        }
    }

    /// Backups while clients write: each must lead to what the server was when they had stopped.
    fn under_load(&mut self, number: usize, here: &Scratch) {
        let writers = Writers::start(&self.cluster, 2);
        let backups = self.each_source();
        writers.wait_for_more(20);
        writers.stop();
        let point = format!("after {number}");
        self.cluster
            .sql(&format!("select pg_create_restore_point('{point}')"));
        let end = self.cluster.value("select pg_switch_wal()");
        self.pgmd.wait_durable("main", &end);
        let expected = Rows::of(&self.cluster);
        let until = Until::RestorePoint(point);
        let spaces = self.spaces();
        for (source, label) in backups {
            let restored = self.restore((source, &label), &spaces, &until, here);
            self.check(restored, &expected);
        }
    }

    fn each_source(&mut self) -> Vec<(&'static str, String)> {
        let major = self.cluster.major().number();
        let asked = std::env::var("PGM_TEST_SOURCES").ok();
        let is_asked = |source: &str| {
            let asked = asked.as_deref();
            asked.is_none_or(|asked| asked.split(',').any(|asked| asked == source))
        };
        let sources = SOURCES
            .iter()
            .filter(|(source, since)| *since <= major && is_asked(source));
        let mut taken = Vec::new();
        for (source, _) in sources {
            let backup = self.backup(source);
            assert_eq!(backup["kind"], "incremental", "{backup}");
            assert_eq!(backup["warnings"], Value::Array(Vec::new()), "{backup}");
            let label = backup["label"].as_str().unwrap().to_owned();
            self.backups.push(label.clone());
            taken.push((*source, label));
        }
        taken
    }

    fn backup(&self, source: &str) -> Value {
        let arguments = ["backup", "main", "--incremental", "--source", source];
        let label = self.pgmd.json(&arguments)["label"].take();
        let mut info = self.pgmd.json(&["info", "main", label.as_str().unwrap()]);
        let summary = info["summary"].take();
        let all = info.as_object_mut().unwrap();
        all.extend(summary.as_object().unwrap().clone());
        info
    }

    /// Where the server has its tablespaces.
    fn spaces(&self) -> Vec<PathBuf> {
        let rows = self
            .cluster
            .sql("select pg_tablespace_location(oid) from pg_tablespace where spcname ~ '^s[0-9]'");
        rows.iter().map(|row| PathBuf::from(&row[0])).collect()
    }

    fn restore(
        &self,
        (source, label): (&'static str, &str),
        spaces: &[PathBuf],
        until: &Until,
        here: &Scratch,
    ) -> Restored {
        let data = here.join(label);
        let moved = |from: &PathBuf| {
            let name = from.file_name().unwrap().display();
            (from.clone(), here.join(format!("{label}-{name}")))
        };
        let spaces: Vec<(PathBuf, PathBuf)> = spaces.iter().map(moved).collect();
        let mut arguments = vec![
            "restore".to_owned(),
            "main".to_owned(),
            label.to_owned(),
            data.display().to_string(),
        ];
        match until {
            Until::EndOfBackup => arguments.push("--target-immediate".to_owned()),
            Until::RestorePoint(name) => {
                arguments.extend(["--target-name".to_owned(), name.clone()]);
            }
        }
        for (from, to) in &spaces {
            arguments.push("--tablespace".to_owned());
            arguments.push(format!("{}={}", from.display(), to.display()));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.pgmd.cli_ok(&arguments);
        Restored {
            source,
            data,
            spaces,
        }
    }

    /// The files of the server, which is at rest, are those of the backup: every page of every relation that is logged.
    fn same_files(&self, restored: &Restored) {
        let server = self.cluster.data();
        let mut found = Vec::new();
        let folders = restored.spaces.iter();
        let folders = folders.map(|(from, to)| (from.as_path(), to.as_path()));
        for (from, to) in folders.chain([(server, restored.data.as_path())]) {
            let unlogged = unlogged(from);
            let other = |path: &Path| {
                OF_THE_PLACE.iter().any(|name| path == Path::new(name))
                    || is_passing(path, &unlogged)
            };
            found.extend(differences(from, to, other));
        }
        assert!(
            found.is_empty(),
            "{} {found:#?}\n{}",
            restored.source,
            self.story()
        );
    }

    /// The backup is whole, starts, and has what is expected.
    fn check(&self, restored: Restored, expected: &Rows) {
        let major = self.cluster.major();
        let Restored {
            source,
            data,
            spaces,
        } = restored;
        // That of 17 reads the manifests of all servers up to its own version.
        if major <= Major::V17 {
            run_ok(
                Major::V17
                    .command("pg_verifybackup")
                    .arg("--no-parse-wal")
                    .arg(&data),
            );
        }
        let mut server = Cluster::on(major, &data);
        server.start();
        server.wait_writable();
        let found = expected.differences(&Rows::of(&server));
        assert!(found.is_empty(), "{source} {found:#?}\n{}", self.story());
        let checked = run(Major::V17
            .command("pg_amcheck")
            .args(["--all", "--heapallindexed", "--username=postgres", "--host"])
            .arg(server.socket_folder())
            .arg(format!("--port={}", server.port())));
        assert!(
            checked.status == 0,
            "{source} {checked:?}\n{}",
            self.story()
        );
        server.stop(StopMode::Fast);
        // The others have no such program here.
        if [Major::V15, Major::V17].contains(&major) {
            run_ok(
                major
                    .command("pg_checksums")
                    .args(["--check", "-D"])
                    .arg(&data),
            );
        }
        server.destroy();
        for (_, folder) in spaces {
            fs::remove_dir_all(folder).unwrap();
        }
    }

    fn story(&self) -> String {
        self.said.join("\n")
    }
}

/// Relations below `folder` that are not logged, by the path of their first file.
fn unlogged(folder: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Some(text) = path.to_str().and_then(|text| text.strip_suffix("_init")) {
                found.insert(Path::new(text).strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found
}

/// Whether a file is one that the server makes anew: of a relation that is not logged or is temporary, or of a cache.
fn is_passing(path: &Path, unlogged: &BTreeSet<PathBuf>) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_temporary = name.starts_with('t')
        && name[1..].starts_with(|first: char| first.is_ascii_digit())
        && name.contains('_');
    let relation = name.split(['.', '_']).next().unwrap_or_default();
    let is_unlogged = !name.ends_with("_init") && unlogged.contains(&path.with_file_name(relation));
    is_temporary || is_unlogged || name == "pg_internal.init" || name == "pgsql_tmp"
}

fn every_incremental_is_the_server(major: Major) {
    let asked = std::env::var("PGM_TEST_STEPS").ok();
    let (rounds, steps) = match asked {
        Some(text) => (text.parse().expect("PGM_TEST_STEPS is a number"), 1),
        None => (ROUNDS, STEPS_BEFORE_EACH),
    };
    let mut walk = Walk::begin(major);
    for number in 1..=rounds {
        walk.round(number, steps);
    }
    let verified = walk.pgmd.cli_ok(&["verify", "main", "all"]);
    assert!(verified.contains("sound"), "{verified}");
    let (taken, refused) = walk.steps.counts();
    eprintln!("{taken} steps; {refused} statements were refused");
    assert!(
        refused * 3 < taken + 15,
        "{refused} of {taken}\n{}",
        walk.story()
    );
    walk.steps.let_go();
    walk.pgmd.stop();
    walk.cluster.destroy();
}

#[test]
fn every_incremental_is_the_server_of_postgresql_14() {
    every_incremental_is_the_server(Major::V14);
}

#[test]
fn every_incremental_is_the_server_of_postgresql_15() {
    every_incremental_is_the_server(Major::V15);
}

#[test]
fn every_incremental_is_the_server_of_postgresql_16() {
    every_incremental_is_the_server(Major::V16);
}

#[test]
fn every_incremental_is_the_server_of_postgresql_17() {
    every_incremental_is_the_server(Major::V17);
}

#[test]
fn every_incremental_is_the_server_of_postgresql_18() {
    every_incremental_is_the_server(Major::V18);
}
