//! Where a daemon is.

use std::fmt;
use std::path::PathBuf;

use pgm_proto::Peer;

/// Where a client found its daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonPlace {
    /// On this host, at the unix socket.
    Socket(PathBuf),
    /// At the other end of a network.
    Remote(Peer),
}

impl fmt::Display for DaemonPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "on {}", path.display()),
            Self::Remote(peer) => write!(f, "at {peer}"),
        }
    }
}
