//! What people say about a backup: that it is retained, and notes.

use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

/// A change of a backup's notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnnotationChange {
    /// A new one; there must be none with this key.
    Add {
        /// Its name: 1 to 64 bytes without spaces.
        key: String,
        /// At most 4096 bytes.
        text: String,
    },
    /// Another text for one that is there.
    Update {
        /// Its name.
        key: String,
        /// At most 4096 bytes.
        text: String,
    },
    /// One that is there goes.
    Remove {
        /// Its name.
        key: String,
    },
}

/// A note of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// Its name.
    pub key: String,
    /// What it says.
    pub text: String,
    /// When it was written.
    pub changed: String,
}

/// The marks of a backup, as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupMarks {
    /// The server.
    pub server: ServerName,
    /// The backup.
    pub label: String,
    /// Whether it is kept until it is expunged.
    pub retained: bool,
    /// Its notes, by key.
    pub annotations: Vec<Annotation>,
}
