//! Facts as they could be, for the tests of what shows them.

use jiff::{SignedDuration, Timestamp};
use pgm_backup::verify::Level;
use pgm_backup::verify::verification::{self, Trial, Verification};
use pgm_mgmt::{Gap, JobId, JobKind, JobProgress, ServerState, StandbyResult};
use pgm_proto::{Lsn, ServerVersion, SystemId, TimelineId};
use pgm_storage::Space;
use pgm_wal::archive::Interval;

use super::catalog::{Backup, ServerCatalog, Soundness};
use super::proof::Proof;
use super::timeline::Timeline;
use super::window::{Growth, Window};
use super::{Facts, Look, ProcessFacts, RepositoryFacts, ServerFacts, StandbyFacts};
use crate::shared_state::Histogram;
use crate::supervisor::{Counts, JobCounts, Outcome, Problem, Reading, StandbyEnds};

/// Noon of some day.
pub(in crate::service) fn noon() -> Timestamp {
    "2026-03-04T12:00:00Z".parse().unwrap()
}

fn ago(hours: i64) -> Timestamp {
    noon() - SignedDuration::from_hours(hours)
}

/// A daemon with a server that is well, one that is not, and one that was never reached.
pub(in crate::service) fn facts() -> Facts {
    let mut counts = Counts::default();
    counts.requests.insert(("status", "ok"), 12);
    counts.requests.insert(("backup", "already_running"), 1);
    counts.login_failures.insert("password", 3);
    counts
        .not_sound
        .insert(("sales".parse().unwrap(), "damaged"), 2);
    counts.configuration = Some(Reading {
        at: ago(30),
        outcome: Outcome::Success,
    });
    let mut ended = JobCounts {
        succeeded: 4,
        last_failure: Some(ago(7)),
        ..JobCounts::default()
    };
    ended.failed.insert("server_unreachable", 1);
    let key = ("sales".parse().unwrap(), "backup".to_owned());
    counts.jobs.insert(key, ended);
    Facts {
        now: noon(),
        started: ago(30),
        repository: RepositoryFacts {
            path: "/srv/pgm/repository".to_owned(),
            space: Some(Space {
                free: 71 << 30,
                total: 200 << 30,
            }),
            spool_space: Some(Space {
                free: 19 << 30,
                total: 20 << 30,
            }),
            look: Some(Look {
                at: noon(),
                took: std::time::Duration::from_millis(12),
                error: None,
            }),
        },
        servers: vec![well(), broken(), unknown()],
        jobs: vec![job()],
        counts,
        standbys: vec![StandbyFacts {
            server: "orders".parse().unwrap(),
            name: "near".to_owned(),
            ends: StandbyEnds {
                counts: [(StandbyResult::Updated, 3), (StandbyResult::Failed, 1)].into(),
                last: None,
                updated: Some((noon(), "20260304T080000Z".to_owned())),
            },
        }],
        process: ProcessFacts {
            cpu_seconds: Some(3.25),
            resident_bytes: Some(20 << 20),
            virtual_bytes: Some(80 << 20),
            open_fds: Some(21),
            max_fds: Some(1024),
            threads: Some(5),
        },
        certificates: vec![("metrics", noon() + SignedDuration::from_hours(24 * 90))],
    }
}

fn job() -> JobProgress {
    JobProgress {
        job: JobId::new(7),
        kind: JobKind::Backup,
        server: "orders".parse().unwrap(),
        phase: "copy: base/16384".to_owned(),
        done_bytes: 3 << 30,
        total_bytes: Some(8 << 30),
        rate_bytes: 120 << 20,
        eta_seconds: Some(43),
        started: "2026-03-04T11:59:30Z".to_owned(),
        elapsed_seconds: 30,
    }
}

fn backup(hours_ago: i64, start: u64, reach: u64, soundness: Soundness) -> Backup {
    Backup {
        label: ago(hours_ago).strftime("%Y%m%dT%H%M%SZ").to_string(),
        started: ago(hours_ago),
        stopped: ago(hours_ago) + SignedDuration::from_mins(9),
        timeline: TimelineId::FIRST,
        start: Lsn::new(start),
        end: Lsn::new(start + 0x100),
        raw_bytes: 8 << 30,
        stored_bytes: 2 << 30,
        checksums: true,
        soundness,
        reach: (TimelineId::FIRST, Lsn::new(reach)),
        proof: Some(proof(hours_ago, soundness)),
    }
}

/// A verification that ended two hours after the backup; the oldest backup was tried, too.
fn proof(hours_ago: i64, soundness: Soundness) -> Proof {
    let tried = hours_ago == 90;
    let finished = ago(hours_ago - 2);
    Proof::of(&[Verification {
        format: Verification::FORMAT,
        level: if tried { Level::Restore } else { Level::Wal },
        outcome: match soundness {
            Soundness::Valid => verification::Outcome::Sound,
            Soundness::Warnings => verification::Outcome::Flawed,
            Soundness::Damaged => verification::Outcome::Damaged,
        },
        started: finished - SignedDuration::from_mins(3),
        finished,
        counts: verification::Counts::default(),
        trial: tried.then(|| Trial {
            lsn: Lsn::new(0x900_0000),
            last_commit: Some(finished),
            proven: finished,
            restore_ms: 61_000,
            replay_ms: 9_500,
            check_ms: 30_000,
            checks: Vec::new(),
        }),
        findings_total: 0,
        findings: Vec::new(),
    }])
}

