//! The repository and the spool: sizes and room.

use pgm_storage::Space;

use super::REPOSITORY;
use super::family::{Family, Kind, Samples, Value};
use super::server::each;
use crate::service::facts::Facts;
use crate::supervisor::ArchiveView;

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "pgm_repo_up",
        kind: Kind::Gauge,
        help: "Whether the newest look into the repository could read all of it.",
        labels: &["repo"],
        samples: |facts, out| {
            if let Some(look) = &facts.repository.look {
                out.add(&[REPOSITORY], look.error.is_none().into());
            }
        },
    },
    Family {
        name: "pgm_repo_look_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When that look ended: what metrics say of the repository is as old as this.",
        labels: &["repo"],
        samples: |facts, out| {
            if let Some(look) = &facts.repository.look {
                out.add(&[REPOSITORY], look.at.into());
            }
        },
    },
    Family {
        name: "pgm_repo_look_duration_seconds",
        kind: Kind::Gauge,
        help: "How long that look took.",
        labels: &["repo"],
        samples: |facts, out| {
            if let Some(look) = &facts.repository.look {
                out.add(&[REPOSITORY], look.took.into());
            }
        },
    },
    Family {
        name: "pgm_repo_size_bytes",
        kind: Kind::Gauge,
        help: "Bytes of a server's objects in the repository: backups, or wal.",
        labels: &["server", "repo", "kind"],
        samples: |facts, out| {
            for server in &facts.servers {
                if let Some(catalog) = &server.catalog {
                    let backups: u64 = catalog.backups.iter().map(|of| of.stored_bytes).sum();
                    let name = server.name.as_str();
                    out.add(&[name, REPOSITORY, "backup"], backups.into());
                    out.add(&[name, REPOSITORY, "wal"], catalog.wal_bytes.into());
                }
            }
        },
    },
    Family {
        name: "pgm_repo_wal_files",
        kind: Kind::Gauge,
        help: "WAL objects of a server in the repository.",
        labels: &["server", "repo"],
        samples: |facts, out| {
            super::wal::in_repository(facts, out, |server| {
                Some(server.catalog.as_ref()?.wal_objects)
            });
        },
    },
    Family {
        name: "pgm_repo_free_bytes",
        kind: Kind::Gauge,
        help: "Bytes that may still be written where the repository is.",
        labels: &["repo"],
        samples: |facts, out| {
            room(facts.repository.space, &[REPOSITORY], out, |space| {
                space.free
            });
        },
    },
    Family {
        name: "pgm_repo_total_bytes",
        kind: Kind::Gauge,
        help: "Bytes of the whole medium where the repository is.",
        labels: &["repo"],
        samples: |facts, out| {
            room(facts.repository.space, &[REPOSITORY], out, |space| {
                space.total
            });
        },
    },
    Family {
        name: "pgm_repo_archiving_up",
        kind: Kind::Gauge,
        help: "Whether a server's WAL gets into the repository.",
        labels: &["server", "repo"],
        samples: |facts, out| archives(facts, out, |archive| archive.problem.is_none().into()),
    },
    Family {
        name: "pgm_repo_backlog_files",
        kind: Kind::Gauge,
        help: "Finished files in a server's spool that the repository does not have yet.",
        labels: &["server", "repo"],
        samples: |facts, out| archives(facts, out, |archive| (archive.backlog as u64).into()),
    },
    Family {
        name: "pgm_repo_backlog_seconds",
        kind: Kind::Gauge,
        help: "How long the oldest of those files has waited; 0 if there is none.",
        labels: &["server", "repo"],
        samples: |facts, out| {
            archives(facts, out, |archive| {
                archive.backlog_age().as_secs_f64().into()
            });
        },
    },
    Family {
        name: "pgm_spool_bytes",
        kind: Kind::Gauge,
        help: "Bytes of a server's WAL in the spool: being filled, or waiting to be stored.",
        labels: &["server"],
        samples: |facts: &Facts, out| each(facts, out, |server| Some(server.spool_bytes)),
    },
    Family {
        name: "pgm_spool_free_bytes",
        kind: Kind::Gauge,
        help: "Bytes that may still be written where the spool is. WAL stops when there are none.",
        labels: &[],
        samples: |facts, out| room(facts.repository.spool_space, &[], out, |space| space.free),
    },
    Family {
        name: "pgm_spool_total_bytes",
        kind: Kind::Gauge,
        help: "Bytes of the whole medium where the spool is.",
        labels: &[],
        samples: |facts, out| room(facts.repository.spool_space, &[], out, |space| space.total),
    },
];

fn archives(facts: &Facts, out: &mut dyn Samples, value: impl Fn(&ArchiveView) -> Value) {
    for server in &facts.servers {
        for (repository, archive) in &server.archives {
            out.add(&[server.name.as_str(), repository.as_str()], value(archive));
        }
    }
}

fn room(
    space: Option<Space>,
    labels: &[&str],
    out: &mut dyn Samples,
    value: impl Fn(Space) -> u64,
) {
    if let Some(space) = space {
        out.add(labels, value(space).into());
    }
}
