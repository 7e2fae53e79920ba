//! `pgmd worker job restore SERVER`: plans a restore and, unless only the plan is asked for, carries it out.

use std::sync::Arc;

use pgm_mgmt::{Error, ErrorCode, Response};

use super::backup::cancelled;
use super::job;
use super::link::Link;
use super::message::{Description, Task, WorkerEvent};
use crate::listing;
use crate::restore::PreparedRestore;
use crate::shared_state::SharedState;

/// Restores and reports how it ended.
pub(super) fn restore(link: &Link, description: &Description, state: &Arc<SharedState>) {
    match carry_out(link, description, state) {
        Ok(response) => link.report(WorkerEvent::Done(Box::new(response))),
        Err(error) => link.report(WorkerEvent::Failed(cancelled(link, error))),
    }
}

fn carry_out(
    link: &Link,
    description: &Description,
    state: &Arc<SharedState>,
) -> Result<Response, Error> {
    let Task::Restore { options } = &description.task else {
        return Err(Error::new(
            ErrorCode::Internal,
            "this is no task for a restore",
        ));
    };
    let context = job::context(link, description, state);
    let spool = Some(description.spool.as_path());
    let prepared = listing::first(&description.repositories, |place| {
        PreparedRestore::new(&context, place, spool, options)
    })?;
    if options.plan_only {
        return Ok(Response::Planned(prepared.planned()));
    }
    let places = description.repositories.iter();
    let prepared = prepared.with_others(places.map(|target| target.place.clone()));
    prepared.carry_out(&context).map(Response::Restored)
}
