//! `wal get --ahead` under a real PostgreSQL: what recovery reads is right whatever happens to the segments that were fetched
//! ahead, they stay few, and none is left when recovery is over.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use pgm_proto::TimelineId;
use pgm_storage::{Compression, LocalStorage};
use pgm_tests::{Cluster, Major, Pgmd, Scratch, StopMode, built, run_ok, wait_until};
use pgm_wal::archive::Archive;
use pgm_wal::{SegmentName, SegmentSize};

/// A server with a backup, and behind it so many segments, each with a row.
fn protected(segments: u32, segment_mib: u32) -> (Cluster, Pgmd) {
    let cluster = Cluster::builder(Major::V17)
        .segment_mib(segment_mib)
        .start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    pgmd.start();
    pgmd.wait_streaming("main");
    cluster.sql("create table numbered (number int)");
    pgmd.cli_ok(&["backup", "main"]);
    write(&cluster, 1, segments);
    wait_archived(&cluster, &pgmd);
    (cluster, pgmd)
}

/// Commits numbered rows, each in a segment of its own.
fn write(cluster: &Cluster, first: u32, count: u32) {
    for number in first..first + count {
        cluster.sql(&format!("insert into numbered values ({number})"));
        cluster.sql("select pg_switch_wal()");
    }
}

/// Waits until every finished segment is in the repository.
fn wait_archived(cluster: &Cluster, pgmd: &Pgmd) {
    let newest = cluster.value("select pg_walfile_name(pg_switch_wal() - 1)");
    let object = pgmd.repository().join("main/wal/00000001").join(newest);
    wait_until("the newest segment is archived", || object.exists());
}

/// Numbers from 1 on without a hole, and how many.
fn rows(cluster: &Cluster) -> u32 {
    let found = cluster.sql("select number from numbered order by 1");
    let numbers: Vec<u32> = found.iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32));
    numbers.len() as u32
}

fn folder(cluster: &Cluster) -> PathBuf {
    cluster.data().join("pg_wal/pgm_ahead")
}

