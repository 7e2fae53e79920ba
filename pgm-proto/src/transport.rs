//! Where WAL comes from: the operations of PostgreSQL's own walreceiver, behind one trait.
//!
//! [`WalTransport`] is what a receiver needs of a source: connect, receive without blocking, send, disconnect, and a
//! wait in between. [`PostgresTransport`] is the one that speaks to a server; another source of WAL takes its place by
//! implementing the trait. A transport keeps no position of its own: where to start, what is durable and when to try
//! again is the receiver's affair (PostgreSQL: `replication/walreceiver.h`, `WalReceiverFunctionsType`).
//!
//! ```text
//! connect -> ServerIdentity
//!   send TimelineHistory -> receive History                       any number, not while streaming
//!   send Start -> Started -> (Wal | Keepalive)* -> EndOfTimeline  then TimelineHistory or Start again
//!     send Status, at any time while streaming; EndStream asks the server to end it
//! disconnect, at any time; then connect again
//! ```

mod postgres;

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::{Error, Lsn, ServerVersion, SystemId, TimelineId};

use crate::stream::Woken;

pub use postgres::{PostgresTransport, SlotPolicy, TransportOptions};

/// A source of WAL.
///
/// After an error a transport is unusable until `disconnect` and `connect`.
pub trait WalTransport: Send {
    /// Connects, learns who the server is, and makes sure that the replication slot is there.
    fn connect(&mut self) -> Result<ServerIdentity, Error>;

    /// Sends a message to the server.
    fn send(&mut self, message: Outgoing) -> Result<(), Error>;

    /// The next message, or [`Incoming::Nothing`]; never waits. What it borrows is valid until the next call.
    fn receive(&mut self) -> Result<Incoming<'_>, Error>;

    /// Waits until there may be something to receive, `wake` becomes readable, or the time is over.
    fn wait(&mut self, timeout: Duration, wake: Option<BorrowedFd<'_>>) -> Result<Woken, Error>;

    /// Ends the connection, if there is one.
    fn disconnect(&mut self);
}

/// Who the server is and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The server's identity, shared by its standbys.
    pub system_id: SystemId,
    /// The timeline it is on.
    pub timeline: TimelineId,
    /// The end of its flushed WAL.
    pub flush_lsn: Lsn,
    /// Its version.
    pub version: ServerVersion,
    /// The size of its WAL segments: a power of two from 1 MiB to 1 GiB.
    pub segment_bytes: u32,
    /// Where the replication slot stands; `None` without a slot, and before PostgreSQL 15, which cannot tell.
    pub slot: Option<SlotPosition>,
}

/// From where on a replication slot keeps WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotPosition {
    /// The oldest WAL it keeps; `None` for a slot that has not reserved any.
    pub restart_lsn: Option<Lsn>,
    /// The timeline of that position.
    pub timeline: Option<TimelineId>,
}

/// What a receiver says to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing {
    /// Asks for the history file of a timeline; [`Incoming::History`] answers.
    TimelineHistory(TimelineId),
    /// Starts streaming; [`Incoming::Started`] answers, or an error, or [`Incoming::EndOfTimeline`] when the timeline ended there.
    Start {
        /// The timeline.
        timeline: TimelineId,
        /// The position: the beginning of a segment, as PostgreSQL's own receivers ask for it.
        lsn: Lsn,
    },
    /// Reports how far we are.
    Status(StandbyStatus),
    /// Asks the server to end the stream; WAL on its way still arrives.
    EndStream,
}

/// How far a receiver is. What it reports as flushed the server may forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandbyStatus {
    /// The end of what was written.
    pub write: Lsn,
    /// The end of what is durable.
    pub flush: Lsn,
    /// The end of what was applied; [`Lsn::INVALID`] from a receiver that applies nothing.
    pub apply: Lsn,
    /// Whether the server should answer with a keepalive at once.
    pub reply_requested: bool,
}

/// What the server says to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// Nothing at the moment: `wait`.
    Nothing,
    /// A history file.
    History {
        /// The timeline that was asked for.
        timeline: TimelineId,
        /// The file's name as the server gives it.
        name: &'a str,
        /// The file's bytes.
        content: &'a [u8],
    },
    /// Streaming has begun.
    Started,
    /// A piece of WAL.
    Wal {
        /// The position of its first byte.
        start: Lsn,
        /// The end of WAL on the server.
        server_end: Lsn,
        /// The bytes, at least one.
        data: &'a [u8],
    },
    /// A sign of life.
    Keepalive {
        /// The end of WAL on the server.
        server_end: Lsn,
        /// Whether the server wants a status at once.
        reply_requested: bool,
    },
    /// The timeline that was streamed ends, and another one begins.
    EndOfTimeline {
        /// The timeline to go on with.
        next: TimelineId,
        /// Where the streamed timeline ended.
        switch: Lsn,
    },
    /// The stream has ended in order: after [`Outgoing::EndStream`], or because the server shuts down.
    Closed,
}
