//! Who may do what: roles, and what a request needs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look, and change nothing.
    ReadOnly,
    /// Everything.
    Admin,
}

impl Role {
    /// The name in files and on the wire: `read_only`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::Admin => "admin",
        }
    }

    /// Whether this role covers `access`.
    pub const fn may(self, access: Access) -> bool {
        matches!(
            (self, access),
            (Self::Admin, _) | (Self::ReadOnly, Access::Read)
        )
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether a request changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It only reads.
    Read,
    /// It changes something, or puts load on a server.
    Change,
}

/// From where a request may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// From the host itself and from afar.
    Anywhere,
    /// Only over the unix socket: it acts on files of the host that a remote client cannot see.
    LocalOnly,
}
