//! What can go wrong between pgm and a server, one variant for each thing that a caller can do about it.
//!
//! Every error names its objects (host, user, file) and has a [`Error::hint`] where there is a next action. No
//! password, key or connection string with a password is ever part of an error.

mod condition;
mod hint;
mod incremental;
mod server;

use std::fmt;
use std::io;
use std::path::PathBuf;

pub use incremental::IncrementalRefusal;
pub use server::{ServerError, ServerNotice};

use crate::ConnInfoError;

/// An error of a connection to a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection string is wrong.
    #[error(transparent)]
    ConnInfo(#[from] ConnInfoError),
    /// Several hosts were tried, and none would do.
    #[error("no host accepted the connection: {}", list(.attempts))]
    NoHost {
        /// What each host said, in the order of the attempts.
        attempts: Vec<Error>,
    },
    /// The host name has no address.
    #[error("could not resolve host `{host}`: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nothing answers there.
    #[error("could not connect to {peer}: {source}")]
    Connect {
        /// The address.
        peer: Peer,
        /// What the system said.
        source: io::Error,
    },
    /// The encrypted connection could not be made.
    #[error("no TLS connection to {peer}: {source}")]
    Tls {
        /// The server.
        peer: Peer,
        /// What went wrong.
        source: Box<TlsError>,
    },
    /// We could not, or would not, prove who we are to this server, or it could not prove who it is.
    #[error("could not authenticate as `{user}` at {peer}: {source}")]
    Authentication {
        /// The server.
        peer: Box<Peer>,
        /// The role.
        user: String,
        /// What went wrong.
        source: AuthenticationError,
    },
    /// The server refused the session: wrong password, no entry in `pg_hba.conf`, no such role or database, no
    /// free connection, starting up.
    #[error("{peer} refused user `{user}`: {source}")]
    Refused {
        /// The server.
        peer: Box<Peer>,
        /// The role.
        user: String,
        /// The database, `replication` for a replication session.
        database: String,
        /// Whether the connection was encrypted.
        encryption: Encryption,
        /// What the server said.
        source: Box<ServerError>,
    },
    /// The server is not of the kind that `target_session_attrs` asks for.
    #[error("{peer} is {found}, but target_session_attrs asks for {wanted}")]
    WrongServer {
        /// The server.
        peer: Peer,
        /// The kind asked for.
        wanted: crate::TargetSession,
        /// The kind found.
        found: &'static str,
    },
    /// The server answered a command with an error.
    #[error(transparent)]
    Server(#[from] Box<ServerError>),
    /// The replication slot does not exist, and is not to be created.
    #[error("replication slot `{slot}` does not exist")]
    SlotMissing {
        /// The slot.
        slot: crate::SlotName,
    },
    /// The server is too old for a command.
    #[error("{command} needs PostgreSQL {major_min} or later, and the server is {version}")]
    TooOld {
        /// The command.
        command: &'static str,
        /// The first major version that has it.
        major_min: u32,
        /// The server's version.
        version: crate::ServerVersion,
    },
    /// The caller asked for an end of the wait.
    #[error("interrupted while waiting for the server")]
    Interrupted,
    /// The server did not answer in time.
    #[error("timed out while waiting for {waiting_for}")]
    Timeout {
        /// What was waited for.
        waiting_for: &'static str,
    },
    /// The server sent what the protocol does not allow.
    #[error("protocol violation: {0}")]
    Protocol(String),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The connection broke.
    #[error("connection lost: {0}")]
    Io(#[source] io::Error),
}

/// One place where a server listens, as it was connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A host, with the address that its name led to.
    Tcp {
        /// The host as the connection string names it.
        host: String,
        /// The address, when it was known already.
        address: Option<std::net::IpAddr>,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

/// Whether a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// With TLS.
    Tls,
    /// Not at all.
    None,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The server was built or configured without TLS.
    #[error("the server does not support TLS, but sslmode={sslmode} asks for it")]
    NotSupported {
        /// The mode.
        sslmode: crate::SslMode,
    },
    /// The server sent bytes before the handshake that nobody may trust.
    #[error("the server sent unencrypted data after agreeing to TLS")]
    UnencryptedData,
    /// The server answered the request for TLS with an error message, which is not shown since anyone on the way
    /// could have written it.
    #[error("the server answered the request for TLS with an error")]
    RequestRefused,
    /// A file of certificates or keys cannot be used.
    #[error("{what} `{path}` {problem}")]
    File {
        /// What it is to be.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no usable list of trusted authorities on this system.
    #[error("no list of certificate authorities found on this system")]
    NoSystemRoots,
    /// The server's certificate is not to be trusted.
    #[error("the server's certificate is not valid: {0}")]
    Certificate(rustls::CertificateError),
    /// The handshake failed otherwise.
    #[error("{0}")]
    Handshake(#[source] rustls::Error),
    /// The settings do not go together.
    #[error("{0}")]
    Settings(String),
}

/// Why authentication did not succeed on our side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// The server asks for a password and there is none.
    #[error("the server asks for a password, and none is given")]
    NoPassword,
    /// The server asks for a method that is not supported.
    #[error("the server asks for {method}, which is not supported")]
    Unsupported {
        /// The method.
        method: String,
    },
    /// `channel_binding=require`, and the server offers no way to bind.
    #[error("channel_binding=require, but {problem}")]
    ChannelBinding {
        /// Why there is none.
        problem: &'static str,
    },
    /// The server wants more or less work than is safe.
    #[error("the server asks for {iterations} SCRAM iterations; {min} to {max} are accepted")]
    Iterations {
        /// What the server asks for.
        iterations: u64,
        /// The least accepted.
        min: u32,
        /// The most accepted.
        max: u32,
    },
    /// The server's SCRAM message is not well-formed or does not belong to ours.
    #[error("the server's SCRAM message is wrong: {0}")]
    Scram(String),
    /// The server does not know the password: it is not the server it pretends to be.
    #[error("the server could not prove that it knows the password")]
    ServerSignature,
}

impl Error {
    /// The SQLSTATE, when the server gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        self.server_error().map(|error| error.sqlstate.as_str())
    }

    /// What the server said, when it said something.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server(source) | Self::Refused { source, .. } => Some(source),
            _ => None,
        }
    }

    /// The next action, when there is one to name.
    pub fn hint(&self) -> Option<String> {
        hint::hint(self)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Timeout {
                waiting_for: "the server to take data",
            },
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<crate::frame::FrameError> for Error {
    fn from(error: crate::frame::FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<ServerError> for Error {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp {
                host,
                address,
                port,
            } => match address {
                Some(address) if address.to_string() != *host => {
                    write!(f, "`{host}` ({address}) port {port}")
                }
                _ => write!(f, "`{host}` port {port}"),
            },
            Self::Unix(path) => write!(f, "socket `{}`", path.display()),
        }
    }
}

fn list(attempts: &[Error]) -> String {
    let texts: Vec<_> = attempts.iter().map(Error::to_string).collect();
    texts.join("; ")
}
