//! From a request to its answer.

use std::sync::Arc;

use pgm_mgmt::{
    BackupChoice, BackupOptions, BackupSource, Error, ErrorCode, JobKind, Pong, Request, Response,
    RestoreOptions, RunningJobs, ServerMode, Stopping,
};
use pgm_proto::ServerName;

use super::caller::Caller;
use super::choice::Wanted;
use super::operations::{self, Mark, mark};
use super::{audited, configuration, details, jobs, status};
use crate::listing;
use crate::place::RepositoryPlace;
use crate::repository;
use crate::supervisor::{Daemon, JobRequest, JobTicket};
use crate::worker::Task;

/// How a request is answered.
pub(super) enum Answer {
    /// At once.
    Now(Box<Response>),
    /// When a job is done.
    Job(JobTicket),
}

/// Answers the `request` of `caller`, or starts the job that will. The one way in for every kind of client.
pub(super) async fn answer(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    request: Request,
) -> Result<Answer, Error> {
    let name = request.name();
    let audited = audited::begin(daemon, caller, &request);
    let answer = match request {
        Request::On {
            repository,
            request,
        } => carry_out(daemon, caller, Wanted(Some(&repository)), *request).await,
        request => carry_out(daemon, caller, Wanted(None), request).await,
    };
    daemon.tally().request(name, &answer);
    if let Some(audited) = audited {
        audited.end(daemon, &answer);
    }
    answer
}

async fn carry_out(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    on: Wanted<'_>,
    request: Request,
) -> Result<Answer, Error> {
    caller.may(&request)?;
    let response = match request {
        Request::Hello(hello) => jobs::hello(caller, &hello)?,
        Request::Ping => Response::Pong(pong(daemon)),
        Request::Status { server } => {
            if let Some(server) = &server {
                daemon.server(server)?;
            }
            Response::Status(status::status(daemon, server).await?)
        }
        Request::StatusDetails { server } => {
            if let Some(server) = &server {
                daemon.server(server)?;
            }
            Response::StatusDetails(details::details(daemon, server).await?)
        }
        Request::Backup { server, options } => {
            return backup(daemon, caller, on, &server, options);
        }
        Request::ListBackups { server } => list(daemon, on, server).await?,
        Request::Info { server, backup } => backup_details(daemon, on, server, backup).await?,
        Request::Restore(options) => return restore(daemon, caller, on, options),
        Request::Delete {
            server,
            backup,
            force,
        } => {
            let task = Task::Delete { backup, force };
            return operations::delete(daemon, caller, on, &server, task);
        }
        Request::Retain { server, backup } => {
            mark(daemon, on, server, backup, Mark::Retain).await?
        }
        Request::Expunge { server, backup } => {
            mark(daemon, on, server, backup, Mark::Expunge).await?
        }
        Request::Annotate {
            server,
            backup,
            change,
        } => mark(daemon, on, server, backup, Mark::Annotate(change)).await?,
        Request::Verify(options) => return operations::verify(daemon, caller, on, options),
        Request::Archive(options) => return operations::archive(daemon, caller, on, options).await,
        Request::Retention(options) => {
            return operations::retain_by_policy(daemon, caller, on, options);
        }
        Request::Progress => Response::Jobs(RunningJobs {
            jobs: daemon.jobs().progress(),
        }),
        Request::Cancel { job } => jobs::cancel(daemon, caller, job)?,
        Request::ListJobs { server, scope } => jobs::list(daemon, server.as_ref(), scope),
        Request::Job { job } => Response::Job(daemon.jobs().record(job)?),
        Request::Follow { job } => return daemon.jobs().attach(job).map(Answer::Job),
        // One repository is named once, and for something.
        Request::On { .. } => {
            let text = "a repository is named within a request for another one";
            return Err(Error::new(ErrorCode::BadRequest, text));
        }
        Request::Start(request) => {
            return Box::pin(jobs::start(daemon, caller, on, *request)).await;
        }
        Request::Mode { server, set: None } => Response::Mode(daemon.mode_report(&server)?),
        Request::Mode {
            server,
            set: Some(mode),
        } => Response::Mode(daemon.set_mode(&server, mode).await?),
        Request::ClearJobs => jobs::clear(daemon, caller),
        Request::ClearMetrics => jobs::clear_metrics(daemon, caller),
        Request::ReloadUsers => {
            let reloaded = daemon.reload_users().await;
            Response::UsersReloaded(reloaded.map_err(|error| error.to_answer())?)
        }
        Request::Settings { key } => {
            Response::Settings(configuration::list(&daemon.config(), key.as_deref())?)
        }
        Request::SetSetting { key, value } => {
            configuration::set(daemon, caller, &key, value).await?
        }
        Request::Reload => Response::Reloaded(configuration::reload(daemon, caller).await?),
        Request::Shutdown => Response::Stopping(Stopping {
            pid: std::process::id(),
        }),
    };
    Ok(Answer::Now(Box::new(response)))
}

