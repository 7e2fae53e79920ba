//! Who may be in the middle of a login: few at once, fewer from one address, and the newest come first.
//!
//! A client that has not shown who it is costs memory and a descriptor. When there is one too many, the one that has
//! waited longest is cut off: one of the same address when that address has its share already, else one of the address
//! that has most. So whoever holds a thousand connections open and says nothing cuts off his own, and a client that
//! logs in at once is served. What a waiting client is cut off with (`T`) is the caller's.

use std::collections::BTreeMap;
use std::collections::HashMap;

use super::backoff::Source;

/// How many logins may be in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GateLimits {
    pub(super) total: usize,
    pub(super) per_address: usize,
}

/// The logins in progress, in the order in which they came.
#[derive(Debug)]
pub(super) struct Gate<T> {
    waiting: BTreeMap<u64, (Source, T)>,
    next: u64,
}

/// The place of one login in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<T> Gate<T> {
    /// Lets somebody from `source` in; who has to go for it.
    pub(super) fn enter(
        &mut self,
        source: Source,
        cut: T,
        limits: GateLimits,
    ) -> (Ticket, Option<T>) {
        let evicted = self
            .one_too_many(source, limits)
            .and_then(|ticket| self.waiting.remove(&ticket));
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, (source, cut));
        (Ticket(ticket), evicted.map(|(_, cut)| cut))
    }

    /// A login is over, one way or the other.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket.0);
    }

    /// How many logins are in progress.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn one_too_many(&self, source: Source, limits: GateLimits) -> Option<u64> {
        let mut counts: HashMap<Source, usize> = HashMap::new();
        for (source, _) in self.waiting.values() {
            *counts.entry(*source).or_default() += 1;
        }
        let crowded = if counts.get(&source).copied().unwrap_or_default() >= limits.per_address {
            source
        } else if self.waiting.len() >= limits.total {
            counts.into_iter().max_by_key(|(_, count)| *count)?.0
        } else {
            return None;
        };
        let mut oldest = self.waiting.iter();
        oldest.find_map(|(ticket, (source, _))| (*source == crowded).then_some(*ticket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GateLimits = GateLimits {
        total: 4,
        per_address: 2,
    };

    fn source(number: u8) -> Source {
        Source::of([192, 0, 2, number].into())
    }

    #[test]
    fn a_full_address_cuts_off_its_own_oldest() {
        let mut gate = Gate::default();
        assert_eq!(gate.enter(source(1), 'a', LIMITS).1, None);
        assert_eq!(gate.enter(source(2), 'x', LIMITS).1, None);
        assert_eq!(gate.enter(source(1), 'b', LIMITS).1, None);
        assert_eq!(gate.enter(source(1), 'c', LIMITS).1, Some('a'));
        assert_eq!(gate.enter(source(1), 'd', LIMITS).1, Some('b'));
        assert_eq!(gate.len(), 3);
    }

    #[test]
    fn when_all_places_are_taken_the_most_crowded_address_gives_one() {
        let mut gate = Gate::default();
        gate.enter(source(1), 'a', LIMITS);
        gate.enter(source(2), 'b', LIMITS);
        gate.enter(source(2), 'c', LIMITS);
        gate.enter(source(3), 'd', LIMITS);
        assert_eq!(gate.enter(source(4), 'e', LIMITS).1, Some('b'));
        assert_eq!(gate.len(), LIMITS.total);
    }

    #[test]
    fn who_has_left_makes_room() {
        let mut gate = Gate::default();
        let (first, _) = gate.enter(source(1), 'a', LIMITS);
        gate.enter(source(1), 'b', LIMITS);
        gate.leave(first);
        assert_eq!(gate.enter(source(1), 'c', LIMITS).1, None);
        // Twice is as good as once.
        gate.leave(first);
        assert_eq!(gate.len(), 2);
    }
}
