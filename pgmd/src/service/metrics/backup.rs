//! Backups, and how far back they reach.

use std::time::Duration;

use pgm_backup::verify::Level;
use pgm_mgmt::JobKind;

use super::REPOSITORY;
use super::family::{Family, Kind, Samples, Value};
use super::server::each;
use super::wal::in_repository;
use crate::service::facts::{Backup, Facts, ServerFacts, Soundness, Window};
use crate::supervisor::JobCounts;

/// How far verifications go.
const LEVELS: [(&str, Level); 4] = [
    ("catalog", Level::Catalog),
    ("frames", Level::Frames),
    ("wal", Level::Wal),
    ("restore", Level::Restore),
];
/// The kind of every backup, as its label says: incremental ones restore like full ones, and are not told apart.
const FULL: &str = "full";

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "pgm_backups",
        kind: Kind::Gauge,
        help: "Backups in the repository: valid, with warnings, or damaged; and those that are being taken (running).",
        labels: &["server", "repo", "status"],
        samples: |facts, out| {
            for server in &facts.servers {
                let Some(catalog) = &server.catalog else {
                    continue;
                };
                let count = |soundness| {
                    let backups = catalog.backups.iter();
                    backups.filter(|of| of.soundness == soundness).count()
                };
                let running = facts
                    .jobs
                    .iter()
                    .filter(|job| job.kind == JobKind::Backup && job.server == server.name)
                    .count();
                for (status, number) in [
                    ("valid", count(Soundness::Valid)),
                    ("warnings", count(Soundness::Warnings)),
                    ("damaged", count(Soundness::Damaged)),
                    ("running", running),
                ] {
                    out.add(&[server.name.as_str(), REPOSITORY, status], number.into());
                }
            }
        },
    },
    Family {
        name: "pgm_backup_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the newest backup in the repository was complete.",
        labels: &["server", "type"],
        samples: |facts, out| newest(facts, out, |backup| backup.stopped),
    },
    Family {
        name: "pgm_backup_last_failure_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When a backup last failed, since pgmd started.",
        labels: &["server", "type"],
        samples: |facts, out| {
            for server in &facts.servers {
                if let Some(at) = counts(facts, server).and_then(|counts| counts.last_failure) {
                    out.add(&[server.name.as_str(), FULL], at.into());
                }
            }
        },
    },
    Family {
        name: "pgm_backup_last_attempt_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When a backup last ended, well or not.",
        labels: &["server", "type"],
        samples: |facts, out| {
            for server in &facts.servers {
                let success = server.newest_backup().map(|backup| backup.stopped);
                let failure = counts(facts, server).and_then(|counts| counts.last_failure);
                if let Some(at) = success.max(failure) {
                    out.add(&[server.name.as_str(), FULL], at.into());
                }
            }
        },
    },
    Family {
        name: "pgm_backup_last_duration_seconds",
        kind: Kind::Gauge,
        help: "How long the newest backup in the repository took.",
        labels: &["server", "type"],
        samples: |facts, out| {
            newest(facts, out, |backup| {
                backup.stopped.duration_since(backup.started).as_secs_f64()
            });
        },
    },
    Family {
        name: "pgm_backup_failures_total",
        kind: Kind::Counter,
        help: "Backups that failed or were cancelled, by the code of the error.",
        labels: &["server", "type", "reason"],
        samples: |facts, out| {
            for server in &facts.servers {
                for (reason, number) in counts(facts, server).iter().flat_map(|of| &of.failed) {
                    out.add(&[server.name.as_str(), FULL, reason], (*number).into());
                }
            }
        },
    },
    Family {
        name: "pgm_backup_logical_bytes",
        kind: Kind::Gauge,
        help: "Bytes of the server's files in the newest (last) and in the oldest backup.",
        labels: &["server", "backup"],
        samples: |facts, out| ends(facts, out, |backup| Some(backup.raw_bytes.into())),
    },
    Family {
        name: "pgm_backup_stored_bytes",
        kind: Kind::Gauge,
        help: "Bytes of the same backups in the repository.",
        labels: &["server", "backup"],
        samples: |facts, out| ends(facts, out, |backup| Some(backup.stored_bytes.into())),
    },
    Family {
        name: "pgm_backup_compression_ratio",
        kind: Kind::Gauge,
        help: "How many bytes of files one byte of the repository holds, in the same backups.",
        labels: &["server", "backup"],
        samples: |facts, out| {
            ends(facts, out, |backup| {
                let ratio = backup.raw_bytes as f64 / backup.stored_bytes as f64;
                ratio.is_finite().then_some(Value::Real(ratio))
            });
        },
    },
    Family {
        name: "pgm_backup_verified_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the newest verification of any backup ended that found nothing wrong and went at least so far (level: catalog, frames, wal, restore).",
        labels: &["server", "level"],
        samples: |facts, out| {
            for server in &facts.servers {
                for (name, level) in LEVELS {
                    let proofs = server.backups().iter().filter_map(|of| of.proof.as_ref());
                    if let Some(at) = proofs.filter_map(|of| of.sound_since(level)).max() {
                        out.add(&[server.name.as_str(), name], at.into());
                    }
                }
            }
        },
    },
    Family {
        name: "pgm_backup_verify_failures_total",
        kind: Kind::Counter,
        help: "Verifications that found something: the backup is damaged, or flawed (it can be restored, but something beside or in it is wrong).",
        labels: &["server", "outcome"],
        samples: |facts, out| {
            for ((server, outcome), number) in &facts.counts.not_sound {
                out.add(&[server.as_str(), outcome], (*number).into());
            }
        },
    },
    Family {
        name: "pgm_recovery_proven_timestamp_seconds",
        kind: Kind::Gauge,
        help: "The last moment that is proven to be recoverable: the last commit that a server replayed which was started on a restored backup.",
        labels: &["server"],
        samples: |facts, out| {
            each(facts, out, |server| {
                server.proven().map(|(_, trial)| trial.proven)
            });
        },
    },
    Family {
        name: "pgm_restore_drill_rto_seconds",
        kind: Kind::Gauge,
        help: "How long that recovery took: from the beginning of the restore until the server took commands.",
        labels: &["server"],
        samples: |facts, out| {
            each(facts, out, |server| {
                let (_, trial) = server.proven()?;
                Some(Duration::from_millis(trial.restore_ms + trial.replay_ms))
            });
        },
    },
    Family {
        name: "pgm_recovery_windows",
        kind: Kind::Gauge,
        help: "Stretches of time without a hole to any moment of which the server can be restored; more than one means that something is missing between them.",
        labels: &["server"],
        samples: |facts, out| each(facts, out, |server| Some(server.windows.len())),
    },
    Family {
        name: "pgm_recovery_window_start_timestamp_seconds",
        kind: Kind::Gauge,
        help: "The earliest moment of the newest such stretch.",
        labels: &["server", "repo"],
        samples: |facts, out| window(facts, out, |window| window.from),
    },
    Family {
        name: "pgm_recovery_window_end_timestamp_seconds",
        kind: Kind::Gauge,
        help: "The latest moment of the newest such stretch. It counts what is durable here, in the spool too.",
        labels: &["server", "repo"],
        samples: |facts, out| window(facts, out, |window| window.to),
    },
];

fn counts<'a>(facts: &'a Facts, server: &ServerFacts) -> Option<&'a JobCounts> {
    let key = (server.name.clone(), JobKind::Backup.to_string());
    facts.counts.jobs.get(&key)
}

fn newest<T: Into<Value>>(facts: &Facts, out: &mut dyn Samples, value: impl Fn(&Backup) -> T) {
    for server in &facts.servers {
        if let Some(backup) = server.newest_backup() {
            out.add(&[server.name.as_str(), FULL], value(backup).into());
        }
    }
}

fn ends(facts: &Facts, out: &mut dyn Samples, value: impl Fn(&Backup) -> Option<Value>) {
    for server in &facts.servers {
        let ends = [
            ("last", server.newest_backup()),
            ("oldest", server.oldest_backup()),
        ];
        for (which, backup) in ends {
            if let Some(value) = backup.and_then(&value) {
                out.add(&[server.name.as_str(), which], value);
            }
        }
    }
}

fn window<T: Into<Value>>(facts: &Facts, out: &mut dyn Samples, value: impl Fn(&Window) -> T) {
    in_repository(facts, out, |server| {
        server
            .windows
            .iter()
            .max_by_key(|window| window.to)
            .map(&value)
    });
}
