//! How long to wait before the next attempt.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use pgm_storage::{Cancel, Cancelled};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const FIRST_DELAY: Duration = Duration::from_millis(100);
/// How often the flag is looked at when nothing wakes us.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Delays that double up to a ceiling. Without jitter: each server has one receiver.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(super) fn new(max: Duration) -> Self {
        Self {
            next: FIRST_DELAY.min(max),
            max,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.max);
    }

    pub(super) fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        delay
    }
}

/// Waits for `delay`, unless cancelled before.
pub(super) fn pause(
    delay: Duration,
    cancel: &Cancel,
    wake: Option<&OwnedFd>,
) -> Result<(), Cancelled> {
    let end = Instant::now() + delay;
    loop {
        cancel.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let Some(wake) = wake else {
            std::thread::sleep(left.min(LOOK_INTERVAL));
            continue;
        };
        let timeout = Timespec::try_from(left).ok();
        let mut fds = [PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)];
        if poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0) {
            return Err(Cancelled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_ceiling_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let delays: Vec<_> = (0..8).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), FIRST_DELAY);
    }

    #[test]
    fn a_cancelled_pause_ends_at_once() {
        let cancel = Cancel::new();
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&write, b"x").unwrap();
        let hour = Duration::from_hours(1);
        assert!(pause(hour, &cancel, Some(&read)).is_err());
        cancel.cancel();
        assert!(pause(hour, &cancel, None).is_err());
    }
}
