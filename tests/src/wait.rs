//! Waiting for what other processes do: on a condition, with a deadline, never for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy two-core machine: reaching it means "never".
const DEADLINE: Duration = Duration::from_mins(2);

/// Waits until `condition` holds; fails the test, naming `what`, if it never does.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `attempt` gives a value; fails the test, naming `what`, if it never does.
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "waited {DEADLINE:?} in vain: {what}"
        );
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
