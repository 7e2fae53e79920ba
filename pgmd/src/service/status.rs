//! How the servers are: the shared state, and the catalog for the backups. No server and no worker is asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pgm_mgmt::{
    BackupStatus, BackupSummary, DaemonStatus, Error, ServerMode, ServerState, ServerStatus,
};
use pgm_proto::{Lsn, ServerName};
use pgm_storage::{LocalStorage, Storage as _};
use tokio::sync::Semaphore;

use super::answer::blocking;
use crate::config::{Config, ServerConfig};
use crate::known_repository;
use crate::repository::{self, second};
use crate::supervisor::{Daemon, ReceiverView};

/// How long the repository may take to answer. Who asks how things are must not wait for one that does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the repository says.
struct Catalogs {
    free_bytes: Option<u64>,
    spool_free_bytes: Option<u64>,
    servers: BTreeMap<ServerName, Result<Vec<BackupSummary>, String>>,
}

/// The status of all servers, or of one.
pub(super) async fn status(
    daemon: &Arc<Daemon>,
    only: Option<ServerName>,
) -> Result<DaemonStatus, Error> {
    let config = daemon.config();
    let wanted = |server: &&ServerName| only.as_ref().is_none_or(|only| only == *server);
    let names: Vec<ServerName> = config.servers.keys().filter(wanted).cloned().collect();
    let catalogs = ask_patiently(&config, &names).await?;
    let mut receivers: BTreeMap<_, _> = daemon
        .receivers()
        .into_iter()
        .map(|view| (view.server.clone(), view))
        .collect();
    let mut backups = catalogs.servers;
    let servers = names.iter().filter_map(|name| {
        let entry = config.servers.get(name)?;
        let backups = backups.remove(name).unwrap_or_else(|| Ok(Vec::new()));
        let mut status = server(name, entry, receivers.remove(name), backups);
        if status.state == ServerState::Stopped && daemon.mode(name) == ServerMode::Offline {
            status.state = ServerState::Offline;
        }
        Some(status)
    });
    Ok(DaemonStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started: second(daemon.started()),
        config: config.file.display().to_string(),
        repository: config.repository.place().to_string(),
        repository_free_bytes: catalogs.free_bytes,
        spool_free_bytes: catalogs.spool_free_bytes,
        servers: servers.collect(),
        jobs: daemon.jobs().progress(),
    })
}

/// Asks the repository, but waits for it only so long. Questions take turns, so that those that wait for a repository that
/// does not answer are not more and more.
async fn ask_patiently(config: &Arc<Config>, names: &[ServerName]) -> Result<Catalogs, Error> {
    static TURN: Semaphore = Semaphore::const_new(1);
    let asked = async {
        let turn = TURN.acquire().await;
        let (config, names) = (Arc::clone(config), names.to_vec());
        blocking(move || {
            let _turn = turn;
            Ok(ask_repository(&config, names))
        })
        .await
    };
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    answer.unwrap_or_else(|_| {
        let place = config.repository.place();
        let seconds = PATIENCE.as_secs();
        let silent = format!("the repository {place} does not answer within {seconds} s");
        let of = |name: &ServerName| (name.clone(), Err(silent.clone()));
        Ok(Catalogs {
            free_bytes: None,
            spool_free_bytes: free_bytes(&config.spool),
            servers: names.iter().map(of).collect(),
        })
    })
}

fn ask_repository(config: &Config, servers: Vec<ServerName>) -> Catalogs {
    let opened = known_repository::open(&config.repository.place(), &config.spool)
        .map_err(|error| repository::chain(&error));
    let catalog = |server: &ServerName| match &opened {
        Ok(repository) => repository::backups(repository, server).map_err(|error| error.text),
        Err(error) => Err(error.clone()),
    };
    Catalogs {
        free_bytes: config
            .repository
            .place()
            .folder()
            .and_then(|folder| free_bytes(&folder)),
        spool_free_bytes: free_bytes(&config.spool),
        servers: servers
            .into_iter()
            .map(|server| (server.clone(), catalog(&server)))
            .collect(),
    }
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let space = LocalStorage::open(folder).ok()?.space().ok()??;
    Some(space.free)
}

