//! How long an address waits after logins that failed: a bounded table, and no clock of its own.
//!
//! The first failures cost nothing, people mistype. Each further one doubles the wait of the address, up to
//! [`WAIT_MAX`]; a login that succeeds ends it, and so does time. Of IPv6 the network counts (its first 64 bits), since
//! whoever has one address there has all of them. When the table is full, the entry that failed longest ago makes room.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Failures that cost nothing.
const FREE: u32 = 3;
/// What the first failure after those costs.
const WAIT_MIN: Duration = Duration::from_millis(250);
/// What a failure costs at most.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// After this time without a failure the address begins anew.
const FORGET_AFTER: Duration = Duration::from_mins(5);
/// How many addresses are remembered.
const ENTRIES_MAX: usize = 1024;

/// Where somebody is, as far as it counts here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }
}

/// The addresses whose logins failed lately.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: HashMap<Source, Failures>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    newest: Duration,
}

impl Failures {
    fn wait(self) -> Duration {
        match self.count.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => WAIT_MIN
                .saturating_mul(1 << doublings.min(10))
                .min(WAIT_MAX),
        }
    }
}

impl Backoff {
    /// How long a connection from `source` has to wait at `now`.
    pub(super) fn wait(&self, source: Source, now: Duration) -> Duration {
        let Some(failures) = self.failures.get(&source) else {
            return Duration::ZERO;
        };
        (failures.newest + failures.wait()).saturating_sub(now)
    }

    /// A login from `source` failed at `now`.
    pub(super) fn failed(&mut self, source: Source, now: Duration) {
        self.failures
            .retain(|_, failures| now.saturating_sub(failures.newest) < FORGET_AFTER);
        if self.failures.len() >= ENTRIES_MAX && !self.failures.contains_key(&source) {
            let oldest = self
                .failures
                .iter()
                .min_by_key(|(_, failures)| failures.newest);
            if let Some(oldest) = oldest.map(|(source, _)| *source) {
                self.failures.remove(&oldest);
            }
        }
        let failures = self.failures.entry(source).or_insert(Failures {
            count: 0,
            newest: now,
        });
        failures.count = failures.count.saturating_add(1);
        failures.newest = now;
    }

    /// A login from `source` succeeded.
    pub(super) fn succeeded(&mut self, source: Source) {
        self.failures.remove(&source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u32) -> Source {
        Source::of(IpAddr::V4(number.into()))
    }

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn waits_grow_to_their_ceiling_and_end_with_a_success() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..40 {
            backoff.failed(source(1), NOW);
            waits.push(backoff.wait(source(1), NOW).as_millis());
        }
        assert_eq!(waits[..9], [0, 0, 0, 250, 500, 1000, 2000, 4000, 5000]);
        assert_eq!(waits[39], 5000);
        assert_eq!(backoff.wait(source(2), NOW), Duration::ZERO);
        assert_eq!(
            backoff.wait(source(1), NOW + Duration::from_secs(4)),
            Duration::from_secs(1)
        );
        backoff.succeeded(source(1));
        assert_eq!(backoff.wait(source(1), NOW), Duration::ZERO);
    }

    #[test]
    fn failures_are_forgotten() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.failed(source(1), NOW);
        }
        backoff.failed(source(1), NOW + FORGET_AFTER);
        assert_eq!(backoff.wait(source(1), NOW + FORGET_AFTER), Duration::ZERO);
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes() {
        let mut backoff = Backoff::default();
        for number in 0..5000_u32 {
            for _ in 0..5 {
                backoff.failed(source(number), NOW + Duration::from_millis(number.into()));
            }
        }
        assert_eq!(backoff.failures.len(), ENTRIES_MAX);
        assert!(backoff.wait(source(4999), NOW) > Duration::ZERO);
        assert_eq!(backoff.wait(source(0), NOW), Duration::ZERO);
    }

    #[test]
    fn of_ipv6_the_network_counts_and_mapped_addresses_are_ipv4() {
        let parse = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(parse("2001:db8:1:2::1"), parse("2001:db8:1:2:3:4:5:6"));
        assert_ne!(parse("2001:db8:1:2::1"), parse("2001:db8:1:3::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
    }
}
