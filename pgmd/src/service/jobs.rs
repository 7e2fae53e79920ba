//! Answers about jobs, and the greeting.

use std::sync::Arc;

use pgm_mgmt::{Cleared, Error, Hello, JobList, Response, Welcome};
use tracing::{debug, info};

use super::answer::{Answer, answer};
use super::caller::Caller;
use super::choice::Wanted;
use crate::supervisor::Daemon;

/// Which version of the protocol both speak, and for whom the daemon takes the caller.
pub(super) fn hello(caller: &Caller, hello: &Hello) -> Result<Response, Error> {
    let protocol = hello.agree()?;
    debug!("{caller} uses {}, protocol {protocol}", hello.client);
    Ok(Response::Welcome(Welcome {
        protocol,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        user: caller.user.clone(),
        role: caller.role,
    }))
}

/// Begins what the inner request asks for; a job is not waited for.
pub(super) async fn start(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    on: Wanted<'_>,
    request: pgm_mgmt::Request,
) -> Result<Answer, Error> {
    let request = match on.0 {
        Some(repository) => pgm_mgmt::Request::On {
            repository: repository.clone(),
            request: Box::new(request),
        },
        None => request,
    };
    match answer(daemon, caller, request).await? {
        Answer::Job(ticket) => Ok(Answer::Now(Box::new(Response::Started(
            pgm_mgmt::StartedJob { job: ticket.id },
        )))),
        now @ Answer::Now(_) => Ok(now),
    }
}

/// The jobs, newest first.
pub(super) fn list(
    daemon: &Daemon,
    server: Option<&pgm_proto::ServerName>,
    scope: pgm_mgmt::JobScope,
) -> Response {
    // A server that is gone from the configuration may still have had jobs.
    let jobs = daemon.jobs().list(server, scope);
    Response::JobList(JobList { jobs })
}

/// Asks a job to end.
pub(super) fn cancel(
    daemon: &Daemon,
    caller: &Caller,
    job: pgm_mgmt::JobId,
) -> Result<Response, Error> {
    daemon.jobs().cancel(job)?;
    info!("job {job} is cancelled by {caller}");
    Ok(Response::Cancelling(job))
}

/// Forgets the jobs that have ended.
pub(super) fn clear(daemon: &Daemon, caller: &Caller) -> Response {
    let entries = daemon.jobs().clear() as u64;
    info!("the history of jobs ({entries} entries) is cleared by {caller}");
    Response::Cleared(Cleared { entries })
}

/// Begins the counters anew.
pub(super) fn clear_metrics(daemon: &Daemon, caller: &Caller) -> Response {
    let entries = daemon.tally().clear() as u64;
    info!("the counters of the metrics ({entries}) are cleared by {caller}");
    Response::Cleared(Cleared { entries })
}
