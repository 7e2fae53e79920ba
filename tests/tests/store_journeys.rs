//! The quickstart's journey on far stores: WAL and a backup go there, everything here is lost, and `pgm-cli` alone
//! gives it back from the address and the credentials.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use pgm_tests::{
    Cluster, Fault, Major, Pgmd, Proxy, Scratch, StoreKind, StoreServer, built, holders, run,
    run_ok, wait_until,
};

/// Without the key, and with another one.
fn nobody_else_gets_in(keyless: &dyn Fn(&[&str]) -> Command, here: &Scratch) {
    let refused = run(&mut keyless(&["list-backup"]));
    let says = |part: &str| refused.stderr.contains(part);
    assert!(
        refused.status != 0 && says("is sealed") && says("--master-key"),
        "{refused:?}"
    );
    let other = here.join("other.key");
    let other = other.to_str().unwrap();
    run_ok(Command::new(built("pgm-cli")).args(["admin", "master-key", "-o", other]));
    let refused = run(keyless(&["list-backup"]).args(["--master-key", other]));
    assert!(
        refused.status != 0 && refused.stderr.contains("takes the master key"),
        "{refused:?}"
    );
}

fn what_there_is_is_told(cli: &dyn Fn(&[&str]) -> Command) {
    let listed = run_ok(&mut cli(&["list-backup"]));
    assert!(listed.contains("main"), "{listed}");
    let info = run_ok(&mut cli(&["info", "main"]));
    assert!(info.contains("valid"), "{info}");
    let unknown = run(&mut cli(&["info", "other"]));
    assert!(
        unknown.status == 4 && unknown.stderr.contains("main"),
        "{unknown:?}"
    );
}

/// What the `wal` commands find in a store, frame by frame: nothing of it is on this host.
fn the_wal_is_read_there(cli: &dyn Fn(&[&str]) -> Command) {
    let wal = |arguments: &[&str]| {
        let (command, rest) = arguments.split_first().unwrap();
        run_ok(&mut cli(
            &[&["wal", command, "--server", "main"], rest].concat()
        ))
    };
    let found = wal(&["find", "--drop-table", "precious"]);
    assert!(found.contains("--target-lsn"), "{found}");
    let counted = wal(&["info", "--stats"]);
    assert!(counted.contains("Heap"), "{counted}");
    let changed = wal(&["summary"]);
    assert!(changed.contains("TS 1663, DB "), "{changed}");
    let verified = wal(&["verify"]);
    assert!(!verified.contains("damage"), "{verified}");
}

