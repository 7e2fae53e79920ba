//! PostgreSQL's wire and replication protocol: as a client that backs servers up, and as a server that is logged in to.
//!
//! A [`ConnInfo`] says where a server is, a [`Client`] is a session with it: SQL, replication commands, base backups. A
//! [`WalTransport`] brings its write-ahead log. Everything blocks the calling thread, with deadlines; there is no
//! runtime to choose. PostgreSQL 14 and newer, over TCP, TLS (rustls) and unix sockets, with SCRAM-SHA-256(-PLUS), md5,
//! client certificates and password files.
//!
//! ```no_run
//! use pgm_proto::{Client, ConnInfo, Session};
//!
//! let info: ConnInfo = "postgresql://pgm@db1.example.org/postgres?sslmode=verify-full&sslrootcert=system".parse()?;
//! match Client::connect(&info, Session::PhysicalReplication) {
//!     Ok(mut client) => {
//!         let identity = client.identify_system()?;
//!         println!("{} is at {}", identity.system_id, identity.flush_lsn);
//!     }
//!     Err(error) => {
//!         eprintln!("{error}");
//!         if let Some(hint) = error.hint() {
//!             eprintln!("HINT: {hint}");
//!         }
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`server`] is the other side: the login of PostgreSQL's clients, as a value without sockets.
//!
//! What arrives from a peer is checked before it is believed: lengths before buffers, encodings before text,
//! certificates and signatures before passwords. Nothing here reads the environment, the home directory or the terminal.

mod client;
mod conninfo;
mod error;
pub mod frame;
mod lsn;
mod message;
mod name;
mod passfile;
mod scram;
mod secret;
pub mod server;
mod stream;
mod system_id;
mod timeline;
mod tls;
mod transport;
mod version;

pub use client::{
    ANSWER_BYTES_MAX, BackupEnd, BackupPages, BaseBackup, BaseBackupEvent, BaseBackupOptions,
    ByteStream, CHECKPOINT_SPREAD_MAX, Checkpoint, Client, CompressionMethod, HistoryFile,
    Identity, ManifestChecksums, ManifestUpload, ParseServerCompressionError, QueryResult,
    SILENCE_MAX, ServerCompression, Session, SlotCreated, Tablespace, WalInclusion,
};
pub use conninfo::{
    ChannelBinding, ConnInfo, ConnInfoError, Defaults, Host, Keepalive, Place, RootCertificates,
    SslMode, TargetSession,
};
pub use error::{
    AuthenticationError, Encryption, Error, IncrementalRefusal, Peer, ServerError, ServerNotice,
    TlsError,
};
pub use lsn::{Lsn, ParseLsnError};
pub use name::{ParseNameError, RepositoryName, ServerName, SlotName};
pub use secret::Secret;
pub use server::{ParseVerifierError, ScramIterations, ScramVerifier};
pub use stream::Woken;
pub use system_id::SystemId;
pub use timeline::{ParseTimelineError, TimelineId};
pub use transport::{
    Incoming, Outgoing, PostgresTransport, ServerIdentity, SlotPolicy, SlotPosition, StandbyStatus,
    TransportOptions, WalTransport,
};
pub use version::ServerVersion;
