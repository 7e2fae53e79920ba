//! `pgmd worker job backup SERVER`: one backup, from the connection to the report.

use std::cell::Cell;
use std::sync::Arc;

use pgm_backup::{BackupRequest, BackupTarget};
use pgm_mgmt::{Error, ErrorCode, Response};
use pgm_proto::{Checkpoint, Client, Session};
use pgm_wal::Spool;
use pgm_wal::archive::Archive;
use tracing::info;

use super::coverage::Held;
use super::job;
use super::link::Link;
use super::message::{Description, Task, WorkerEvent};
use crate::known_repository;
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
    let repository = known_repository::open_beside(&description.repository, &description.spool)
        .map_err(|error| failure(&error))?;
    let archive = Archive::new(Arc::clone(repository.storage()), description.server.clone());
    let spool = Spool::open(&description.spool).map_err(|error| Error {
        code: ErrorCode::BackupFailed,
        text: chain(&error),
        hint: error.hint(),
    })?;
    let mut client =
        Client::connect(&conninfo, Session::PhysicalReplication).map_err(|error| Error {
            code: ErrorCode::ServerUnreachable,
            text: chain(&error),
            hint: error.hint(),
        })?;
    let stop = link.stop().clone();
    client.set_interrupt(move || stop.is_cancelled());
    let request = BackupRequest {
        checkpoint: if options.spread_checkpoint {
            Checkpoint::Spread
        } else {
            Checkpoint::Fast
        },
        max_rate_kib: options.max_rate_kib,
        ..BackupRequest::default()
    };
    let held = Held {
        archive: &archive,
        spool,
        receiver,
        durable_since: Cell::new(None),
    };
    let context = job::context(link, description, state);
    let targets = [BackupTarget {
        repository: &repository,
        compression: description.compression,
        coverage: &held,
    }];
    let outcomes = pgm_backup::backup(
        &context,
        &mut client,
        &description.server,
        &targets,
        &request,
    );
    let outcome = outcomes.map(|mut outcomes| outcomes.pop());
    let entry = outcome
        .and_then(|outcome| outcome.ok_or(pgm_backup::Error::NoTarget)?.into_result())
        .map_err(|error| cancelled(link, failure(&error)))?;
    for warning in &entry.warnings {
        link.report(WorkerEvent::Warning(warning.clone()));
    }
    info!("backup {} is complete", entry.label);
    Ok(Response::BackedUp(repository::summary(&entry)))
}

/// Whatever broke because the job was told to end is a cancelled job.
pub(super) fn cancelled(link: &Link, error: Error) -> Error {
    if link.stop().is_cancelled() {
        Error::new(
            ErrorCode::Cancelled,
            "the job was cancelled; it left nothing behind",
        )
    } else {
        error
    }
}
