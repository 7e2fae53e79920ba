//! PostgreSQL's wire and replication protocol, seen from a client that backs servers up.

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
mod stream;
mod system_id;
mod timeline;
mod tls;
mod transport;
mod version;

pub use client::{
    ANSWER_BYTES_MAX, BackupEnd, BaseBackup, BaseBackupEvent, BaseBackupOptions,
    CHECKPOINT_SPREAD_MAX, Checkpoint, Client, HistoryFile, Identity, ManifestChecksums,
    QueryResult, SILENCE_MAX, Session, SlotCreated, Tablespace, WalInclusion,
};
pub use conninfo::{
    ChannelBinding, ConnInfo, ConnInfoError, Defaults, Host, Keepalive, Place, RootCertificates,
    SslMode, TargetSession,
};
pub use error::{
    AuthenticationError, Encryption, Error, Peer, ServerError, ServerNotice, TlsError,
};
pub use lsn::{Lsn, ParseLsnError};
pub use name::{ParseNameError, ServerName, SlotName};
pub use secret::Secret;
pub use stream::Woken;
pub use system_id::SystemId;
pub use timeline::{ParseTimelineError, TimelineId};
pub use transport::{
    Incoming, Outgoing, PostgresTransport, ServerIdentity, SlotPolicy, SlotPosition, StandbyStatus, TransportOptions, WalTransport,
};
pub use version::ServerVersion;
