//! How the servers are: the shared state, and the catalog for the backups. No server and no worker is asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgm_mgmt::{
    BackupStatus, BackupSummary, DaemonStatus, Error, ErrorCode, RecoveryWindow, RepositoryStatus,
    ServerMode, ServerState, ServerStatus,
};
use pgm_proto::{Lsn, RepositoryName, ServerName};
use pgm_storage::{LocalStorage, Storage as _};
use tokio::sync::Semaphore;

use super::answer::blocking;
use crate::config::{Config, ServerConfig};
use crate::known_repository;
use crate::listing;
use crate::place::RepositoryPlace;
use crate::repository::{self, second};
use crate::supervisor::{Daemon, ReceiverView};
use crate::windows::ServerWal;

/// How long a repository may take to answer. Who asks how things are must not wait for one that does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a repository says.
#[derive(Default)]
struct Catalog {
    /// The backups of each server.
    servers: BTreeMap<ServerName, Result<Vec<BackupSummary>, Error>>,
    /// The newest recovery window of each server, where looking which WAL there is costs next to nothing.
    windows: BTreeMap<ServerName, RecoveryWindow>,
    /// Where that means something.
    free_bytes: Option<u64>,
}

/// One repository, as it answered.
struct Asked {
    place: RepositoryPlace,
    answer: Result<Catalog, Error>,
}

/// The status of all servers, or of one.
pub(super) async fn status(
    daemon: &Arc<Daemon>,
    only: Option<ServerName>,
) -> Result<DaemonStatus, Error> {
    let config = daemon.config();
    let wanted = |server: &&ServerName| only.as_ref().is_none_or(|only| only == *server);
    let names: Vec<ServerName> = config.servers.keys().filter(wanted).cloned().collect();
    let asked = ask_all(&config, &names).await;
    let mut receivers: BTreeMap<_, _> = daemon
        .receivers()
        .into_iter()
        .map(|view| (view.server.clone(), view))
        .collect();
    let servers = names.iter().filter_map(|name| {
        let entry = config.servers.get(name)?;
        let mut status = server(name, entry, receivers.remove(name), &asked);
        status.standbys = daemon.standbys().status(&config, name);
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
        repository_free_bytes: asked
            .first()
            .and_then(|first| first.answer.as_ref().ok()?.free_bytes),
        spool_free_bytes: free_bytes(&config.spool),
        servers: servers.collect(),
        jobs: daemon.jobs().progress(),
    })
}

/// Asks every repository, all at the same time.
async fn ask_all(config: &Arc<Config>, servers: &[ServerName]) -> Vec<Asked> {
    let tasks = config.targets().into_iter().map(|target| {
        let place = target.place;
        let (config, servers) = (Arc::clone(config), servers.to_vec());
        let task = tokio::spawn(ask(config, place.clone(), servers));
        (place, task)
    });
    // They begin before the first is waited for.
    let tasks: Vec<_> = tasks.collect();
    let mut asked = Vec::new();
    for (place, task) in tasks {
        let answer = task
            .await
            .unwrap_or_else(|error| Err(Error::new(ErrorCode::Internal, error.to_string())));
        asked.push(Asked { place, answer });
    }
    asked
}

/// Asks one repository. Only one question at a time waits for one that does not answer.
async fn ask(
    config: Arc<Config>,
    place: RepositoryPlace,
    servers: Vec<ServerName>,
) -> Result<Catalog, Error> {
    let silent = || {
        let text = format!(
            "repository {} does not answer within {} s",
            place.name,
            PATIENCE.as_secs()
        );
        Error::new(ErrorCode::Repository, text).with_hint(format!("is {place} there?"))
    };
    let turn = turn(&place);
    let asked = async {
        let turn = turn.acquire_owned().await;
        let place = place.clone();
        blocking(move || {
            let _turn = turn;
            look(&config, &place, servers)
        })
        .await
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(silent()))
}

/// Whose turn it is to ask the repository of this name.
fn turn(place: &RepositoryPlace) -> Arc<Semaphore> {
    static TURNS: Mutex<BTreeMap<RepositoryName, Arc<Semaphore>>> = Mutex::new(BTreeMap::new());
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    let turn = turns.entry(place.name.clone());
    Arc::clone(turn.or_insert_with(|| Arc::new(Semaphore::new(1))))
}

