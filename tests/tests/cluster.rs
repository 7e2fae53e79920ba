//! The kit itself: servers of every major start, stop, crash, recover, and have standbys.
#![allow(clippy::unwrap_used, reason = "a test: what fails in it must fail it")]

use pgm_tests::{Auth, Cluster, Major, StopMode, Tls, majors};

#[test]
fn every_major_is_there_and_runs() {
    for major in majors() {
        let cluster = Cluster::builder(major).start();
        let version = cluster.value("show server_version_num");
        println!("PostgreSQL {major}: {version}");
        assert_eq!(version.parse::<u32>().unwrap() / 10_000, major.number());
        assert_eq!(cluster.value("show data_checksums"), "on");
    }
}

#[test]
fn a_killed_server_recovers_and_keeps_its_port() {
    let mut cluster = Cluster::builder(Major::V15)
        .segment_mib(1)
        .tablespace("odd name")
        .start();
    cluster.sql("create table t tablespace \"odd name\" as select generate_series(1, 1000) n");
    let port = cluster.port();
    cluster.kill();
    cluster.start();
    assert_eq!(cluster.port(), port);
    assert_eq!(cluster.value("select count(*) from t"), "1000");
    assert_eq!(cluster.value("show wal_segment_size"), "1MB");
    cluster.stop(StopMode::Immediate);
    cluster.restart();
    assert_eq!(cluster.value("select count(*) from t"), "1000");
}

#[test]
fn standbys_of_every_major_follow_and_can_be_promoted() {
    for major in majors() {
        let mut primary = Cluster::builder(major).start();
        let standby = primary.standby();
        primary.sql("create table t as select generate_series(1, 1000) n");
        standby.catch_up_with(&primary);
        primary.destroy();
        standby.promote();
        standby.sql("insert into t values (1001)");
        assert_eq!(standby.value("select count(*) from t"), "1001");
        let segment = standby.value("select pg_walfile_name(pg_current_wal_insert_lsn())");
        assert!(segment.starts_with("00000002"), "{segment}");
    }
}

#[test]
fn servers_ask_for_proof_as_told() {
    let cluster = Cluster::builder(Major::V17)
        .auth(Auth::ScramSha256)
        .tls(Tls::Required)
        .start();
    assert!(cluster.certificates().authority.exists());
    assert_eq!(cluster.value("show ssl"), "on");
}
