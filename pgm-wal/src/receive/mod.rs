//! Receiving: a server's WAL, from a transport into the spool, durable before it is acknowledged.
//!
//! [`Receiver::run`] is one connection; [`Receiver::run_forever`] connects again until told to stop. What is to be said
//! and when is decided in [`state`] (no I/O), where to begin in [`start`], what is reported in [`feedback`];
//! [`session`] carries it out, and [`segment_writer`] writes.

mod feedback;
mod observer;
mod options;
mod padding;
mod retry;
mod segment_file;
mod segment_writer;
mod session;
mod start;
mod state;

use pgm_proto::WalTransport;
use pgm_storage::Cancel;

pub use observer::{ReceiveObserver, ReceiveState};
pub use options::{ReceiveOptions, StartHint};
pub use segment_writer::SegmentWriter;

use crate::durable::DurableLsn;
use crate::error::ReceiveError;
use crate::spool::Spool;
use retry::Backoff;
use session::Session;

/// Receives the WAL of one server into its spool.
#[derive(Debug)]
pub struct Receiver<T> {
    transport: T,
    spool: Spool,
    options: ReceiveOptions,
}

/// The receiver stopped in order, because it was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// The position that was reported last; `None` when nothing was received.
    pub durable: Option<DurableLsn>,
}

impl<T: WalTransport> Receiver<T> {
    /// A receiver from `transport` into `spool`.
    pub fn new(transport: T, spool: Spool, options: ReceiveOptions) -> Self {
        Self {
            transport,
            spool,
            options,
        }
    }

    /// Receives over one connection, until cancelled or until something fails.
    ///
    /// Begins at the newest durable byte of the spool and follows the server from timeline to timeline. In either case
    /// everything that was acknowledged is on disk, and another run goes on from there.
    pub fn run(
        &mut self,
        cancel: &Cancel,
        observer: &mut dyn ReceiveObserver,
    ) -> Result<Stopped, ReceiveError> {
        let mut streamed = false;
        self.attempt(cancel, observer, &mut streamed)
    }

    /// Receives until cancelled, connecting again after each failure: at once at first, then ever more slowly up to
    /// `retry_delay_max`, and from the beginning after a connection that streamed. Fails only when trying again is of
    /// no use ([`ReceiveError::is_final`]).
    pub fn run_forever(
        &mut self,
        cancel: &Cancel,
        observer: &mut dyn ReceiveObserver,
    ) -> Result<Stopped, ReceiveError> {
        let mut backoff = Backoff::new(self.options.retry_delay_max);
        loop {
            let mut streamed = false;
            let error = match self.attempt(cancel, observer, &mut streamed) {
                Err(error) if !error.is_final() => error,
                ended => return ended,
            };
            if streamed {
                backoff.reset();
            }
            let delay = backoff.next_delay();
            observer.error(&error, delay);
            if retry::pause(delay, cancel, self.options.wake.as_deref()).is_err() {
                return Ok(Stopped { durable: None });
            }
        }
    }

    fn attempt(
        &mut self,
        cancel: &Cancel,
        observer: &mut dyn ReceiveObserver,
        streamed: &mut bool,
    ) -> Result<Stopped, ReceiveError> {
        let _lock = self.spool.lock()?;
        observer.state(ReceiveState::Connecting);
        let connected = Session::connect(
            &mut self.transport,
            &self.spool,
            &self.options,
            cancel,
            observer,
        );
        let ended = connected.and_then(|session| session.run(streamed));
        self.transport.disconnect();
        observer.state(ReceiveState::Disconnected);
        ended
    }
}

#[cfg(test)]
mod tests;
