//! One task a server: it starts the receive worker, listens to it, and starts it again when it dies.
//!
//! What happens next is decided by [`Life`]; this is the shell around it. Servers share nothing here, so a dead address
//! or a worker that is killed is no other server's business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use pgm_mgmt::{Gap, ServerState};
use pgm_proto::{Lsn, RepositoryName, ServerName};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::child::{Child, Heard};
use super::daemon::{Daemon, lock};
use super::slots::SlotLease;
use super::state::{Action, Event, Life, Now};
use crate::config::{Config, JobPriority, LogLevel, ServerConfig};
use crate::shared_state::{Phase, Slot};
use crate::worker::{Connection, Description, Order, ProcessTitle, Task, WorkerEvent};

/// A server's receive worker, as the daemon holds it.
#[derive(Debug)]
pub(super) struct Receiver {
    server: ServerName,
    lease: Arc<SlotLease>,
    notes: Arc<Mutex<Notes>>,
    wishes: mpsc::UnboundedSender<Wish>,
    task: JoinHandle<()>,
}

/// What the daemon wants of a task.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish {
    Stop,
    Kill,
    LogLevel(LogLevel),
}

/// What is known about a worker beside the shared state.
#[derive(Debug, Clone, Default)]
struct Notes {
    running: bool,
    stopping: bool,
    problem: Option<Problem>,
    gaps: Vec<Gap>,
    archives: BTreeMap<RepositoryName, ArchiveView>,
}

/// How archiving into one repository goes.
#[derive(Debug, Clone, Default)]
pub struct ArchiveView {
    /// How far the WAL is archived there.
    pub archived: Option<Lsn>,
    /// Finished files of the spool that wait for it.
    pub backlog: usize,
    /// Since when the oldest of them has.
    pub backlog_since: Option<SystemTime>,
    /// Why it does not work.
    pub problem: Option<Problem>,
}

/// Something that went wrong and has not passed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// How a receive worker is.
#[derive(Debug, Clone)]
pub struct ReceiverView {
    /// The server.
    pub server: ServerName,
    /// What the worker does.
    pub state: ServerState,
    /// What is wrong.
    pub problem: Option<Problem>,
    /// Holes in the archive.
    pub gaps: Vec<Gap>,
    /// How archiving goes, by repository.
    pub archives: BTreeMap<RepositoryName, ArchiveView>,
    slot: Arc<SlotLease>,
}

impl ArchiveView {
    /// How long the oldest file of the backlog has waited; zero if there is none.
    pub fn backlog_age(&self) -> Duration {
        self.backlog_since
            .and_then(|since| since.elapsed().ok())
            .unwrap_or_default()
    }
}

impl ReceiverView {
    /// What the worker wrote into the shared state.
    pub fn slot(&self) -> &Slot {
        self.slot.slot()
    }
}

impl Receiver {
    pub(super) fn slot_number(&self) -> usize {
        self.lease.number()
    }

    pub(super) fn view(&self) -> ReceiverView {
        let notes = lock(&self.notes).clone();
        let phase = self.lease.slot().phase();
        let state = match (notes.running, notes.stopping) {
            (_, true) => ServerState::Stopping,
            (false, false) if self.lease.slot().restarts.load() > 0 || notes.problem.is_some() => {
                ServerState::Restarting
            }
            (false, false) => ServerState::Starting,
            (true, false) => match phase {
                Phase::Starting => ServerState::Starting,
                Phase::Connecting => ServerState::Connecting,
                Phase::Streaming => ServerState::Streaming,
                Phase::Backoff => ServerState::Backoff,
                Phase::Error => ServerState::Error,
                Phase::Stopping => ServerState::Stopping,
            },
        };
        ReceiverView {
            server: self.server.clone(),
            state,
            problem: notes.problem.or_else(|| {
                let mut archives = notes.archives.values();
                archives.find_map(|archive| archive.problem.clone())
            }),
            gaps: notes.gaps,
            archives: notes.archives,
            slot: Arc::clone(&self.lease),
        }
    }

