//! Who watches a receiver.

use std::time::Duration;

use pgm_proto::{Lsn, TimelineId};

use crate::durable::DurableLsn;
use crate::error::ReceiveError;
use crate::segment::SegmentName;

/// What a receiver is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveState {
    /// Connecting to the server.
    Connecting,
    /// Connected; learning the server's timelines and finding the start.
    Starting,
    /// Receiving WAL.
    Streaming,
    /// Told to stop; taking in what is on its way.
    Stopping,
    /// Not connected: stopped, or waiting before the next try.
    Disconnected,
}

/// What a receiver tells while it works. Every method does nothing unless implemented.
///
/// The methods are called on the receiving thread, `received` once for each message: they must return at once, and
/// should not allocate.
pub trait ReceiveObserver {
    /// The receiver does something else now.
    fn state(&mut self, state: ReceiveState) {
        let _ = state;
    }

    /// WAL up to `end` has been written, not yet synced.
    fn received(&mut self, end: Lsn) {
        let _ = end;
    }

    /// The server's WAL ends at `lsn`, as far as it said.
    fn server_end(&mut self, lsn: Lsn) {
        let _ = lsn;
    }

    /// WAL up to `lsn` is on disk.
    fn durable(&mut self, lsn: DurableLsn) {
        let _ = lsn;
    }

    /// Making what was written durable took so long: one `fdatasync`, whatever came of it.
    fn synced(&mut self, took: Duration) {
        let _ = took;
    }

    /// The server was told that everything received is on disk; the oldest of it had arrived this long before. A
    /// commit that waits for us waits this long, and the network besides.
    fn acknowledged(&mut self, after: Duration) {
        let _ = after;
    }

    /// A segment is finished, under its final name, durably.
    fn segment_finished(&mut self, name: SegmentName) {
        let _ = name;
    }

    /// The history file of `timeline` is in the spool.
    fn history_stored(&mut self, timeline: TimelineId) {
        let _ = timeline;
    }

    /// WAL of `timeline` is being received from `start` on: at the beginning, and at each switch.
    fn timeline(&mut self, timeline: TimelineId, start: Lsn) {
        let _ = (timeline, start);
    }

    /// An attempt failed, and the next one begins after `retry_in`.
    fn error(&mut self, error: &ReceiveError, retry_in: Duration) {
        let _ = (error, retry_in);
    }
}

/// Watches nothing.
impl ReceiveObserver for () {}
