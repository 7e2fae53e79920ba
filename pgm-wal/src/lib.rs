//! PostgreSQL write-ahead log: receiving, spooling, archiving, reading.
//!
//! Everything here follows PostgreSQL: [`SegmentName`]s and [`SegmentSize`]s are those of `pg_wal`, a [`History`] is
//! its timeline history file, and the [`Spool`] is a folder that its own tools can read.
//!
//! ```
//! use pgm_wal::{SegmentName, SegmentSize, WalFileName};
//!
//! let size = SegmentSize::DEFAULT;
//! let name = SegmentName::parse("0000000A0000000000000003", size)?;
//! assert_eq!(name.timeline.number(), 10);
//! assert_eq!(name.start(size).to_string(), "0/3000000");
//! assert_eq!(WalFileName::Partial(name.next()).file_name(size), "0000000A0000000000000004.partial");
//! # Ok::<(), pgm_wal::ParseWalFileNameError>(())
//! ```

pub mod archive;
pub mod record;

mod durable;
mod error;
#[cfg(test)]
mod fault;
mod history;
mod receive;
mod segment;
mod spool;

pub use durable::DurableLsn;
pub use error::{ReceiveError, SpoolError};
pub use history::{HISTORY_BYTES_MAX, History, HistoryEntry, HistoryError};
pub use receive::{
    ReceiveObserver, ReceiveOptions, ReceiveState, Receiver, SegmentWriter, StartHint, Stopped,
};
pub use segment::{
    ParseWalFileNameError, SegmentName, SegmentNumber, SegmentSize, SegmentSizeError, WalFileName,
};
pub use spool::{Spool, SpoolEnd, SpoolIdentity, SpoolListing};
