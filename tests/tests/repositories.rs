//! Several repositories: one that is far and goes away under load, comes back and catches up; a copy of one; and each of
//! them gives everything back alone.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pgm_tests::{
    Acknowledged, Cluster, Committers, Fault, Major, Pgmd, Proxy, Scratch, StoreKind, StoreServer,
    wait_until,
};
use serde_json::Value;

/// What the status says of one repository.
fn repository(pgmd: &Pgmd, name: &str) -> Value {
    let status = pgmd.status("main");
    let repositories = status["repositories"].as_array().unwrap().clone();
    let found = repositories
        .into_iter()
        .find(|one| one["repository"] == name);
    found.unwrap_or_else(|| panic!("no repository {name} in {status}"))
}

fn backlog(pgmd: &Pgmd, name: &str) -> u64 {
    repository(pgmd, name)["backlog_files"].as_u64().unwrap()
}

/// Waits until `name` has the WAL up to `lsn`.
fn wait_archived(pgmd: &Pgmd, name: &str, lsn: &str) {
    let wanted: pgm_proto::Lsn = lsn.parse().unwrap();
    wait_until("the wal is archived", || {
        let archived = repository(pgmd, name)["archived_lsn"].clone();
        let archived = archived.as_str().and_then(|text| text.parse().ok());
        archived.is_some_and(|lsn: pgm_proto::Lsn| lsn >= wanted)
    });
}

