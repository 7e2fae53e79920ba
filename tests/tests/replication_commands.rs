//! Replication commands of pgm's client, on real servers of every major.
#![allow(
    clippy::unwrap_used,
    reason = "what fails in a test must fail the test"
)]

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use pgm_proto::{
    BackupPages, BaseBackupEvent, BaseBackupOptions, Checkpoint, Client, ConnInfo, Error, Incoming,
    IncrementalRefusal, Lsn, ManifestChecksums, Outgoing, PostgresTransport, ServerCompression,
    Session, SlotCreated, SlotName, SlotPolicy, TimelineId, TransportOptions, WalInclusion,
    WalTransport,
};
use pgm_tests::{Cluster, Major, StopMode, Tls, majors, wait_until};

fn replicate(cluster: &Cluster) -> Client {
    let conninfo: ConnInfo = cluster.conninfo().parse().unwrap();
    Client::connect(&conninfo, Session::PhysicalReplication).unwrap()
}

#[test]
fn every_major_identifies_itself() {
    for major in majors() {
        let cluster = Cluster::builder(major).start();
        let mut client = replicate(&cluster);
        assert_eq!(client.server_version().major(), major.number());
        let identity = client.identify_system().unwrap();
        assert_eq!(identity.timeline, TimelineId::FIRST);
        let id = cluster.value("select system_identifier from pg_control_system()");
        assert_eq!(identity.system_id.to_string(), id);
        assert_eq!(client.show("wal_segment_size").unwrap(), "16MB");
    }
}

#[test]
fn slots_are_made_read_and_dropped_on_every_major() {
    for major in majors() {
        let cluster = Cluster::builder(major).start();
        let mut client = replicate(&cluster);
        let slot: SlotName = "pgmd".parse().unwrap();
        let made = client.create_physical_slot(&slot).unwrap();
        assert!(matches!(made, SlotCreated::Created), "{major}");
        let made = client.create_physical_slot(&slot).unwrap();
        assert!(matches!(made, SlotCreated::Existed), "{major}");
        let kept = cluster.value("select restart_lsn is not null from pg_replication_slots");
        assert_eq!(kept, "t", "WAL is kept from the start");
        if major >= Major::V15 {
            let position = client.read_replication_slot(&slot).unwrap().unwrap();
            assert!(position.restart_lsn.is_some(), "{major}");
            let none = client.read_replication_slot(&"none".parse().unwrap());
            assert!(none.unwrap().is_none(), "{major}");
        }
        client.drop_slot(&slot).unwrap();
        assert_eq!(
            cluster.value("select count(*) from pg_replication_slots"),
            "0"
        );
    }
}

#[test]
fn the_history_of_a_promoted_server_is_what_its_file_says() {
    for major in majors() {
        let mut primary = Cluster::builder(major).start();
        let standby = primary.standby();
        standby.promote();
        let mut client = replicate(&standby);
        let history = client
            .timeline_history(TimelineId::new(2).unwrap())
            .unwrap();
        assert_eq!(history.name, "00000002.history");
        let file = standby.data().join("pg_wal/00000002.history");
        assert_eq!(history.content, std::fs::read(file).unwrap());
    }
}

#[test]
fn a_base_backup_arrives_from_every_major() {
    for major in majors() {
        let cluster = Cluster::builder(major).tablespace("other").start();
        cluster.sql("create table t tablespace other as select generate_series(1, 10000) n");
        let mut client = replicate(&cluster);
        let options = BaseBackupOptions {
            label: "with 'quotes'".to_owned(),
            checkpoint: Checkpoint::Fast,
            wal: WalInclusion::Exclude,
            max_rate_kib: None,
            manifest_checksums: ManifestChecksums::Crc32c,
            compression: ServerCompression::NONE,
            pages: BackupPages::All,
        };
        let mut backup = client.base_backup(&options).unwrap();
        assert_eq!(backup.tablespaces().len(), 2);
        let start = backup.start_lsn();
        let (mut archives, mut bytes, mut manifest) = (Vec::new(), 0, Vec::new());
        let end = loop {
            match backup.next().unwrap() {
                BaseBackupEvent::Archive { tablespace } => archives.push(tablespace),
                BaseBackupEvent::Data(data) => bytes += data.len(),
                BaseBackupEvent::Manifest => {}
                BaseBackupEvent::ManifestData(data) => manifest.extend_from_slice(data),
                BaseBackupEvent::End(end) => break end,
            }
        };
        drop(backup);
        assert_eq!(archives.len(), 2, "{major}");
        assert!(archives.contains(&None), "{major}");
        assert!(bytes > 10 << 20, "{major}: {bytes}");
        assert!(
            end.end_lsn > start && end.failure.is_none(),
            "{major}: {end:?}"
        );
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert!(manifest["Files"].as_array().unwrap().len() > 500, "{major}");
        // The session is good for more afterwards.
        assert_eq!(
            client.identify_system().unwrap().timeline,
            TimelineId::FIRST
        );
    }
}

