//! Whether the daemon works for a server.

use std::fmt;

use pgm_proto::{Lsn, ServerName};
use serde::{Deserialize, Serialize};

/// Whether the daemon works for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerMode {
    /// WAL is received, and backups can be taken.
    Online,
    /// The server is left alone: it is not connected to, and no backup is taken. Its backups stay, and can be restored.
    Offline,
}

impl ServerMode {
    /// The name in JSON: `online`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

impl fmt::Display for ServerMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The mode of a server, and where its WAL stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeReport {
    /// The server.
    pub server: ServerName,
    /// Its mode now.
    pub mode: ServerMode,
    /// Whether the request changed it.
    pub changed: bool,
    /// How far its WAL is durable here, and was reported to the server as flushed, where that is known: its replication
    /// slot keeps what follows.
    pub durable_lsn: Option<Lsn>,
}