fn credentials(folder: &Scratch, store: &StoreServer) -> PathBuf {
    let file = folder.join("credentials");
    fs::write(&file, store.credentials()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// Every row that was acknowledged is there.
fn holds(data: &Path, acknowledged: &Acknowledged) {
    let mut restored = Cluster::on(Major::V17, data);
    restored.start();
    restored.wait_writable();
    let missing = acknowledged.missing_in(&restored);
    assert!(missing.is_empty(), "{} rows are missing", missing.len());
}

/// Files of the server's WAL in the spool.
fn spooled(pgmd: &Pgmd) -> usize {
    fs::read_dir(pgmd.spool("main")).map_or(0, |entries| {
        let names = entries.flatten().map(|entry| entry.file_name());
        names.filter(|name| name.len() == 24).count()
    })
}

#[test]
fn a_repository_that_goes_away_holds_up_neither_wal_nor_the_others() {
    let store = StoreServer::start(StoreKind::S3);
    let proxy = Proxy::to(store.port());
    let here = Scratch::new("restored");
    let file = credentials(&here, &store);
    // Short, so that the repository is tried again while the test looks.
    let url = store.address_through(proxy.port(), "pgm/far") + "&retry_timeout=3&timeout=3";

    let mut cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.write_configuration(&format!(
        "(repositories: {{ \"far\": (url: {url:?}, credentials_file: {file:?}, compression: \"lz4\") }}, \
          servers: {{ \"main\": (conninfo: {:?}) }})",
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    let workload = Committers::start(&cluster, 2);
    workload.wait_for_more(100);
    pgmd.cli_ok(&["backup", "main"]);
    let list = pgmd.json(&["list-backup", "main"]);
    let backups = list["servers"][0]["backups"].as_array().unwrap().clone();
    let of = |at: usize, key: &str| backups[at][key].as_str().unwrap().to_owned();
    assert_eq!(backups.len(), 2, "{list}");
    assert_eq!(
        (of(0, "repository"), of(1, "repository")),
        ("default".into(), "far".into())
    );
    assert_eq!(
        (of(0, "compression"), of(1, "compression")),
        ("zstd:3".into(), "lz4".into())
    );
    assert_eq!(of(0, "label"), of(1, "label"));
    // What changes something in one of several wants to know in which.
    let refused = pgmd.cli(&["delete", "main", "newest"]);
    assert!(
        refused.status != 0 && refused.stderr.contains("--repo"),
        "{refused:?}"
    );

    proxy.set(Fault::Refuse);
    proxy.cut();
    for _ in 0..3 {
        workload.wait_for_more(100);
        cluster.value("select pg_switch_wal()");
    }
    workload.wait_for_more(100);
    let written = cluster.value("select pg_switch_wal()");
    pgmd.wait_durable("main", &written);
    wait_archived(&pgmd, "default", &written);
    wait_until("the backlog is seen", || backlog(&pgmd, "far") >= 3);
    wait_until("the reason is told", || {
        repository(&pgmd, "far")["error"]
            .as_str()
            .is_some_and(|text| text.contains("far"))
    });
    assert!(
        spooled(&pgmd) >= 3,
        "what one repository lacks stays in the spool"
    );
    assert_eq!(repository(&pgmd, "default")["error"], Value::Null);
    let text = pgmd.cli_ok(&["status"]);
    assert!(text.contains("far"), "{text}");
    // A backup goes to where it can, and says where it could not.
    let half = pgmd.cli(&["backup", "main"]);
    assert!(half.status == 1 && half.stderr.contains("far"), "{half:?}");
    assert_eq!(
        pgmd.json(&["list-backup", "main", "--repo", "default"])["servers"][0]["backups"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    proxy.set(Fault::None);
    wait_archived(&pgmd, "far", &written);
    wait_until("the backlog is gone", || backlog(&pgmd, "far") == 0);
    wait_until("the reason is gone", || {
        repository(&pgmd, "far")["error"] == Value::Null
    });
    wait_until("the spool is let go of", || spooled(&pgmd) <= 2);
    let acknowledged = workload.stop();
    let written = cluster.value("select pg_switch_wal()");
    for name in ["default", "far"] {
        wait_archived(&pgmd, name, &written);
    }
    pgmd.kill();
    cluster.destroy();
    fs::remove_dir_all(pgmd.directory().join("spool")).unwrap();

    each_gives_everything_back(&pgmd, &here, &url, &file, &acknowledged);
}

/// The far one alone, then a copy of the near one alone.
fn each_gives_everything_back(
    pgmd: &Pgmd,
    here: &Scratch,
    url: &str,
    file: &Path,
    acknowledged: &Acknowledged,
) {
    let cli = |arguments: &[&str]| {
        let run = pgm_tests::run(pgmd.cli_command().args(arguments));
        assert!(run.status == 0, "{arguments:?}: {run:?}");
        run.stdout
    };
    let data = here.join("far");
    cli(&[
        "restore",
        "main",
        "newest",
        data.to_str().unwrap(),
        "--repository",
        url,
        "--credentials",
        file.to_str().unwrap(),
    ]);
    holds(&data, acknowledged);
    what_one_has_lost_comes_from_the_other(pgmd, here, acknowledged);
    let copied = here.join("copy");
    let copy = ["repository", "copy", "default", copied.to_str().unwrap()];
    assert!(cli(&copy).contains("copied 2 backups of main"));
    assert!(cli(&copy).contains("copied 0 backups of main (2 were there)"));
    fs::remove_dir_all(pgmd.repository()).unwrap();
    fs::remove_file(pgmd.directory().join("pgmd.ron")).unwrap();
    let repository = ["--repository", copied.to_str().unwrap()];
    let verified = cli(&[&["verify", "main", "all"][..], &repository].concat());
    assert!(verified.contains("sound"), "{verified}");
    let data = here.join("copied");
    cli(&[
        &["restore", "main", "oldest", data.to_str().unwrap()][..],
        &repository,
    ]
    .concat());
    holds(&data, acknowledged);
}

/// Every pack in the near one is damaged while the oldest backup is restored, which both have.
fn what_one_has_lost_comes_from_the_other(
    pgmd: &Pgmd,
    here: &Scratch,
    acknowledged: &Acknowledged,
) {
    let backups = fs::read_dir(pgmd.repository().join("main/backup")).unwrap();
    let folders = backups.map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    let packs = files.map(|entry| entry.unwrap().path());
    let packs = packs.filter(|path| path.extension().is_some_and(|kind| kind == "pack"));
    let whole: Vec<(PathBuf, Vec<u8>)> = packs
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            let mut damaged = bytes.clone();
            for at in (100..bytes.len()).step_by(100_000) {
                damaged[at] ^= 0x40;
            }
            fs::write(&path, damaged).unwrap();
            (path, bytes)
        })
        .collect();
    let data = here.join("mended");
    let restore = ["restore", "main", "oldest", data.to_str().unwrap()];
    let mut alone = pgmd.cli_command();
    let alone = pgm_tests::run(alone.args(restore).args(["--repo", "default"]));
    assert!(
        alone.status != 0 && alone.stderr.contains(".pack"),
        "{alone:?}"
    );
    let run = pgm_tests::run(pgmd.cli_command().args(restore));
    let told = format!("{}{}", run.stdout, run.stderr);
    assert!(
        run.status == 0 && told.contains("came from repository far"),
        "{run:?}"
    );
    holds(&data, acknowledged);
    for (path, bytes) in whole {
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_daemon_starts_and_receives_while_its_only_repository_is_away() {
    let store = StoreServer::start(StoreKind::S3);
    let proxy = Proxy::to(store.port());
    let here = Scratch::new("away");
    let file = credentials(&here, &store);
    let url = store.address_through(proxy.port(), "pgm/only") + "&retry_timeout=3&timeout=3";
    let mut cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.write_configuration(&format!(
        "(repository: (url: {url:?}, credentials_file: {file:?}), servers: {{ \"main\": (conninfo: {:?}) }})",
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    let workload = Committers::start(&cluster, 1);
    workload.wait_for_more(10);
    pgmd.stop();
    proxy.set(Fault::Refuse);
    proxy.cut();
    pgmd.start();
    pgmd.wait_streaming("main");
    workload.wait_for_more(10);
    let written = cluster.value("select pg_switch_wal()");
    pgmd.wait_durable("main", &written);
    wait_until("the reason is told", || {
        pgmd.status("main")["last_error"]
            .as_str()
            .is_some_and(|text| text.contains("archive"))
    });
    let acknowledged = workload.stop();
    let written = cluster.value("select pg_switch_wal()");
    pgmd.wait_durable("main", &written);
    proxy.set(Fault::None);
    wait_archived(&pgmd, "default", &written);
    cluster.destroy();
    let data = here.join("data");
    pgmd.cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
    holds(&data, &acknowledged);
}