fn server(
    name: &ServerName,
    entry: &ServerConfig,
    receiver: Option<ReceiverView>,
    backups: Result<Vec<BackupSummary>, String>,
) -> ServerStatus {
    let (backups, repository_error) = match backups {
        Ok(backups) => (backups, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let mut status = ServerStatus {
        server: name.clone(),
        state: ServerState::Stopped,
        slot: entry.slot.clone(),
        worker_pid: None,
        version: None,
        system_id: None,
        timeline: None,
        received_lsn: None,
        durable_lsn: None,
        archived_lsn: None,
        server_lsn: None,
        lag_bytes: None,
        rpo_seconds: None,
        last_message_seconds: None,
        received_bytes: 0,
        archived_segments: 0,
        spool_bytes: 0,
        restarts: 0,
        last_error: None,
        hint: None,
        last_error_at: None,
        gaps: Vec::new(),
        backups: backups.len() as u64,
        damaged_backups: damaged(&backups),
        newest_backup: backups.into_iter().next_back(),
        repository_error,
    };
    if let Some(receiver) = receiver {
        fill(&mut status, receiver);
    }
    status
}

fn damaged(backups: &[BackupSummary]) -> Vec<String> {
    let damaged = backups
        .iter()
        .filter(|backup| backup.status == BackupStatus::Damaged);
    damaged.map(|backup| backup.label.clone()).collect()
}

/// What the receive worker has to say.
fn fill(status: &mut ServerStatus, receiver: ReceiverView) {
    let slot = receiver.slot();
    status.state = receiver.state;
    status.worker_pid = u32::try_from(slot.pid.load()).ok().filter(|pid| *pid != 0);
    if let Some((system_id, version)) = slot.identity() {
        status.system_id = Some(system_id.to_string());
        status.version = Some(version);
    }
    status.timeline = slot.timeline();
    status.received_lsn = slot.received();
    status.durable_lsn = slot.durable();
    status.archived_lsn = slot.archived();
    status.server_lsn = slot.server_end();
    status.lag_bytes = lag(slot.durable(), slot.server_end());
    status.last_message_seconds = slot.last_message.age_ms().map(|age| age / 1000);
    status.rpo_seconds = match (status.lag_bytes, receiver.state) {
        (Some(0), ServerState::Streaming) => Some(0),
        _ => slot.caught_up.age_ms().map(|age| age.div_ceil(1000)),
    };
    status.received_bytes = slot.received_bytes.load();
    status.archived_segments = slot.archived_segments.load();
    status.spool_bytes = slot.spool_bytes.load();
    status.restarts = slot.restarts.load();
    if let Some(problem) = receiver.problem {
        status.last_error = Some(problem.text);
        status.hint = problem.hint;
        status.last_error_at = Some(second(problem.at));
    }
    status.gaps = receiver.gaps;
    if status.last_error.is_none() && status.repository_error.is_none() {
        tell_gap(status);
    }
}

/// A hole that no backup lies behind is something to act upon.
fn tell_gap(status: &mut ServerStatus) {
    let newest = status
        .newest_backup
        .as_ref()
        .map(|backup| (backup.timeline, backup.start_lsn));
    let open = status
        .gaps
        .iter()
        .rfind(|gap| newest.is_none_or(|newest| newest < (gap.timeline, gap.to)));
    if let Some(gap) = open {
        let text = format!(
            "wal is missing from {} to {} on timeline {}",
            gap.from, gap.to, gap.timeline
        );
        status.last_error = Some(text);
        let hint = format!(
            "take a new full backup, pgm-cli backup {}: no restore can cross the hole",
            status.server
        );
        status.hint = Some(hint);
    }
}

fn lag(durable: Option<Lsn>, server: Option<Lsn>) -> Option<u64> {
    Some(server?.bytes_since(durable?))
}
