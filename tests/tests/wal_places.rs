//! Recovery from several repositories: what one has lost, damaged or does not give comes from another, and no end of the WAL is
//! believed as long as one of them does not answer.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pgm_tests::{
    Cluster, Fault, Major, Pgmd, Proxy, Scratch, StoreKind, StoreServer, run, wait_until,
};

const SEGMENTS: u32 = 12;

/// Restores the newest backup, whose `restore_command` reads so many segments ahead then.
fn restored(pgmd: &Pgmd, ahead: u8) -> Cluster {
    Cluster::made_by(Major::V17, |data| {
        pgmd.cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
        let settings = data.join("postgresql.auto.conf");
        let text = fs::read_to_string(&settings).unwrap();
        assert_eq!(text.matches(" --or ").count(), 2, "{text}");
        fs::write(
            &settings,
            text.replace(" --ahead 8 ", &format!(" --ahead {ahead} ")),
        )
        .unwrap();
    })
}

fn rows(cluster: &Cluster) -> String {
    cluster.value("select count(*) from numbered")
}

/// The paths of the finished segments behind the backup in a folder, oldest first.
fn segments(repository: &Path, first: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository.join("main/wal/00000001")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.len() == 24 && name >= first
        })
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn what_one_repository_does_not_give_comes_from_another_and_none_ends_recovery_unasked() {
    let store = StoreServer::start(StoreKind::S3);
    let proxy = Proxy::to(store.port());
    let here = Scratch::new("places");
    let file = here.join("credentials");
    fs::write(&file, store.credentials()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    // Short, because it is asked in vain.
    let url = store.address_through(proxy.port(), "far") + "&retry_timeout=2&timeout=2";
    let second = here.join("second");

    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.write_configuration(&format!(
        "(repositories: {{ \"far\": (url: {url:?}, credentials_file: {file:?}), \"another\": (path: {second:?}) }}, \
          servers: {{ \"main\": (conninfo: {:?}) }})",
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    cluster.sql("create table numbered (number int)");
    pgmd.cli_ok(&["backup", "main"]);
    let first = cluster.value("select pg_walfile_name(pg_current_wal_insert_lsn())");
    for number in 0..SEGMENTS {
        cluster.sql(&format!("insert into numbered values ({number})"));
        cluster.sql("select pg_switch_wal()");
    }
    let last = cluster.value("select pg_walfile_name(pg_switch_wal() - 1)");
    for place in [&pgmd.repository(), &second] {
        let object = place.join("main/wal/00000001").join(&last);
        wait_until("the last segment is in a folder", || object.exists());
    }
    wait_until("it is in the store", || {
        let repositories = pgmd.status("main")["repositories"].clone();
        let mut repositories = repositories.as_array().unwrap().iter();
        repositories.all(|one| one["backlog_files"] == 0)
    });
    let mut slow = restored(&pgmd, 0);
    let mut fast = restored(&pgmd, 8);
    drop(cluster);
    pgmd.kill();
    fs::remove_dir_all(pgmd.directory().join("spool")).unwrap();

    let get = |file: &str| {
        let mut command = pgmd.cli_command();
        let to = here.join("wanted");
        let told = run(command.args(["wal", "get", "main", file]).arg(&to));
        let _ = fs::remove_file(to);
        told
    };

    // The first one loses a segment, and another is damaged; the other folder loses a third.
    let paths = segments(&pgmd.repository(), &first);
    let (lost, damaged) = (&paths[2], &paths[4]);
    fs::remove_file(lost).unwrap();
    let mut bytes = fs::read(damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(damaged, bytes).unwrap();
    fs::remove_file(&segments(&second, &first)[6]).unwrap();
    proxy.set(Fault::Refuse);
    proxy.cut();

    assert_eq!(get(name(lost)).status, 0);
    let told = get(name(damaged));
    let place = pgmd.repository().display().to_string();
    assert!(
        told.status == 0 && told.stderr.contains(&place) && told.stderr.contains("damaged"),
        "{told:?}"
    );
    // What nobody has that answers may be in the one that does not.
    let absent = "0000000100000000000000FF";
    let told = get(absent);
    let says = |part: &str| told.stderr.contains(part);
    assert!(
        told.status == 128 && says(absent) && says("s3://pgm/far") && says("HINT: "),
        "{told:?}"
    );
    // A timeline that nobody knows who answers is none.
    let told = get("00000005.history");
    assert!(
        told.status == 1 && told.stderr.contains("note: 00000005.history"),
        "{told:?}"
    );

    let status = slow.start_expecting_exit();
    let log = slow.log();
    assert!(
        !status.success() && log.contains("cannot be had from s3://pgm/far"),
        "{log}"
    );
    assert!(
        log.contains(&format!(
            "note: {} does not come from {place}",
            name(damaged)
        )),
        "{log}"
    );
    proxy.set(Fault::None);
    assert_eq!(get(absent).status, 1);
    for server in [&mut slow, &mut fast] {
        server.start();
        server.wait_writable();
        assert_eq!(rows(server), SEGMENTS.to_string());
        let folder = server.data().join("pg_wal/pgm_ahead");
        wait_until("nothing is left of what was fetched ahead", || {
            !folder.exists()
        });
    }
}
