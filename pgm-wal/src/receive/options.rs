//! How a receiver behaves.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pgm_proto::{Lsn, TimelineId};

/// Settings of a [`Receiver`](super::Receiver).
#[derive(Debug, Clone)]
pub struct ReceiveOptions {
    /// Where to begin when the spool is empty: the end of what the archive has.
    pub start_hint: Option<StartHint>,
    /// How often to report our position when nothing else makes us: 10 s, as `wal_receiver_status_interval`.
    pub status_interval: Duration,
    /// After how long without a word the connection counts as dead: 60 s, as `wal_receiver_timeout`.
    pub receiver_timeout: Duration,
    /// The longest wait between two attempts: 5 s.
    pub retry_delay_max: Duration,
    /// Becomes readable when the receiver is cancelled, so that it stops at once; without it, within a second.
    pub wake: Option<Arc<OwnedFd>>,
}

/// A position from which the WAL is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartHint {
    /// The timeline.
    pub timeline: TimelineId,
    /// The position; receiving begins at the beginning of its segment.
    pub lsn: Lsn,
}

impl Default for ReceiveOptions {
    fn default() -> Self {
        Self {
            start_hint: None,
            status_interval: Duration::from_secs(10),
            receiver_timeout: Duration::from_mins(1),
            retry_delay_max: Duration::from_secs(5),
            wake: None,
        }
    }
}