fn pong(daemon: &Daemon) -> Pong {
    Pong {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: pgm_mgmt::PROTOCOL_VERSION,
        pid: std::process::id(),
        started: repository::second(daemon.started()),
    }
}

fn backup(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    on: Wanted<'_>,
    server: &ServerName,
    mut options: BackupOptions,
) -> Result<Answer, Error> {
    let entry = daemon.server(server)?;
    options.max_rate_kib = options.max_rate_kib.or(entry.rate_kib());
    options.workers = options.workers.or(entry.backup_workers);
    let compression = options
        .server_compression
        .unwrap_or(entry.server_compression);
    options.server_compression = Some(compression);
    options.source = options.source.or(Some(match entry.backup_source {
        crate::config::BackupSource::Auto => BackupSource::Auto,
        crate::config::BackupSource::Local => BackupSource::Local,
        crate::config::BackupSource::Blocks => BackupSource::Blocks,
        crate::config::BackupSource::Stream => BackupSource::Stream,
        crate::config::BackupSource::Native => BackupSource::Native,
    }));
    refuse_offline(daemon, server)?;
    let receiver_slot = daemon.receiver_slot_of(server).ok_or_else(|| {
        let text =
            format!("the wal of {server} is not received, so no backup of it can be complete");
        Error::new(ErrorCode::BackupFailed, text)
    })?;
    let connection = daemon.connection(server, &entry);
    let task = Task::Backup {
        connection,
        options,
        compact_below: entry.compact_below,
        receiver_slot,
    };
    let asked = JobRequest {
        caller,
        kind: JobKind::Backup,
        server,
        repositories: on.all(&daemon.config())?,
        task,
    };
    daemon.start_job(asked).map(Answer::Job)
}

fn refuse_offline(daemon: &Daemon, server: &ServerName) -> Result<(), Error> {
    if daemon.mode(server) == ServerMode::Online {
        return Ok(());
    }
    let text = format!(
        "server {server} is offline: its wal is not received, and no backup of it can be taken"
    );
    let hint = format!("pgm-cli mode {server} online");
    Err(Error::new(ErrorCode::ServerOffline, text).with_hint(hint))
}

fn restore(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    on: Wanted<'_>,
    options: RestoreOptions,
) -> Result<Answer, Error> {
    let server = options.server.clone();
    // A server that is gone from the configuration may still have backups; the job says if it has none.
    let asked = JobRequest {
        caller,
        kind: JobKind::Restore,
        server: &server,
        repositories: on.all(&daemon.config())?,
        task: Task::Restore { options },
    };
    daemon.start_job(asked).map(Answer::Job)
}

async fn list(
    daemon: &Daemon,
    on: Wanted<'_>,
    server: Option<ServerName>,
) -> Result<Response, Error> {
    let config = daemon.config();
    if let Some(server) = &server {
        daemon.server(server)?;
    }
    let targets = on.all(&config)?;
    let servers: Vec<ServerName> = match server {
        Some(server) => vec![server],
        None => config.servers.keys().cloned().collect(),
    };
    blocking(move || {
        let places: Vec<RepositoryPlace> = targets.into_iter().map(|target| target.place).collect();
        let spool = |server: &ServerName| Some(config.spool_of(server));
        listing::list(&places, Some(servers), spool).map(Response::Backups)
    })
    .await
}

async fn backup_details(
    daemon: &Daemon,
    on: Wanted<'_>,
    server: ServerName,
    backup: BackupChoice,
) -> Result<Response, Error> {
    daemon.server(&server)?;
    let config = daemon.config();
    let targets = on.all(&config)?;
    let spool = config.spool_of(&server);
    blocking(move || {
        let details = listing::first(&targets, |place| {
            listing::info(place, &server, &backup, Some(&spool))
        })?;
        Ok(Response::Backup(Box::new(details)))
    })
    .await
}

/// Runs what reads the repository off the event loop.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let failed = |error: tokio::task::JoinError| Error::new(ErrorCode::Internal, error.to_string());
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}
