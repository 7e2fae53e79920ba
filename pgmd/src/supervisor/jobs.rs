//! Jobs: backups and restores, each in a worker process of its own.
//!
//! A job belongs to the daemon, not to the client that asked for it: it goes on when the client goes away. At most
//! `jobs_max` run at the same time, the others wait their turn; a server has at most one backup at a time. A job that
//! is cancelled, or whose worker dies, leaves a staging area that the next one sweeps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pgm_mgmt::{Error, ErrorCode, JobId, JobKind, JobProgress, MessageLevel, Response};
use pgm_proto::ServerName;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{info, warn};

use super::child::{Child, Heard};
use super::daemon::{Daemon, lock};
use super::slots::SlotLease;
use super::state::STOP_PATIENCE;
use crate::worker::{Description, Task, WorkerEvent};

/// How many jobs may be known at once, running and waiting.
const KNOWN_MAX: usize = 64;
const SAMPLE_EVERY: Duration = Duration::from_millis(500);
/// Rates are over the last five seconds.
const SAMPLES: usize = 10;

/// The jobs of the daemon.
#[derive(Debug)]
pub struct Jobs {
    table: Mutex<Table>,
    /// Somebody ended, or the limit changed.
    changed: Notify,
}

#[derive(Debug)]
struct Table {
    next: u64,
    limit: usize,
    closed: bool,
    jobs: BTreeMap<JobId, Job>,
}

#[derive(Debug)]
struct Job {
    kind: JobKind,
    server: ServerName,
    running: bool,
    phase: String,
    lease: Arc<SlotLease>,
    started: Timestamp,
    began: Instant,
    /// Bytes done, newest last.
    samples: VecDeque<(Instant, u64)>,
    cancel: watch::Sender<bool>,
}

/// What a client holds of its job.
#[derive(Debug)]
pub struct JobTicket {
    /// The job.
    pub id: JobId,
    /// Messages on the way.
    pub messages: mpsc::UnboundedReceiver<(MessageLevel, String)>,
    /// How it ended.
    pub outcome: oneshot::Receiver<Result<Response, Error>>,
}

impl Jobs {
    pub(super) fn new(limit: usize) -> Self {
        let table = Table {
            next: 1,
            limit,
            closed: false,
            jobs: BTreeMap::new(),
        };
        Self {
            table: Mutex::new(table),
            changed: Notify::new(),
        }
    }

    pub(super) fn set_limit(&self, limit: usize) {
        lock(&self.table).limit = limit;
        self.changed.notify_waiters();
    }

    /// How far the jobs have come, oldest first.
    pub fn progress(&self) -> Vec<JobProgress> {
        let table = lock(&self.table);
        table
            .jobs
            .iter()
            .map(|(id, job)| job.progress(*id))
            .collect()
    }

    /// How far one job has come.
    pub fn progress_of(&self, id: JobId) -> Option<JobProgress> {
        lock(&self.table).jobs.get(&id).map(|job| job.progress(id))
    }

    /// Asks a job to end.
    pub fn cancel(&self, id: JobId) -> Result<(), Error> {
        let table = lock(&self.table);
        let Some(job) = table.jobs.get(&id) else {
            let error = Error::new(ErrorCode::UnknownJob, format!("there is no job {id}"));
            return Err(error.with_hint("pgm-cli progress lists the jobs that run"));
        };
        job.cancel.send_replace(true);
        Ok(())
    }

    /// Ends all jobs and takes no more.
    pub(super) fn close(&self) {
        let mut table = lock(&self.table);
        table.closed = true;
        for job in table.jobs.values() {
            job.cancel.send_replace(true);
        }
    }

