//! Sealed repositories with the real programs: what rests there tells nothing, keys change, copies go in and out.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::Path;
use std::process::Command;

use pgm_tests::{Cluster, Major, Pgmd, Scratch, built, holders, run, run_ok, wait_until};

/// In no file but the server's own.
const CANARY: &str = "a canary that nobody else may read";

/// Rows `from` to `to`, written and archived.
fn write(cluster: &Cluster, pgmd: &Pgmd, rows: std::ops::RangeInclusive<u32>) {
    let (from, to) = (rows.start(), rows.end());
    cluster.sql(&format!(
        "insert into t select n, '{CANARY}' from generate_series({from}, {to}) n"
    ));
    let written = cluster.value("select pg_switch_wal()");
    pgmd.wait_durable("main", &written);
    wait_until("the wal is archived", || {
        let archived = pgmd.status("main")["archived_lsn"].clone();
        let archived = archived.as_str().unwrap_or("0/0").to_owned();
        cluster.value(&format!("select '{archived}'::pg_lsn >= '{written}'")) == "t"
    });
}

fn new_key(here: &Scratch, name: &str) -> String {
    let file = here.join(name).to_str().unwrap().to_owned();
    run_ok(Command::new(built("pgm-cli")).args(["admin", "master-key", "-o", &file]));
    file
}

fn rows_in(data: &Path) -> String {
    let mut restored = Cluster::on(Major::V17, data);
    restored.start();
    restored.wait_writable();
    let rows = restored.value("select count(*) from t");
    restored.destroy();
    rows
}

#[test]
fn what_rests_is_sealed_the_keys_change_twice_and_copies_go_in_and_out() {
    let here = Scratch::new("sealed");
    let key = new_key(&here, "first.key");
    let mut cluster = Cluster::builder(Major::V17).start();
    cluster.sql("create table t (n int, filler text)");
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    // The uncompressed repository shows best what can be read in it. The key comes from a command that can be called.
    let in_force = here.join("key").to_str().unwrap().to_owned();
    fs::rename(&key, &in_force).unwrap();
    let first = fs::read(&in_force).unwrap();
    pgmd.write_configuration(&format!(
        "(repository: (compression: \"none\", seal: \"command: cat {in_force}\"), \
          verify: (postgres_bin: {:?}), servers: {{ \"main\": (conninfo: {:?}) }})",
        Major::V17.program("postgres").parent().unwrap(),
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    write(&cluster, &pgmd, 1..=1000);
    pgmd.cli_ok(&["backup", "main"]);
    assert!(!holders(&cluster.data().join("base"), CANARY).is_empty());
    assert_eq!(holders(&pgmd.repository(), CANARY), [""; 0]);
    assert_eq!(holders(&pgmd.repository(), "PG_VERSION"), [""; 0]);
    assert_eq!(pgmd.status("main")["repositories"][0]["sealed"], true);

    // Another master key, and once more with another data key.
    for (name, with) in [("second.key", &[][..]), ("third.key", &["--new-data-key"])] {
        let new = new_key(&here, name);
        let rekey = ["repository", "rekey", "--new-master-key", &new];
        let told = pgmd.cli_ok(&[&rekey[..], with].concat());
        assert!(told.contains("from now on"), "{told}");
        fs::rename(&new, &in_force).unwrap();
    }
    write(&cluster, &pgmd, 1001..=2000);
    pgmd.cli_ok(&["backup", "main"]);
    write(&cluster, &pgmd, 2001..=3000);
    let verified = pgmd.cli_ok(&["verify", "main", "all"]);
    assert!(verified.matches("sound").count() >= 2, "{verified}");
    let tried = pgmd.cli(&["verify", "main", "newest", "--level", "restore"]);
    assert!(
        tried.status == 0 && tried.stdout.contains("sound"),
        "{tried:?}"
    );

    let counted = pgmd.cli_ok(&["wal", "info", "--server", "main", "--repo", "default", "-z"]);
    assert!(counted.contains("Heap"), "{counted}");

    copies(&pgmd, &here);
    pgmd.kill();
    cluster.destroy();
    let data = here.join("data");
    pgmd.cli_ok(&["restore", "main", "oldest", data.to_str().unwrap()]);
    assert_eq!(rows_in(&data), "3000");
    // The key that was in force when the oldest backup was taken opens nothing any more.
    fs::write(&in_force, first).unwrap();
    let refused = pgmd.cli(&[
        "restore",
        "main",
        "oldest",
        here.join("no").to_str().unwrap(),
    ]);
    assert!(
        refused.status != 0
            && refused.stderr.contains("takes the master key")
            && refused.stderr.contains("HINT"),
        "{refused:?}"
    );
}

/// Into a plain repository, and from that into a sealed one with a key of its own.
fn copies(pgmd: &Pgmd, here: &Scratch) {
    let (plain, again) = (here.join("plain"), here.join("again"));
    let (plain, again) = (plain.to_str().unwrap(), again.to_str().unwrap());
    pgmd.cli_ok(&["repository", "copy", "default", plain]);
    assert!(!holders(Path::new(plain), CANARY).is_empty());
    let key = new_key(here, "copy.key");
    let copy = ["repository", "copy", plain, again, "--to-master-key", &key];
    let told = pgmd.cli_ok(&copy);
    assert!(told.contains("copied 2 backups of main"), "{told}");
    assert_eq!(holders(Path::new(again), CANARY), [""; 0]);
    let mut verify = Command::new(built("pgm-cli"));
    verify
        .args(["verify", "main", "all", "--repository", again])
        .env("PGM_TEST_KEY", fs::read_to_string(&key).unwrap().trim())
        .args(["--master-key", "env:PGM_TEST_KEY"]);
    let verified = run(&mut verify);
    assert!(
        verified.status == 0 && verified.stdout.matches("sound").count() >= 2,
        "{verified:?}"
    );
}

/// The daemon is told the key by its environment; neither its workers nor the hooks inherit it, and a trial's server still
/// finds its WAL.
#[test]
fn a_key_in_the_environment_gets_to_those_who_need_it() {
    let here = Scratch::new("sealed-env");
    let key = new_key(&here, "key");
    let secret = fs::read_to_string(&key).unwrap().trim().to_owned();
    let cluster = Cluster::builder(Major::V17).start();
    cluster.sql("create table t (n int, filler text)");
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    let seen = here.join("seen");
    pgmd.write_configuration(&format!(
        "(repository: (seal: \"env: PGM_SEAL\"), hooks: (after_backup: {:?}), \
          verify: (postgres_bin: {:?}), servers: {{ \"main\": (conninfo: {:?}) }})",
        format!("env > {}", seen.display()),
        Major::V17.program("postgres").parent().unwrap(),
        cluster.conninfo()
    ));
    pgmd.set_environment("PGM_SEAL", &secret);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    write(&cluster, &pgmd, 1..=1000);
    let tried = pgmd.cli(&["verify", "main", "newest", "--level", "restore"]);
    assert!(
        tried.status == 0 && tried.stdout.contains("sound"),
        "{tried:?}"
    );
    let worker = pgmd.receive_worker("main").unwrap();
    let environment = fs::read(format!("/proc/{worker}/environ"));
    let has_secret = |bytes: &[u8]| {
        bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes())
    };
    assert!(environment.is_err() || !has_secret(&environment.unwrap()));
    wait_until("the hook has run", || seen.exists());
    assert!(!has_secret(&fs::read(&seen).unwrap()));
    assert_eq!(holders(pgmd.directory(), &secret), [""; 0]);
}
