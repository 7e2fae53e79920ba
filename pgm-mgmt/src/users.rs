//! The answer about users and secrets; never a secret itself.

use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

/// Vault and admins were read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsersReloaded {
    /// How many passwords of PostgreSQL's users the vault has.
    pub passwords: u64,
    /// How many users remote management has.
    pub admins: u64,
    /// The servers whose password has changed: they are connected to anew.
    pub renewed: Vec<ServerName>,
}
