//! A restore from two repositories that have the same backup: a store behind a slow line and a folder, both give, and one of them
//! goes away in the middle.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use pgm_tests::{
    Cluster, Fault, Major, Pgmd, Proxy, Rows, Scratch, StoreKind, StoreServer, run, run_ok,
    take_backup, wait_until,
};
use serde_json::Value;

/// What is restored is what was backed up.
fn is_whole(data: &Path, expected: &Rows) {
    run_ok(Major::V17.command("pg_verifybackup").arg(data));
    let mut restored = Cluster::on(Major::V17, data);
    restored.start();
    restored.wait_writable();
    let differences = expected.differences(&Rows::of(&restored));
    assert!(differences.is_empty(), "{differences:?}");
}

/// Bytes that a repository gave.
fn given(outcome: &Value, repository: &str) -> u64 {
    let sources = outcome["sources"].as_array().unwrap();
    let source = sources.iter().find(|one| one["repository"] == repository);
    source.map_or(0, |source| source["raw_bytes"].as_u64().unwrap())
}

#[test]
fn both_repositories_give_and_one_may_go_away_in_the_middle() {
    let store = StoreServer::start(StoreKind::S3);
    let proxy = Proxy::to(store.port());
    let here = Scratch::new("s");
    let file = here.join("credentials");
    fs::write(&file, store.credentials()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let url = store.address_through(proxy.port(), "far") + "&retry_timeout=2&timeout=5";

    let cluster = Cluster::builder(Major::V17).start();
    cluster.grant_backups();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    let near = here.join("near");
    pgmd.write_configuration(&format!(
        "(repository: (url: {url:?}, credentials_file: {file:?}), repositories: {{ \"near\": (path: {near:?}) }}, \
          servers: {{ \"main\": (conninfo: {:?}) }})",
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    cluster.sql(
        "create table big as select n, repeat(md5(n::text), 30) filler from generate_series(1, 80000) n",
    );
    // Both get what is read once.
    let taken = take_backup(&pgmd, &["--source", "local"]);
    assert_eq!(taken["method"], "files", "{taken}");
    let expected = Rows::of(&cluster);
    let written = cluster.value("select pg_switch_wal()");
    pgmd.wait_durable("main", &written);
    wait_until("both have all WAL", || {
        let repositories = pgmd.status("main")["repositories"].clone();
        let mut repositories = repositories.as_array().unwrap().iter();
        repositories.all(|one| one["backlog_files"] == 0)
    });

    // The far one comes first, so it has something to give before the other one is found; and it is slow, so it cannot give all.
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    let data = here.join("both");
    let outcome = pgmd.json(&["restore", "main", "newest", data.to_str().unwrap()]);
    let (far, folder) = (given(&outcome, "default"), given(&outcome, "near"));
    assert!(far > 0 && folder > 0, "{outcome}");
    assert_eq!(
        Some(far + folder),
        outcome["raw_bytes"].as_u64(),
        "{outcome}"
    );
    is_whole(&data, &expected);

    // One that is named is read alone.
    let data = here.join("alone");
    let restore = ["restore", "main", "newest", data.to_str().unwrap()];
    let outcome = pgmd.json(&[&restore[..], &["--repo", "near"]].concat());
    assert_eq!(
        given(&outcome, "near"),
        outcome["raw_bytes"].as_u64().unwrap()
    );
    is_whole(&data, &expected);

    let data = here.join("dying");
    let restore = ["restore", "main", "newest", data.to_str().unwrap()];
    let told = std::thread::scope(|scope| {
        let restoring = scope.spawn(|| run(pgmd.cli_command().args(restore)));
        wait_until("it has begun to write", || data.join("base").exists());
        proxy.set(Fault::Refuse);
        proxy.cut();
        restoring.join().unwrap()
    });
    assert_eq!(told.status, 0, "{told:?}");
    proxy.set(Fault::None);
    is_whole(&data, &expected);
}
