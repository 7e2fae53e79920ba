//! Jobs without their workers: turns, cancelling, what is remembered, who is told.

use super::*;
use crate::service::{Caller, Origin};
use crate::shared_state::SharedState;
use crate::supervisor::slots::Slots;
use crate::worker::Task;
use pgm_mgmt::{BackupChoice, RestoreOptions, RestoreTarget, Role};

struct Bench {
    folder: tempfile::TempDir,
    slots: Slots,
    jobs: Jobs,
    caller: Caller,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            jobs: Jobs::new(&limits(folder.path())),
            slots: Slots::new(SharedState::create().unwrap()),
            caller: Caller {
                user: "ann".to_owned(),
                role: Role::Admin,
                origin: Origin::Local { pid: Some(7) },
            },
            folder,
        }
    }

    fn admit(&self, kind: JobKind, server: &str) -> Result<Admitted, Error> {
        let server: ServerName = server.parse().unwrap();
        let options = RestoreOptions {
            server: server.clone(),
            backup: BackupChoice::Newest,
            directory: "/data".to_owned(),
            delta: false,
            target: RestoreTarget::default(),
            tablespaces: Vec::new(),
            plan_only: false,
            restore_program: None,
        };
        let asked = JobRequest {
            caller: &self.caller,
            kind,
            server: &server,
            repositories: Vec::new(),
            task: Task::Restore { options },
        };
        self.jobs.admit(&asked, self.slots.take().unwrap())
    }

    fn begin(&self, job: &Admitted) -> bool {
        self.jobs.try_begin(job.ticket.id)
    }

    fn states(&self, scope: JobScope) -> Vec<(u64, JobState)> {
        let records = self.jobs.list(None, scope).into_iter();
        records
            .map(|record| (record.job.number(), record.state))
            .collect()
    }
}

fn limits(folder: &std::path::Path) -> JobLimits {
    JobLimits {
        running: 1,
        history: 10,
        folder: folder.to_owned(),
    }
}

fn cleared() -> Response {
    Response::Cleared(pgm_mgmt::Cleared { entries: 0 })
}

#[test]
fn jobs_run_one_after_the_other_and_are_remembered() {
    let bench = Bench::new();
    let first = bench.admit(JobKind::Backup, "a").unwrap();
    let second = bench.admit(JobKind::Restore, "a").unwrap();
    assert!(!bench.begin(&second), "the first has not had its turn");
    assert!(bench.begin(&first));
    assert!(!bench.begin(&second), "one at a time");
    bench.jobs.finish(first.ticket.id, Ok(cleared()));
    assert!(bench.begin(&second));
    let all = [(2, JobState::Running), (1, JobState::Done)];
    assert_eq!(bench.states(JobScope::All), all);
    assert_eq!(bench.states(JobScope::Unfinished), all[..1]);
    let record = bench.jobs.record(first.ticket.id).unwrap();
    assert_eq!(record.asked_by, "ann (local, process 7)");
    assert!(record.started.is_some() && record.ended.is_some());
    drop(bench.jobs);
    let after = Jobs::new(&limits(bench.folder.path()));
    let states: Vec<_> = after
        .list(None, JobScope::All)
        .into_iter()
        .map(|record| record.state)
        .collect();
    assert_eq!(states, [JobState::Lost, JobState::Done]);
}

#[test]
fn a_server_has_one_backup_at_a_time() {
    let bench = Bench::new();
    let first = bench.admit(JobKind::Backup, "a").unwrap();
    let Err(error) = bench.admit(JobKind::Backup, "a") else {
        panic!()
    };
    assert_eq!(error.code, ErrorCode::AlreadyRunning);
    assert!(bench.admit(JobKind::Backup, "b").is_ok());
    assert!(bench.admit(JobKind::Restore, "a").is_ok());
    bench.jobs.finish(first.ticket.id, Ok(cleared()));
    assert!(bench.admit(JobKind::Backup, "a").is_ok());
}

#[test]
fn everybody_who_follows_hears_messages_and_the_end() {
    let bench = Bench::new();
    let mut job = bench.admit(JobKind::Backup, "a").unwrap();
    let id = job.ticket.id;
    bench.jobs.tell(id, MessageLevel::Warning, "before");
    let mut late = bench.jobs.attach(id).unwrap();
    bench.jobs.tell(id, MessageLevel::Info, "after");
    let error = Error::new(ErrorCode::BackupFailed, "no");
    bench.jobs.finish(id, Err(error.clone()));
    for ticket in [&mut job.ticket, &mut late] {
        let texts = [ticket.messages.try_recv(), ticket.messages.try_recv()];
        let texts = texts.map(|message| message.unwrap().1);
        assert_eq!(texts, ["before", "after"]);
    }
    assert_eq!(job.ticket.outcome.try_recv().unwrap(), Err(error.clone()));
    let mut last = bench.jobs.attach(id).unwrap();
    for ticket in [&mut late, &mut last] {
        let Ok(Response::Job(record)) = ticket.outcome.try_recv().unwrap() else {
            panic!()
        };
        assert_eq!(record.state, JobState::Failed);
        assert_eq!(record.error, Some(error.clone()));
        assert_eq!(record.messages.len(), 2);
    }
}

#[test]
fn only_what_has_not_ended_is_cancelled() {
    let bench = Bench::new();
    let job = bench.admit(JobKind::Backup, "a").unwrap();
    let id = job.ticket.id;
    bench.jobs.cancel(id).unwrap();
    assert_eq!(*job.wished.borrow(), Wish::Cancel);
    let cancelled = Error::new(ErrorCode::Cancelled, "cancelled");
    bench.jobs.finish(id, Err(cancelled));
    assert_eq!(bench.jobs.record(id).unwrap().state, JobState::Cancelled);
    let over = bench.jobs.cancel(id).unwrap_err();
    assert_eq!(over.text, "job 1 is over already: it is cancelled");
    let never = bench.jobs.cancel(JobId::new(77)).unwrap_err();
    assert_eq!(never.text, "there is no job 77");
}

#[test]
fn a_closed_door_cancels_and_says_why() {
    let bench = Bench::new();
    let mut job = bench.admit(JobKind::Backup, "a").unwrap();
    bench.jobs.close();
    assert_eq!(*job.wished.borrow(), Wish::Stop);
    bench.jobs.kill();
    bench.jobs.close();
    assert_eq!(*job.wished.borrow(), Wish::Kill, "never less than before");
    let Err(refused) = bench.admit(JobKind::Restore, "a") else {
        panic!()
    };
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
    let cancelled = Error::new(ErrorCode::Cancelled, "cancelled");
    bench.jobs.finish(job.ticket.id, Err(cancelled));
    let told = job.ticket.outcome.try_recv().unwrap().unwrap_err();
    assert_eq!(told.code, ErrorCode::ShuttingDown);
    let record = bench.jobs.record(job.ticket.id).unwrap();
    assert_eq!(record.state, JobState::Cancelled);
}

#[test]
fn long_texts_and_many_messages_are_cut() {
    let bench = Bench::new();
    let job = bench.admit(JobKind::Backup, "a").unwrap();
    for _ in 0..100 {
        let text = "ä".repeat(100_000);
        bench.jobs.tell(job.ticket.id, MessageLevel::Warning, &text);
    }
    let record = bench.jobs.record(job.ticket.id).unwrap();
    assert!(record.messages.len() <= 20);
    assert!(record.messages.iter().all(|said| said.text.len() <= 4100));
}