fn look(
    config: &Config,
    place: &RepositoryPlace,
    servers: Vec<ServerName>,
) -> Result<Catalog, Error> {
    let repository = known_repository::open(place, &config.spool)
        .map_err(|error| repository::failure(&error))?;
    let mut windows = BTreeMap::new();
    let mut catalogs = BTreeMap::new();
    for server in servers {
        let listed = listing::catalog_at(place, &repository, &server);
        if place.folder().is_some()
            && let Ok((catalog, backups)) = &listed
        {
            let spool = config.spool_of(&server);
            // A window that cannot be told is none; what is wrong with the repository is told elsewhere.
            let found = ServerWal::look(&repository, &server, Some(&spool))
                .and_then(|wal| wal.windows(catalog.backups(), backups));
            windows.extend(
                found
                    .ok()
                    .and_then(|mut all| Some((server.clone(), all.pop()?))),
            );
        }
        catalogs.insert(server, listed.map(|(_, backups)| backups));
    }
    Ok(Catalog {
        servers: catalogs,
        windows,
        free_bytes: repository
            .storage()
            .space()
            .ok()
            .flatten()
            .map(|space| space.free),
    })
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let space = LocalStorage::open(folder).ok()?.space().ok()??;
    Some(space.free)
}

fn server(
    name: &ServerName,
    entry: &ServerConfig,
    receiver: Option<ReceiverView>,
    asked: &[Asked],
) -> ServerStatus {
    let repositories: Vec<RepositoryStatus> = asked
        .iter()
        .map(|asked| repository_status(name, receiver.as_ref(), asked))
        .collect();
    let backups = backups(name, asked);
    let unreadable =
        |status: &RepositoryStatus| status.error.clone().filter(|_| status.backups.is_none());
    let repository_error = repositories.iter().find_map(unreadable);
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
        window: window(name, asked),
        repositories,
        backups: backups.len() as u64,
        damaged_backups: damaged(&backups),
        newest_backup: backups.into_values().next_back().cloned(),
        repository_error,
        standbys: Vec::new(),
    };
    if let Some(receiver) = receiver {
        fill(&mut status, receiver);
    }
    status
}

/// The window that the first repository opens which can be looked at.
fn window(server: &ServerName, asked: &[Asked]) -> Option<RecoveryWindow> {
    let first = asked.iter().find_map(|asked| asked.answer.as_ref().ok())?;
    first.windows.get(server).cloned()
}

/// The labels of the backups that a verification found damaged.
fn damaged(backups: &BTreeMap<&str, &BackupSummary>) -> Vec<String> {
    let damaged = backups
        .iter()
        .filter(|(_, backup)| backup.status == BackupStatus::Damaged);
    damaged.map(|(label, _)| (*label).to_owned()).collect()
}

/// How one repository is for a server.
fn repository_status(
    server: &ServerName,
    receiver: Option<&ReceiverView>,
    asked: &Asked,
) -> RepositoryStatus {
    let name = &asked.place.name;
    let archive = receiver.and_then(|receiver| receiver.archives.get(name));
    let mut status = RepositoryStatus {
        repository: name.clone(),
        place: asked.place.to_string(),
        sealed: asked.place.key.is_some(),
        archived_lsn: archive.and_then(|archive| archive.archived),
        backlog_files: archive.map_or(0, |archive| archive.backlog as u64),
        backlog_seconds: archive.map_or(0, |archive| archive.backlog_age().as_secs()),
        backups: None,
        error: None,
        hint: None,
    };
    let answer = asked
        .answer
        .as_ref()
        .map(|catalog| catalog.servers.get(server));
    match answer {
        Ok(Some(Ok(backups))) => status.backups = Some(backups.len() as u64),
        Ok(None) => status.backups = Some(0),
        Err(error) | Ok(Some(Err(error))) => {
            status.error = Some(error.text.clone());
            status.hint.clone_from(&error.hint);
        }
    }
    if let Some(problem) = archive.and_then(|archive| archive.problem.as_ref()) {
        status.error = Some(problem.text.clone());
        status.hint.clone_from(&problem.hint);
    }
    status
}

/// The backups of a server by label, wherever they are.
fn backups<'a>(server: &ServerName, asked: &'a [Asked]) -> BTreeMap<&'a str, &'a BackupSummary> {
    let answers = asked.iter().filter_map(|asked| asked.answer.as_ref().ok());
    let catalogs = answers.filter_map(|catalog| catalog.servers.get(server)?.as_ref().ok());
    let backups = catalogs.flatten();
    backups
        .map(|backup| (backup.label.as_str(), backup))
        .collect()
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