/// Restores the newest backup; `script` then stands before the command in `restore_command`.
///
/// It is a shell script whose arguments are that command; `$TEST` is a folder of the test.
fn restored(pgmd: &Pgmd, test: &Scratch, script: &str, arguments: &[&str]) -> Cluster {
    let path = test.join("restore-command");
    let text = format!("#!/bin/sh\nTEST='{}'\n{script}", test.path().display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Cluster::made_by(Major::V17, |data| {
        pgmd.cli_ok(
            &[
                &["restore", "main", "newest", data.to_str().unwrap()],
                arguments,
            ]
            .concat(),
        );
        let settings = data.join("postgresql.auto.conf");
        let before = fs::read_to_string(&settings).unwrap();
        assert!(before.contains(" --ahead 8 "), "{before}");
        let command = format!("restore_command = '{} ", path.display());
        fs::write(&settings, before.replace("restore_command = '", &command)).unwrap();
    })
}

/// Notes, before each call, the names of what was fetched ahead on a line of `seen`.
const NOTE: &str =
    "ls pg_wal/pgm_ahead 2>/dev/null | tr '\\n' ' ' >> $TEST/seen; echo >> $TEST/seen\n";

/// What [`NOTE`] has noted: names of segments, by call.
fn seen(test: &Scratch) -> Vec<Vec<String>> {
    let text = fs::read_to_string(test.join("seen")).unwrap();
    let names = |line: &str| {
        let names = line.split([' ', '.']);
        let segments = names.filter(|name| name.len() == 24);
        segments.map(ToOwned::to_owned).collect()
    };
    text.lines().map(names).collect()
}

#[test]
fn recovery_finds_what_was_fetched_ahead_and_leaves_nothing_of_it() {
    let (cluster, pgmd) = protected(15, 1);
    let middle = cluster.value("select pg_current_wal_flush_lsn()");
    write(&cluster, 16, 15);
    wait_archived(&cluster, &pgmd);
    let test = Scratch::new("a");
    let mut first = restored(&pgmd, &test, &format!("{NOTE}exec \"$@\"\n"), &[]);
    // Another one at the same time, in another directory, that stops in the middle of what is there.
    let other = Scratch::new("a");
    let mut second = restored(
        &pgmd,
        &other,
        &format!("{NOTE}exec \"$@\"\n"),
        &["--target-lsn", &middle],
    );
    first.start();
    second.start();
    first.wait_writable();
    second.wait_writable();
    assert_eq!((rows(&first), rows(&second)), (30, 15));
    assert!(!folder(&first).exists() && !folder(&second).exists());

    let seen = seen(&test);
    let most = seen.iter().map(Vec::len).max().unwrap();
    assert_eq!(most, 8, "{seen:?}");
    // Most calls found their segment there.
    let hits = seen.iter().filter(|names| !names.is_empty()).count();
    assert!(hits >= 20, "{seen:?}");
}

/// Segments of the timeline that recovery leaves are fetched ahead though they lie behind the branch.
#[test]
fn either_branch_is_recovered_though_both_were_fetched_ahead() {
    let (cluster, pgmd) = protected(12, 1);
    let branched = Scratch::new("a");
    let target = cluster.value("select pg_current_wal_flush_lsn()");
    write(&cluster, 13, 12);
    wait_archived(&cluster, &pgmd);
    let script = format!("{NOTE}exec \"$@\"\n");
    let mut branch = restored(
        &pgmd,
        &branched,
        &script,
        &["--target-lsn", &target, "--target-action", "promote"],
    );
    branch.configure("wal_keep_size", "1GB");
    branch.start();
    branch.wait_writable();
    assert!(!folder(&branch).exists());
    assert_eq!(rows(&branch), 12);
    branch.sql("insert into numbered values (13)");
    write(&branch, 14, 30);
    let newest = branch.value("select pg_walfile_name(pg_switch_wal() - 1)");
    store(&branch, &pgmd, &newest);

    let both = Scratch::new("a");
    let mut newer = restored(&pgmd, &both, &script, &[]);
    newer.start();
    newer.wait_writable();
    assert_eq!(rows(&newer), 43);
    assert_eq!(
        newer.value("select timeline_id from pg_control_checkpoint()"),
        "3"
    );
    assert!(!folder(&newer).exists());
    // Segments of the first timeline that lie behind the branch were there.
    let left = branch.value(&format!("select pg_walfile_name('{target}')"))[8..].to_owned();
    let passed = |name: &String| name.starts_with("00000001") && name[8..] > left[..];
    let seen = seen(&both);
    assert!(seen.iter().flatten().any(passed), "{seen:?}");
    assert!(
        seen.iter()
            .flatten()
            .any(|name| name.starts_with("00000002")),
        "{seen:?}"
    );

    let first = Scratch::new("a");
    let mut older = restored(&pgmd, &first, &script, &["--timeline", "1"]);
    older.start();
    older.wait_writable();
    assert_eq!(rows(&older), 24);
}

/// Brings the finished segments of a server on timeline 2 into the repository, up to `newest`.
fn store(cluster: &Cluster, pgmd: &Pgmd, newest: &str) {
    let size = SegmentSize::new(1 << 20).unwrap();
    let timeline = TimelineId::new(2).unwrap();
    let storage = Arc::new(LocalStorage::open(pgmd.repository()).unwrap());
    let archive = Archive::new(storage, "main".parse().unwrap());
    let wal = cluster.data().join("pg_wal");
    for entry in fs::read_dir(&wal).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = wal.join(&name);
        match SegmentName::parse(&name, size) {
            Ok(segment) if segment.timeline == timeline && name.as_str() <= newest => {
                archive
                    .store_segment(&path, segment, size, Compression::ZSTD)
                    .unwrap();
            }
            _ => {}
        }
    }
    archive
        .store_history(&wal.join("00000002.history"), timeline)
        .unwrap();
}

