//! One session with a PostgreSQL server.
//!
//! A [`Client`] is made by [`Client::connect`] (`connect.rs`: which host, which address; `handshake.rs`: TLS, login)
//! and then sends one command at a time. It blocks the calling thread; every wait has a deadline or is one in which
//! the server may rightly take long, and there the kernel's keepalives find a server that is gone.

mod base_backup;
mod byte_stream;
mod connect;
mod copy_rows;
mod exchange;
mod handshake;
mod login;
mod query;
mod quote;
pub(crate) mod replication;
mod socket;
mod target;

use std::collections::BTreeMap;

use crate::error::Peer;
use crate::frame::FrameReader;
use crate::stream::Stream;
use crate::{Encryption, ServerVersion};

pub use base_backup::{
    BackupEnd, BackupPages, BaseBackup, BaseBackupEvent, BaseBackupOptions, CHECKPOINT_SPREAD_MAX,
    Checkpoint, CompressionMethod, ManifestChecksums, ManifestUpload, ParseServerCompressionError,
    ServerCompression, Tablespace, WalInclusion,
};
pub use byte_stream::ByteStream;
pub use exchange::SILENCE_MAX;
pub use query::{ANSWER_BYTES_MAX, QueryResult};
pub use replication::{HistoryFile, Identity, SlotCreated};

pub(crate) use exchange::Exchange;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// SQL in one database.
    Sql,
    /// Physical replication: replication commands only, no database.
    PhysicalReplication,
}

/// A session with a server, ready for the next command.
#[derive(Debug)]
pub struct Client {
    pub(crate) stream: Stream,
    /// Whatever the server sent beyond the handshake is still in here.
    pub(crate) reader: FrameReader,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) version: ServerVersion,
    pub(crate) backend: Option<u32>,
    pub(crate) session: Session,
    pub(crate) peer: Peer,
    /// How it waits, and notices; begins as the default.
    pub(crate) exchange: Exchange,
}

impl Client {
    /// The server's version.
    pub fn server_version(&self) -> ServerVersion {
        self.version
    }

    /// A setting that the server reports by itself, such as `server_version` or `in_hot_standby`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The number of the server's process for this session, on the server's host; a pooler may make it up.
    pub fn backend(&self) -> Option<u32> {
        self.backend
    }

    /// What the session is for.
    pub fn session(&self) -> Session {
        self.session
    }

    /// The server at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether the session is encrypted.
    pub fn encryption(&self) -> Encryption {
        if self.stream.is_encrypted() {
            Encryption::Tls
        } else {
            Encryption::None
        }
    }
}

impl Drop for Client {
    /// Tells the server goodbye, as far as it listens, so that its log has no lost connection.
    fn drop(&mut self) {
        let terminate = [b'X', 0, 0, 0, 4];
        let _ = self
            .stream
            .write_all(&terminate, Some(std::time::Instant::now()));
        self.stream.close();
    }
}
