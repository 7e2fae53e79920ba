//! Deleting a backup.

use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

/// A backup is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The server.
    pub server: ServerName,
    /// The backup that is no more.
    pub label: String,
    /// Objects that were removed from the repository.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What a person should read: what had to stay, and why.
    pub warnings: Vec<String>,
}