    pub(super) fn set_log_level(&self, level: LogLevel) {
        let _ = self.wishes.send(Wish::LogLevel(level));
    }

    pub(super) fn ask_to_stop(&self) {
        let _ = self.wishes.send(Wish::Stop);
    }

    /// Where wishes go.
    pub(super) fn wishes(&self) -> mpsc::UnboundedSender<Wish> {
        self.wishes.clone()
    }

    /// Waits until worker and task are gone.
    pub(super) async fn gone(self) {
        if let Err(error) = self.task.await {
            error!("the task of server {} failed: {error}", self.server);
        }
        self.lease.keep_totals(&self.server);
    }
}

/// What the worker of `server` is told.
pub(super) fn describe(
    config: &Config,
    server: &ServerName,
    entry: &ServerConfig,
    connection: Connection,
    slot: usize,
) -> Description {
    Description {
        server: server.clone(),
        log_level: config.log_level,
        slot,
        repositories: config.targets(),
        spool: config.spool_of(server),
        title: ProcessTitle::of(config),
        priority: JobPriority::Normal,
        task: Task::Receive {
            connection,
            slot: entry.slot.clone(),
            create_slot: entry.create_slot,
        },
    }
}

/// Starts the task of a server.
pub(super) fn start(daemon: Arc<Daemon>, description: Description, lease: SlotLease) -> Receiver {
    let lease = Arc::new(lease);
    let notes = Arc::new(Mutex::new(Notes::default()));
    let (wishes, wished) = mpsc::unbounded_channel();
    let server = description.server.clone();
    let task = Supervision {
        daemon,
        description,
        lease: Arc::clone(&lease),
        notes: Arc::clone(&notes),
        life: Life::new(),
        restarts_before: lease.slot().restarts.load(),
    };
    let task = tokio::spawn(task.run(wished));
    Receiver {
        server,
        lease,
        notes,
        wishes,
        task,
    }
}

struct Supervision {
    daemon: Arc<Daemon>,
    description: Description,
    lease: Arc<SlotLease>,
    notes: Arc<Mutex<Notes>>,
    life: Life,
    /// Restarts that were counted before, for this server.
    restarts_before: u64,
}

impl Supervision {
    async fn run(mut self, mut wished: mpsc::UnboundedReceiver<Wish>) {
        let mut child = self.spawn().await;
        loop {
            let happened = tokio::select! {
                heard = hear(child.as_mut()) => match heard {
                    Heard::Event(event) => { self.note(event); continue }
                    Heard::End => Event::Exited,
                },
                wish = wished.recv() => match wish {
                    Some(Wish::LogLevel(level)) => {
                        self.description.log_level = level;
                        if let Some(child) = &mut child {
                            child.order(&Order::LogLevel(level)).await;
                        }
                        continue;
                    }
                    Some(Wish::Kill) => {
                        if let Some(child) = &mut child {
                            child.kill();
                        }
                        continue;
                    }
                    Some(Wish::Stop) | None => Event::Stop,
                },
                () = self.sleep_until(self.life.deadline()) => Event::Tick,
            };
            if happened == Event::Exited {
                self.bury(child.take()).await;
            }
            match self.life.handle(self.daemon.now(), happened) {
                None => {}
                Some(Action::Spawn) => child = self.spawn().await,
                Some(Action::Terminate) => {
                    lock(&self.notes).stopping = true;
                    if let Some(child) = &child {
                        child.terminate();
                    }
                }
                Some(Action::Kill) => {
                    warn!(
                        "the receive worker of {} does not end: it is killed",
                        self.server()
                    );
                    if let Some(child) = &mut child {
                        child.kill();
                    }
                }
                Some(Action::Finish) => return,
            }
        }
    }

