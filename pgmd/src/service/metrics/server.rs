//! How the servers are.

use pgm_mgmt::ServerState;

use super::family::{Family, Kind, Samples};
use crate::service::facts::{Facts, ServerFacts};

/// The states that a server is reported in, one sample each.
const STATES: [ServerState; 9] = [
    ServerState::Starting,
    ServerState::Connecting,
    ServerState::Streaming,
    ServerState::Backoff,
    ServerState::Restarting,
    ServerState::Error,
    ServerState::Stopping,
    ServerState::Stopped,
    ServerState::Offline,
];

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "pgm_server_up",
        kind: Kind::Gauge,
        help: "Whether the server is connected and sends WAL.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| Some(is_up(server))),
    },
    Family {
        name: "pgm_server_info",
        kind: Kind::Gauge,
        help: "Which server it is, once it has been reached; always 1.",
        labels: &["server", "version", "system_identifier"],
        samples: |facts, out| {
            for server in &facts.servers {
                if let Some((system_id, version)) = &server.identity {
                    let (version, system_id) = (version.to_string(), system_id.to_string());
                    out.add(&[server.name.as_str(), &version, &system_id], 1_u64.into());
                }
            }
        },
    },
    Family {
        name: "pgm_server_state",
        kind: Kind::Gauge,
        help: "What the receive worker of the server does: 1 for the state that it is in, 0 for the others.",
        labels: &["server", "state"],
        samples: |facts, out| {
            for server in &facts.servers {
                for state in STATES {
                    let is_it = server.state == state;
                    out.add(&[server.name.as_str(), state.name()], is_it.into());
                }
            }
        },
    },
    Family {
        name: "pgm_server_problem",
        kind: Kind::Gauge,
        help: "Whether something is wrong with the server, its WAL or the archiving of it; the overview says what.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| Some(server.problem.is_some())),
    },
    Family {
        name: "pgm_server_timeline",
        kind: Kind::Gauge,
        help: "The timeline of the server's WAL.",
        labels: &["server"],
        samples: |facts, out| {
            each(facts, out, |server| {
                Some(u64::from(server.timeline?.number()))
            });
        },
    },
    Family {
        name: "pgm_server_data_checksums",
        kind: Kind::Gauge,
        help: "Whether the server had page checksums at its newest backup.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| Some(server.newest_backup()?.checksums)),
    },
    Family {
        name: "pgm_server_last_message_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the server was last heard of.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| server.last_message),
    },
];

fn is_up(server: &ServerFacts) -> bool {
    server.state == ServerState::Streaming
}

/// One sample for each server of which `value` is known.
pub(super) fn each<T: Into<super::family::Value>>(
    facts: &Facts,
    out: &mut dyn Samples,
    value: impl Fn(&ServerFacts) -> Option<T>,
) {
    for server in &facts.servers {
        if let Some(value) = value(server) {
            out.add(&[server.name.as_str()], value.into());
        }
    }
}
