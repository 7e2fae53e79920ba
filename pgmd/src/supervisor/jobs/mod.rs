//! Jobs: backups, restores and what else takes long, each in a worker process of its own.
//!
//! A job belongs to the daemon, not to the client that asked for it: it goes on when the client goes away, and anybody may
//! follow it by its number ([`Jobs::attach`]). At most `jobs_max` run at the same time, the others wait their turn; a server
//! has at most one backup at a time. A job that is cancelled, or whose worker dies, leaves a staging area that the next
//! one sweeps. What is remembered of jobs, also by the next daemon, is in [`history`].

mod ask;
mod history;
mod job;
mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgm_mgmt::{
    Error, ErrorCode, JobId, JobKind, JobProgress, JobRecord, JobScope, JobState, MessageLevel,
    Response,
};
use pgm_proto::ServerName;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::daemon::lock;
use super::slots::SlotLease;
use crate::repository::second;
use history::History;
use job::{Audience, Job, Wants};

pub(crate) use ask::JobRequest;

/// How many jobs may be known at once, running and waiting.
const KNOWN_MAX: usize = 64;
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// The jobs of the daemon.
#[derive(Debug)]
pub struct Jobs {
    table: Mutex<Table>,
    /// Never locked before the table.
    history: Mutex<History>,
    /// Somebody ended, or the limit changed.
    changed: Notify,
}

#[derive(Debug)]
struct Table {
    limit: usize,
    door: Door,
    jobs: BTreeMap<JobId, Job>,
}

/// Whether jobs are taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Closed,
}

/// What is wanted of a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    GoOn,
    /// End cleanly; what it has come to may serve the next one.
    Stop,
    /// End cleanly and leave nothing.
    Cancel,
    /// End at once.
    Kill,
}

/// What a client holds of a job that it follows.
#[derive(Debug)]
pub struct JobTicket {
    /// The job.
    pub id: JobId,
    /// Messages on the way.
    pub messages: mpsc::UnboundedReceiver<(MessageLevel, String)>,
    /// How it ended.
    pub outcome: oneshot::Receiver<Result<Response, Error>>,
}

/// How many jobs there are at once, and how many are remembered where.
#[derive(Debug)]
pub(super) struct JobLimits {
    /// How many run at the same time.
    pub(super) running: usize,
    /// How many are remembered after their end.
    pub(super) history: usize,
    /// The base directory.
    pub(super) folder: PathBuf,
}

impl Jobs {
    pub(super) fn new(limits: &JobLimits) -> Self {
        let table = Table {
            limit: limits.running,
            door: Door::Open,
            jobs: BTreeMap::new(),
        };
        let file = history::path_in(&limits.folder);
        Self {
            table: Mutex::new(table),
            history: Mutex::new(History::open(file, limits.history)),
            changed: Notify::new(),
        }
    }

    /// From now on, this many run at once, and this many are remembered.
    pub(super) fn set_limits(&self, running: usize, history: usize) {
        lock(&self.table).limit = running;
        lock(&self.history).set_keep(history);
        self.changed.notify_waiters();
    }

    /// How far the jobs have come, oldest first.
    pub fn progress(&self) -> Vec<JobProgress> {
        lock(&self.table).jobs.values().map(Job::progress).collect()
    }

    /// How far one job has come.
    pub fn progress_of(&self, id: JobId) -> Option<JobProgress> {
        lock(&self.table).jobs.get(&id).map(Job::progress)
    }

    /// The jobs, newest first.
    pub fn list(&self, server: Option<&ServerName>, scope: JobScope) -> Vec<JobRecord> {
        let wanted = |record: &JobRecord| server.is_none_or(|server| record.server == *server);
        let mut records: Vec<JobRecord> = {
            let table = lock(&self.table);
            table.jobs.values().map(Job::record_now).collect()
        };
        if scope == JobScope::All {
            records.extend(lock(&self.history).ended().cloned());
        }
        records.retain(wanted);
        // A job that ended between the two looks is there twice.
        records.sort_by_key(|record| (std::cmp::Reverse(record.job), !record.state.is_final()));
        records.dedup_by_key(|record| record.job);
        records
    }

