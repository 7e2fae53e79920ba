//! `pgmd worker job delete|verify|archive|retention SERVER`: what is done with backups that are there.

use std::sync::Arc;

use pgm_backup::Context;
use pgm_backup::delete::Force;
use pgm_mgmt::{Error, ErrorCode, Response};

use super::backup::cancelled;
use super::job;
use super::link::Link;
use super::message::{Description, Task, WorkerEvent};
use crate::listing;
use crate::operations::{self, Place};
use crate::retention;
use crate::seal_key::SealKey;
use crate::shared_state::SharedState;
use crate::tarball;

/// Carries the operation out and reports how it ended.
pub(super) fn operation(link: &Link, description: &Description, state: &Arc<SharedState>) {
    let context = job::context(link, description, state);
    match carry_out(link, &context, description) {
        Ok(response) => link.report(WorkerEvent::Done(Box::new(response))),
        Err(error) => link.report(WorkerEvent::Failed(cancelled(link, error))),
    }
}

fn carry_out(link: &Link, cx: &Context, description: &Description) -> Result<Response, Error> {
    let place = Place {
        repository: description.repository(),
        spool: Some(&description.spool),
        server: &description.server,
    };
    match &description.task {
        Task::Delete { backup, force } => {
            let force = if *force { Force::Yes } else { Force::No };
            let deleted = operations::delete(cx, place, backup, force)?;
            for warning in &deleted.warnings {
                link.report(WorkerEvent::Warning(warning.clone()));
            }
            Ok(Response::Deleted(deleted))
        }
        Task::Verify { options, setup } => {
            operations::verify(cx, place, options, setup).map(Response::Verified)
        }
        Task::Archive { options, key } => {
            let key = key.as_ref().and_then(SealKey::key);
            let archived = listing::first(&description.repositories, |repository| {
                let place = Place {
                    repository,
                    ..place
                };
                tarball::archive(cx, place, options, key.as_ref())
                    .map_err(|error| cancelled(link, error))
            })?;
            Ok(Response::Archived(archived))
        }
        Task::Retention { options } => {
            let outcome = retention::carry_out(cx, place, options)?;
            for warning in &outcome.warnings {
                link.report(WorkerEvent::Warning(warning.clone()));
            }
            Ok(Response::Retention(outcome))
        }
        _ => Err(Error::new(
            ErrorCode::Internal,
            "this is no task for an operation on a backup",
        )),
    }
}
