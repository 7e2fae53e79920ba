//! The life of one receive worker, without I/O: what happened and the time go in, what to do comes out.
//!
//! ```text
//!            Spawned               Exited                     Tick, due
//!  Starting ---------> Running -----------------> Waiting ---------------> Starting
//!                         | Stop                     | Stop
//!                         v                          v
//!                      Stopping --- Exited -----> Stopped
//! ```
//!
//! The first retry is immediate: a worker that was killed must not cost a second of WAL. Then the pause doubles from
//! 100 ms to 5 s, and is forgotten once a worker has lived for 30 s. There is no last retry.

use std::time::Duration;

/// The pause before the second retry.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A worker that lived this long was healthy.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// How long a worker may take to end in order.
pub const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A moment: the time since the supervisor started.
pub type Now = Duration;

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is being started.
    Starting,
    /// It runs.
    Running {
        /// Since when.
        since: Now,
    },
    /// It died, or could not be started; the next try is due at `until`.
    Waiting {
        /// When the pause ends.
        until: Now,
    },
    /// It was told to end and is killed at `until`.
    Stopping {
        /// When patience ends.
        until: Now,
    },
    /// It is gone and stays gone.
    Stopped,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The process was started.
    Spawned,
    /// It could not be started.
    SpawnFailed,
    /// The process is gone.
    Exited,
    /// It shall end for good.
    Stop,
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start the process.
    Spawn,
    /// Ask it to end.
    Terminate,
    /// End it.
    Kill,
    /// Nothing more will happen.
    Finish,
}

/// The life of one worker.
#[derive(Debug, Clone)]
pub struct Life {
    state: State,
    /// Failures in a row.
    failures: u32,
    /// Starts after the first.
    restarts: u64,
}

impl Life {
    /// A worker that is about to be started for the first time.
    pub fn new() -> Self {
        Self {
            state: State::Starting,
            failures: 0,
            restarts: 0,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// When the next [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Waiting { until } | State::Stopping { until } => Some(until),
            State::Starting | State::Running { .. } | State::Stopped => None,
        }
    }

    /// The next step.
    pub fn handle(&mut self, now: Now, event: Event) -> Option<Action> {
        let (state, action) = match (self.state, event) {
            (State::Starting, Event::Spawned) => (State::Running { since: now }, None),
            (State::Starting, Event::SpawnFailed) => (self.failed(now), None),
            (State::Running { since }, Event::Exited) => {
                if now.saturating_sub(since) >= HEALTHY_AFTER {
                    self.failures = 0;
                }
                (self.failed(now), None)
            }
            (State::Waiting { until }, Event::Tick) if now >= until => {
                self.restarts += 1;
                (State::Starting, Some(Action::Spawn))
            }
            (State::Running { .. }, Event::Stop) => (
                State::Stopping {
                    until: now + STOP_PATIENCE,
                },
                Some(Action::Terminate),
            ),
            (State::Starting | State::Waiting { .. }, Event::Stop)
            | (State::Stopping { .. }, Event::Exited) => (State::Stopped, Some(Action::Finish)),
            (State::Stopping { until }, Event::Tick) if now >= until => (
                State::Stopping {
                    until: now + STOP_PATIENCE,
                },
                Some(Action::Kill),
            ),
            (same, _) => (same, None),
        };
        self.state = state;
        action
    }

    fn failed(&mut self, now: Now) -> State {
        let pause = pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        State::Waiting { until: now + pause }
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}

/// The pause after this many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        several => PAUSE_MIN
            .saturating_mul(1 << (several - 1).min(10))
            .min(PAUSE_MAX),
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