    /// Waits until no job is left.
    pub(super) async fn gone(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if lock(&self.table).jobs.is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn admit(
        &self,
        kind: JobKind,
        server: &ServerName,
        lease: SlotLease,
    ) -> Result<Admitted, Error> {
        let mut table = lock(&self.table);
        if table.closed {
            return Err(Error::new(ErrorCode::ShuttingDown, "pgmd is shutting down"));
        }
        if table.jobs.len() >= KNOWN_MAX {
            let text = format!("{KNOWN_MAX} jobs run or wait already");
            return Err(Error::new(ErrorCode::TooBusy, text).with_hint("try again later"));
        }
        let same = |job: &Job| kind == JobKind::Backup && job.kind == kind && job.server == *server;
        if let Some((id, _)) = table.jobs.iter().find(|(_, job)| same(job)) {
            let text = format!("a backup of {server} runs already (job {id})");
            let hint = "watch it: pgm-cli progress";
            return Err(Error::new(ErrorCode::AlreadyRunning, text).with_hint(hint));
        }
        let id = JobId::new(table.next);
        table.next += 1;
        let (cancel, cancelled) = watch::channel(false);
        let lease = Arc::new(lease);
        let job = Job {
            kind,
            server: server.clone(),
            running: false,
            phase: "waiting for its turn".to_owned(),
            lease: Arc::clone(&lease),
            started: Timestamp::now(),
            began: Instant::now(),
            samples: VecDeque::new(),
            cancel,
        };
        table.jobs.insert(id, job);
        Ok(Admitted {
            id,
            lease,
            cancelled,
        })
    }

    /// Waits for a turn; `false` when the job was cancelled instead.
    async fn turn(&self, id: JobId, cancelled: &mut watch::Receiver<bool>) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if *cancelled.borrow_and_update() {
                return false;
            }
            {
                let mut table = lock(&self.table);
                let running = table.jobs.values().filter(|job| job.running).count();
                let first = table
                    .jobs
                    .iter()
                    .find(|(_, job)| !job.running)
                    .map(|(id, _)| *id);
                if running < table.limit && first == Some(id) {
                    if let Some(job) = table.jobs.get_mut(&id) {
                        job.running = true;
                        "starting".clone_into(&mut job.phase);
                    }
                    self.changed.notify_waiters();
                    return true;
                }
            }
            tokio::select! {
                () = changed => {}
                _ = cancelled.changed() => {}
            }
        }
    }

    fn set_phase(&self, id: JobId, phase: String) {
        if let Some(job) = lock(&self.table).jobs.get_mut(&id) {
            if job.phase.split(':').next() != phase.split(':').next() {
                job.samples.clear();
            }
            job.phase = phase;
        }
    }

    fn sample(&self, id: JobId) {
        if let Some(job) = lock(&self.table).jobs.get_mut(&id) {
            let done = job.lease.slot().job_done.load();
            job.samples.push_back((Instant::now(), done));
            if job.samples.len() > SAMPLES {
                job.samples.pop_front();
            }
        }
    }

    fn remove(&self, id: JobId) {
        lock(&self.table).jobs.remove(&id);
        self.changed.notify_waiters();
    }
}

struct Admitted {
    id: JobId,
    lease: Arc<SlotLease>,
    cancelled: watch::Receiver<bool>,
}

impl Job {
    fn progress(&self, id: JobId) -> JobProgress {
        let slot = self.lease.slot();
        let done_bytes = slot.job_done.load();
        let total_bytes = Some(slot.job_total.load()).filter(|total| *total > 0);
        let rate_bytes = rate(self.samples.front(), self.samples.back());
        JobProgress {
            job: id,
            kind: self.kind,
            server: self.server.clone(),
            phase: self.phase.clone(),
            done_bytes,
            total_bytes,
            rate_bytes,
            eta_seconds: total_bytes
                .filter(|_| rate_bytes > 0)
                .map(|total| total.saturating_sub(done_bytes).div_ceil(rate_bytes)),
            started: self.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            elapsed_seconds: self.began.elapsed().as_secs(),
        }
    }
}

/// Bytes a second between two samples.
fn rate(oldest: Option<&(Instant, u64)>, newest: Option<&(Instant, u64)>) -> u64 {
    let (Some((from, before)), Some((to, after))) = (oldest, newest) else {
        return 0;
    };
    let milliseconds = to.saturating_duration_since(*from).as_millis();
    let bytes = u128::from(after.saturating_sub(*before));
    (bytes * 1000)
        .checked_div(milliseconds)
        .and_then(|rate| u64::try_from(rate).ok())
        .unwrap_or(0)
}