    /// Everything about one job.
    pub fn record(&self, id: JobId) -> Result<JobRecord, Error> {
        if let Some(job) = lock(&self.table).jobs.get(&id) {
            return Ok(job.record_now());
        }
        let history = lock(&self.history);
        let record = history.ended().rev().find(|record| record.job == id);
        record.cloned().ok_or_else(|| unknown(id))
    }

    /// Follows a job to its end, which is its record, also when it has ended already.
    pub fn attach(&self, id: JobId) -> Result<JobTicket, Error> {
        let (message, messages) = mpsc::unbounded_channel();
        let (report, outcome) = oneshot::channel();
        if let Some(job) = lock(&self.table).jobs.get_mut(&id) {
            for said in &job.record.messages {
                let _ = message.send((said.level, said.text.clone()));
            }
            job.admit(Audience {
                messages: message,
                outcome: report,
                wants: Wants::Record,
            });
        } else {
            let record = self.record(id)?;
            let _ = report.send(Ok(Response::Job(record)));
        }
        Ok(JobTicket {
            id,
            messages,
            outcome,
        })
    }

    /// Asks a job to end.
    pub fn cancel(&self, id: JobId) -> Result<(), Error> {
        if let Some(job) = lock(&self.table).jobs.get(&id) {
            job.wish(Wish::Cancel);
            return Ok(());
        }
        let record = self.record(id)?;
        let text = format!("job {id} is over already: it is {}", record.state);
        Err(Error::new(ErrorCode::UnknownJob, text).with_hint(format!("pgm-cli job show {id}")))
    }

    /// Forgets the jobs that have ended; how many.
    pub fn clear(&self) -> usize {
        lock(&self.history).forget()
    }

    /// Whether a job of this kind waits or runs for `server`, and which.
    pub fn unfinished(&self, kind: JobKind, server: &ServerName) -> Option<JobId> {
        lock(&self.table).of_kind(kind, server)
    }

    /// Ends all jobs and takes no more.
    pub(super) fn close(&self) {
        let mut table = lock(&self.table);
        table.door = Door::Closed;
        for job in table.jobs.values() {
            job.wish(Wish::Stop);
        }
    }

    /// Ends all workers at once.
    pub(super) fn kill(&self) {
        for job in lock(&self.table).jobs.values() {
            job.wish(Wish::Kill);
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

    /// Takes a job on; it waits for its turn.
    fn admit(&self, asked: &JobRequest<'_>, lease: SlotLease) -> Result<Admitted, Error> {
        let mut table = lock(&self.table);
        table.admissible(asked.kind, asked.server)?;
        let (wish, wished) = watch::channel(Wish::GoOn);
        let (messages, told) = mpsc::unbounded_channel();
        let (outcome, reported) = oneshot::channel();
        let lease = Arc::new(lease);
        let id = lock(&self.history).take_number();
        let audience = Audience {
            messages,
            outcome,
            wants: Wants::Answer,
        };
        let job = Job::new(id, asked, Arc::clone(&lease), wish, audience);
        self.note(&job.record);
        table.jobs.insert(id, job);
        Ok(Admitted {
            ticket: JobTicket {
                id,
                messages: told,
                outcome: reported,
            },
            lease,
            wished,
        })
    }

    /// Waits for a turn; an error when the job was cancelled instead.
    async fn turn(&self, id: JobId, wished: &mut watch::Receiver<Wish>) -> Result<(), Error> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if *wished.borrow_and_update() != Wish::GoOn {
                let text = "the job was cancelled before it began";
                return Err(Error::new(ErrorCode::Cancelled, text));
            }
            if self.try_begin(id) {
                self.changed.notify_waiters();
                return Ok(());
            }
            tokio::select! {
                () = changed => {}
                _ = wished.changed() => {}
            }
        }
    }

