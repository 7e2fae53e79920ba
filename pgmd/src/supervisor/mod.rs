//! The supervisor: starts the workers, keeps them alive, and ends them in order. The only place that starts processes.
//!
//! [`run`] is its life from top to bottom. Each receive worker is looked after by a task of its own (`receivers`), so
//! that one server's trouble never delays another's; each backup or restore is a task too (`jobs`). What the tasks
//! share is the [`Daemon`].

pub mod state;

mod child;
mod daemon;
mod guests;
mod hooks;
mod jobs;
mod lock;
mod modes;
mod notify;
mod receivers;
mod reload;
mod schedule;
pub(crate) mod secret_command;
mod signals;
mod slots;
mod standbys;
mod switch;
mod tally;
mod users;
mod verify_schedule;

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tracing::{error, info, warn};

use crate::audit::{self, Record};
use crate::config::{Config, PID_FILE_NAME};
use crate::known_repository::{self, Found};
use crate::log::LevelHandle;
use crate::secrets::SecretsError;
use crate::service::SocketGroup;
use crate::service::http::{HttpError, HttpServer};
use crate::service::management::{self, Listener};
use crate::service::remote::{Remote, RemoteError};
use crate::trial;

pub(crate) use child::describe as describe_end;
pub use daemon::Daemon;
pub(crate) use daemon::lock;
pub use guests::{Guest, Guests};
pub(crate) use jobs::JobRequest;
pub use jobs::{JobTicket, Jobs};
pub use receivers::{ArchiveView, Problem, ReceiverView};
pub use standbys::{StandbyEnd, StandbyEnds, Standbys};
pub use tally::{Counts, JobCounts, Outcome, Reading, Tally};
pub use users::ReloadError;

use lock::BaseLock;
use notify::Notifier;
use signals::{Signal, Signals, Stop};

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one runs on the same directory.
    #[error("pgmd already runs on {} (process {pid})", folder.display())]
    AlreadyRunning {
        /// The folder that both want.
        folder: PathBuf,
        /// The process that has it.
        pid: String,
    },
    /// A file or folder cannot be made or used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Master key, vault or admins cannot be used.
    #[error("cannot use the secrets: {0}")]
    Secrets(#[from] SecretsError),
    /// Remote management cannot be offered.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The repository cannot be used.
    #[error("cannot use the repository: {0}")]
    Repository(pgm_backup::Error),
    /// Overview and metrics cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The operating system refused something that should always work.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl StartError {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn system(action: &'static str, source: impl Into<io::Error>) -> Self {
        Self::System {
            action,
            source: source.into(),
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::AlreadyRunning { pid, .. } => {
                Some(format!("stop it first: pgm-cli shutdown, or kill {pid}"))
            }
            Self::Io { path, source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Some(format!(
                    "let pgmd's user write there, or name another path in the configuration ({})",
                    path.display()
                )),
                io::ErrorKind::InvalidInput => Some(
                    "a socket's path has at most 107 bytes: set unix_socket_dir to a shorter one"
                        .into(),
                ),
                _ => None,
            },
            Self::Secrets(error) => error.hint(),
            Self::Remote(error) => error.hint(),
            Self::Repository(error) => error.hint(),
            Self::Http(error) => error.hint(),
            Self::System { .. } => None,
        }
    }
}