impl Daemon {
    /// Starts a job for `server` that carries out `task`.
    pub fn start_job(
        self: &Arc<Self>,
        kind: JobKind,
        server: &ServerName,
        task: Task,
    ) -> Result<JobTicket, Error> {
        let busy = || Error::new(ErrorCode::TooBusy, "there is room for 256 workers at once");
        let lease = self.slots.take().ok_or_else(busy)?;
        let Admitted {
            id,
            lease,
            cancelled,
        } = self.jobs.admit(kind, server, lease)?;
        let config = self.config();
        let description = Description {
            server: server.clone(),
            log_level: config.log_level,
            slot: lease.number(),
            repository: config.repository.path.clone(),
            compression: config.repository.compression,
            spool: config.spool_of(server),
            task,
        };
        let (message, messages) = mpsc::unbounded_channel();
        let (report, outcome) = oneshot::channel();
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            let began = Instant::now();
            let outcome = work(&daemon, id, &description, cancelled, &message).await;
            daemon
                .tally()
                .job(kind, &description.server, began.elapsed(), &outcome);
            match &outcome {
                Ok(_) => info!("job {id}: {kind} of {} is done", description.server),
                Err(error) if error.code == ErrorCode::Cancelled => {
                    info!("job {id}: {kind} of {} was cancelled", description.server);
                }
                Err(error) => warn!("job {id}: {kind} of {} failed: {error}", description.server),
            }
            daemon.jobs.remove(id);
            // Nobody may be waiting any more.
            let _ = report.send(outcome);
            drop(lease);
        });
        Ok(JobTicket {
            id,
            messages,
            outcome,
        })
    }

    /// The place of the receive worker of `server` in the shared state.
    pub fn receiver_slot_of(&self, server: &ServerName) -> Option<usize> {
        self.receiver_slot(server)
    }
}

/// Runs one job from its turn to its end.
async fn work(
    daemon: &Daemon,
    id: JobId,
    description: &Description,
    mut cancelled: watch::Receiver<bool>,
    messages: &mpsc::UnboundedSender<(MessageLevel, String)>,
) -> Result<Response, Error> {
    if !daemon.jobs.turn(id, &mut cancelled).await {
        return Err(Error::new(
            ErrorCode::Cancelled,
            "the job was cancelled before it began",
        ));
    }
    let mut child = Child::start(description, daemon.slots.state().fd_number())
        .await
        .map_err(|error| {
            Error::new(
                ErrorCode::WorkerDied,
                format!("the job's worker cannot be started: {error}"),
            )
        })?;
    info!("job {id}: worker process {}", child.pid());
    let mut sampling = tokio::time::interval(SAMPLE_EVERY);
    let mut outcome = None;
    let mut patience = None;
    loop {
        tokio::select! {
            heard = child.hear() => match heard {
                Heard::End => break,
                Heard::Event(WorkerEvent::Phase(phase)) => daemon.jobs.set_phase(id, phase),
                Heard::Event(WorkerEvent::Warning(text)) => {
                    let _ = messages.send((MessageLevel::Warning, text));
                }
                Heard::Event(WorkerEvent::Done(response)) => outcome = Some(Ok(*response)),
                Heard::Event(WorkerEvent::Failed(error)) => outcome = Some(Err(error)),
                Heard::Event(_) => {}
            },
            _ = sampling.tick() => daemon.jobs.sample(id),
            _ = cancelled.changed(), if patience.is_none() => {
                daemon.jobs.set_phase(id, "cancelling".to_owned());
                child.terminate();
                patience = Some(tokio::time::Instant::now() + STOP_PATIENCE);
            }
            () = until(patience) => {
                warn!("job {id} does not end: it is killed");
                child.kill();
                patience = Some(tokio::time::Instant::now() + STOP_PATIENCE);
            }
        }
    }
    let how = child.gone().await;
    outcome.unwrap_or_else(|| {
        let text = format!("the worker of job {id} {how}");
        let hint = "nothing of it is listed; run it again, and look at pgmd's log";
        Err(Error::new(ErrorCode::WorkerDied, text).with_hint(hint))
    })
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
