//! What can be wrong with secrets and their files. No error repeats a secret.

use std::io;
use std::path::PathBuf;

use pgm_storage::seal::{KeyId, SealError};

use crate::config::nearest_hint;

/// Why a secret cannot be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// There is no such file.
    #[error("there is no {what} {}", path.display())]
    Missing {
        /// What the file is.
        what: &'static str,
        /// Where it should be.
        path: PathBuf,
    },
    /// There is one already, and it stays.
    #[error("there is a {what} {} already", path.display())]
    Exists {
        /// What the file is.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
    },
    /// Others can read or write it.
    #[error("others have access to {} (mode {mode:04o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to another user (uid {owner})", path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there, and is not what it should be.
    #[error("{} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The environment variable is not set.
    #[error("the environment variable {name} is not set")]
    Environment {
        /// Its name.
        name: String,
    },
    /// The command gave no secret.
    #[error("the command for {what} {how}")]
    Command {
        /// What it should print.
        what: &'static str,
        /// How it ended.
        how: String,
    },
    /// What was given is no master key.
    #[error("the master key cannot be used: a master key is 64 hexadecimal digits")]
    NoMasterKey,
    /// A password of the vault cannot be opened.
    #[error("the password of {user} in {} cannot be opened: {source}", path.display())]
    Sealed {
        /// Whose password.
        user: String,
        /// The vault.
        path: PathBuf,
        /// Why not.
        source: SealError,
    },
    /// Sealing failed.
    #[error("cannot seal: {0}")]
    Seal(SealError),
    /// The vault has passwords of another master key.
    #[error("{} is sealed with the master key {needed}, and the master key here is {given}", path.display())]
    OtherKey {
        /// The vault.
        path: PathBuf,
        /// The key that it takes.
        needed: KeyId,
        /// The key at hand.
        given: KeyId,
    },
    /// There is no such user.
    #[error("there is no {kind} {name}")]
    UnknownUser {
        /// `admin`, `password of`.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that are there.
        known: Vec<String>,
    },
    /// There is one already.
    #[error("there is already a {kind} {name}")]
    UserExists {
        /// `admin`, `password of`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The password cannot be used.
    #[error("the password {reason}")]
    Password {
        /// Why not.
        reason: &'static str,
    },
}

impl SecretsError {
    pub(super) fn io(
        action: &'static str,
        path: &std::path::Path,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(super) fn unusable(path: &std::path::Path, reason: impl Into<String>) -> Self {
        Self::Unusable {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { what: "master key", .. } => {
                Some("make one: pgm-cli admin master-key".to_owned())
            }
            Self::Exists { what: "master key", path } => Some(format!(
                "what is sealed with it could never be opened again; if nothing is, remove {} first",
                path.display()
            )),
            Self::Exposed { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::ForeignOwner { .. } => {
                Some("run pgm as the user that owns its files".to_owned())
            }
            Self::Environment { .. } => Some("set it, and start pgmd or pgm-cli with it".to_owned()),
            Self::Command { .. } => Some("try the command by hand, as pgmd's user".to_owned()),
            Self::NoMasterKey => Some(
                "pgm-cli admin master-key makes one; `openssl rand -hex 32` prints one for elsewhere".to_owned(),
            ),
            Self::Sealed { source, .. } | Self::Seal(source) => source.hint(),
            Self::OtherKey { needed, .. } => Some(format!(
                "give pgm the master key {needed}, or remove the vault and enter the passwords again"
            )),
            Self::UnknownUser { name, known, .. } => Some(nearest_hint(name, known)),
            Self::UserExists { name, .. } => {
                Some(format!("change it: pgm-cli admin user edit {name} …"))
            }
            Self::Missing { .. }
            | Self::Exists { .. }
            | Self::Io { .. }
            | Self::Unusable { .. }
            | Self::Password { .. } => None,
        }
    }
}
