//! The daemon itself, and the process that it is.

use super::family::{Family, Kind, Samples, Value};
use crate::service::facts::{Facts, ProcessFacts};
use crate::supervisor::Outcome;

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "pgm_build_info",
        kind: Kind::Gauge,
        help: "The version of pgmd; always 1.",
        labels: &["version"],
        samples: |_, out| out.add(&[env!("CARGO_PKG_VERSION")], 1_u64.into()),
    },
    Family {
        name: "pgm_config_last_reload_success",
        kind: Kind::Gauge,
        help: "Whether the newest reading of the configuration is in force; the start counts as the first.",
        labels: &[],
        samples: |facts, out| {
            if let Some(reading) = facts.counts.configuration {
                out.add(&[], (reading.outcome == Outcome::Success).into());
            }
        },
    },
    Family {
        name: "pgm_config_last_reload_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When that was.",
        labels: &[],
        samples: |facts, out| {
            if let Some(reading) = facts.counts.configuration {
                out.add(&[], reading.at.into());
            }
        },
    },
    Family {
        name: "pgm_management_requests_total",
        kind: Kind::Counter,
        help: "Requests of management clients, by result: ok, or the code of the error.",
        labels: &["request", "result"],
        samples: |facts, out| {
            for ((request, result), number) in &facts.counts.requests {
                out.add(&[request, result], (*number).into());
            }
        },
    },
    Family {
        name: "pgm_management_login_failures_total",
        kind: Kind::Counter,
        help: "Management clients that could not log in, by reason.",
        labels: &["reason"],
        samples: |facts, out| {
            for (reason, number) in &facts.counts.login_failures {
                out.add(&[reason], (*number).into());
            }
        },
    },
    Family {
        name: "pgm_tls_certificate_not_after_timestamp_seconds",
        kind: Kind::Gauge,
        help: "Until when a certificate that pgmd shows is valid.",
        labels: &["cert"],
        samples: |facts, out| {
            for (what_for, until) in &facts.certificates {
                out.add(&[what_for], (*until).into());
            }
        },
    },
    Family {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        help: "Processor time of the supervisor, in the program and in the kernel for it; workers are processes of their own.",
        labels: &[],
        samples: |facts, out| process(facts, out, |of| of.cpu_seconds.map(Value::from)),
    },
    Family {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        help: "Memory of the supervisor.",
        labels: &[],
        samples: |facts, out| process(facts, out, |of| of.resident_bytes.map(Value::from)),
    },
    Family {
        name: "process_virtual_memory_bytes",
        kind: Kind::Gauge,
        help: "Address space of the supervisor.",
        labels: &[],
        samples: |facts, out| process(facts, out, |of| of.virtual_bytes.map(Value::from)),
    },
    Family {
        name: "process_open_fds",
        kind: Kind::Gauge,
        help: "Descriptors that the supervisor has open.",
        labels: &[],
        samples: |facts, out| process(facts, out, |of| of.open_fds.map(Value::from)),
    },
    Family {
        name: "process_max_fds",
        kind: Kind::Gauge,
        help: "How many descriptors it may have open.",
        labels: &[],
        samples: |facts, out| process(facts, out, |of| of.max_fds.map(Value::from)),
    },
    Family {
        name: "process_threads",
        kind: Kind::Gauge,
        help: "Threads of the supervisor.",
        labels: &[],
        samples: |facts, out| process(facts, out, |of| of.threads.map(Value::from)),
    },
    Family {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        help: "When the supervisor started.",
        labels: &[],
        samples: |facts, out| out.add(&[], facts.started.into()),
    },
];

fn process(facts: &Facts, out: &mut dyn Samples, value: impl Fn(&ProcessFacts) -> Option<Value>) {
    if let Some(value) = value(&facts.process) {
        out.add(&[], value);
    }
}
