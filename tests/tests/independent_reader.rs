//! The page docs/on-disk.md is enough: a reader in Python that was written from it alone (tests/python/pgm_read.py) lists backups
//! and restores one, plain and sealed, to the same bytes as pgm; and refuses a wrong key and changed bits.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgm_proto::Lsn;
use pgm_tests::{Cluster, Major, Pgmd, Run, Scratch, differences, run, run_ok, wait_until};

/// The program, on a repository in a folder.
struct Reader {
    repository: PathBuf,
    key: Option<PathBuf>,
}

impl Reader {
    fn command(&self, arguments: &[&str]) -> Command {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let modules = std::env::var("PGM_READER_DIR")
            .unwrap_or_else(|_| run_ok(Command::new(here.join("reader")).arg("--directory")));
        let system = Path::new("/usr/bin/python3");
        let mut command = Command::new(if system.exists() {
            system
        } else {
            Path::new("python3")
        });
        command
            .env("PYTHONPATH", modules.trim())
            .arg("-B")
            .arg(here.join("python/pgm_read.py"));
        if let Some(key) = &self.key {
            command.arg("--key").arg(key);
        }
        command
            .args(&arguments[..1])
            .arg(&self.repository)
            .args(&arguments[1..]);
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        run(&mut self.command(arguments))
    }

    /// Fails unless the program refuses, and says `what`.
    fn refuses(&self, arguments: &[&str], what: &str) {
        let run = self.run(arguments);
        assert!(
            run.status == 1 && run.stderr.contains(what) && !run.stderr.contains("Traceback"),
            "`{what}` is not said: {run:?}"
        );
    }
}

/// Two backups of a server with a tablespace, and their WAL.
struct Backups {
    cluster: Cluster,
    pgmd: Pgmd,
    labels: Vec<String>,
}

impl Backups {
    fn take(repository: &str) -> Self {
        let cluster = Cluster::builder(Major::V17).tablespace("space").start();
        let mut pgmd = Pgmd::configured(&[]);
        pgmd.write_configuration(&format!(
            "(repository: ({repository}), servers: {{ \"main\": (conninfo: {:?}) }})",
            cluster.conninfo()
        ));
        pgmd.start();
        pgmd.wait_streaming("main");
        cluster.sql("create table t tablespace space as select n, md5(n::text) from generate_series(1, 20000) n");
        let mut labels = Vec::new();
        for _ in 0..2 {
            let backup = pgmd.json(&["backup", "main"]);
            labels.push(backup["label"].as_str().unwrap().to_owned());
            cluster.sql("insert into t select n, 'more' from generate_series(1, 1000) n");
        }
        pgmd.cli_ok(&["retain", "main", &labels[0]]);
        let end: Lsn = cluster.value("select pg_switch_wal()").parse().unwrap();
        wait_until("the wal is in the repository", || {
            let archived = pgmd.status("main")["archived_lsn"].clone();
            let archived = archived.as_str().and_then(|text| text.parse::<Lsn>().ok());
            archived.is_some_and(|archived| archived >= end)
        });
        Self {
            cluster,
            pgmd,
            labels,
        }
    }
}