fn the_journey(kind: StoreKind) {
    let store = StoreServer::start(kind);
    let url = store.address("pgm/one");
    let here = Scratch::new("restored");
    let credentials = here.join("credentials");
    fs::write(&credentials, store.credentials()).unwrap();
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).unwrap();
    let credentials = credentials.to_str().unwrap();
    let key = here.join("master.key");
    let key = key.to_str().unwrap();
    let made = run_ok(Command::new(built("pgm-cli")).args(["admin", "master-key", "-o", key]));
    assert!(made.contains("keep a copy"), "{made}");

    let mut cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.write_configuration(&format!(
        "(repository: (url: {url:?}, credentials_file: {credentials:?}, seal: {key:?}), \
          servers: {{ \"main\": (conninfo: {:?}) }})",
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    cluster.sql(
        "create table t as select n, repeat('x', 500) filler from generate_series(1, 20000) n",
    );
    cluster.sql("create table precious (n int)");
    pgmd.cli_ok(&["backup", "main"]);
    cluster.sql("drop table precious");
    cluster
        .sql("insert into t select 20000 + n, 'after the backup' from generate_series(1, 1000) n");
    let written = cluster.value("select pg_switch_wal()");
    pgmd.wait_durable("main", &written);
    wait_until("the last segment is in the store", || {
        let archived = pgmd.status("main")["archived_lsn"].clone();
        let reached = format!(
            "select '{}'::pg_lsn >= '{written}'",
            archived.as_str().unwrap_or("0/0")
        );
        cluster.value(&reached) == "t"
    });
    assert_eq!(
        pgmd.status("main")["archived_segments"]
            .as_u64()
            .map(|n| n > 0),
        Some(true)
    );
    let log = pgmd.log();
    assert!(!log.contains("canary"), "no secret is logged: {log}");

    // Everything of the server's and the daemon's hosts is gone.
    pgmd.kill();
    let daemon = pgmd.directory().to_owned();
    assert!(
        holders(&daemon, "canary-secret").is_empty(),
        "no secret rests with the daemon"
    );
    fs::remove_dir_all(daemon.join("spool")).unwrap();
    fs::remove_file(daemon.join("pgmd.ron")).unwrap();
    cluster.destroy();

    // The binary, the address, the credentials and the key are all there is.
    let program = here.join("pgm-cli");
    fs::copy(built("pgm-cli"), &program).unwrap();
    let keyless = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .env_remove("PGM_DIRECTORY")
            .current_dir(here.path())
            .args(arguments)
            .args(["--repository", &url, "--credentials", credentials]);
        command
    };
    nobody_else_gets_in(&keyless, &here);
    let cli = |arguments: &[&str]| {
        let mut command = keyless(arguments);
        command.args(["--master-key", key]);
        command
    };
    what_there_is_is_told(&cli);
    the_wal_is_read_there(&cli);

    let data = here.join("data");
    run_ok(&mut cli(&[
        "restore",
        "main",
        "newest",
        data.to_str().unwrap(),
    ]));
    let secret_key = fs::read_to_string(key).unwrap();
    for secret in ["canary-secret", "Eby8vdM02xNOcq", secret_key.trim()] {
        assert!(
            holders(&data, secret).is_empty(),
            "no secret is in the restored directory"
        );
    }
    let mut restored = Cluster::on(Major::V17, &data);
    restored.start();
    restored.wait_writable();
    assert_eq!(restored.value("select count(*) from t"), "21000");
    assert_eq!(
        restored.value("select count(*) from t where filler = 'after the backup'"),
        "1000"
    );
}

#[test]
fn backup_wal_and_restore_with_s3() {
    the_journey(StoreKind::S3);
}

#[test]
fn backup_wal_and_restore_with_azure() {
    the_journey(StoreKind::Azure);
}

#[test]
fn backup_wal_and_restore_with_sftp() {
    the_journey(StoreKind::Sftp);
}

/// The store is away while the daemon starts: receiving begins all the same, and what waits in the spool gets there later.
#[test]
fn a_daemon_starts_and_receives_while_its_repository_is_away() {
    let store = StoreServer::start(StoreKind::S3);
    let proxy = Proxy::to(store.port());
    let here = Scratch::new("away");
    let file = here.join("credentials");
    fs::write(&file, store.credentials()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let url = store.address_through(proxy.port(), "pgm/away");
    let mut cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.write_configuration(&format!(
        "(repository: (url: {url:?}, credentials_file: {file:?}), servers: {{ \"main\": (conninfo: {:?}) }})",
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    cluster.sql("create table t as select n from generate_series(1, 1000) n");
    pgmd.stop();

    // Silence is worse than refusal: whoever waits for the store hangs for as long as its deadlines are.
    proxy.set(Fault::SilenceAfter(0));
    proxy.cut();
    pgmd.start();
    pgmd.wait_streaming("main");
    cluster.sql("insert into t select 1000 + n from generate_series(1, 1000) n");
    let written = cluster.value("select pg_switch_wal()");
    pgmd.wait_durable("main", &written);
    let status = pgmd.status("main");
    assert!(
        status["repository_error"]
            .as_str()
            .is_some_and(|text| text.contains("does not answer")),
        "{status}"
    );

    proxy.set(Fault::None);
    proxy.cut();
    wait_until("the wal is in the store", || {
        let archived = pgmd.status("main")["archived_lsn"].clone();
        let archived = archived.as_str().unwrap_or("0/0").to_owned();
        cluster.value(&format!("select '{archived}'::pg_lsn >= '{written}'")) == "t"
    });
    cluster.destroy();
    let data = here.join("data");
    pgmd.cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
    let mut restored = Cluster::on(Major::V17, &data);
    restored.start();
    restored.wait_writable();
    assert_eq!(restored.value("select count(*) from t"), "2000");
}
