//! How much of a store may be used: bytes per second, requests per second, requests at a time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The limits of one opened store. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes per second that are written.
    pub write_rate: Option<u64>,
    /// Bytes per second that are read.
    pub read_rate: Option<u64>,
    /// Requests per second over the network.
    pub request_rate: Option<u64>,
    /// Requests at a time over the network.
    pub requests_at_once: Option<usize>,
}

/// Spreads amounts over time: a bucket that may be overdrawn, and then has to be waited for.
///
/// A burst of one second's amount passes at once; in the long run not more than the rate does.
#[derive(Debug)]
pub(crate) struct Pacer {
    per_second: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Negative: owed.
    available: f64,
    at: Instant,
}

impl Pacer {
    pub(crate) fn new(per_second: u64, now: Instant) -> Self {
        // A rate of nothing would wait for ever.
        let per_second = per_second.max(1) as f64;
        Self {
            per_second,
            state: Mutex::new(State {
                available: per_second,
                at: now,
            }),
        }
    }

    /// Takes `amount`, and gives how long to wait before using it.
    pub(crate) fn take(&self, amount: u64, now: Instant) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        state.at = state.at.max(now);
        state.available = (state.available + passed * self.per_second).min(self.per_second);
        state.available -= amount as f64;
        if state.available >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-state.available / self.per_second).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_not_more_than_the_rate_passes() {
        let start = Instant::now();
        let pacer = Pacer::new(1000, start);
        let mut now = start;
        for _ in 0..100 {
            now += pacer.take(500, now);
        }
        // 50,000 of which 1,000 were a burst.
        assert_eq!((now - start).as_millis(), 49_000);
    }

    #[test]
    fn what_was_not_used_does_not_pile_up() {
        let start = Instant::now();
        let pacer = Pacer::new(1000, start);
        let later = start + Duration::from_hours(1);
        assert_eq!(pacer.take(1000, later), Duration::ZERO);
        assert_eq!(pacer.take(1000, later), Duration::from_secs(1));
    }
}
