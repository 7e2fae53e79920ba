//! What the supervisor's tasks share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pgm_mgmt::{Error, ErrorCode, Reloaded, ServerMode};
use pgm_proto::{Lsn, ServerName};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::guests::Guests;
use super::jobs::{JobLimits, Jobs};
use super::modes::Modes;
use super::receivers::{self, Receiver, ReceiverView, Wish};
use super::slots::Slots;
use super::standbys::Standbys;
use super::tally::{Outcome, Tally};
use super::users::{self, ReloadError};
use super::{StartError, reload};
use crate::audit::Audit;
use crate::config::{Config, ServerConfig};
use crate::log::LevelHandle;
use crate::secrets::LoadedSecrets;
use crate::service::remote::Remote;
use crate::shared_state::SharedState;

/// How long clients may take to hear that the daemon stops, after everything else has ended.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);

/// The daemon, as its tasks see it. Locks are held for a few instructions, never across a wait.
#[derive(Debug)]
pub struct Daemon {
    config: Mutex<Arc<Config>>,
    receivers: Mutex<BTreeMap<ServerName, Receiver>>,
    pub(super) slots: Slots,
    pub(super) jobs: Jobs,
    tally: Tally,
    standbys: Standbys,
    guests: Guests,
    audit: Audit,
    pub(super) secrets: Mutex<Arc<LoadedSecrets>>,
    remote: OnceLock<Arc<Remote>>,
    /// One reload at a time.
    pub(super) reloading: tokio::sync::Mutex<()>,
    pub(super) modes: Modes,
    /// Held while a server is taken on or left alone.
    pub(super) switching: tokio::sync::Mutex<()>,
    log: LevelHandle,
    started: Timestamp,
    clock: Instant,
    stop: mpsc::Sender<()>,
}

/// What a reload read, and what there is to say of the certificate of remote management.
type ReadAgain = (Config, LoadedSecrets, Option<String>);

impl Daemon {
    /// A daemon that runs nothing yet, and where a request to stop arrives.
    pub(super) fn new(
        config: Config,
        log: LevelHandle,
    ) -> Result<(Self, mpsc::Receiver<()>), StartError> {
        let state = SharedState::create()
            .map_err(|error| StartError::system("make the shared memory", error))?;
        let secrets = LoadedSecrets::load(&config)?;
        let audit = Audit::start(&config.audit_log)
            .map_err(|error| StartError::io("open the audit log", &config.audit_log, error))?;
        let (stop, stop_asked) = mpsc::channel(1);
        let folder = config.file.parent().unwrap_or(Path::new("/")).to_owned();
        let daemon = Self {
            modes: Modes::open(&folder),
            switching: tokio::sync::Mutex::default(),
            jobs: Jobs::new(&JobLimits {
                running: config.jobs_max,
                history: config.jobs_history,
                folder,
            }),
            guests: Guests::new(),
            config: Mutex::new(Arc::new(config)),
            receivers: Mutex::default(),
            slots: Slots::new(state),
            tally: Tally::default(),
            standbys: Standbys::default(),
            audit,
            secrets: Mutex::new(Arc::new(secrets)),
            remote: OnceLock::new(),
            reloading: tokio::sync::Mutex::default(),
            log,
            started: Timestamp::now(),
            clock: Instant::now(),
            stop,
        };
        daemon.tally.configuration(Outcome::Success);
        Ok((daemon, stop_asked))
    }

    /// A daemon that starts nothing, for the tests of what asks it.
    #[cfg(test)]
    pub(crate) fn idle(config: Config, log: LevelHandle) -> Result<Self, StartError> {
        Self::new(config, log).map(|(daemon, _)| daemon)
    }

    /// From now on a reload is for `remote`, too.
    pub(crate) fn offer(&self, remote: Remote) -> Arc<Remote> {
        Arc::clone(self.remote.get_or_init(|| Arc::new(remote)))
    }

