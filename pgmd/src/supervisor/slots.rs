//! Which places of the shared state are taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pgm_proto::ServerName;

use crate::shared_state::{SLOTS, SharedState, Slot, Totals};

/// The shared state and who has which place in it.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    state: Arc<SharedState>,
    taken: Arc<Mutex<Vec<bool>>>,
    /// What was counted for servers whose places were given up.
    totals: Arc<Mutex<BTreeMap<ServerName, Totals>>>,
}

impl Slots {
    pub(super) fn new(state: SharedState) -> Self {
        Self {
            state: Arc::new(state),
            taken: Arc::new(Mutex::new(vec![false; SLOTS])),
            totals: Arc::default(),
        }
    }

    /// Takes a free place for the receive worker of `server`, whose counters go on from where they were.
    pub(super) fn take_for(&self, server: &ServerName) -> Option<SlotLease> {
        let lease = self.take()?;
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(totals) = totals.get(server) {
            lease.slot().go_on_from(totals);
        }
        Some(lease)
    }

    pub(super) fn state(&self) -> &SharedState {
        &self.state
    }

    /// Takes a free place, wiped clean; `None` when all are taken.
    pub(super) fn take(&self) -> Option<SlotLease> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = taken.iter().position(|taken| !taken)?;
        taken[number] = true;
        let lease = SlotLease {
            slots: self.clone(),
            number,
        };
        lease.slot().reset();
        Some(lease)
    }
}

/// A place in the shared state, given back when dropped.
#[derive(Debug)]
pub(super) struct SlotLease {
    slots: Slots,
    number: usize,
}

impl SlotLease {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The receive worker of `server` is gone: its counters are kept for the next one.
    pub(super) fn keep_totals(&self, server: &ServerName) {
        let totals = self.slot().take_totals();
        let mut all = self
            .slots
            .totals
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.insert(server.clone(), totals);
    }

    pub(super) fn slot(&self) -> &Slot {
        self.slots
            .state
            .slot(self.number)
            .expect("a lease is for an existing place")
    }
}

impl Drop for SlotLease {
    fn drop(&mut self) {
        let mut taken = self
            .slots
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken[self.number] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_once_and_comes_back_clean() {
        let slots = Slots::new(SharedState::create().unwrap());
        let leases: Vec<_> = (0..SLOTS).map(|_| slots.take().unwrap()).collect();
        assert!(slots.take().is_none());
        leases[7].slot().pid.store(5);
        drop(leases);
        let again: Vec<_> = (0..SLOTS).map(|_| slots.take().unwrap()).collect();
        assert_eq!(again[7].slot().pid.load(), 0);
    }

    #[test]
    fn a_server_counts_on_where_it_was() {
        let slots = Slots::new(SharedState::create().unwrap());
        let (one, other): (ServerName, ServerName) =
            ("one".parse().unwrap(), "other".parse().unwrap());
        let lease = slots.take_for(&one).unwrap();
        lease.slot().archived_segments.add(3);
        lease.keep_totals(&one);
        drop(lease);
        let lease = slots.take_for(&other).unwrap();
        assert_eq!(lease.slot().archived_segments.load(), 0);
        let lease = slots.take_for(&one).unwrap();
        assert_eq!(lease.slot().archived_segments.load(), 3);
    }
}
