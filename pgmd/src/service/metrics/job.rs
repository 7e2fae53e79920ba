//! Jobs that run, and how they ended.

use std::collections::BTreeMap;

use pgm_mgmt::{JobKind, JobProgress};

use super::family::{Family, Kind, Samples, Value};
use crate::service::facts::Facts;

/// Kinds that are reported as 0 while none runs, so that alerts have something to look at.
const ALWAYS: [JobKind; 2] = [JobKind::Backup, JobKind::Restore];

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "pgm_job_running",
        kind: Kind::Gauge,
        help: "Jobs of this kind that run or wait for their turn.",
        labels: &["server", "job"],
        samples: |facts, out| {
            let running = running(facts);
            for server in &facts.servers {
                for kind in ALWAYS.map(|kind| kind.to_string()) {
                    if !running.contains_key(&(server.name.as_str(), kind.clone())) {
                        out.add(&[server.name.as_str(), &kind], 0_u64.into());
                    }
                }
            }
            for ((server, kind), jobs) in running {
                out.add(&[server, &kind], jobs.len().into());
            }
        },
    },
    Family {
        name: "pgm_job_processed_bytes",
        kind: Kind::Gauge,
        help: "Bytes that the running jobs have done in their present phase.",
        labels: &["server", "job"],
        samples: |facts, out| {
            sum(facts, out, |jobs| {
                Some(jobs.iter().map(|job| job.done_bytes).sum::<u64>().into())
            });
        },
    },
    Family {
        name: "pgm_job_expected_bytes",
        kind: Kind::Gauge,
        help: "Bytes of the whole phase, where they are known.",
        labels: &["server", "job"],
        samples: |facts, out| sum(facts, out, |jobs| Some(expected(jobs)?.into())),
    },
    Family {
        name: "pgm_job_progress_ratio",
        kind: Kind::Gauge,
        help: "How much of the phase is done, from 0 to 1, where the whole is known.",
        labels: &["server", "job"],
        samples: |facts, out| {
            sum(facts, out, |jobs| {
                let done: u64 = jobs.iter().map(|job| job.done_bytes).sum();
                let ratio = done as f64 / expected(jobs)? as f64;
                Some(ratio.min(1.0).into())
            });
        },
    },
    Family {
        name: "pgm_job_started_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the oldest running job of this kind began.",
        labels: &["server", "job"],
        samples: |facts, out| {
            sum(facts, out, |jobs| {
                let started = jobs.iter().filter_map(|job| job.started.parse().ok());
                started.min().map(|at: jiff::Timestamp| at.into())
            });
        },
    },
    Family {
        name: "pgm_jobs_ended_total",
        kind: Kind::Counter,
        help: "Jobs that ended, by result: ok, or the code of the error.",
        labels: &["server", "job", "result"],
        samples: |facts, out| {
            for server in &facts.servers {
                let ended = facts.counts.jobs.iter();
                for ((_, kind), counts) in ended.filter(|((of, _), _)| *of == server.name) {
                    let name = server.name.as_str();
                    out.add(&[name, kind, "ok"], counts.succeeded.into());
                    for (reason, number) in &counts.failed {
                        out.add(&[name, kind, reason], (*number).into());
                    }
                }
            }
        },
    },
    Family {
        name: "pgm_restore_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When a restore last succeeded, since pgmd started.",
        labels: &["server"],
        samples: |facts, out| {
            restores(facts, out, |counts| counts.last_success.map(Value::from));
        },
    },
    Family {
        name: "pgm_restore_last_duration_seconds",
        kind: Kind::Gauge,
        help: "How long that restore took.",
        labels: &["server"],
        samples: |facts, out| {
            restores(facts, out, |counts| {
                counts.last_success.map(|_| counts.last_duration.into())
            });
        },
    },
];

/// The jobs by server and kind, of configured servers only: strangers' names would be labels without a bound.
fn running(facts: &Facts) -> BTreeMap<(&str, String), Vec<&JobProgress>> {
    let mut running: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for job in &facts.jobs {
        if let Some(server) = facts.servers.iter().find(|of| of.name == job.server) {
            let key = (server.name.as_str(), job.kind.to_string());
            running.entry(key).or_default().push(job);
        }
    }
    running
}

fn expected(jobs: &[&JobProgress]) -> Option<u64> {
    let total: Option<u64> = jobs.iter().map(|job| job.total_bytes).sum();
    total.filter(|total| *total > 0)
}

fn sum(facts: &Facts, out: &mut dyn Samples, value: impl Fn(&[&JobProgress]) -> Option<Value>) {
    for ((server, kind), jobs) in running(facts) {
        if let Some(value) = value(&jobs) {
            out.add(&[server, &kind], value);
        }
    }
}

fn restores(
    facts: &Facts,
    out: &mut dyn Samples,
    value: impl Fn(&crate::supervisor::JobCounts) -> Option<Value>,
) {
    for server in &facts.servers {
        let key = (server.name.clone(), JobKind::Restore.to_string());
        if let Some(value) = facts.counts.jobs.get(&key).and_then(&value) {
            out.add(&[server.name.as_str()], value);
        }
    }
}
