//! Since when something has been behind: a short memory of how far a server had written when.
//!
//! A server that writes nothing is not behind, however old its newest commit is; so ages of commits are of no use here.
//! Instead the server's end of WAL is noted about every second. Whatever has not reached a position that was noted at
//! some moment has been behind since that moment. The memory is bounded: when it is full, every other note goes.

use std::collections::VecDeque;

use jiff::Timestamp;
use pgm_proto::Lsn;

const NOTES_MAX: usize = 600;

/// How far one server had written when.
#[derive(Debug, Clone, Default)]
pub(super) struct Heartbeat {
    /// A position that was new, and when; both grow.
    notes: VecDeque<(Timestamp, Lsn)>,
}

impl Heartbeat {
    /// The server has written up to `end` now.
    pub(super) fn note(&mut self, now: Timestamp, end: Lsn) {
        match self.notes.back() {
            Some((_, known)) if *known == end => return,
            // It was set back: another server, or a restored one.
            Some((_, known)) if *known > end => self.notes.clear(),
            _ => {}
        }
        if self.notes.len() >= NOTES_MAX {
            let mut keep = false;
            self.notes.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.notes.push_back((now, end));
    }

    /// Since when `reached` has been behind the server; `None` when it is not.
    pub(super) fn behind_since(&self, reached: Lsn) -> Option<Timestamp> {
        let first = self.notes.partition_point(|(_, end)| *end <= reached);
        self.notes.get(first).map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_has_everything_is_not_behind_however_long_nothing_happened() {
        let mut heartbeat = Heartbeat::default();
        heartbeat.note(second(1), Lsn::new(10));
        heartbeat.note(second(900), Lsn::new(10));
        assert_eq!(heartbeat.behind_since(Lsn::new(10)), None);
        assert_eq!(heartbeat.behind_since(Lsn::new(9)), Some(second(1)));
    }

    #[test]
    fn behind_counts_from_the_first_position_that_is_missing() {
        let mut heartbeat = Heartbeat::default();
        for (at, end) in [(1, 10), (2, 20), (3, 30)] {
            heartbeat.note(second(at), Lsn::new(end));
        }
        assert_eq!(heartbeat.behind_since(Lsn::new(15)), Some(second(2)));
        heartbeat.note(second(4), Lsn::new(5));
        assert_eq!(heartbeat.behind_since(Lsn::new(5)), None);
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_its_beginning() {
        let mut heartbeat = Heartbeat::default();
        for number in 1..100_000 {
            heartbeat.note(second(number), Lsn::new(number.cast_unsigned()));
        }
        assert!(heartbeat.notes.len() <= NOTES_MAX);
        assert_eq!(heartbeat.behind_since(Lsn::new(0)), Some(second(1)));
    }
}
