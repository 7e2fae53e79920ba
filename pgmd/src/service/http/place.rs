//! Who may be connected: a bounded number of places, and who has to go when they are all taken.
//!
//! A client that has asked for something keeps its place until it is answered. One that has not yet asked may be sent
//! away for the next: so clients that connect and are silent, however many, keep nobody out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The places.
#[derive(Debug)]
pub(super) struct Places {
    free: usize,
    next: u64,
    /// Those who have not asked yet, oldest first.
    silent: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// A place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    places: Arc<Mutex<Places>>,
}

impl Places {
    /// So many places.
    pub(super) fn new(count: usize) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            free: count,
            next: 0,
            silent: VecDeque::new(),
        }))
    }
}

impl Place {
    /// A place, and what tells when it is needed for somebody else. `None` when everybody who is there is being answered.
    pub(super) fn take(places: &Arc<Mutex<Places>>) -> Option<(Self, oneshot::Receiver<()>)> {
        let mut all = lock(places);
        match all.free.checked_sub(1) {
            Some(left) => all.free = left,
            // Its place is ours; it is told by the end of its channel, and gives nothing back.
            None => drop(all.silent.pop_front()?),
        }
        let number = all.next;
        all.next += 1;
        let (needed, is_needed) = oneshot::channel();
        all.silent.push_back((number, needed));
        let places = Arc::clone(places);
        Some((Self { number, places }, is_needed))
    }

    /// The client has asked: it stays until it is answered. `None` when its place was given away before.
    pub(super) fn keep(&self) -> Option<Kept> {
        let mut all = lock(&self.places);
        let at = all.silent.iter().position(|(of, _)| *of == self.number)?;
        all.silent.remove(at).map(|(_, needed)| Kept {
            _needed: needed,
            places: Arc::clone(&self.places),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Gives it back, unless the client has been answered, or has lost it.
        drop(self.keep());
    }
}

/// The place of a client that is being answered, free again when dropped.
#[derive(Debug)]
pub(super) struct Kept {
    /// Held, because its end would tell the client to go.
    _needed: oneshot::Sender<()>,
    places: Arc<Mutex<Places>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        lock(&self.places).free += 1;
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_goes_first() {
        let places = Places::new(2);
        let (one, mut one_needed) = Place::take(&places).unwrap();
        let (two, mut two_needed) = Place::take(&places).unwrap();
        assert!(one_needed.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        let three = Place::take(&places).unwrap();
        assert!(one_needed.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert!(two_needed.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        assert!(one.keep().is_none());
        drop((one, two, three));
        assert_eq!(lock(&places).free, 2);
    }

    #[test]
    fn who_is_being_answered_stays() {
        let places = Places::new(1);
        let (place, mut needed) = Place::take(&places).unwrap();
        let kept = place.keep().unwrap();
        assert!(Place::take(&places).is_none());
        assert!(needed.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        drop(place);
        assert!(Place::take(&places).is_none());
        drop(kept);
        assert!(Place::take(&places).is_some());
        assert_eq!(lock(&places).free, 1);
    }
}
