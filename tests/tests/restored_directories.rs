//! Restored directories are complete: PostgreSQL's own check accepts them, whatever strange things were in them.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pgm_tests::{Cluster, Major, Pgmd, StopMode, majors, run, run_ok};

const TABLESPACES: [&str; 2] = ["one", "odd name ü"];
/// One that is a folder of the data directory.
const IN_PLACE: &str = "inside";
const ELSEWHERE: &str = "select pg_tablespace_location(oid) from pg_tablespace \
    where pg_tablespace_location(oid) like '/%'";
/// Names that need care in tar archives, in manifests, or on the way to either.
const NAMES: [&[u8]; 6] = [
    b"with space",
    "fünf.öäü".as_bytes(),
    b"not\xffutf-8",
    b"quote\"back\\slash",
    b"new\nline",
    b"01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234",
];

fn strange_server(major: Major) -> Cluster {
    let mut cluster = Cluster::builder(major)
        .tablespace(TABLESPACES[0])
        .tablespace(TABLESPACES[1])
        .setting("allow_in_place_tablespaces", "on")
        .start();
    cluster.sql(&format!("create tablespace {IN_PLACE} location ''"));
    for tablespace in [&TABLESPACES[..], &[IN_PLACE]].concat() {
        cluster.sql(&format!(
            "create table \"in {tablespace}\" tablespace \"{tablespace}\" as \
             select n, md5(n::text) from generate_series(1, 20000) n; \
             create index on \"in {tablespace}\" (n) tablespace \"{tablespace}\""
        ));
    }
    cluster.sql("create table empty ()");
    cluster.sql("create unlogged table unlogged as select generate_series(1, 1000) n");
    cluster.sql("create database \"odd \"\"name\"\" ü\"");
    cluster.stop(StopMode::Fast);

    let data = cluster.data().to_owned();
    // The WAL of many servers is on a disk of its own.
    fs::rename(data.join("pg_wal"), cluster.folder().join("wal")).unwrap();
    symlink(cluster.folder().join("wal"), data.join("pg_wal")).unwrap();
    fs::create_dir_all(data.join("odd/empty folder")).unwrap();
    fs::set_permissions(data.join("odd"), fs::Permissions::from_mode(0o700)).unwrap();
    for name in NAMES {
        fs::write(data.join("odd").join(OsStr::from_bytes(name)), name).unwrap();
    }
    File::create(data.join("odd/zero length")).unwrap();
    cluster.start();
    cluster
}

/// Takes a backup of `cluster`, restores it with its tablespaces elsewhere, checks it, and returns the server.
fn restored(cluster: &Cluster) -> (Cluster, PathBuf) {
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    pgmd.wait_durable("main", &cluster.value("select pg_switch_wal()"));
    let mut elsewhere = PathBuf::new();
    let mut restored = Cluster::made_by(cluster.major(), |data| {
        elsewhere = data.with_file_name("tablespaces elsewhere");
        let mut arguments = vec!["restore".to_owned(), "main".to_owned(), "newest".to_owned()];
        arguments.push(data.display().to_string());
        for location in cluster.sql(ELSEWHERE) {
            let name = Path::new(&location[0]).file_name().unwrap();
            arguments.push("--tablespace".to_owned());
            arguments.push(format!(
                "{}={}",
                location[0],
                elsewhere.join(name).display()
            ));
        }
        pgmd.cli_ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        agrees_with_its_manifest(data);
        if cluster.major() <= Major::V17 {
            // Without -n it would look for WAL, which the server fetches by itself.
            run_ok(Major::V17.command("pg_verifybackup").arg("-n").arg(data));
        }
    });
    restored.start();
    restored.wait_writable();
    (restored, elsewhere)
}

