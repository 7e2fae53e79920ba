//! What backup and restore jobs share: where their progress goes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pgm_backup::{Context, Phase, Progress, ProgressSink};

use super::link::Link;
use super::message::{Description, WorkerEvent};
use crate::shared_state::SharedState;

/// How often a new detail of the same phase is told.
const DETAIL_EVERY: Duration = Duration::from_secs(1);

/// The surroundings of a job: stopped through the link, watched through the shared state.
pub(super) fn context(link: &Link, description: &Description, state: &Arc<SharedState>) -> Context {
    let sink = Sink {
        link: link.clone(),
        state: Arc::clone(state),
        slot: description.slot,
        told: Mutex::new(None),
    };
    Context::new(link.stop().clone(), Arc::new(sink))
}

struct Sink {
    link: Link,
    state: Arc<SharedState>,
    slot: usize,
    told: Mutex<Option<Told>>,
}

/// What was told last.
struct Told {
    phase: Phase,
    detail: String,
    at: Instant,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

impl ProgressSink for Sink {
    fn report(&self, progress: &Progress<'_>) {
        if let Some(slot) = self.state.slot(self.slot) {
            slot.job_total.store(progress.total_bytes.unwrap_or(0));
            slot.job_done.store(progress.done_bytes);
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = match &*told {
            None => true,
            Some(told) if told.phase != progress.phase => true,
            Some(told) => told.detail != progress.detail && told.at.elapsed() >= DETAIL_EVERY,
        };
        if news {
            let detail = progress.detail.to_owned();
            self.link
                .tell(WorkerEvent::Phase(words(progress.phase, &detail)));
            *told = Some(Told {
                phase: progress.phase,
                detail,
                at: Instant::now(),
            });
        }
    }
}

/// A phase for people.
fn words(phase: Phase, detail: &str) -> String {
    let words = match phase {
        Phase::Checkpoint => "waiting for the checkpoint",
        Phase::AwaitWal => "waiting for wal",
        other => other.word(),
    };
    match (phase, detail) {
        (_, "") => words.to_owned(),
        (Phase::AwaitWal, detail) => format!("waiting for: {detail}"),
        (_, detail) => format!("{words}: {detail}"),
    }
}
