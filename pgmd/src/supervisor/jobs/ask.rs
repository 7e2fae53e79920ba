//! How a job is asked for.

use std::sync::Arc;
use std::time::Instant;

use pgm_mgmt::{Error, ErrorCode, JobKind, Response};
use pgm_proto::ServerName;
use tracing::{info, warn};

use super::super::daemon::Daemon;
use super::super::verify_schedule;
use super::{Admitted, JobTicket, run};
use crate::audit::Outcome;
use crate::config::JobPriority;
use crate::place::RepositoryTarget;
use crate::service::{Caller, audited};
use crate::worker::{Description, ProcessTitle, Task};

/// A job that somebody asks for.
#[derive(Debug)]
pub(crate) struct JobRequest<'a> {
    /// Who asks.
    pub(crate) caller: &'a Caller,
    /// What it does.
    pub(crate) kind: JobKind,
    /// For which server.
    pub(crate) server: &'a ServerName,
    /// The repositories that it may use; at least one.
    pub(crate) repositories: Vec<RepositoryTarget>,
    /// What its worker is told.
    pub(crate) task: Task,
}

impl Daemon {
    /// Starts a job, or lets it wait for its turn.
    pub(crate) fn start_job(self: &Arc<Self>, asked: JobRequest<'_>) -> Result<JobTicket, Error> {
        let busy = || Error::new(ErrorCode::TooBusy, "there is room for 256 workers at once");
        let lease = self.slots.take().ok_or_else(busy)?;
        let Admitted {
            ticket,
            lease,
            wished,
        } = self.jobs.admit(&asked, lease)?;
        let JobRequest {
            caller,
            kind,
            server,
            repositories,
            task,
        } = asked;
        let config = self.config();
        let description = Description {
            server: server.clone(),
            log_level: config.log_level,
            slot: lease.number(),
            repositories,
            spool: config.spool_of(server),
            title: ProcessTitle::of(&config),
            priority: match task {
                // Whoever restores waits for it.
                Task::Restore { .. } => JobPriority::Normal,
                _ => config.job_priority,
            },
            task,
        };
        let id = ticket.id;
        info!("job {id}: {kind} of {server}, asked for by {caller}");
        let record = audited::record(caller, &kind.to_string())
            .server(Some(server))
            .job(id);
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            let began = Instant::now();
            let outcome = run::work(&daemon, id, kind, &description, wished).await;
            let server = &description.server;
            daemon.tally().job(kind, server, began.elapsed(), &outcome);
            if let Ok(Response::Verified(verified)) = &outcome {
                verify_schedule::log_findings(verified);
                daemon.tally().verified(verified);
            }
            if let Ok(Response::BackedUp(_)) = &outcome {
                daemon.standbys().backup_taken(&daemon.config(), server);
            }
            match &outcome {
                Ok(_) => info!("job {id}: {kind} of {server} is done"),
                Err(error) if error.code == ErrorCode::Cancelled => {
                    info!("job {id}: {kind} of {server} was cancelled");
                }
                Err(error) => warn!("job {id}: {kind} of {server} failed: {error}"),
            }
            let how = outcome
                .as_ref()
                .map_or_else(Outcome::Failed, |_| Outcome::Ok);
            let record = record.outcome(&how).took(began.elapsed());
            daemon.audit().record(&record);
            daemon.jobs.finish(id, outcome);
            drop(lease);
        });
        Ok(ticket)
    }

    /// The place of the receive worker of `server` in the shared state.
    pub fn receiver_slot_of(&self, server: &ServerName) -> Option<usize> {
        self.receiver_slot(server)
    }
}
