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

/// Waits until every finished segment is in the repository, and gives the last one.
fn wait_archived(cluster: &Cluster, pgmd: &Pgmd) -> String {
    let newest = newest(cluster);
    let object = pgmd.repository().join("main/wal/00000001").join(&newest);
    wait_until("the newest segment is archived", || object.exists());
    newest
}

/// The newest finished segment.
fn newest(cluster: &Cluster) -> String {
    cluster.value("select pg_walfile_name(pg_switch_wal() - 1)")
}

/// Tells [`WAIT`] which segment is the last.
fn expect(test: &Scratch, last: &str) {
    fs::write(test.join("last"), last).unwrap();
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

/// Waits until as much is there as may be, the segment `last` in [`Scratch`] or nobody fetches any more.
const WAIT: &str = "
finished() { ls pg_wal/pgm_ahead 2>/dev/null | grep -c '[.][0-9A-F]*$'; }
last() { ls pg_wal/pgm_ahead 2>/dev/null | grep -q \"^$(cat $TEST/last)[.][0-9A-F]*$\"; }
while [ -e pg_wal/pgm_ahead/asked ] && [ $(finished) -lt 8 ] && ! last; do sleep 0.01; done
";

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
    expect(&test, &wait_archived(&cluster, &pgmd));
    let script = format!("{WAIT}{NOTE}exec \"$@\"\n");
    let mut first = restored(&pgmd, &test, &script, &[]);
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
    wait_until("what was fetched ahead is gone", || {
        !folder(&first).exists() && !folder(&second).exists()
    });

    let seen = seen(&test);
    let most = seen.iter().map(Vec::len).max().unwrap();
    assert_eq!(most, 8, "{seen:?}");
    // All but the first found their segment there.
    let hits = seen.iter().filter(|names| !names.is_empty()).count();
    assert!(hits >= 28, "{seen:?}");
}

/// Segments of the timeline that recovery leaves are fetched ahead though they lie behind the branch.
#[test]
fn either_branch_is_recovered_though_both_were_fetched_ahead() {
    let (cluster, pgmd) = protected(12, 1);
    let branched = Scratch::new("a");
    let target = cluster.value("select pg_current_wal_flush_lsn()");
    write(&cluster, 13, 12);
    wait_archived(&cluster, &pgmd);
    let script = format!("{WAIT}{NOTE}exec \"$@\"\n");
    let mut branch = restored(
        &pgmd,
        &branched,
        "exec \"$@\"\n",
        &["--target-lsn", &target, "--target-action", "promote"],
    );
    branch.configure("wal_keep_size", "1GB");
    branch.start();
    branch.wait_writable();
    wait_gone(&branch);
    assert_eq!(rows(&branch), 12);
    branch.sql("insert into numbered values (13)");
    write(&branch, 14, 30);
    let newest = newest(&branch);
    store(&branch, &pgmd, &newest);

    let both = Scratch::new("a");
    expect(&both, &newest);
    let mut newer = restored(&pgmd, &both, &script, &[]);
    newer.start();
    newer.wait_writable();
    assert_eq!(rows(&newer), 43);
    assert_eq!(
        newer.value("select timeline_id from pg_control_checkpoint()"),
        "3"
    );
    wait_gone(&newer);
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
    let mut older = restored(&pgmd, &first, "exec \"$@\"\n", &["--timeline", "1"]);
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

/// The script kills the reader once, and leaves what it leaves when it is killed in the middle of each segment.
const KILL_ONCE: &str = "
[ -e $TEST/killed ] && exec \"$@\"
\"$@\"; status=$?
[ -e pg_wal/pgm_ahead/asked ] || exit $status
until ls pg_wal/pgm_ahead | grep -q '[.][0-9A-F]*$'; do sleep 0.01; done
for process in /proc/[0-9]*; do
    if [ \"$(readlink $process/cwd)\" = \"$PWD\" ] && [ \"$(readlink $process/exe)\" = \"$(readlink -f $1)\" ]; then
        kill -KILL ${process#/proc/} && echo $process >> $TEST/killed
    fi
done
for file in pg_wal/pgm_ahead/*.????????; do
    head -c 5000000 $file > ${file%.*}.new
    rm $file
done
exit $status
";

#[test]
fn a_reader_that_is_killed_while_it_fetches_ahead_harms_nothing() {
    let (_cluster, pgmd) = protected(12, 16);
    let test = Scratch::new("a");
    let mut restored = restored(&pgmd, &test, KILL_ONCE, &[]);
    restored.start();
    restored.wait_writable();
    let killed = fs::read_to_string(test.join("killed")).unwrap();
    assert_eq!(killed.lines().count(), 1, "{killed}");
    assert_eq!(rows(&restored), 12);
    wait_gone(&restored);
}

/// Processes of pgm-cli that work in the directory.
fn readers(cluster: &Cluster) -> usize {
    let data = cluster.data().canonicalize().unwrap();
    let program = built("pgm-cli").canonicalize().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let is_one = |process: &fs::DirEntry| {
        let leads = |name: &str, to: &Path| {
            fs::read_link(process.path().join(name)).is_ok_and(|path| path == to)
        };
        leads("cwd", &data) && leads("exe", &program)
    };
    processes.filter(is_one).count()
}

fn wait_gone(cluster: &Cluster) {
    wait_until("what was fetched ahead is gone", || {
        !folder(cluster).exists()
    });
    wait_until("its reader is gone", || readers(cluster) == 0);
}

/// The reader is not PostgreSQL's child, nor in a group that it signals, and yet it never outlives the server.
#[test]
fn no_reader_outlives_a_server_that_is_stopped_in_the_middle_of_recovery() {
    let (cluster, pgmd) = protected(20, 1);
    let test = Scratch::new("a");
    expect(&test, &wait_archived(&cluster, &pgmd));
    // The sixth call does not return as long as the test wants.
    let script = format!(
        "{WAIT}echo >> $TEST/calls\n\
         if [ $(wc -l < $TEST/calls) -ge 6 ]; then while [ ! -e $TEST/goes-on ]; do sleep 0.01; done; fi\n\
         exec \"$@\"\n"
    );
    let mut restored = restored(&pgmd, &test, &script, &[]);
    let calls = || fs::read_to_string(test.join("calls")).map_or(0, |text| text.lines().count());
    for mode in ["immediate", "fast"] {
        restored.start_recovering();
        wait_until("the call waits", || calls() >= 6);
        wait_until("there is a reader", || readers(&restored) == 1);
        // The kit would kill the reader.
        let mut stop = Major::V17.command("pg_ctl");
        run_ok(stop.args(["stop", "-m", mode, "-D"]).arg(restored.data()));
        wait_gone(&restored);
        restored.stop(StopMode::Immediate);
        fs::remove_file(test.join("calls")).unwrap();
    }
    fs::write(test.join("goes-on"), "").unwrap();
    restored.start();
    restored.wait_writable();
    assert_eq!(rows(&restored), 20);
    wait_gone(&restored);
}

#[test]
fn what_is_damaged_after_it_was_fetched_ahead_is_fetched_again() {
    let (cluster, pgmd) = protected(12, 1);
    let test = Scratch::new("a");
    expect(&test, &wait_archived(&cluster, &pgmd));
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
    let script = format!("{WAIT}{script}");
    let mut restored = restored(&pgmd, &test, &script, &[]);
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
until ls pgm_ahead | grep -q '[.][0-9A-F]*$'; do sleep 0.01; done
ls pgm_ahead | grep '[.]' | sed 's/[.].*//' > "$TEST/ahead"
dd if=/dev/zero of=others bs=1024 count=1500 2>/dev/null
rm wanted
dd if=/dev/zero of=more bs=1024 count=1000 2>/dev/null
"$0" "$@" "$FAR" wanted
cp wanted "$TEST/wanted"
while [ -e pgm_ahead ]; do sleep 0.01; done
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
            // The script leads the session, and so its reader ends with it.
            .args(["--user", "--map-root-user", "--mount", "setsid", "--wait"])
            .args(["sh", "-c", &script])
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
