//! A backup that is killed or cut off goes on from what it had stored, and what is restored is what the last attempt was
//! told by the server.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use pgm_tests::{Cluster, Major, Pgmd, Proxy, kill_worker, run_ok, wait_until};

const MIB: u64 = 1 << 20;
/// So many kilobytes are more than the workers can have in open packs.
const ROWS: u32 = 300_000;

/// Every file below `folder`, as a path from there.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_str().unwrap().to_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let below = files(&entry.path()).into_iter();
            found.extend(below.map(|path| format!("{name}/{path}")));
        } else {
            found.insert(name);
        }
    }
    found
}

fn has_ending(path: &str, ending: &str) -> bool {
    Path::new(path).extension() == Some(ending.as_ref())
}

/// What the next backup can go on from: the lists of frames of finished packs.
fn lists(pgmd: &Pgmd) -> BTreeSet<String> {
    let mut all = files(&pgmd.repository().join("main/backup"));
    all.retain(|path| path.contains("/resume/") && !has_ending(path, "tmp"));
    all
}

/// How much the running backup has read.
fn read_bytes(pgmd: &Pgmd) -> u64 {
    let jobs = pgmd.json(&["progress"]);
    let jobs = jobs["jobs"].as_array().cloned().unwrap_or_default();
    let backup = jobs.iter().find(|job| job["kind"] == "backup");
    backup.map_or(0, |job| job["done_bytes"].as_u64().unwrap())
}

/// A backup slow enough to be killed where the test wants it.
fn begin(pgmd: &Pgmd) -> Child {
    let mut command = pgmd.cli_command();
    command.args(["backup", "main", "--max-rate", "131072"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Waits until the backup is where the test wants it, which must be before its end.
fn wait_within(backup: &mut Child, what: &str, mut is_there: impl FnMut() -> bool) {
    wait_until(what, || {
        assert!(backup.try_wait().unwrap().is_none(), "the backup is over");
        is_there()
    });
}

fn fails(mut backup: Child) {
    assert!(!backup.wait().unwrap().success());
}

/// Restores the newest backup, and has PostgreSQL check it.
fn restored(pgmd: &Pgmd) -> Cluster {
    let mut restored = Cluster::made_by(Major::V17, |data| {
        pgmd.cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
        run_ok(Major::V17.command("pg_verifybackup").arg("-n").arg(data));
    });
    restored.start();
    restored.wait_writable();
    restored
}

/// Streams from the cluster, and stores everything as it is.
fn pgmd_behind(proxy: &Proxy, cluster: &Cluster) -> Pgmd {
    let conninfo = cluster.conninfo().replace(
        &format!("port={}", cluster.port()),
        &format!("port={}", proxy.port()),
    );
    let mut pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(&format!(
        "(repository: (compression: \"none\"), servers: {{\"main\": (conninfo: {conninfo:?})}})"
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd
}

const CONTENT: &str =
    "select count(*) || ' ' || sum(n) || ' ' || sum(hashtext(text)::bigint) from t";

#[test]
fn killed_and_cut_backups_are_gone_on_from_and_restore_what_the_last_one_read() {
    let cluster = Cluster::builder(Major::V17).start();
    // A kilobyte each, which is stored as it is.
    cluster.sql(&format!(
        "create table t as select n, repeat(md5(n::text), 30) as text from generate_series(1, {ROWS}) n"
    ));
    cluster.sql("checkpoint");
    let size: u64 = cluster
        .value("select pg_database_size(current_database())")
        .parse()
        .unwrap();
    let proxy = Proxy::to(cluster.port());
    let mut pgmd = pgmd_behind(&proxy, &cluster);

    // Its worker is killed: what is in finished packs stays.
    let mut backup = begin(&pgmd);
    wait_within(&mut backup, "packs are finished", || {
        lists(&pgmd).len() >= 2
    });
    for pid in pgmd.job_workers() {
        kill_worker(pid);
    }
    fails(backup);
    let after_kill = lists(&pgmd);
    assert!(after_kill.len() >= 2);

    // The connection breaks: all that had come stays, beside what was there.
    cluster
        .sql("update t set text = 'changed' where n % 100000 = 7; insert into t values (0, 'new')");
    let mut backup = begin(&pgmd);
    let before = pgmd.log().len();
    wait_within(&mut backup, "more packs, or most of it was read", || {
        lists(&pgmd).len() > after_kill.len() || read_bytes(&pgmd) > size / 4 * 3
    });
    proxy.cut();
    fails(backup);
    let after_cut = lists(&pgmd);
    assert!(
        after_cut.len() > after_kill.len(),
        "{}",
        &pgmd.log()[before..]
    );
    assert!(after_cut.is_superset(&after_kill));

    // The supervisor dies, then everything at once: nothing that was there is lost.
    cluster.sql("delete from t where n % 50000 = 3");
    pgmd.wait_streaming("main");
    let mut backup = begin(&pgmd);
    wait_within(&mut backup, "a part was read", || {
        read_bytes(&pgmd) > size / 4
    });
    pgmd.kill_supervisor();
    fails(backup);
    assert!(lists(&pgmd).is_superset(&after_cut));
    pgmd.start();
    pgmd.wait_streaming("main");
    let mut backup = begin(&pgmd);
    wait_within(&mut backup, "a part was read", || {
        read_bytes(&pgmd) > size / 8
    });
    pgmd.kill();
    fails(backup);
    assert!(lists(&pgmd).is_superset(&after_cut));
    assert_eq!(
        files(&pgmd.repository().join("main/backup"))
            .iter()
            .filter(|path| path.ends_with("backup.ron"))
            .count(),
        0
    );

    // The next one takes over what has not changed, says so, and is what the server is now.
    cluster.sql("update t set n = -n where n = 1; checkpoint");
    pgmd.start();
    pgmd.wait_streaming("main");
    let taken = pgmd.json(&["backup", "main"]);
    let reused = taken["reused_bytes"].as_u64().unwrap();
    assert!(reused > after_cut.len() as u64 * 8 * MIB, "{taken}");
    assert!(
        pgmd.cli_ok(&["info", "main", "newest"])
            .contains("Taken over")
    );
    let expected = cluster.value(CONTENT);
    assert_eq!(restored(&pgmd).value(CONTENT), expected);
    pgmd.cli_ok(&["verify", "main"]);

    // What is left of the others is packs that it needs; they go when it goes.
    let label = taken["label"].as_str().unwrap();
    for file in files(&pgmd.repository().join("main/backup")) {
        assert!(
            file.starts_with(label) || has_ending(&file, "pack"),
            "left behind: {file}"
        );
    }
    let next = pgmd.json(&["backup", "main"]);
    assert_eq!(next["reused_bytes"], 0);
    pgmd.cli_ok(&["delete", "main", label, "--force"]);
    for file in files(&pgmd.repository().join("main/backup")) {
        assert!(
            file.starts_with(next["label"].as_str().unwrap()),
            "left behind: {file}"
        );
    }
    assert_eq!(restored(&pgmd).value(CONTENT), expected);
}
