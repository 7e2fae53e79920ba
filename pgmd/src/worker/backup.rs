//! `pgmd worker job backup SERVER`: one backup, from the connection to the report.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::Arc;

use pgm_backup::backup::{BackupOutcome, BackupTarget};
use pgm_backup::catalog::Sent;
use pgm_backup::{BackupRequest, Compaction, Incremental, Repository, Resume};
use pgm_mgmt::{
    BackupOptions, BackupSource, BackupSummary, Error, ErrorCode, Response, UnreadableRepository,
};
use pgm_proto::{Checkpoint, Client, ConnInfo, Session};
use pgm_wal::Spool;
use pgm_wal::archive::Archive;
use tracing::{error, info};

use super::coverage::Held;
use super::job;
use super::link::Link;
use super::message::{Description, Task, WorkerEvent};
use crate::known_repository;
use crate::place::RepositoryTarget;
use crate::repository::{self, chain, failure};
use crate::shared_state::SharedState;

/// Takes the backup and reports how it ended.
pub(super) fn backup(link: &Link, description: &Description, state: &Arc<SharedState>) {
    match take(link, description, state) {
        Ok(response) => link.report(WorkerEvent::Done(Box::new(response))),
        Err(error) => link.report(WorkerEvent::Failed(error)),
    }
}

fn take(
    link: &Link,
    description: &Description,
    state: &Arc<SharedState>,
) -> Result<Response, Error> {
    let Task::Backup {
        connection,
        options,
        compact_below,
        receiver_slot,
    } = &description.task
    else {
        return Err(Error::new(
            ErrorCode::Internal,
            "this is no task for a backup",
        ));
    };
    let internal = |text: String| Error::new(ErrorCode::Internal, text);
    let conninfo = connection
        .conninfo()
        .map_err(|error| internal(error.to_string()))?;
    let receiver = state
        .slot(*receiver_slot)
        .ok_or_else(|| internal("there is no receive worker".to_owned()))?;
    let (opened, mut left_out) = open_all(description)?;
    let mut client =
        Client::connect(&conninfo, Session::PhysicalReplication).map_err(|error| Error {
            code: ErrorCode::ServerUnreachable,
            text: chain(&error),
            hint: error.hint(),
        })?;
    let stop = link.stop().clone();
    client.set_interrupt(move || stop.is_cancelled());
    let request = BackupRequest {
        compaction: Compaction {
            needed_percent_max: *compact_below,
        },
        ..request(link, options, &conninfo)
    };
    let spool = || {
        Spool::open(&description.spool).map_err(|error| Error {
            code: ErrorCode::BackupFailed,
            text: chain(&error),
            hint: error.hint(),
        })
    };
    let mut held = Vec::new();
    for one in &opened {
        held.push(Held {
            archive: &one.archive,
            spool: spool()?,
            receiver,
            durable_since: Cell::new(None),
        });
    }
    let targets = opened.iter().zip(&held).map(|(one, held)| BackupTarget {
        repository: &one.repository,
        compression: one.target.compression,
        coverage: held,
    });
    let targets: Vec<BackupTarget<'_>> = targets.collect();
    let context = job::context(link, description, state);
    let server = &description.server;
    let outcomes = pgm_backup::backup::backup(&context, &mut client, server, &targets, &request);
    let outcomes = outcomes.map_err(|error| cancelled(link, failure(&error)))?;
    let mut taken: Option<BackupSummary> = None;
    for (one, outcome) in opened.iter().zip(outcomes) {
        let name = &one.target.place.name;
        match outcome {
            BackupOutcome::Complete(entry) => {
                let reused = entry.reused.raw_bytes;
                info!(
                    "backup {} is complete in {name}, {reused} bytes from interrupted ones",
                    entry.label
                );
                if taken.is_none() {
                    if let Sent::NotCompressed { wanted, reason } = &entry.sent {
                        let text = format!("the server did not compress with {wanted}: {reason}");
                        link.report(WorkerEvent::Warning(text));
                    }
                    for warning in &entry.warnings {
                        link.report(WorkerEvent::Warning(warning.clone()));
                    }
                }
                taken.get_or_insert_with(|| BackupSummary {
                    repository: name.clone(),
                    ..repository::summary(&entry)
                });
            }
            BackupOutcome::Dropped(error) => left_out.push(UnreadableRepository {
                repository: name.clone(),
                error: chain(&error),
            }),
        }
    }
    for failed in &left_out {
        let (name, error) = (&failed.repository, &failed.error);
        error!("the backup is not in {name}: {error}");
        link.report(WorkerEvent::Warning(format!(
            "the backup is not in {name}: {error}"
        )));
    }
    let none = || Error::new(ErrorCode::BackupFailed, "the backup got into no repository");
    let taken = taken.ok_or_else(none)?;
    Ok(Response::BackedUp(BackupSummary { left_out, ..taken }))
}

fn request(link: &Link, options: &BackupOptions, conninfo: &ConnInfo) -> BackupRequest {
    BackupRequest {
        sql: Some(conninfo.clone()),
        checkpoint: if options.spread_checkpoint {
            Checkpoint::Spread
        } else {
            Checkpoint::Fast
        },
        max_rate_kib: options.max_rate_kib,
        workers: options
            .workers
            .and_then(|workers| NonZeroUsize::new(workers.into())),
        server_compression: options.server_compression.unwrap_or_default(),
        incremental: if options.incremental {
            Incremental::IfPossible
        } else {
            Incremental::Never
        },
        source: match options.source.unwrap_or_default() {
            BackupSource::Auto => pgm_backup::BackupSource::Auto,
            BackupSource::Local => pgm_backup::BackupSource::Local,
            BackupSource::Blocks => pgm_backup::BackupSource::Blocks,
            BackupSource::Stream => pgm_backup::BackupSource::Stream,
            BackupSource::Native => pgm_backup::BackupSource::Native,
        },
        resume: if options.no_resume {
            Resume::Never
        } else {
            Resume::IfPossible
        },
        discard: link.discard().clone(),
        ..BackupRequest::default()
    }
}

/// A repository that the backup goes to.
struct OpenedTarget<'a> {
    target: &'a RepositoryTarget,
    repository: Repository,
    archive: Archive,
}

/// Opens the repositories that are there, at least one; and why the others cannot be opened.
fn open_all(
    description: &Description,
) -> Result<(Vec<OpenedTarget<'_>>, Vec<UnreadableRepository>), Error> {
    let (mut opened, mut left_out, mut first) = (Vec::new(), Vec::new(), None);
    for target in &description.repositories {
        match known_repository::open_beside(&target.place, &description.spool) {
            Ok(repository) => {
                let storage = Arc::clone(repository.storage());
                opened.push(OpenedTarget {
                    target,
                    archive: Archive::new(storage, description.server.clone()),
                    repository,
                });
            }
            Err(error) => {
                left_out.push(UnreadableRepository {
                    repository: target.place.name.clone(),
                    error: chain(&error),
                });
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if opened.is_empty() => Err(failure(&error)),
        _ => Ok((opened, left_out)),
    }
}

/// Whatever broke because the job was told to end is a cancelled job.
pub(super) fn cancelled(link: &Link, error: Error) -> Error {
    let text = if link.discard().is_cancelled() {
        "the job was cancelled; it left nothing behind"
    } else if link.stop().is_cancelled() {
        "the job was stopped before its end"
    } else {
        return error;
    };
    Error::new(ErrorCode::Cancelled, text)
}