    fn try_begin(&self, id: JobId) -> bool {
        let mut table = lock(&self.table);
        let waits = |job: &Job| job.record.state == JobState::Waiting;
        let running = table.jobs.values().filter(|job| !waits(job)).count();
        let first = table.jobs.values().find(|job| waits(job));
        if running >= table.limit || first.map(|job| job.record.job) != Some(id) {
            return false;
        }
        if let Some(job) = table.jobs.get_mut(&id) {
            job.begin();
            self.note(&job.record);
        }
        true
    }

    pub(super) fn set_phase(&self, id: JobId, phase: String) {
        if let Some(job) = lock(&self.table).jobs.get_mut(&id) {
            job.set_phase(phase);
        }
    }

    pub(super) fn tell(&self, id: JobId, level: MessageLevel, text: &str) {
        if let Some(job) = lock(&self.table).jobs.get_mut(&id) {
            job.tell(level, text);
        }
    }

    fn sample(&self, id: JobId) {
        if let Some(job) = lock(&self.table).jobs.get_mut(&id) {
            job.sample();
        }
    }

    /// Takes a job that has ended from the table into the history, and tells those who follow it.
    fn finish(&self, id: JobId, outcome: Result<Response, Error>) -> Option<JobRecord> {
        let (job, outcome) = {
            let mut table = lock(&self.table);
            let outcome = match (outcome, table.door) {
                (Err(error), Door::Closed) if error.code == ErrorCode::Cancelled => {
                    let text = "pgmd is shutting down; the job was cancelled";
                    let hint = "run it again once pgmd runs";
                    Err(Error::new(ErrorCode::ShuttingDown, text).with_hint(hint))
                }
                (outcome, _) => outcome,
            };
            let mut job = table.jobs.remove(&id)?;
            job.end(&outcome);
            self.note(&job.record);
            (job, outcome)
        };
        let record = job.record.clone();
        job.report(&outcome);
        self.changed.notify_waiters();
        Some(record)
    }

    /// Writes down how a job is; the disk is waited for elsewhere.
    fn note(&self, record: &JobRecord) {
        let to_sync = {
            let mut history = lock(&self.history);
            history.note(record);
            history.to_sync()
        };
        if let (Some(file), Ok(runtime)) = (to_sync, tokio::runtime::Handle::try_current()) {
            // What does not reach the disk is lost with the machine only; the next line tries again.
            runtime.spawn_blocking(move || file.sync_data());
        }
    }
}

impl Table {
    fn of_kind(&self, kind: JobKind, server: &ServerName) -> Option<JobId> {
        let mut records = self.jobs.values().map(|job| &job.record);
        records
            .find(|record| record.kind == kind && record.server == *server)
            .map(|record| record.job)
    }

    fn admissible(&self, kind: JobKind, server: &ServerName) -> Result<(), Error> {
        if self.door == Door::Closed {
            return Err(Error::new(ErrorCode::ShuttingDown, "pgmd is shutting down"));
        }
        if self.jobs.len() >= KNOWN_MAX {
            let text = format!("{KNOWN_MAX} jobs run or wait already");
            return Err(Error::new(ErrorCode::TooBusy, text).with_hint("try again later"));
        }
        match self.of_kind(kind, server) {
            Some(id) if kind == JobKind::Backup => {
                let text = format!("a backup of {server} runs already (job {id})");
                let hint = format!("watch it: pgm-cli job wait {id}");
                Err(Error::new(ErrorCode::AlreadyRunning, text).with_hint(hint))
            }
            _ => Ok(()),
        }
    }
}

struct Admitted {
    ticket: JobTicket,
    lease: Arc<SlotLease>,
    wished: watch::Receiver<Wish>,
}

fn unknown(id: JobId) -> Error {
    let error = Error::new(ErrorCode::UnknownJob, format!("there is no job {id}"));
    error.with_hint("pgm-cli job ls --all lists the jobs that are remembered")
}

fn now() -> String {
    second(jiff::Timestamp::now())
}

#[cfg(test)]
mod tests;
