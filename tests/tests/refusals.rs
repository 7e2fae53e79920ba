//! What cannot work is refused, before anything is changed, with one clear message and what to do about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use pgm_tests::{Auth, Cluster, Major, Pgmd, Run, Scratch, run, wait_until};

/// A server that streams into pgmd and was backed up.
fn protected() -> (Cluster, Pgmd) {
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    pgmd.cli_ok(&["backup", "main"]);
    (cluster, pgmd)
}

/// Fails the test unless the command failed, said all of `words`, gave a hint, and said it once.
fn refused(run: &Run, words: &[&str]) {
    assert_ne!(run.status, 0, "{}{}", run.stdout, run.stderr);
    for word in words {
        assert!(says(&run.stderr, word), "{word:?} is not in: {}", run.stderr);
    }
    assert_eq!(run.stderr.matches("HINT:").count(), 1, "{}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// Whether `text` has `word` in it, in whatever letters.
fn says(text: &str, word: &str) -> bool {
    text.to_lowercase().contains(&word.to_lowercase())
}

fn restore(pgmd: &Pgmd, data: &Path, more: &[&str]) -> Run {
    let mut arguments = vec!["restore", "main", "newest", data.to_str().unwrap()];
    arguments.extend(more);
    pgmd.cli(&arguments)
}

/// The only file below `folder` whose path contains `part`, or the first of them.
fn find(folder: &Path, part: &str) -> PathBuf {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                collect(&entry.path(), found);
            } else {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    collect(folder, &mut found);
    found.sort();
    let all = format!("{found:?}");
    found
        .into_iter()
        .find(|path| path.to_str().unwrap().contains(part))
        .unwrap_or_else(|| panic!("no {part} in {all}"))
}

fn flip_a_bit(file: &Path, at: impl Fn(usize) -> usize) {
    let mut content = fs::read(file).unwrap();
    let offset = at(content.len());
    content[offset] ^= 0x10;
    fs::write(file, content).unwrap();
}

#[test]
fn targets_that_cannot_be_reached_are_refused_before_a_byte_is_written() {
    let (cluster, pgmd) = protected();
    pgmd.wait_durable("main", &cluster.value("select pg_switch_wal()"));
    let scratch = Scratch::new("n");
    let data = scratch.join("data");
    refused(&restore(&pgmd, &data, &["--target-lsn", "FF/0"]), &["FF/0"]);
    refused(
        &restore(&pgmd, &data, &["--target-time", "2001-01-01 00:00:00+00"]),
        &["2001-01-01"],
    );
    refused(&restore(&pgmd, &data, &["--timeline", "9"]), &["9"]);
    refused(
        &pgmd.cli(&[
            "restore",
            "main",
            "20010101T000000Z",
            data.to_str().unwrap(),
        ]),
        &["20010101T000000Z"],
    );
    refused(
        &pgmd.cli(&["restore", "nobody", "newest", data.to_str().unwrap()]),
        &["nobody"],
    );
    assert!(!data.exists(), "nothing was written");
    // The plan says the same.
    refused(
        &restore(&pgmd, &data, &["--target-lsn", "FF/0", "--plan"]),
        &["FF/0"],
    );
    pgmd.cli_ok(&[
        "restore",
        "main",
        "newest",
        data.to_str().unwrap(),
        "--plan",
    ]);
    assert!(!data.exists(), "a plan writes nothing");
}

#[test]
fn a_restore_across_a_missing_segment_is_refused_and_named() {
    let (cluster, mut pgmd) = protected();
    let mut middle = String::new();
    for round in 0..4 {
        cluster.sql(&format!(
            "create table t{round} as select generate_series(1, 1000) n"
        ));
        if round == 2 {
            middle = cluster.value("select pg_walfile_name(pg_current_wal_lsn())");
        }
        pgmd.wait_durable("main", &cluster.value("select pg_switch_wal()"));
    }
    let end = cluster.value("select pg_current_wal_flush_lsn()");
    pgmd.wait_durable("main", &end);
    wait_until("the segment is archived", || {
        let archived = pgmd.status("main")["archived_lsn"]
            .as_str()
            .map(str::to_owned);
        let segment =
            archived.map(|lsn| cluster.value(&format!("select pg_walfile_name('{lsn}')")));
        segment.is_some_and(|segment| segment > middle)
    });
    pgmd.stop();
    fs::remove_file(find(&pgmd.repository().join("main/wal"), &middle)).unwrap();
    let _ = fs::remove_file(pgmd.spool("main").join(&middle));
    let scratch = Scratch::new("n");
    let data = scratch.join("data");
    refused(&restore(&pgmd, &data, &["--target-lsn", &end]), &[&middle]);
    assert!(!data.exists(), "nothing was written");
}

#[test]
fn a_directory_in_use_is_never_written_to() {
    let (cluster, pgmd) = protected();
    refused(&restore(&pgmd, cluster.data(), &[]), &["empty"]);
    let scratch = Scratch::new("n");
    fs::write(scratch.join("precious"), "precious").unwrap();
    refused(&restore(&pgmd, scratch.path(), &[]), &["empty"]);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    assert_eq!(cluster.value("select 1"), "1");
}

#[test]
fn damaged_packs_and_manifests_are_found_and_named() {
    let (_cluster, pgmd) = protected();
    let backup = pgmd.repository().join("main/backup");
    let scratch = Scratch::new("n");
    for (number, part) in [".pack", "manifest", "backup.ron"].into_iter().enumerate() {
        let file = find(&backup, part);
        let good = fs::read(&file).unwrap();
        flip_a_bit(&file, |length| length / 2);
        let data = scratch.join(format!("data{number}"));
        let name = file.file_name().unwrap().to_str().unwrap();
        refused(&restore(&pgmd, &data, &[]), &[name]);
        let started = Major::V17
            .command("postgres")
            .arg("-D")
            .arg(&data)
            .stderr(Stdio::null())
            .output();
        assert!(
            !started.unwrap().status.success(),
            "no server starts on what a failed restore left"
        );
        fs::write(&file, good).unwrap();
    }
    pgmd.cli_ok(&[
        "restore",
        "main",
        "newest",
        scratch.join("good").to_str().unwrap(),
    ]);
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused() {
    let (_cluster, pgmd) = protected();
    let second = run(&mut pgmd.pgmd_command());
    refused(&second, &[&pgmd.pid().to_string()]);
    pgmd.cli_ok(&["ping"]);
    pgmd.wait_streaming("main");
}

#[test]
fn a_typing_error_in_the_configuration_is_shown_with_its_place_and_the_nearest_name() {
    let pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(
        "(\n    servers: {\n        \"main\": (conninfo: \"host=h\", slto: \"x\"),\n    },\n)\n",
    );
    for run in [run(&mut pgmd.pgmd_command()), pgmd.cli(&["status"])] {
        assert_eq!(run.status, 2, "{}", run.stderr);
        refused(&run, &["pgmd.ron", ":3:", "slto", "slot"]);
    }
}

#[test]
fn what_is_wrong_with_a_server_is_said_by_check_and_status() {
    let cluster = Cluster::builder(Major::V17).auth(Auth::ScramSha256).start();
    cluster.sql("create role nobody login password 'x'");
    let base = format!("host=127.0.0.1 port={} dbname=postgres", cluster.port());
    let servers = [
        (
            "wrong_password",
            format!("{base} user=pgm password=wrong"),
            "password",
        ),
        (
            "wrong_host",
            "host=no-such-host.invalid user=pgm".to_owned(),
            "no-such-host.invalid",
        ),
        (
            "nobody_there",
            "host=127.0.0.1 port=1 user=pgm".to_owned(),
            "127.0.0.1",
        ),
        (
            "no_replication",
            format!("{base} user=nobody password=x"),
            "replication",
        ),
    ];
    let list: Vec<(&str, &str)> = servers
        .iter()
        .map(|(name, conninfo, _)| (*name, conninfo.as_str()))
        .collect();
    let mut pgmd = Pgmd::configured(&list);
    for (name, _, word) in &servers {
        let check = pgmd.cli(&["check", name]);
        assert_eq!(check.status, 1, "{name}: {}{}", check.stdout, check.stderr);
        assert!(
            says(&check.stdout, word) || says(&check.stderr, word),
            "{name}: {}",
            check.stdout
        );
    }
    pgmd.start();
    for (name, _, word) in &servers {
        wait_until("the trouble is said", || {
            pgmd.status(name)["last_error"].is_string()
        });
        let status = pgmd.status(name);
        assert!(
            says(status["last_error"].as_str().unwrap(), word),
            "{name}: {status}"
        );
        assert!(status["hint"].is_string(), "{name}: {status}");
        refused(&pgmd.cli(&["backup", name]), &[word]);
    }
    assert!(!pgmd.log().contains("=wrong"), "no password is ever logged");
    assert_eq!(pgmd.stop(), 0);
}

#[test]
fn a_slot_that_is_missing_is_not_made_unless_allowed() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(&format!(
        "(servers: {{ \"main\": (conninfo: {:?}, slot: \"absent\", create_slot: false) }})",
        cluster.conninfo()
    ));
    pgmd.start();
    wait_until("the trouble is said", || {
        pgmd.status("main")["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("absent"))
    });
    assert!(pgmd.status("main")["hint"].is_string());
    let check = pgmd.cli(&["check", "main"]);
    assert_eq!(check.status, 1);
    assert!(
        check.stdout.contains("pg_create_physical_replication_slot"),
        "{}",
        check.stdout
    );
    cluster.sql("select pg_create_physical_replication_slot('absent', true)");
    pgmd.wait_streaming("main");
}