const SEGMENT_BYTES: u64 = 16 << 20;

fn transport(cluster: &Cluster, create_slot: SlotPolicy) -> PostgresTransport {
    PostgresTransport::new(TransportOptions {
        conninfo: cluster.conninfo().parse().unwrap(),
        slot: Some("pgmd".parse().unwrap()),
        create_slot,
    })
}

fn options() -> BaseBackupOptions {
    BaseBackupOptions {
        label: "base".to_owned(),
        checkpoint: Checkpoint::Fast,
        wal: WalInclusion::Include,
        max_rate_kib: None,
        manifest_checksums: ManifestChecksums::Sha256,
        compression: ServerCompression::NONE,
        pages: BackupPages::All,
    }
}

/// Receives from the beginning of the segment of `start` up to `end`, or to the end of the timeline.
fn receive(
    transport: &mut PostgresTransport,
    timeline: TimelineId,
    start: Lsn,
    end: Lsn,
) -> (Vec<u8>, Option<(TimelineId, Lsn)>) {
    let lsn = Lsn::new(start.bytes() / SEGMENT_BYTES * SEGMENT_BYTES);
    transport.send(Outgoing::Start { timeline, lsn }).unwrap();
    let mut wal = Vec::new();
    while lsn + (wal.len() as u64) < end {
        match transport.receive().unwrap() {
            Incoming::Nothing => {
                transport.wait(Duration::from_mins(1), None).unwrap();
            }
            Incoming::Wal { start, data, .. } => {
                assert_eq!(start, lsn + wal.len() as u64, "no gap, no overlap");
                wal.extend_from_slice(data);
            }
            Incoming::EndOfTimeline { next, switch } => return (wal, Some((next, switch))),
            Incoming::Started | Incoming::Keepalive { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    (wal, None)
}

#[test]
fn wal_arrives_from_every_major_as_it_is_in_the_servers_files() {
    for major in majors() {
        let cluster = Cluster::builder(major).start();
        let mut transport = transport(&cluster, SlotPolicy::Create);
        let identity = transport.connect().unwrap();
        assert_eq!(u64::from(identity.segment_bytes), SEGMENT_BYTES);
        assert_eq!(identity.slot.is_some(), major >= Major::V15);
        cluster.sql("create table t as select generate_series(1, 300000) n");
        cluster.sql("select pg_switch_wal()");
        let end: Lsn = cluster
            .value("select pg_current_wal_flush_lsn()")
            .parse()
            .unwrap();
        let (wal, _) = receive(&mut transport, identity.timeline, identity.flush_lsn, end);
        let first = identity.flush_lsn.bytes() / SEGMENT_BYTES;
        for (number, segment) in (first..).zip(wal.chunks_exact(SEGMENT_BYTES as usize)) {
            let name = format!("00000001{:08X}{:08X}", number >> 8, number & 0xFF);
            let file = cluster.data().join("pg_wal").join(&name);
            assert!(fs::read(file).unwrap() == segment, "{major}: {name}");
        }
        assert!(wal.len() as u64 >= SEGMENT_BYTES, "{major}: {}", wal.len());
    }
}

#[test]
fn wal_arrives_over_tls_as_well() {
    let cluster = Cluster::builder(Major::V17).tls(Tls::On).start();
    let mut transport = PostgresTransport::new(TransportOptions {
        conninfo: format!("{} sslmode=require", cluster.conninfo())
            .parse()
            .unwrap(),
        slot: None,
        create_slot: SlotPolicy::Require,
    });
    let identity = transport.connect().unwrap();
    let encrypted =
        "select count(*) from pg_stat_ssl join pg_stat_replication using (pid) where ssl";
    cluster.sql("create table t as select generate_series(1, 300000) n");
    let end: Lsn = cluster
        .value("select pg_current_wal_flush_lsn()")
        .parse()
        .unwrap();
    let (wal, _) = receive(&mut transport, identity.timeline, identity.flush_lsn, end);
    assert_eq!(cluster.value(encrypted), "1");
    assert!(wal.len() as u64 > SEGMENT_BYTES, "{}", wal.len());
}

#[test]
fn the_end_of_a_timeline_is_told_by_every_major() {
    for major in majors() {
        let mut primary = Cluster::builder(major).start();
        let standby = primary.standby();
        standby.promote();
        let mut transport = transport(&standby, SlotPolicy::Create);
        let identity = transport.connect().unwrap();
        let second = TimelineId::new(2).unwrap();
        assert_eq!(identity.timeline, second);
        let far = Lsn::new(u64::MAX);
        let (_, ended) = receive(&mut transport, TimelineId::FIRST, identity.flush_lsn, far);
        let (next, switch) = ended.unwrap();
        assert_eq!(next, second, "{major}");
        let (wal, _) = receive(&mut transport, next, switch, identity.flush_lsn);
        assert!(!wal.is_empty(), "{major}");
    }
}

#[test]
fn a_stream_is_ended_and_started_again_on_every_major() {
    for major in majors() {
        let cluster = Cluster::builder(major).start();
        let mut transport = transport(&cluster, SlotPolicy::Create);
        let identity = transport.connect().unwrap();
        for _ in 0..2 {
            let (start, end) = (identity.flush_lsn, identity.flush_lsn);
            receive(&mut transport, identity.timeline, start, end);
            transport.send(Outgoing::EndStream).unwrap();
            while transport.receive().unwrap() != Incoming::Closed {
                transport.wait(Duration::from_mins(1), None).unwrap();
            }
        }
    }
}

#[test]
fn missing_slots_and_removed_wal_are_recognised_on_every_major() {
    for major in majors() {
        let cluster = Cluster::builder(major).start();
        let first_error = |transport: &mut PostgresTransport, lsn| -> Error {
            let timeline = TimelineId::FIRST;
            if let Err(error) = transport.connect() {
                return error;
            }
            transport.send(Outgoing::Start { timeline, lsn }).unwrap();
            loop {
                match transport.receive() {
                    Ok(_) => transport.wait(Duration::from_mins(1), None).unwrap(),
                    Err(error) => return error,
                };
            }
        };
        let error = first_error(&mut transport(&cluster, SlotPolicy::Require), Lsn::new(0));
        assert!(
            matches!(error, Error::SlotMissing { .. }),
            "{major}: {error:?}"
        );

        cluster.sql("select pg_switch_wal()");
        cluster.sql("checkpoint");
        cluster.sql("create table t (n int)");
        cluster.sql("select pg_switch_wal()");
        cluster.sql("checkpoint");
        let removed = Lsn::new(SEGMENT_BYTES);
        let file = cluster.data().join("pg_wal/000000010000000000000001");
        if file.exists() {
            fs::remove_file(&file).unwrap();
        }
        let error = first_error(&mut transport(&cluster, SlotPolicy::Create), removed);
        assert!(error.is_wal_removed(), "{major}: {error:?}");
    }
}

#[test]
fn a_base_backup_has_the_size_that_the_server_estimates() {
    for major in majors() {
        let cluster = Cluster::builder(major).tablespace("other").start();
        cluster.sql("create table t tablespace other as select generate_series(1, 100000) n");
        let mut client = replicate(&cluster);
        let mut backup = client.base_backup(&options()).unwrap();
        let mut estimates = Vec::new();
        for tablespace in backup.tablespaces() {
            assert_eq!(tablespace.oid.is_some(), tablespace.location.is_some());
            estimates.push((tablespace.oid, tablespace.size_kib.unwrap() << 10));
        }
        let mut sizes: Vec<(Option<u32>, u64)> = Vec::new();
        loop {
            match backup.next().unwrap() {
                BaseBackupEvent::Archive { tablespace } => sizes.push((tablespace, 0)),
                BaseBackupEvent::Data(data) => sizes.last_mut().unwrap().1 += data.len() as u64,
                BaseBackupEvent::End(_) => break,
                _ => {}
            }
        }
        // Headers, padding and WAL come on top of the estimate.
        for ((oid, estimate), (sent, bytes)) in estimates.into_iter().zip(sizes) {
            assert_eq!(oid, sent, "{major}");
            let tolerance = estimate / 5 + 3 * SEGMENT_BYTES;
            assert!(
                bytes > estimate / 2 && bytes < estimate + tolerance,
                "{major}: {oid:?} has {bytes} bytes, estimated {estimate}"
            );
        }
    }
}

#[test]
fn a_base_backup_given_up_in_the_middle_ends_its_connection_only() {
    let cluster = Cluster::builder(Major::V17).start();
    let mut client = replicate(&cluster);
    let mut backup = client.base_backup(&options()).unwrap();
    while !matches!(backup.next().unwrap(), BaseBackupEvent::Data(_)) {}
    drop(backup);
    assert!(client.identify_system().is_err(), "it would read tar bytes");
    replicate(&cluster).base_backup(&options()).unwrap();
}

#[test]
fn a_refused_base_backup_leaves_a_usable_session() {
    for major in majors() {
        let cluster = Cluster::builder(major).start();
        let mut client = replicate(&cluster);
        let too_slow = BaseBackupOptions {
            max_rate_kib: Some(1),
            ..options()
        };
        let error = client.base_backup(&too_slow).unwrap_err();
        assert!(error.sqlstate().is_some(), "{major}: {error:?}");
        client.identify_system().unwrap();
    }
}

#[test]
fn damaged_pages_are_told_after_the_end_on_every_major() {
    for major in majors() {
        let mut cluster = Cluster::builder(major).start();
        cluster.sql("create table t as select generate_series(1, 10000) n");
        let file = cluster.value("select pg_relation_filepath('t')");
        cluster.stop(StopMode::Fast);
        let file = cluster.data().join(file);
        let mut pages = fs::read(&file).unwrap();
        pages[8192 + 4000] ^= 1;
        fs::write(&file, pages).unwrap();
        cluster.start();
        let mut client = replicate(&cluster);
        let mut backup = client.base_backup(&options()).unwrap();
        let end = loop {
            if let BaseBackupEvent::End(end) = backup.next().unwrap() {
                break end;
            }
        };
        drop(backup);
        let failure = end.failure.expect("the server checks pages");
        assert_eq!(failure.sqlstate, "XX001", "{major}: {failure}");
        assert!(!end.notices.is_empty(), "{major}");
        assert!(end.end_lsn.is_valid());
        client.identify_system().unwrap();
    }
}

/// The names in the archives of a backup, and its manifest.
fn names_and_manifest(client: &mut Client, options: &BaseBackupOptions) -> (String, Vec<u8>) {
    let mut backup = client.base_backup(options).unwrap();
    let (mut archives, mut manifest) = (Vec::new(), Vec::new());
    loop {
        match backup.next().unwrap() {
            BaseBackupEvent::Data(data) => archives.extend_from_slice(data),
            BaseBackupEvent::ManifestData(data) => manifest.extend_from_slice(data),
            BaseBackupEvent::End(end) => {
                assert!(end.failure.is_none(), "{end:?}");
                break;
            }
            _ => {}
        }
    }
    let names = archives
        .chunks(512)
        .filter(|block| &block[257..262.min(block.len())] == b"ustar");
    let names = names.map(|block| String::from_utf8_lossy(&block[..100]).into_owned());
    (names.collect::<Vec<_>>().join("\n"), manifest)
}

#[test]
fn only_changed_pages_come_after_a_manifest_was_uploaded_and_refusals_have_reasons() {
    let cluster = Cluster::builder(Major::V17)
        .setting("summarize_wal", "on")
        .start();
    cluster.sql("create table t as select generate_series(1, 10000) n");
    let whole = BaseBackupOptions {
        wal: WalInclusion::Exclude,
        ..options()
    };
    let changed = BaseBackupOptions {
        pages: BackupPages::Changed,
        ..whole.clone()
    };
    let mut client = replicate(&cluster);
    let error = client.base_backup(&changed).unwrap_err();
    let refusal = error.incremental_refusal();
    assert_eq!(
        refusal,
        Some(IncrementalRefusal::Other),
        "no manifest: {error}"
    );
    let (names, manifest) = names_and_manifest(&mut client, &whole);
    assert!(!names.contains("INCREMENTAL."));

    // Given up, it leaves the session as it was; cut off, it is refused; whole, it counts.
    let mut upload = client.upload_manifest().unwrap();
    upload.write_all(&manifest[..100_000]).unwrap();
    upload.give_up("a test").unwrap();
    let mut upload = client.upload_manifest().unwrap();
    upload.write_all(&manifest[..manifest.len() - 100]).unwrap();
    let error = upload.finish().unwrap_err();
    assert!(error.incremental_refusal().is_some(), "{error}");
    let mut upload = client.upload_manifest().unwrap();
    upload.write_all(&manifest).unwrap();
    upload.finish().unwrap();
    let (names, next) = names_and_manifest(&mut client, &changed);
    assert!(names.contains("INCREMENTAL."), "{names}");
    assert!(String::from_utf8(next).unwrap().contains("INCREMENTAL."));

    cluster.sql("alter system set summarize_wal = off");
    cluster.sql("select pg_reload_conf()");
    wait_until("it is off", || {
        client.show("summarize_wal").unwrap() == "off"
    });
    let error = client.base_backup(&changed).unwrap_err();
    let refusal = error.incremental_refusal();
    assert_eq!(refusal, Some(IncrementalRefusal::SummariesOff), "{error}");
    assert!(error.hint().unwrap().contains("summarize_wal"));
    names_and_manifest(&mut client, &whole);

    let other = Cluster::builder(Major::V17)
        .setting("summarize_wal", "on")
        .start();
    let mut client = replicate(&other);
    let mut upload = client.upload_manifest().unwrap();
    upload.write_all(&manifest).unwrap();
    let error = upload.finish().unwrap_err();
    let refusal = error.incremental_refusal();
    assert_eq!(refusal, Some(IncrementalRefusal::OtherSystem), "{error}");

    let old = Cluster::builder(Major::V16).start();
    let error = replicate(&old).upload_manifest().unwrap_err();
    assert!(matches!(error, Error::TooOld { .. }), "{error}");
}