fn interval(start: u64, end: u64) -> Interval {
    Interval {
        timeline: TimelineId::FIRST,
        start: Lsn::new(start),
        end: Lsn::new(end),
    }
}

/// A server that writes 0x100_0000 bytes an hour and began 96 hours ago.
fn well() -> ServerFacts {
    const HOUR: u64 = 0x100_0000;
    let mut timeline = Timeline::default();
    for hour in 0..=96 {
        timeline.add(Lsn::new((hour + 1) * HOUR), ago(96 - hour.cast_signed()));
    }
    timeline.sort();
    let end = 97 * HOUR;
    let fsync = Histogram::default();
    for milliseconds in [1, 2, 3, 40, 900] {
        fsync.observe(std::time::Duration::from_millis(milliseconds));
    }
    ServerFacts {
        name: "orders".parse().unwrap(),
        slot: "pgmd".parse().unwrap(),
        state: ServerState::Streaming,
        identity: Some((
            SystemId::new(7_412_345_678_901_234_567),
            ServerVersion::from_number(170_010),
        )),
        timeline: Some(TimelineId::FIRST),
        received: Some(Lsn::new(end)),
        durable: Some(Lsn::new(end)),
        archived: Some(Lsn::new(end - HOUR)),
        server_end: Some(Lsn::new(end)),
        last_message: Some(noon()),
        flushed_rpo: Some(std::time::Duration::ZERO),
        stored_rpo: Some(std::time::Duration::from_mins(12)),
        received_bytes: 123_456_789,
        stored_segments: 41,
        store_errors: 0,
        last_stored: Some(ago(1)),
        spool_bytes: 32 << 20,
        restarts: 0,
        connection_failures: 2,
        fsync: fsync.observations(),
        store: Histogram::default().observations(),
        acknowledge: fsync.observations(),
        problem: None,
        gaps: Vec::new(),
        archives: std::collections::BTreeMap::new(),
        catalog: Some(ServerCatalog {
            backups: vec![
                backup(90, 7 * HOUR, 96 * HOUR, Soundness::Valid),
                backup(66, 31 * HOUR, 96 * HOUR, Soundness::Valid),
                backup(42, 55 * HOUR, 96 * HOUR, Soundness::Warnings),
                backup(18, 79 * HOUR, 96 * HOUR, Soundness::Valid),
            ],
            wal: vec![interval(2 * HOUR, 96 * HOUR)],
            segment_bytes: Some(HOUR),
            wal_bytes: 400 << 20,
            wal_objects: 94,
            archived: Some(Lsn::new(end - HOUR)),
            timeline,
            error: None,
        }),
        windows: vec![Window {
            from: ago(90) + SignedDuration::from_mins(9),
            to: noon(),
            backups: 4,
            growth: Growth::Live,
        }],
    }
}

/// A server with a hole in its WAL that cannot be reached.
fn broken() -> ServerFacts {
    const HOUR: u64 = 0x100_0000;
    let mut facts = well();
    facts.name = "sales".parse().unwrap();
    facts.state = ServerState::Backoff;
    facts.flushed_rpo = Some(std::time::Duration::from_secs(754));
    facts.stored_rpo = Some(std::time::Duration::from_secs(4000));
    facts.problem = Some(Problem {
        text: "cannot connect to \"db2\": connection refused <& \"quoted\">".to_owned(),
        hint: Some("start the server, or correct its conninfo".to_owned()),
        at: noon() - SignedDuration::from_secs(754),
    });
    facts.gaps = vec![Gap {
        timeline: TimelineId::FIRST,
        from: Lsn::new(40 * HOUR),
        to: Lsn::new(50 * HOUR),
    }];
    let catalog = facts.catalog.as_mut().unwrap();
    catalog.wal = vec![
        interval(2 * HOUR, 40 * HOUR),
        interval(50 * HOUR, 96 * HOUR),
    ];
    catalog.backups[3].soundness = Soundness::Damaged;
    facts.windows = vec![
        Window {
            from: ago(90),
            to: ago(57),
            backups: 2,
            growth: Growth::Closed,
        },
        Window {
            from: ago(42),
            to: noon() - SignedDuration::from_secs(754),
            backups: 1,
            growth: Growth::Live,
        },
    ];
    facts
}

/// A server of which nothing is known.
fn unknown() -> ServerFacts {
    let nothing = Histogram::default().observations();
    ServerFacts {
        name: "new".parse().unwrap(),
        slot: "pgmd".parse().unwrap(),
        state: ServerState::Connecting,
        identity: None,
        timeline: None,
        received: None,
        durable: None,
        archived: None,
        server_end: None,
        last_message: None,
        flushed_rpo: None,
        stored_rpo: None,
        received_bytes: 0,
        stored_segments: 0,
        store_errors: 0,
        last_stored: None,
        spool_bytes: 0,
        restarts: 0,
        connection_failures: 0,
        fsync: nothing,
        store: nothing,
        acknowledge: nothing,
        problem: None,
        gaps: Vec::new(),
        archives: std::collections::BTreeMap::new(),
        catalog: Some(ServerCatalog::default()),
        windows: Vec::new(),
    }
}
