//! Puts the facts together, at most once in `max_age`, out of memory alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use pgm_mgmt::ServerState;
use pgm_proto::ServerName;

use super::catalog::{CatalogWatch, Seen};
use super::heartbeat::Heartbeat;
use super::window::{self, Live};
use super::{Facts, RepositoryFacts, ServerFacts, StandbyFacts, process};
use crate::config::{Config, ServerConfig};
use crate::shared_state::{Moment, Slot};
use crate::supervisor::{Daemon, ReceiverView};

/// How often the servers' positions are noted.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Watches the daemon and knows the newest facts.
#[derive(Debug)]
pub(in crate::service) struct Watcher {
    daemon: Arc<Daemon>,
    catalog: CatalogWatch,
    heartbeats: Mutex<BTreeMap<ServerName, Heartbeat>>,
    newest: Mutex<Option<(Instant, Arc<Facts>)>>,
    max_age: Duration,
    certificates: Vec<(&'static str, Timestamp)>,
}

impl Watcher {
    /// Watches `daemon`; facts are gathered anew when they are older than `max_age`.
    pub(in crate::service) fn start(
        daemon: &Arc<Daemon>,
        max_age: Duration,
        certificates: Vec<(&'static str, Timestamp)>,
    ) -> std::io::Result<Arc<Self>> {
        let watcher = Arc::new(Self {
            daemon: Arc::clone(daemon),
            catalog: CatalogWatch::start(daemon)?,
            heartbeats: Mutex::default(),
            newest: Mutex::default(),
            max_age,
            certificates,
        });
        tokio::spawn(note_regularly(Arc::downgrade(&watcher)));
        Ok(watcher)
    }

    /// The newest facts.
    pub(in crate::service) fn facts(&self) -> Arc<Facts> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, facts)) = &*newest
            && at.elapsed() < self.max_age
        {
            return Arc::clone(facts);
        }
        let facts = Arc::new(self.gather());
        *newest = Some((Instant::now(), Arc::clone(&facts)));
        facts
    }

    fn note(&self, now: Timestamp) {
        let mut heartbeats = self
            .heartbeats
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let receivers = self.daemon.receivers();
        heartbeats.retain(|server, _| receivers.iter().any(|view| view.server == *server));
        for view in receivers {
            if let Some(end) = view.slot().server_end() {
                heartbeats
                    .entry(view.server.clone())
                    .or_default()
                    .note(now, end);
            }
        }
    }

    fn gather(&self) -> Facts {
        let now = Timestamp::now();
        self.note(now);
        let config = self.daemon.config();
        let seen = self.catalog.seen();
        let heartbeats = self
            .heartbeats
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut receivers: BTreeMap<_, _> = self
            .daemon
            .receivers()
            .into_iter()
            .map(|view| (view.server.clone(), view))
            .collect();
        let servers = config.servers.iter().map(|(name, entry)| {
            let view = receivers.remove(name);
            server(now, name, entry, view.as_ref(), &seen, heartbeats.get(name))
        });
        Facts {
            now,
            started: self.daemon.started(),
            servers: servers.collect(),
            repository: RepositoryFacts {
                path: config.repository.place().to_string(),
                space: seen.space,
                spool_space: seen.spool_space,
                look: seen.look.clone(),
            },
            jobs: self.daemon.jobs().progress(),
            counts: self.daemon.tally().counts(),
            standbys: standbys(&self.daemon, &config),
            process: process::read(),
            certificates: self.certificates.clone(),
        }
    }
}

/// How the standbys of the configuration are.
fn standbys(daemon: &Daemon, config: &Config) -> Vec<StandbyFacts> {
    let all = config.standbys.iter().map(|(name, entry)| StandbyFacts {
        server: entry.server.clone(),
        name: name.clone(),
        ends: daemon.standbys().ends(name),
    });
    all.collect()
}

/// Notes positions, and looks into the repository when a job has ended, until the watcher is gone.
async fn note_regularly(watcher: Weak<Watcher>) {
    let mut ticks = tokio::time::interval(NOTE_EVERY);
    let mut ended = 0;
    loop {
        ticks.tick().await;
        let Some(watcher) = watcher.upgrade() else {
            return;
        };
        watcher.note(Timestamp::now());
        let counts = watcher.daemon.tally().counts();
        let now: u64 = counts
            .jobs
            .values()
            .map(|job| job.succeeded + job.failed.values().sum::<u64>())
            .sum();
        if now != ended {
            ended = now;
            watcher.catalog.look_soon();
        }
    }
}

fn server(
    now: Timestamp,
    name: &ServerName,
    entry: &ServerConfig,
    view: Option<&ReceiverView>,
    seen: &Seen,
    heartbeat: Option<&Heartbeat>,
) -> ServerFacts {
    let nothing = Slot::default();
    let slot = view.map_or(&nothing, ReceiverView::slot);
    let mut facts = ServerFacts {
        name: name.clone(),
        slot: entry.slot.clone(),
        state: view.map_or(ServerState::Stopped, |view| view.state),
        identity: slot.identity(),
        timeline: slot.timeline(),
        received: slot.received(),
        durable: slot.durable(),
        archived: slot.archived(),
        server_end: slot.server_end(),
        last_message: moment(&slot.last_message),
        flushed_rpo: None,
        stored_rpo: None,
        received_bytes: slot.received_bytes.load(),
        stored_segments: slot.archived_segments.load(),
        store_errors: slot.store_errors.load(),
        last_stored: moment(&slot.last_stored),
        spool_bytes: slot.spool_bytes.load(),
        restarts: slot.restarts.load(),
        connection_failures: slot.connection_failures.load(),
        fsync: slot.fsync.observations(),
        store: slot.store.observations(),
        acknowledge: slot.acknowledge.observations(),
        problem: view.and_then(|view| view.problem.clone()),
        gaps: view.map(|view| view.gaps.clone()).unwrap_or_default(),
        archives: view.map(|view| view.archives.clone()).unwrap_or_default(),
        catalog: seen.servers.get(name).cloned(),
        windows: Vec::new(),
    };
    facts.flushed_rpo = match (facts.behind(facts.durable), facts.state) {
        (Some(0), ServerState::Streaming) => Some(Duration::ZERO),
        _ => slot.caught_up.age_ms().map(Duration::from_millis),
    };
    facts.stored_rpo = stored_rpo(now, &facts, heartbeat);
    facts.windows = facts
        .catalog
        .as_ref()
        .map(|catalog| window::windows(catalog, &facts.gaps, live(now, &facts)))
        .unwrap_or_default();
    facts
}

/// How long the repository has been behind the server. A server that is not heard of may have gone on.
fn stored_rpo(
    now: Timestamp,
    facts: &ServerFacts,
    heartbeat: Option<&Heartbeat>,
) -> Option<Duration> {
    let since = match heartbeat?.behind_since(facts.archived?) {
        Some(since) => since,
        None if facts.state == ServerState::Streaming => return Some(Duration::ZERO),
        None => facts.last_message?,
    };
    let behind = now.duration_since(since).max(SignedDuration::ZERO);
    Some(behind.unsigned_abs())
}

fn live(now: Timestamp, facts: &ServerFacts) -> Option<Live> {
    let behind = SignedDuration::try_from(facts.flushed_rpo?).ok()?;
    Some(Live {
        timeline: facts.timeline?,
        durable: facts.durable?,
        until: now.checked_sub(behind).ok()?,
    })
}

fn moment(moment: &Moment) -> Option<Timestamp> {
    let milliseconds = i64::try_from(moment.unix_ms()?).ok()?;
    Timestamp::from_millisecond(milliseconds).ok()
}
