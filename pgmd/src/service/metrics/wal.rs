//! How WAL flows: how far, how fast, and what would be lost.

use pgm_mgmt::ServerState;

use super::REPOSITORY;
use super::family::{Family, Kind, Samples, Value};
use super::server::each;
use crate::service::facts::{Facts, ServerFacts};
use crate::shared_state::Observations;

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "pgm_rpo_bytes",
        kind: Kind::Gauge,
        help: "Bytes of WAL that would be lost if the server vanished now: written by it, but not yet durable here (flushed), or not yet in the repository (stored), which counts if this host vanished with it.",
        labels: &["server", "stage"],
        samples: |facts, out| {
            stages(facts, out, |server, stage| {
                server.behind(stage.of(server)).map(Value::from)
            });
        },
    },
    Family {
        name: "pgm_rpo_seconds",
        kind: Kind::Gauge,
        help: "Seconds of work that would be lost: since when the stage has been behind the server. 0 while it has everything, however long the server has been idle; for what was behind already when pgmd started, since then.",
        labels: &["server", "stage"],
        samples: |facts, out| {
            stages(facts, out, |server, stage| match stage {
                Stage::Flushed => server.flushed_rpo.map(Value::from),
                Stage::Stored => server.stored_rpo.map(Value::from),
            });
        },
    },
    Family {
        name: "pgm_wal_receiver_up",
        kind: Kind::Gauge,
        help: "Whether WAL streams through the replication slot.",
        labels: &["server", "slot"],
        samples: |facts, out| {
            for server in &facts.servers {
                let up = server.state == ServerState::Streaming;
                out.add(&[server.name.as_str(), server.slot.as_str()], up.into());
            }
        },
    },
    Family {
        name: "pgm_wal_server_lsn_bytes",
        kind: Kind::Gauge,
        help: "The end of the server's WAL when it was last heard of, as a number.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| server.server_end),
    },
    Family {
        name: "pgm_wal_received_lsn_bytes",
        kind: Kind::Gauge,
        help: "How far WAL has arrived.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| server.received),
    },
    Family {
        name: "pgm_wal_flushed_lsn_bytes",
        kind: Kind::Gauge,
        help: "How far WAL is durable here, and acknowledged.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| server.durable),
    },
    Family {
        name: "pgm_wal_archived_lsn_bytes",
        kind: Kind::Gauge,
        help: "How far whole segments of WAL are in the repository.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| server.archived),
    },
    Family {
        name: "pgm_wal_oldest_lsn_bytes",
        kind: Kind::Gauge,
        help: "Where the oldest WAL in the repository begins.",
        labels: &["server", "repo"],
        samples: |facts, out| {
            in_repository(facts, out, |server| {
                let wal = &server.catalog.as_ref()?.wal;
                wal.iter().map(|interval| interval.start).min()
            });
        },
    },
    Family {
        name: "pgm_wal_last_stored_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When WAL was last stored in the repository by this pgmd.",
        labels: &["server", "repo"],
        samples: |facts, out| in_repository(facts, out, |server| server.last_stored),
    },
    Family {
        name: "pgm_wal_gaps",
        kind: Kind::Gauge,
        help: "Holes in the server's WAL, in repository and spool together.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| Some(server.gaps.len())),
    },
    Family {
        name: "pgm_wal_gap_segments",
        kind: Kind::Gauge,
        help: "Segments that are missing in those holes.",
        labels: &["server", "repo"],
        samples: |facts, out| in_repository(facts, out, missing_segments),
    },
    Family {
        name: "pgm_wal_received_bytes_total",
        kind: Kind::Counter,
        help: "Bytes of WAL received.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| Some(server.received_bytes)),
    },
    Family {
        name: "pgm_wal_segments_stored_total",
        kind: Kind::Counter,
        help: "Segments of WAL stored in the repository and read back.",
        labels: &["server", "repo"],
        samples: |facts, out| in_repository(facts, out, |server| Some(server.stored_segments)),
    },
    Family {
        name: "pgm_wal_store_errors_total",
        kind: Kind::Counter,
        help: "Failed attempts to store WAL in the repository; each is tried again.",
        labels: &["server", "repo"],
        samples: |facts, out| in_repository(facts, out, |server| Some(server.store_errors)),
    },
    Family {
        name: "pgm_wal_receiver_restarts_total",
        kind: Kind::Counter,
        help: "How often receiving began anew, because the worker process died (worker) or the connection failed (connection).",
        labels: &["server", "reason"],
        samples: |facts, out| {
            for server in &facts.servers {
                let name = server.name.as_str();
                out.add(&[name, "worker"], server.restarts.into());
                out.add(&[name, "connection"], server.connection_failures.into());
            }
        },
    },
    Family {
        name: "pgm_wal_fsync_seconds",
        kind: Kind::Histogram,
        help: "How long it took to make received WAL durable: one fdatasync each.",
        labels: &["server"],
        samples: |facts, out| durations(facts, out, &[], |server| server.fsync),
    },
    Family {
        name: "pgm_wal_ack_seconds",
        kind: Kind::Histogram,
        help: "How long received WAL waited until the server was told that it is durable: what a synchronous commit waits for, besides the network.",
        labels: &["server"],
        samples: |facts, out| durations(facts, out, &[], |server| server.acknowledge),
    },
    Family {
        name: "pgm_wal_store_seconds",
        kind: Kind::Histogram,
        help: "How long it took to store a segment in the repository and to read it back.",
        labels: &["server", "repo"],
        samples: |facts, out| durations(facts, out, &[REPOSITORY], |server| server.store),
    },
];

/// How safe WAL is.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// On this host's disk.
    Flushed,
    /// In the repository.
    Stored,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Flushed => "flushed",
            Self::Stored => "stored",
        }
    }

    fn of(self, server: &ServerFacts) -> Option<pgm_proto::Lsn> {
        match self {
            Self::Flushed => server.durable,
            Self::Stored => server.archived,
        }
    }
}

fn stages(
    facts: &Facts,
    out: &mut dyn Samples,
    value: impl Fn(&ServerFacts, Stage) -> Option<Value>,
) {
    for server in &facts.servers {
        for stage in [Stage::Flushed, Stage::Stored] {
            if let Some(value) = value(server, stage) {
                out.add(&[server.name.as_str(), stage.name()], value);
            }
        }
    }
}

/// One sample for each server of which `value` is known, with the repository's label.
pub(super) fn in_repository<T: Into<Value>>(
    facts: &Facts,
    out: &mut dyn Samples,
    value: impl Fn(&ServerFacts) -> Option<T>,
) {
    for server in &facts.servers {
        if let Some(value) = value(server) {
            out.add(&[server.name.as_str(), REPOSITORY], value.into());
        }
    }
}

fn durations(
    facts: &Facts,
    out: &mut dyn Samples,
    more: &[&str],
    of: impl Fn(&ServerFacts) -> Observations,
) {
    for server in &facts.servers {
        let labels = [&[server.name.as_str()], more].concat();
        out.histogram(&labels, &of(server));
    }
}

fn missing_segments(server: &ServerFacts) -> Option<u64> {
    let bytes = server.catalog.as_ref()?.segment_bytes?;
    let of = |gap: &pgm_mgmt::Gap| gap.to.bytes_since(gap.from).div_ceil(bytes);
    Some(server.gaps.iter().map(of).sum())
}
