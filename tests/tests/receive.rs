//! WAL that the receiver brings home is the server's, byte for byte, whatever happens on the way.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pgm_proto::TimelineId;
use pgm_tests::{
    Cluster, Fault, Major, Pgmd, Proxy, Receiving, Scratch, StopMode, majors, run_ok, wait_until,
};

/// PostgreSQL's own receiver, of the newest version whose clients there are.
struct PgReceivewal {
    process: Child,
    folder: Scratch,
}

impl PgReceivewal {
    fn start(cluster: &Cluster) -> Self {
        let folder = Scratch::new("w");
        cluster.sql("select pg_create_physical_replication_slot('pg_receivewal', true)");
        let process = Major::V17
            .command("pg_receivewal")
            .arg("-d")
            .arg(cluster.conninfo())
            .arg("-D")
            .arg(folder.path())
            .args(["--synchronous", "--no-loop", "--slot=pg_receivewal"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    /// Whether it has finished the segment called `name`.
    fn has(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }
}

impl Drop for PgReceivewal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes about 4 MiB of WAL, finishes the current segment, and returns the position behind it.
fn load(cluster: &Cluster) -> String {
    load_times(cluster, 1)
}

/// The same, several times over before the segment is finished.
fn load_times(cluster: &Cluster, times: u32) -> String {
    write(cluster, times);
    cluster.value("select pg_switch_wal()")
}

/// Writes about 4 MiB of WAL, several times over.
fn write(cluster: &Cluster, times: u32) {
    cluster.sql("create table if not exists t (n bigint, filler text)");
    for _ in 0..times {
        cluster
            .sql("insert into t select n, repeat('x', n % 200) from generate_series(1, 20000) n");
        cluster.sql("delete from t where n % 3 = 0");
    }
}

/// Fails the test unless `name` is the same in both folders.
fn same(name: &str, left: &Path, right: &Path) {
    let read = |folder: &Path| {
        fs::read(folder.join(name))
            .unwrap_or_else(|error| panic!("{}/{name}: {error}", folder.display()))
    };
    assert!(
        read(left) == read(right),
        "{name} differs between {} and {}",
        left.display(),
        right.display()
    );
}

/// Fails the test unless all finished segments are those of the server's own folder, without a hole between them.
fn same_as_server(receiving: &Receiving, cluster: &Cluster, segments_min: usize) {
    let segments = receiving.segments();
    assert!(segments.len() >= segments_min, "{segments:?}");
    for name in &segments {
        same(name, &receiving.spool(), &cluster.data().join("pg_wal"));
    }
    let first = cluster.value(&format!(
        "select segment_number from pg_split_walfile_name('{}')",
        segments[0]
    ));
    let first: usize = first.parse().unwrap();
    let last = cluster.value(&format!(
        "select segment_number from pg_split_walfile_name('{}')",
        segments[segments.len() - 1]
    ));
    assert_eq!(
        last.parse::<usize>().unwrap() - first + 1,
        segments.len(),
        "{segments:?}"
    );
}

/// Fails the test unless `pg_waldump` reads every record of the segments.
fn readable(major: Major, spool: &Path, segments: &[String]) {
    let mut command: Command = major.command("pg_waldump");
    command.arg("--quiet").arg("-p").arg(spool);
    run_ok(command.arg(&segments[0]).arg(&segments[segments.len() - 1]));
}

#[test]
fn segments_are_byte_identical_with_those_of_pg_receivewal() {
    // Its clients refuse servers that are newer than themselves.
    for major in majors().into_iter().filter(|major| *major <= Major::V17) {
        for segment_mib in [1, 16] {
            let cluster = Cluster::builder(major)
                .segment_mib(segment_mib)
                .setting("wal_keep_size", "2GB")
                .start();
            let theirs = PgReceivewal::start(&cluster);
            let mut ours = Receiving::start(&cluster.conninfo());
            ours.wait_durable(&load_times(&cluster, 5));
            ours.stop().unwrap();
            let segments = ours.segments();
            assert!(!segments.is_empty(), "{major}: {segments:?}");
            for name in &segments {
                wait_until("pg_receivewal has the segment, too", || theirs.has(name));
                same(name, &ours.spool(), theirs.folder.path());
            }
            if major == Major::V15 || major == Major::V17 {
                readable(major, &ours.spool(), &segments);
            }
        }
    }
}

#[test]
fn segments_are_byte_identical_with_those_of_every_server() {
    for major in majors() {
        let cluster = Cluster::builder(major)
            .segment_mib(4)
            .setting("wal_keep_size", "2GB")
            .start();
        let mut ours = Receiving::start(&cluster.conninfo());
        ours.wait_durable(&load_times(&cluster, 5));
        ours.stop().unwrap();
        let segments = ours.segments();
        assert!(segments.len() >= 4, "{major}: {segments:?}");
        for name in &segments {
            same(name, &ours.spool(), &cluster.data().join("pg_wal"));
        }
    }
}

#[test]
fn the_promotion_of_the_server_that_streams_is_followed() {
    for major in majors() {
        let mut primary = Cluster::builder(major)
            .segment_mib(1)
            .setting("wal_keep_size", "1GB")
            .start();
        let standby = primary.standby();
        let mut ours = Receiving::start(&standby.conninfo());
        // No switch of the segment: a standby that has replayed one may pass on what a recycled file held behind it,
        // before the zeros of the primary have arrived.
        write(&primary, 1);
        standby.catch_up_with(&primary);
        primary.destroy();
        standby.promote();
        ours.wait_durable(&load(&standby));
        followed(&mut ours, &standby);
    }
}

#[test]
fn a_promoted_standby_is_followed_after_the_primary_is_lost() {
    for major in majors() {
        let mut primary = Cluster::builder(major)
            .segment_mib(1)
            .setting("wal_keep_size", "1GB")
            .start();
        let standby = primary.standby();
        let hosts = format!(
            "host=127.0.0.1,127.0.0.1 port={},{} user=pgm dbname=postgres target_session_attrs=read-write",
            primary.port(),
            standby.port()
        );
        let mut ours = Receiving::start(&hosts);
        let switched = load(&primary);
        ours.wait_durable(&switched);
        // Half a segment that only the first timeline has in this form.
        primary.sql("insert into t select n from generate_series(1, 1000) n");
        standby.catch_up_with(&primary);
        ours.wait_durable(&primary.value("select pg_current_wal_flush_lsn()"));
        primary.destroy();
        standby.promote();
        ours.wait_durable(&load(&standby));
        followed(&mut ours, &standby);
    }
}

/// Checks the spool after a switch to timeline 2: its history, its segments, and what is left of timeline 1.
fn followed(ours: &mut Receiving, promoted: &Cluster) {
    ours.stop().unwrap();
    let seen = ours.seen();
    let timelines: Vec<u32> = seen
        .timelines
        .iter()
        .map(|(timeline, _)| timeline.number())
        .collect();
    let newest = TimelineId::new(2).unwrap();
    assert!(
        seen.timelines
            .iter()
            .any(|(timeline, _)| *timeline == newest),
        "{timelines:?} {:?}",
        seen.errors
    );
    let pg_wal = promoted.data().join("pg_wal");
    same("00000002.history", &ours.spool(), &pg_wal);
    let segments = ours.segments();
    let (old, new): (Vec<_>, Vec<_>) = segments
        .into_iter()
        .partition(|name| name.starts_with("00000001"));
    assert!(!old.is_empty() && new.len() > 1, "{old:?} {new:?}");
    for name in old.iter().chain(&new) {
        same(name, &ours.spool(), &pg_wal);
    }
    // The segment in which the timelines part: whole in the new one, partial in the old one.
    let parted = format!("00000001{}.partial", &new[0][8..]);
    assert!(ours.spool().join(&parted).exists(), "{parted} is kept");
    if promoted.major() == Major::V15 || promoted.major() == Major::V17 {
        readable(promoted.major(), &ours.spool(), &old);
        readable(promoted.major(), &ours.spool(), &new);
    }
}

#[test]
fn nothing_is_missing_after_the_server_crashed_again_and_again() {
    let mut cluster = Cluster::builder(Major::V17)
        .segment_mib(1)
        .setting("wal_keep_size", "1GB")
        .start();
    let mut ours = Receiving::start(&cluster.conninfo());
    for round in 0..6 {
        let streamed = ours.seen().streamed;
        load(&cluster);
        match round % 3 {
            0 => cluster.kill(),
            1 => cluster.stop(StopMode::Immediate),
            _ => cluster.stop(StopMode::Fast),
        }
        cluster.start();
        ours.wait("it streams again", |seen| seen.streamed > streamed);
    }
    ours.wait_durable(&load(&cluster));
    ours.stop().unwrap();
    same_as_server(&ours, &cluster, 20);
}

#[test]
fn nothing_is_missing_after_any_fault_of_the_network() {
    let cluster = Cluster::builder(Major::V17)
        .segment_mib(1)
        .setting("wal_keep_size", "1GB")
        // So long the slot stays with a connection that fell silent.
        .setting("wal_sender_timeout", "2s")
        .start();
    let proxy = Proxy::to(cluster.port());
    let conninfo = cluster
        .conninfo()
        .replace(&cluster.port().to_string(), &proxy.port().to_string());
    let mut ours = Receiving::start(&conninfo);
    let connections = || ours.seen().streamed;
    for fault in [
        Fault::CutAfter(300_000),
        Fault::ResetAfter(300_001),
        Fault::SilenceAfter(300_002),
        Fault::CutAfter(700),
        Fault::Refuse,
        Fault::Delay(std::time::Duration::from_millis(1)),
    ] {
        proxy.set(fault);
        let (before, accepted) = (connections(), proxy.accepted());
        proxy.cut();
        load(&cluster);
        match fault {
            Fault::Refuse | Fault::CutAfter(700) => {
                wait_until("it keeps trying", || proxy.accepted() > accepted + 2);
            }
            _ => ours.wait("it streams again, twice", |seen| {
                seen.streamed > before + usize::from(!matches!(fault, Fault::Delay(_)))
            }),
        }
        proxy.set(Fault::None);
        proxy.cut();
        ours.wait_durable(&load(&cluster));
    }
    ours.stop().unwrap();
    same_as_server(&ours, &cluster, 20);
}

#[test]
fn what_pgmd_archives_is_byte_identical_with_the_segments_of_pg_receivewal() {
    let cluster = Cluster::builder(Major::V17).segment_mib(1).start();
    let mut pgmd = Pgmd::configured(&[("main", &cluster.conninfo())]);
    let theirs = PgReceivewal::start(&cluster);
    pgmd.start();
    pgmd.wait_streaming("main");
    let end = load_times(&cluster, 3);
    pgmd.wait_durable("main", &end);
    let newest = cluster.value(&format!("select pg_walfile_name('{end}')"));
    wait_until("pg_receivewal has the newest segment", || {
        theirs.has(&newest)
    });
    let entries = fs::read_dir(theirs.folder.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut segments: Vec<String> = names.filter(|name| name.len() == 24).collect();
    segments.sort();
    assert!(segments.len() > 5, "{segments:?}");
    // Its slot was there first, so it may have begun one segment earlier: that one is left out.
    let delivered = Scratch::new("g");
    for name in &segments[1..] {
        let path = delivered.join(name);
        pgmd.cli_ok(&["wal", "get", "main", name, path.to_str().unwrap()]);
        same(name, delivered.path(), theirs.folder.path());
    }
    readable(Major::V17, delivered.path(), &segments[1..]);
    // After a stop, from the repository alone.
    assert_eq!(pgmd.stop(), 0);
    fs::remove_dir_all(pgmd.spool("main")).unwrap();
    let again = Scratch::new("g");
    for name in &segments[1..] {
        let path = again.join(name);
        pgmd.cli_ok(&["wal", "get", "main", name, path.to_str().unwrap()]);
        same(name, again.path(), theirs.folder.path());
    }
    let missing = again.join("missing");
    let run = pgmd.cli(&[
        "wal",
        "get",
        "main",
        "0000000100000001000000FF",
        missing.to_str().unwrap(),
    ]);
    assert_eq!(
        run.status, 1,
        "a segment of the future is not there, which PostgreSQL takes for the end of WAL"
    );
    assert!(!missing.exists());
}