    fn server(&self) -> &ServerName {
        &self.description.server
    }

    /// Starts the worker; a failure is an event like any other.
    async fn spawn(&mut self) -> Option<Child> {
        let slot = self.lease.slot();
        slot.set_phase(Phase::Starting);
        slot.restarts
            .store(self.restarts_before + self.life.restarts());
        let fd = self.daemon.slots.state().fd_number();
        let hidden = self.daemon.key_variable();
        match Child::start(&self.description, fd, hidden.as_deref()).await {
            Ok(child) => {
                slot.pid.store(child.pid().into());
                lock(&self.notes).running = true;
                self.life.handle(self.daemon.now(), Event::Spawned);
                Some(child)
            }
            Err(error) => {
                error!(
                    "cannot start the receive worker of {}: {error}",
                    self.server()
                );
                self.set_problem(
                    format!("the receive worker cannot be started: {error}"),
                    None,
                );
                self.life.handle(self.daemon.now(), Event::SpawnFailed);
                None
            }
        }
    }

    /// Notes that the worker is gone.
    async fn bury(&mut self, child: Option<Child>) {
        self.lease.slot().pid.store(0);
        let stopping = {
            let mut notes = lock(&self.notes);
            notes.running = false;
            notes.stopping
        };
        let Some(mut child) = child else { return };
        // It may have closed its pipe and hang: it has nothing more to say to us.
        if !stopping {
            child.kill();
        }
        let how = child.gone().await;
        if stopping {
            info!("the receive worker of {} {how}", self.server());
        } else {
            warn!(
                "the receive worker of {} {how}: it is started again",
                self.server()
            );
            if lock(&self.notes).problem.is_none() {
                self.set_problem(format!("the receive worker {how}"), None);
            }
        }
    }

    fn note(&self, event: WorkerEvent) {
        match event {
            WorkerEvent::Streaming => lock(&self.notes).problem = None,
            WorkerEvent::Problem { text, hint } => self.set_problem(text, hint),
            WorkerEvent::Archiving(note) => {
                let mut notes = lock(&self.notes);
                let before = notes.archives.get(&note.repository);
                let before = before.and_then(|archive| archive.problem.clone());
                let problem = note.problem.map(|(text, hint)| match before {
                    Some(before) if before.text == text => before,
                    _ => Problem {
                        text,
                        hint,
                        at: Timestamp::now(),
                    },
                });
                let view = notes.archives.entry(note.repository).or_default();
                view.archived = note.archived;
                view.problem = problem;
            }
            WorkerEvent::Backlog(note) => {
                let mut notes = lock(&self.notes);
                let view = notes.archives.entry(note.repository).or_default();
                view.backlog = note.files;
                view.backlog_since = note.since;
            }
            WorkerEvent::Gaps(gaps) => lock(&self.notes).gaps = gaps,
            WorkerEvent::NewGap(gap) => {
                let gaps = &mut lock(&self.notes).gaps;
                // A round that has begun since may have found it by itself.
                if !gaps.contains(&gap) {
                    gaps.push(gap);
                }
            }
            // Receive workers have no phases and no end.
            WorkerEvent::Phase(_)
            | WorkerEvent::Warning(_)
            | WorkerEvent::Done(_)
            | WorkerEvent::Failed(_) => {}
        }
    }

    fn set_problem(&self, text: String, hint: Option<String>) {
        lock(&self.notes).problem = Some(Problem {
            text,
            hint,
            at: Timestamp::now(),
        });
    }

    async fn sleep_until(&self, deadline: Option<Now>) {
        match deadline {
            Some(at) => tokio::time::sleep(at.saturating_sub(self.daemon.now())).await,
            None => std::future::pending().await,
        }
    }
}

/// What the worker says; waits for ever while there is none.
async fn hear(child: Option<&mut Child>) -> Heard {
    match child {
        Some(child) => child.hear().await,
        None => std::future::pending().await,
    }
}
