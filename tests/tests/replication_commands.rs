//! Replication commands of pgm's client, on real servers of every major.

use pgm_proto::{
    BaseBackupEvent, BaseBackupOptions, Checkpoint, Client, ConnInfo, ManifestChecksums, Session,
    SlotCreated, SlotName, TimelineId, WalInclusion,
};
use pgm_tests::{Cluster, Major, majors};

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
