//! The worker processes: what `pgmd worker …` does.
//!
//! A worker reads its description from the standard input, does its work on threads of its own, and says what happens
//! on the standard output. The main thread only listens: to SIGTERM and to the end of the input, which both ask for an
//! orderly end, and to orders. Saying something never makes the working threads wait, so a supervisor that hangs cannot
//! hold up WAL.

mod archive;
mod archive_lock;
mod backup;
mod courtesy;
mod coverage;
mod gap;
mod identity;
mod job;
mod link;
mod message;
mod operation;
mod receive;
mod restore;
mod standby;
mod title;

use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::{Signal, set_parent_process_death_signal};
use tracing::{error, warn};

use crate::log;
use crate::shared_state::{FD_VARIABLE, SharedState};

pub use message::{
    Connection, Description, LINE_BYTES_MAX, Order, ProcessTitle, Task, WorkerEvent,
};

pub use standby::StandbyOptions;

use link::{Inbox, Link};
use title::Title;

/// The life of a worker process.
pub fn run() -> ExitCode {
    // Should the supervisor die before this line, the end of our standard input says so.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pgmd: cannot start a worker: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(work()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("the worker cannot work: {error}");
            eprintln!("pgmd: the worker cannot work: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn work() -> std::io::Result<()> {
    let mut inbox = Inbox::open()?;
    let description: Description = inbox.description().await?;
    let who = format!(
        "{} {}",
        description.task.words().join(" "),
        description.server
    );
    let level = log::start(description.log_level, &who);
    let number = std::env::var(FD_VARIABLE)
        .ok()
        .and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| {
        std::io::Error::other("this is a part of pgmd that only pgmd itself can start")
    })?;
    let state = Arc::new(SharedState::inherit(number)?);
    if state.slot(description.slot).is_none() {
        return Err(std::io::Error::other(
            "there is no such place in the shared state",
        ));
    }
    let title = match description.title {
        ProcessTitle::Shown => Some(Title::new(Arc::clone(&state), &description)),
        ProcessTitle::Fixed => None,
    };
    // Threads that are made later inherit it.
    if let Err(error) = courtesy::make_way(description.priority) {
        warn!("the job runs with the usual priority: {error}");
    }
    let (link, outbox) = Link::new()?;
    let task = link.clone();
    let worker = std::thread::Builder::new().name(thread_name(&description.task).to_owned());
    let worker = worker.spawn(move || {
        match &description.task {
            Task::Receive { .. } => receive::receive(&task, &description, &state),
            Task::Backup { .. } => backup::backup(&task, &description, &state),
            Task::Restore { .. } => restore::restore(&task, &description, &state),
            Task::Standby { .. } => standby::standby(&task, &description, &state),
            Task::Delete { .. }
            | Task::Verify { .. }
            | Task::Archive { .. }
            | Task::Retention { .. } => {
                operation::operation(&task, &description, &state);
            }
        }
        task.finish();
    })?;
    link::converse(inbox, outbox, &link, &level, title).await?;
    let ended = worker.join();
    ended.map_err(|_| std::io::Error::other("the worker's thread panicked"))
}

fn thread_name(task: &Task) -> &'static str {
    match task {
        Task::Receive { .. } => "pgm-receive",
        Task::Backup { .. } => "pgm-backup",
        Task::Restore { .. } => "pgm-restore",
        Task::Delete { .. } => "pgm-delete",
        Task::Verify { .. } => "pgm-verify",
        Task::Archive { .. } => "pgm-archive",
        Task::Retention { .. } => "pgm-retention",
        Task::Standby { .. } => "pgm-standby",
    }
}