/// Runs the daemon until it is told to stop.
pub async fn run(config: Config, log: LevelHandle) -> Result<(), StartError> {
    let locks = prepare(&config)?;
    let mut signals = Signals::new().map_err(|error| StartError::system("watch signals", error))?;
    let listener = Listener::bind(&config.socket(), socket_group(&config)?)?;
    let remote = Remote::bind(&config).await?;
    let http = config.metrics.as_ref().map(HttpServer::bind).transpose()?;
    let (daemon, mut stop_asked) = Daemon::new(config, log)?;
    let daemon = Arc::new(daemon);
    let config = daemon.config();
    info!(
        "pgmd {} is running as process {}: {} servers, socket {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        config.servers.len(),
        config.socket().display()
    );
    if config.servers.is_empty() {
        warn!("no server is configured in {}", config.file.display());
    }
    for (server, entry) in &config.servers {
        daemon.start_receiver(server, entry);
    }
    let notifier = Arc::new(Notifier::from_environment());
    let serving = tokio::spawn(management::serve(listener, Arc::clone(&daemon)));
    let serving_remote = remote.map(|(remote, listeners)| {
        let remote = daemon.offer(remote);
        tokio::spawn(listeners.serve(remote, Arc::clone(&daemon)))
    });
    let http = http.map(|http| http.start(&daemon)).transpose()?;
    let http = http.map(tokio::spawn);
    let scratch = config.verify.scratch.clone();
    tokio::task::spawn_blocking(move || trial::sweep(&scratch));
    let schedule = tokio::spawn(schedule::keep(Arc::clone(&daemon)));
    let verifying = tokio::spawn(verify_schedule::keep(Arc::clone(&daemon)));
    let standbys = tokio::spawn(standbys::keep(Arc::clone(&daemon)));
    notifier.ready("running");
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            _ = stop_asked.recv() => Signal::Stop(Stop::Request),
            () = notifier.heartbeat() => {
                notifier.alive();
                continue;
            }
        };
        match signal {
            Signal::Reload => {
                let (daemon, notifier) = (Arc::clone(&daemon), Arc::clone(&notifier));
                tokio::spawn(async move {
                    notifier.reloading();
                    report_reload(daemon).await;
                    notifier.ready("running");
                });
            }
            Signal::Stop(why) => {
                info!("shutting down because of {why}");
                // A client's request was recorded as such.
                if let Stop::Signal(name) = why {
                    let record = Record::new("shutdown", name).outcome(&audit::Outcome::Ok);
                    daemon.audit().record(&record);
                }
                break;
            }
        }
    }
    notifier.stopping();
    schedule.abort();
    verifying.abort();
    standbys.abort();
    daemon.stop_all().await;
    serving.abort();
    if let Some(serving) = serving_remote {
        serving.abort();
    }
    if let Some(http) = http {
        http.abort();
    }
    // The listener removes its socket when it goes.
    let _ = serving.await;
    for lock in locks {
        lock.release();
    }
    info!("pgmd has stopped");
    daemon.log().finish();
    Ok(())
}

fn socket_group(config: &Config) -> Result<Option<SocketGroup>, StartError> {
    let group = config.unix_socket_group.as_deref().map(SocketGroup::named);
    let failed = |error| StartError::system("open the management socket to a group", error);
    group.transpose().map_err(failed)
}

async fn report_reload(daemon: Arc<Daemon>) {
    // What was applied is logged by the reload itself.
    let began = Instant::now();
    let reloaded = daemon.reload().await;
    let record = Record::new("conf reload", "SIGHUP").took(began.elapsed());
    let failed = reloaded.as_ref().err().map(ReloadError::to_answer);
    let how = failed
        .as_ref()
        .map_or(audit::Outcome::Ok, audit::Outcome::Failed);
    daemon.audit().record(&record.outcome(&how));
    if let Err(error) = reloaded {
        let hint = error
            .hint()
            .map(|hint| format!("; HINT: {hint}"))
            .unwrap_or_default();
        error!("the configuration was not reloaded, the old one stays: {error}{hint}");
    }
}

/// Opens the repositories, and makes those that are new.
///
/// What the first start cannot open is an error. Later a repository may be away, and come back: the workers look for it
/// again and again. One that is far and was used before is not even asked: a daemon must not wait for it.
pub(super) fn open_repositories(config: &Config) -> Result<(), StartError> {
    for target in config.targets() {
        let place = &target.place;
        let known = known_repository::read(&config.spool, &place.name);
        let known = known.map_err(StartError::Repository)?.is_some();
        if known && place.folder().is_none() {
            continue;
        }
        let error = match known_repository::open_at_start(place, &config.spool) {
            Ok(Found::Right) => continue,
            Ok(Found::Wrong(error)) => error,
            Err(error) if known => error,
            Err(error) => return Err(StartError::Repository(error)),
        };
        let (name, hint) = (&place.name, error.hint().unwrap_or_default());
        error!("nothing gets into the repository {name}: {error}; HINT: {hint}");
    }
    Ok(())
}

/// Makes the folders, takes the lock and opens the repository, so that what is wrong shows at once.
fn prepare(config: &Config) -> Result<Vec<BaseLock>, StartError> {
    for folder in [&config.unix_socket_dir, &config.spool] {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
        made.map_err(|error| StartError::io("make the folder", folder, error))?;
    }
    // The lock of the socket's folder first: whoever has it may remove the socket of a dead daemon.
    let mut files = vec![config.unix_socket_dir.join(PID_FILE_NAME)];
    let named = config.pid_file();
    if !files.contains(&named) {
        files.push(named);
    }
    let locks = files.iter().map(|file| BaseLock::take(file));
    let locks = locks.collect::<Result<_, _>>()?;
    open_repositories(config)?;
    Ok(locks)
}