/// As `pg_verifybackup`, which there is not for the newest major: sizes and checksums of all files are the manifest's.
fn agrees_with_its_manifest(data: &Path) {
    let manifest = fs::read(data.join("backup_manifest")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let files = manifest["Files"].as_array().unwrap();
    assert!(files.len() > 900, "{}", files.len());
    for file in files {
        // Recovery settings are added to this one, which pg_verifybackup leaves out, too.
        if file["Path"] == "postgresql.auto.conf" {
            continue;
        }
        let path = match file["Path"].as_str() {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from(OsStr::from_bytes(&unhex(
                file["Encoded-Path"].as_str().unwrap(),
            ))),
        };
        let content = fs::read(data.join(&path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(
            Some(content.len() as u64),
            file["Size"].as_u64(),
            "{}",
            path.display()
        );
        // The manifest has the bytes of the checksum in the order of this machine's memory.
        let checksum = unhex(file["Checksum"].as_str().unwrap());
        assert_eq!(
            pgm_storage::crc32c(&content).to_le_bytes(),
            checksum[..],
            "{}",
            path.display()
        );
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn same_contents(major: Major) {
    let cluster = strange_server(major);
    let (restored, elsewhere) = restored(&cluster);
    for tablespace in [&TABLESPACES[..], &[IN_PLACE]].concat() {
        let sum = format!("select count(*), sum(hashtext(md5)) from \"in {tablespace}\"");
        assert_eq!(restored.sql(&sum), cluster.sql(&sum), "{major}");
    }
    assert_eq!(restored.value("select count(*) from empty"), "0");
    assert_eq!(
        restored.value("select count(*) from unlogged"),
        "0",
        "unlogged tables are emptied by recovery"
    );
    for location in restored.sql(ELSEWHERE) {
        assert!(
            Path::new(&location[0]).starts_with(&elsewhere),
            "{location:?}"
        );
    }
    let odd = restored.data().join("odd");
    assert!(
        fs::read_dir(odd.join("empty folder"))
            .unwrap()
            .next()
            .is_none(),
        "{major}"
    );
    for name in NAMES {
        assert_eq!(
            fs::read(odd.join(OsStr::from_bytes(name))).unwrap(),
            name,
            "{major}"
        );
    }
    let mode = fs::metadata(restored.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700, "{major}");
    // What was restored is a server like any other: it can be backed up in its turn.
    restored.sql("create table later as select 1 one");
}

#[test]
fn tablespaces_links_empty_and_odd_names_are_restored_from_every_major() {
    for major in majors() {
        same_contents(major);
    }
}

#[test]
fn a_relation_over_one_gibibyte_is_restored() {
    let mut cluster = Cluster::builder(Major::V17).start();
    cluster.sql("create table big as select n, md5(n::text) from generate_series(1, 1000) n");
    cluster.sql("checkpoint");
    let file = cluster
        .data()
        .join(cluster.value("select pg_relation_filepath('big')"));
    cluster.stop(StopMode::Fast);
    // Pages of zeros are empty pages: the quick way to a relation of two files.
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    File::create(file.with_extension("1"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    cluster.start();
    cluster.sql(
        "insert into big select n, md5(n::text) from generate_series(1001, 2000) n; checkpoint",
    );

    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    let mut restored = Cluster::made_by(Major::V17, |data| {
        pgmd.cli_ok(&["restore", "main", "newest", data.to_str().unwrap()]);
        run_ok(Major::V17.command("pg_verifybackup").arg("-n").arg(data));
    });
    restored.start();
    restored.wait_writable();
    let size = "select pg_relation_size('big')";
    assert_eq!(restored.value(size), cluster.value(size));
    assert!(restored.value(size).parse::<u64>().unwrap() > 1 << 30);
    let sum = "select count(*), sum(hashtext(md5)) from big";
    assert_eq!(restored.sql(sum), cluster.sql(sum));
}

#[test]
fn every_page_of_a_restored_server_has_its_checksum() {
    let cluster = Cluster::builder(Major::V17).start();
    cluster.sql("create table t as select n, md5(n::text) from generate_series(1, 50000) n");
    let (mut restored, _) = restored(&cluster);
    restored.stop(StopMode::Fast);
    let checked = run(Major::V17
        .command("pg_checksums")
        .arg("--check")
        .arg("-D")
        .arg(restored.data()));
    assert_eq!(checked.status, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(
        checked.stdout.contains("Bad checksums:  0"),
        "{}",
        checked.stdout
    );
}