/// The first backup, restored by pgm and by the reader, is the same, and a server starts on it. Gives where the tablespace
/// was: nothing is there any more.
fn restores_the_same(backups: &mut Backups, reader: &Reader) -> PathBuf {
    let here = Scratch::new("read");
    let (own, read) = (here.join("own"), here.join("read"));
    let label = backups.labels[0].as_str();
    let space = backups.cluster.value(
        "select pg_tablespace_location(oid) || ' ' || oid from pg_tablespace where spcname = 'space'",
    );
    let (space, oid) = space.split_once(' ').unwrap();
    let moved = here.join("moved");
    let elsewhere = format!("{space}={}", moved.display());
    let own_path = own.to_str().unwrap();
    let arguments = [
        "restore",
        "main",
        label,
        own_path,
        "--tablespace",
        &elsewhere,
    ];
    let immediate = [&arguments[..], &["--target-immediate"]].concat();
    backups.pgmd.cli_ok(&immediate);
    // The reader knows of no other place for the tablespace.
    backups.cluster.destroy();
    let _ = fs::remove_dir_all(space);

    let restored = reader.run(&["restore", "main", label, read.to_str().unwrap()]);
    assert!(restored.status == 0, "{restored:?}");
    let link = format!("pg_tblspc/{oid}");
    let found = differences(&own, &read, |path| {
        let text = path.to_str().unwrap();
        // Where pgm says how recovery goes, and where the tablespace is.
        text == "postgresql.auto.conf" || text == "recovery.signal" || text == link
    });
    assert!(found.is_empty(), "{found:?}");
    let found = differences(&moved, Path::new(space), |_| false);
    assert!(found.is_empty(), "{found:?}");
    run_ok(backups.cluster.command("pg_verifybackup").arg(&read));
    let mut server = Cluster::on(Major::V17, &read);
    server.start();
    server.wait_writable();
    assert_eq!(server.value("select count(*) from t"), "20000");
    drop(server);
    fs::remove_dir_all(space).unwrap();
    PathBuf::from(space)
}

/// One changed bit anywhere in what is read is noticed, and its object is named.
fn notices_changed_bits(backups: &Backups, reader: &Reader, tablespace: &Path) {
    let here = Scratch::new("flipped");
    let label = &backups.labels[0];
    let folder = format!("main/backup/{label}");
    let segments = fs::read_dir(reader.repository.join("main/wal/00000001")).unwrap();
    let mut segments: Vec<_> = segments
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.len() == 24)
        .collect();
    segments.sort();
    let list = backups.pgmd.json(&["list-backup", "main"]);
    let start = list["servers"][0]["backups"][0]["start_lsn"].as_str();
    let start: Lsn = start.unwrap().parse().unwrap();
    let of_start = format!("{:08X}", start.bytes() >> 24);
    let segment = segments
        .iter()
        .find(|name| name.ends_with(&of_start))
        .unwrap();
    let objects = [
        format!("{folder}/backup.ron"),
        format!("{folder}/manifest"),
        format!("{folder}/pg_manifest"),
        format!("{folder}/0000.pack"),
        format!("main/wal/00000001/{segment}"),
    ];
    for (number, object) in objects.iter().enumerate() {
        let file = reader.repository.join(object);
        let whole = fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        let at = whole.len() / 3;
        flipped[at] ^= 1 << (number % 8);
        fs::write(&file, flipped).unwrap();
        let target = here.join(number.to_string());
        reader.refuses(
            &["restore", "main", label, target.to_str().unwrap()],
            object,
        );
        fs::write(&file, whole).unwrap();
        let _ = fs::remove_dir_all(tablespace);
    }
}

fn lists_what_is_there(backups: &Backups, reader: &Reader) {
    let listed = reader.run(&["list"]);
    assert!(listed.status == 0, "{listed:?}");
    let lines: Vec<_> = listed.stdout.lines().skip(1).map(str::trim).collect();
    assert_eq!(lines.len(), 2, "{listed:?}");
    for (line, label) in lines.iter().zip(&backups.labels) {
        assert!(line.starts_with(label.as_str()), "{line}");
        assert_eq!(
            line.ends_with(" retained"),
            *label == backups.labels[0],
            "{line}"
        );
    }
}

#[test]
fn a_plain_repository_is_read_from_the_page_alone() {
    let place = Scratch::new("plain");
    let mut reader = Reader {
        repository: place.join("repository"),
        key: None,
    };
    let mut backups = Backups::take(&format!("path: {:?}", reader.repository.to_str().unwrap()));
    lists_what_is_there(&backups, &reader);
    let tablespace = restores_the_same(&mut backups, &reader);
    notices_changed_bits(&backups, &reader, &tablespace);
    let key = place.join("key");
    fs::write(&key, "5".repeat(64)).unwrap();
    reader.key = Some(key);
    reader.refuses(&["list"], "the repository is plain");
}

