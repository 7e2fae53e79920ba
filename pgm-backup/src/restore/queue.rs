//! What waits to be read: frames of the repository of the plan, for its own workers and for those of another one that has the
//! same backup.
//!
//! Everybody takes one frame when he has done the one before, so each repository gives as much as it can and none is waited for,
//! but for the last frame of each worker. What is lent to the other repository comes back when it fails there, and so the own workers
//! stay until nothing is lent any more.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::RestoreError;
use super::window::Job;

/// Frames that wait for a worker.
const FRAMES_MAX: usize = 64;
/// How often somebody who waits for room looks whether everything has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Frames that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    /// How many are lent.
    lent: usize,
    /// Nothing more is sent.
    closed: bool,
}

impl Queue {
    /// Adds one when there is room.
    pub(super) fn send(
        &self,
        job: Job,
        check: &dyn Fn() -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        let mut state = self.state();
        while state.jobs.len() >= FRAMES_MAX {
            check()?;
            let waited = self.changed.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.jobs.push_back(job);
        self.changed.notify_all();
        Ok(())
    }

    /// Nothing more is sent.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// The next one; `None` when everything has been taken, and nothing can come back.
    pub(super) fn take(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                self.changed.notify_all();
                return Some(job);
            }
            if state.closed && state.lent == 0 {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// Lends the last one that can be read elsewhere; `None` when there will be none.
    pub(super) fn borrow(&self) -> Option<Lent<'_>> {
        let mut state = self.state();
        loop {
            let at = state.jobs.iter().rposition(Job::may_be_lent);
            if let Some(job) = at.and_then(|at| state.jobs.remove(at)) {
                state.lent += 1;
                self.changed.notify_all();
                return Some(Lent {
                    queue: self,
                    job: Some(job),
                });
            }
            if state.closed {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// Whether there is nothing left to lend.
    pub(super) fn is_done(&self) -> bool {
        let state = self.state();
        state.closed && state.jobs.is_empty()
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A frame that is lent. Dropped, it goes back and is not lent again.
pub(super) struct Lent<'a> {
    queue: &'a Queue,
    /// Until it is done.
    job: Option<Job>,
}

impl Lent<'_> {
    /// What is to be read; `None` once it is done.
    pub(super) const fn job(&self) -> Option<&Job> {
        self.job.as_ref()
    }

    /// It is done.
    pub(super) fn settle(mut self) {
        self.job = None;
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.lent -= 1;
        if let Some(mut job) = self.job.take() {
            job.stays();
            state.jobs.push_front(job);
        }
        self.queue.changed.notify_all();
    }
}

/// Closes a queue when it is dropped, however that comes: otherwise workers would wait for ever.
pub(super) struct Closing<'a>(pub(super) &'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}