/// The script stops the command while it writes a segment ahead, so that it is killed in the middle for certain.
const KILL_ONCE: &str = "
[ -e $TEST/killed ] && exec \"$@\"
\"$@\" & pid=$!
while kill -0 $pid 2>/dev/null; do
    set -- pg_wal/pgm_ahead/*.new
    if [ -s \"$1\" ]; then
        kill -STOP $pid
        if [ -s \"$1\" ]; then
            touch $TEST/killed
            kill -KILL $pid
        else
            kill -CONT $pid
        fi
    fi
done
wait $pid
";

#[test]
fn a_call_that_is_killed_while_it_fetches_ahead_harms_nothing() {
    let (_cluster, pgmd) = protected(12, 16);
    let test = Scratch::new("a");
    let mut restored = restored(&pgmd, &test, KILL_ONCE, &[]);
    let status = restored.start_expecting_exit();
    assert!(
        !status.success() && test.join("killed").exists(),
        "{}",
        restored.log()
    );
    assert!(unfinished(&folder(&restored)) > 0);
    restored.start();
    restored.wait_writable();
    assert_eq!(rows(&restored), 12);
    assert!(!folder(&restored).exists());
}

fn unfinished(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|ending| ending == "new")
        })
        .count()
}

#[test]
fn what_is_damaged_after_it_was_fetched_ahead_is_fetched_again() {
    let (_cluster, pgmd) = protected(12, 1);
    let test = Scratch::new("a");
    // In one call all of them get a wrong byte, in a later one all are cut, and then the folder is another's to write in.
    let script = "
echo >> $TEST/calls
case $(wc -l < $TEST/calls) in
    5) for file in pg_wal/pgm_ahead/0*; do printf X | dd of=$file bs=1 seek=700000 conv=notrunc 2>/dev/null; done ;;
    9) for file in pg_wal/pgm_ahead/0*; do : > $file; done ;;
    12) mkdir -p pg_wal/pgm_ahead; chmod 777 pg_wal/pgm_ahead ;;
esac
exec \"$@\"
";
    let mut restored = restored(&pgmd, &test, script, &[]);
    restored.start();
    restored.wait_writable();
    assert_eq!(rows(&restored), 12);
    let log = restored.log();
    for said in [
        "its checksum is",
        "fetched without reading ahead",
        "others can write there",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
}

/// A standby that is fed by `restore_command` alone asks for the same segment again and again.
#[test]
fn a_standby_at_the_end_of_the_wal_has_nothing_ahead() {
    let (cluster, mut pgmd) = protected(12, 1);
    let test = Scratch::new("a");
    let mut standby = restored(&pgmd, &test, &format!("{NOTE}exec \"$@\"\n"), &[]);
    let data = standby.data().to_owned();
    fs::rename(data.join("recovery.signal"), data.join("standby.signal")).unwrap();
    standby.configure("wal_retrieve_retry_interval", "50ms");
    standby.configure("hot_standby", "on");
    standby.start();
    let follows = |last: u32| {
        wait_until("the standby follows", || {
            standby.value("select max(number) from numbered") == last.to_string()
        });
    };
    follows(12);
    write(&cluster, 13, 20);
    follows(32);
    write(&cluster, 33, 3);
    follows(35);
    // What is not finished comes from the spool, and nothing is fetched behind it.
    cluster.sql("insert into numbered values (36)");
    pgmd.wait_durable("main", &cluster.value("select pg_current_wal_flush_lsn()"));
    let calls = seen(&test).len();
    wait_until("it asks again", || seen(&test).len() > calls + 3);
    assert!(!folder(&standby).exists());
    drop(cluster);
    pgmd.stop();
    standby.promote();
    assert!(rows(&standby) >= 35);
    assert!(!folder(&standby).exists());
    standby.stop(StopMode::Fast);
}

/// What is done on a disk of 4 MiB, with the command and the names of two segments as arguments.
const ON_A_SMALL_DISK: &str = r#"
mount -t tmpfs -o size=4m tmpfs "$PLACE"
cd "$PLACE"
"$0" "$@" "$FIRST" wanted
ls pgm_ahead | grep -v source | sed 's/[.].*//' > "$TEST/ahead"
dd if=/dev/zero of=others bs=1024 count=1500 2>/dev/null
rm wanted
dd if=/dev/zero of=more bs=1024 count=1000 2>/dev/null
"$0" "$@" "$FAR" wanted
cp wanted "$TEST/wanted"
ls > "$TEST/left"
"#;

#[test]
fn what_was_fetched_ahead_gives_way_when_the_disk_is_full() {
    let (cluster, pgmd) = protected(12, 1);
    let test = Scratch::new("a");
    let place = test.join("place");
    fs::create_dir(&place).unwrap();
    let archived = pgmd.repository().join("main/wal/00000001");
    let entries = fs::read_dir(&archived).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.len() == 24).collect();
    names.sort();
    let repository = pgmd.repository().display().to_string();
    let script = format!("set -e\n{ON_A_SMALL_DISK}");
    run_ok(
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .arg(built("pgm-cli"))
            .args([
                "wal",
                "get",
                "--repository",
                &repository,
                "--ahead",
                "8",
                "main",
            ])
            .env("PLACE", &place)
            .env("TEST", test.path())
            .env("FIRST", &names[0])
            .env("FAR", &names[9]),
    );
    // Of three free ones one may be taken.
    assert_eq!(
        fs::read_to_string(test.join("ahead")).unwrap().trim(),
        names[1]
    );
    let far = cluster.data().join("pg_wal").join(&names[9]);
    assert!(fs::read(test.join("wanted")).unwrap() == fs::read(far).unwrap());
    let left = fs::read_to_string(test.join("left")).unwrap();
    assert_eq!(
        left.lines().collect::<Vec<_>>(),
        ["more", "others", "wanted"]
    );
}