#[test]
fn a_sealed_repository_is_read_from_the_page_alone() {
    let place = Scratch::new("sealed");
    let key = place.join("repository.key");
    let repository = place.join("repository");
    let pgmd = Pgmd::configured(&[]);
    pgmd.cli_ok(&["admin", "master-key", "-o", key.to_str().unwrap()]);
    let mut backups = Backups::take(&format!(
        "path: {:?}, seal: {:?}",
        repository.to_str().unwrap(),
        key.to_str().unwrap()
    ));
    let with = |key: Option<&Path>| Reader {
        repository: repository.clone(),
        key: key.map(Path::to_owned),
    };
    let reader = with(Some(&key));
    lists_what_is_there(&backups, &reader);
    with(None).refuses(&["list"], "sealed");
    let wrong = place.join("wrong.key");
    fs::write(&wrong, "5".repeat(64)).unwrap();
    with(Some(&wrong)).refuses(&["list"], "master key");
    let tablespace = restores_the_same(&mut backups, &reader);
    notices_changed_bits(&backups, &reader, &tablespace);
}

/// An incremental backup from this source, of which an entry says that it was taken by this method.
fn reads_the_same(cluster: &Cluster, source: &str, method: &str) {
    let repository = Scratch::new("native-repository");
    let mut pgmd = Pgmd::configured(&[]);
    pgmd.write_configuration(&format!(
        "(repository: (path: \"{}\"), servers: {{ \"main\": (conninfo: {:?}) }})",
        repository.path().display(),
        cluster.conninfo()
    ));
    pgmd.start();
    pgmd.wait_streaming("main");
    cluster.sql("create table t as select n, md5(n::text) from generate_series(1, 20000) n");
    pgmd.cli_ok(&["backup", "main"]);
    cluster.sql("delete from t where n % 100 = 0");
    let taken = pgmd.json(&["backup", "main", "--incremental", "--source", source]);
    let label = taken["label"].as_str().unwrap();
    let info = pgmd.json(&["info", "main", label]);
    assert_eq!(info["method"], method, "{info}");
    let end: Lsn = cluster.value("select pg_switch_wal()").parse().unwrap();
    wait_until("the wal is in the repository", || {
        let archived = pgmd.status("main")["archived_lsn"].clone();
        let archived = archived.as_str().and_then(|text| text.parse::<Lsn>().ok());
        archived.is_some_and(|archived| archived >= end)
    });
    let here = Scratch::new("read-native");
    let (own, read) = (here.join("own"), here.join("read"));
    let own_path = own.to_str().unwrap();
    pgmd.cli_ok(&["restore", "main", label, own_path, "--target-immediate"]);
    let reader = Reader {
        repository: repository.path().to_owned(),
        key: None,
    };
    let restored = reader.run(&["restore", "main", label, read.to_str().unwrap()]);
    assert!(restored.status == 0, "{restored:?}");
    let found = differences(&own, &read, |path| {
        let text = path.to_str().unwrap();
        text == "postgresql.auto.conf" || text == "recovery.signal"
    });
    assert!(found.is_empty(), "{found:?}");
    // That of 17 reads the manifests of all servers up to its own version.
    let mut verify = Major::V17.command("pg_verifybackup");
    run_ok(verify.arg("--no-parse-wal").arg(&read));
}

#[test]
fn a_backup_of_which_the_server_sent_what_has_changed_reads_the_same() {
    let cluster = Cluster::builder(Major::V17)
        .setting("summarize_wal", "on")
        .start();
    reads_the_same(&cluster, "native", "base_backup_incremental");
}

#[test]
fn a_backup_of_which_the_server_read_what_has_changed_reads_the_same() {
    for major in [Major::V16, Major::V17] {
        let cluster = Cluster::builder(major).start();
        cluster.grant_backups();
        cluster.grant_file_reads();
        reads_the_same(&cluster, "blocks", "blocks");
    }
}
