//! The worker process of one job, from its turn to its end.

use pgm_mgmt::{Error, ErrorCode, JobId, JobKind, MessageLevel, Response};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::super::child::{Child, Heard};
use super::super::daemon::Daemon;
use super::super::hooks::Hooks;
use super::super::state::STOP_PATIENCE;
use super::{SAMPLE_EVERY, Wish};
use crate::worker::{Description, Order, WorkerEvent};

/// Runs one job when its turn has come, between its hooks.
pub(super) async fn work(
    daemon: &Daemon,
    id: JobId,
    kind: JobKind,
    description: &Description,
    mut wished: watch::Receiver<Wish>,
) -> Result<Response, Error> {
    daemon.jobs.turn(id, &mut wished).await?;
    let hooks = Hooks::of(daemon, id, kind, description);
    hooks.before(&mut wished).await?;
    let outcome = carry_out(daemon, id, description, &mut wished).await;
    hooks.after(&outcome, &mut wished).await;
    outcome
}

async fn carry_out(
    daemon: &Daemon,
    id: JobId,
    description: &Description,
    wished: &mut watch::Receiver<Wish>,
) -> Result<Response, Error> {
    let hidden = daemon.key_variable();
    let mut child = Child::start(
        description,
        daemon.slots.state().fd_number(),
        hidden.as_deref(),
    )
    .await
    .map_err(|error| {
        let text = format!("the job's worker cannot be started: {error}");
        Error::new(ErrorCode::WorkerDied, text)
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
                    daemon.jobs.tell(id, MessageLevel::Warning, &text);
                }
                Heard::Event(WorkerEvent::Done(response)) => outcome = Some(Ok(*response)),
                Heard::Event(WorkerEvent::Failed(error)) => outcome = Some(Err(error)),
                Heard::Event(_) => {}
            },
            _ = sampling.tick() => daemon.jobs.sample(id),
            Ok(()) = wished.changed() => {
                let wish = *wished.borrow_and_update();
                patience = Some(obey(daemon, id, &mut child, wish).await);
            }
            () = until(patience) => {
                warn!("job {id} does not end: it is killed");
                patience = Some(obey(daemon, id, &mut child, Wish::Kill).await);
            }
        }
    }
    let wish = *wished.borrow();
    let how = child.gone().await;
    outcome.unwrap_or_else(|| Err(died(id, wish, &how)))
}

/// Makes the worker end; until when it may take.
async fn obey(daemon: &Daemon, id: JobId, child: &mut Child, wish: Wish) -> Instant {
    match wish {
        Wish::GoOn => {}
        Wish::Stop => {
            daemon.jobs.set_phase(id, "stopping".to_owned());
            child.terminate();
        }
        Wish::Cancel => {
            daemon.jobs.set_phase(id, "cancelling".to_owned());
            child.order(&Order::Cancel).await;
        }
        Wish::Kill => child.kill(),
    }
    Instant::now() + STOP_PATIENCE
}

/// What a worker's death without a report means.
fn died(id: JobId, wish: Wish, how: &str) -> Error {
    if wish == Wish::GoOn {
        let text = format!("the worker of job {id} {how}");
        let hint = "nothing of it is listed; run it again, and look at pgmd's log";
        return Error::new(ErrorCode::WorkerDied, text).with_hint(hint);
    }
    let text = "the job was cancelled; what it left is swept by the next one";
    Error::new(ErrorCode::Cancelled, text)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
