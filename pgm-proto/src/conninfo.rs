//! How to reach a server: what libpq calls a connection string, as a checked value.
//!
//! Both of libpq's forms are read (manual: 34.1.1, "Connection Strings"): `host=db1 user=pgm` and
//! `postgresql://pgm@db1/postgres`, each with several hosts. Nothing is taken from the environment or the home
//! directory: a binary gives what it found there as [`Defaults`]. What libpq knows and pgm does not support is
//! refused by name, never ignored. A password is in no output of this type.

mod error;
mod key_value;
mod setting;
mod url;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub use error::ConnInfoError;

use crate::Secret;

/// Where a server listens and how to log in.
///
/// ```
/// let info: pgm_proto::ConnInfo = "postgresql://pgm:secret@db1,db2:5433/postgres?sslmode=verify-full".parse()?;
/// assert_eq!(info.hosts().len(), 2);
/// assert!(!info.redacted().contains("secret"));
/// # Ok::<(), pgm_proto::ConnInfoError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConnInfo {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) passfile: Option<PathBuf>,
    pub(crate) tls: TlsSettings,
    pub(crate) target: TargetSession,
    pub(crate) application_name: Option<String>,
    pub(crate) options: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Keepalive,
}

/// One place to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name, which TLS and the password file look at, or the folder of a unix socket.
    pub place: Place,
    /// The address to use instead of asking the resolver for the name.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// What a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A host name or IP address.
    Tcp(String),
    /// The folder of a unix socket.
    Unix(PathBuf),
}

/// The part of a [`ConnInfo`] that is about encryption.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TlsSettings {
    pub(crate) mode: SslMode,
    pub(crate) roots: Option<RootCertificates>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) binding: ChannelBinding,
    /// Where `root.crt`, `postgresql.crt` and `postgresql.key` are looked for when they are not named.
    pub(crate) directory: Option<PathBuf>,
}

/// Who vouches for a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificates {
    /// The authorities in this PEM file.
    File(PathBuf),
    /// The authorities that this system trusts.
    System,
}

/// Generates an enum whose variants are the words of one connection setting.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            pub(crate) const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for it in a connection string.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            pub(crate) fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How much encryption to insist on (manual: 34.19.1).
    SslMode {
        /// Never encrypt.
        Disable = "disable",
        /// Encrypt when the server can.
        #[default]
        Prefer = "prefer",
        /// Always encrypt; check the certificate only when there are root certificates.
        Require = "require",
        /// Always encrypt, and check who signed the certificate.
        VerifyCa = "verify-ca",
        /// Always encrypt, and check who signed the certificate and that it is the host's.
        VerifyFull = "verify-full",
    }
}

words! {
    /// Whether SCRAM must be bound to the TLS connection.
    ChannelBinding {
        /// Never bind.
        Disable = "disable",
        /// Bind when the server can.
        #[default]
        Prefer = "prefer",
        /// Always bind: a server that cannot is refused.
        Require = "require",
    }
}

words! {
    /// What kind of server to accept (`target_session_attrs`).
    TargetSession {
        /// Any.
        #[default]
        Any = "any",
        /// One that takes writes.
        ReadWrite = "read-write",
        /// One that takes no writes.
        ReadOnly = "read-only",
        /// One that is not in recovery.
        Primary = "primary",
        /// One in recovery.
        Standby = "standby",
        /// One in recovery if there is any, else any.
        PreferStandby = "prefer-standby",
    }
}

/// When a silent connection is taken for dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether the kernel asks at all.
    pub enabled: bool,
    /// Silence before the first question.
    pub idle: Duration,
    /// Time between questions.
    pub interval: Duration,
    /// Unanswered questions before the connection is dead.
    pub count: u32,
}

impl Default for Keepalive {
    /// A dead peer is noticed after a minute, not after the two hours of the kernel.
    fn default() -> Self {
        Self {
            enabled: true,
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
        }
    }
}

/// What a binary found in the environment, for what a connection string leaves open.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// The role: by custom the name of the operating system's user.
    pub user: Option<String>,
    /// The password file: by custom `~/.pgpass`.
    pub passfile: Option<PathBuf>,
    /// The name that the server shows in `pg_stat_activity` and that `synchronous_standby_names` matches.
    pub application_name: Option<String>,
    /// The folder of `root.crt`, `postgresql.crt` and `postgresql.key`: by custom `~/.postgresql`.
    pub ssl_directory: Option<PathBuf>,
}

impl ConnInfo {
    /// The time allowed for each address when the string does not say.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// PostgreSQL's port.
    pub const PORT: u16 = 5432;

    /// The places to try, in order; empty means the local socket.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The role to log in as.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The database for SQL sessions; the role's name when it is not given.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The name that the server shows for the session.
    pub fn application_name(&self) -> Option<&str> {
        self.application_name.as_deref()
    }

    /// Whether the string itself holds a password.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// The same with another application name.
    #[must_use]
    pub fn with_application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = Some(name.into());
        self
    }

    /// The same with another database.
    #[must_use]
    pub fn with_database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// The same with a password, in place of the string's own and of the password file's.
    #[must_use]
    pub fn with_password(mut self, password: Secret) -> Self {
        self.password = Some(password);
        self
    }

    /// Fills what the connection string leaves open.
    #[must_use]
    pub fn with_defaults(mut self, defaults: &Defaults) -> Self {
        self.user = self.user.or_else(|| defaults.user.clone());
        self.passfile = self.passfile.or_else(|| defaults.passfile.clone());
        self.application_name = self
            .application_name
            .or_else(|| defaults.application_name.clone());
        self.tls.directory = self
            .tls
            .directory
            .or_else(|| defaults.ssl_directory.clone());
        self
    }

    /// The connection string, key=value form, without the password.
    pub fn redacted(&self) -> String {
        key_value::print(self)
    }
}

impl Default for ConnInfo {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            user: None,
            database: None,
            password: None,
            passfile: None,
            tls: TlsSettings::default(),
            target: TargetSession::default(),
            application_name: None,
            options: None,
            connect_timeout: Self::CONNECT_TIMEOUT,
            keepalive: Keepalive::default(),
        }
    }
}

impl FromStr for ConnInfo {
    type Err = ConnInfoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let settings = match url::strip_scheme(text) {
            Some(rest) => url::parse(rest)?,
            None => key_value::parse(text)?,
        };
        setting::assemble(settings)
    }
}

impl fmt::Debug for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnInfo({})", self.redacted())
    }
}

impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl<'de> Deserialize<'de> for ConnInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