    /// The audit log.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&lock(&self.config))
    }

    /// When the daemon started.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// The jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// What was counted.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What is kept ready to be started.
    pub fn standbys(&self) -> &Standbys {
        &self.standbys
    }

    /// The log.
    pub(super) fn log(&self) -> &LevelHandle {
        &self.log
    }

    /// The clients.
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// How the receive workers are, by server.
    pub fn receivers(&self) -> Vec<ReceiverView> {
        lock(&self.receivers).values().map(Receiver::view).collect()
    }

    /// The place of a server's receive worker in the shared state.
    pub(super) fn receiver_slot(&self, server: &ServerName) -> Option<usize> {
        lock(&self.receivers).get(server).map(Receiver::slot_number)
    }

    /// The entry of a server in the configuration in force.
    pub fn server(&self, server: &ServerName) -> Result<ServerConfig, Error> {
        let config = self.config();
        config.server(server).cloned().map_err(|error| {
            let known = Error::new(ErrorCode::UnknownServer, error.to_string());
            error
                .hint()
                .map_or(known.clone(), |hint| known.with_hint(hint))
        })
    }

    /// Asks the daemon to stop.
    pub fn ask_to_stop(&self) {
        // When the place is taken, somebody has asked already.
        let _ = self.stop.try_send(());
    }

    /// Time since the daemon started, the clock of the workers' lives.
    pub(super) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Starts to receive the WAL of `server`, unless that is done already, or it is offline.
    pub(super) fn start_receiver(self: &Arc<Self>, server: &ServerName, entry: &ServerConfig) {
        if self.mode(server) == ServerMode::Offline {
            info!("server {server} is offline: it is left alone");
            return;
        }
        if lock(&self.receivers).contains_key(server) {
            return;
        }
        let Some(lease) = self.slots.take_for(server) else {
            error!("server {server} has no worker: there is room for 256 workers at once");
            return;
        };
        let description = receivers::describe(
            &self.config(),
            server,
            entry,
            self.connection(server, entry),
            lease.number(),
        );
        let receiver = receivers::start(Arc::clone(self), description, lease);
        lock(&self.receivers).insert(server.clone(), receiver);
    }

    /// Ends the receive worker of `server` in order. How far its WAL is durable.
    pub(super) async fn stop_receiver(&self, server: &ServerName) -> Option<Lsn> {
        let receiver = lock(&self.receivers).remove(server)?;
        let view = receiver.view();
        receiver.ask_to_stop();
        receiver.gone().await;
        view.slot().durable()
    }

    /// Reads the configuration and the secrets again and applies what can be applied.
    pub async fn reload(self: &Arc<Self>) -> Result<Reloaded, ReloadError> {
        let _turn = self.reloading.lock().await;
        // Whoever moves log files away reloads us afterwards.
        self.log.reopen();
        let old = self.config();
        let read = self.read_again(&old).await;
        self.tally.configuration(Outcome::of(&read));
        let (config, secrets, certificate) = read?;
        let mut plan = reload::plan(&old, config);
        plan.report.applied.extend(certificate);
        *lock(&self.config) = Arc::new(plan.config.clone());
        for server in self.put_secrets(&plan.config, secrets) {
            if !plan.start.contains(&server) {
                plan.stop.push(server.clone());
                plan.start.push(server.clone());
                let line = format!("the password of server {server} has changed");
                plan.report.applied.push(line);
            }
        }
        self.log.set(plan.config.log_level);
        self.jobs
            .set_limits(plan.config.jobs_max, plan.config.jobs_history);
        if old.log_level != plan.config.log_level {
            for receiver in lock(&self.receivers).values() {
                receiver.set_log_level(plan.config.log_level);
            }
        }
        self.renew(&plan.stop, plan.start);
        for line in &plan.report.applied {
            info!("reload: {line}");
        }
        for line in &plan.report.restart_required {
            warn!("reload: restart required: {line}");
        }
        if plan.report == Reloaded::default() {
            info!("reload: nothing has changed");
        }
        Ok(plan.report)
    }

    async fn read_again(&self, old: &Config) -> Result<ReadAgain, ReloadError> {
        let config = old.load_again()?;
        let new = config.clone();
        let opened = tokio::task::spawn_blocking(move || super::open_repositories(&new)).await;
        opened?.map_err(|error| ReloadError::Repository(Box::new(error)))?;
        let secrets = users::load(&Arc::new(config.clone())).await?;
        // The last thing that may fail, and the first that has an effect.
        let certificate = match self.remote.get() {
            Some(remote) => remote.reload(&config)?,
            None => None,
        };
        Ok((config, secrets, certificate))
    }

    /// Ends the receive workers of `stop`, then starts those of `start`.
    pub(super) fn renew(self: &Arc<Self>, stop: &[ServerName], start: Vec<ServerName>) {
        let ending: Vec<Receiver> = {
            let mut receivers = lock(&self.receivers);
            let ending = stop.iter().filter_map(|server| receivers.remove(server));
            ending.collect()
        };
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            // A server's old worker holds its spool until it is gone.
            for receiver in &ending {
                receiver.ask_to_stop();
            }
            for receiver in ending {
                receiver.gone().await;
            }
            let config = daemon.config();
            for server in start {
                if let Some(entry) = config.servers.get(&server) {
                    daemon.start_receiver(&server, entry);
                }
            }
        });
    }

    /// Ends jobs and workers in order, all at the same time, and those that have not ended in time at once: what they had
    /// made durable stays so.
    pub(super) async fn stop_all(&self) {
        let patience = self.config().shutdown_timeout;
        self.guests.close();
        self.jobs.close();
        let receivers = std::mem::take(&mut *lock(&self.receivers));
        let wishes: Vec<_> = receivers.values().map(Receiver::wishes).collect();
        for wish in &wishes {
            let _ = wish.send(Wish::Stop);
        }
        let gone = async {
            for (_, receiver) in receivers {
                receiver.gone().await;
            }
            self.jobs.gone().await;
        };
        tokio::pin!(gone);
        // The rest of the time is for those that are killed.
        let orderly = patience.mul_f32(0.8);
        if tokio::time::timeout(orderly, &mut gone).await.is_err() {
            warn!("some workers have not ended within {orderly:?}: they are killed");
            self.jobs.kill();
            for wish in &wishes {
                let _ = wish.send(Wish::Kill);
            }
            let _ = tokio::time::timeout(patience.saturating_sub(orderly), gone).await;
        }
        self.guests.gone(GOODBYE_PATIENCE).await;
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while a lock was held left plain values behind, which are still good.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
