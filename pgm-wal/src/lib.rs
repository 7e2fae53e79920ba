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
//!
//! A [`Receiver`] streams a server's WAL into a spool, and acknowledges only what is on disk ([`DurableLsn`]):
//!
//! ```no_run
//! use pgm_proto::{PostgresTransport, SlotPolicy, TransportOptions};
//! use pgm_storage::Cancel;
//! use pgm_wal::{ReceiveOptions, Receiver, Spool};
//!
//! let transport = PostgresTransport::new(TransportOptions {
//!     conninfo: "host=db.example.com user=pgm".parse()?,
//!     slot: Some("pgmd".parse()?),
//!     create_slot: SlotPolicy::Create,
//! });
//! let mut receiver = Receiver::new(transport, Spool::open("spool/prod")?, ReceiveOptions::default());
//! // Returns when somebody calls `cancel.cancel()` on a clone; `()` is an observer that watches nothing.
//! let cancel = Cancel::new();
//! let stopped = receiver.run_forever(&cancel, &mut ())?;
//! println!("durable: {:?}", stopped.durable);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The [`archive`] keeps finished segments in a repository; [`record`] reads what is in them, and in those that [`files`]
//! finds.

pub mod archive;
pub mod digest;
pub mod files;
pub mod filter;
pub mod record;
pub mod summary;

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
