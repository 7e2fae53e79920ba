//! Why pages and metrics cannot be offered.

use std::io;

use pgm_proto::TlsError;

/// Why the daemon cannot serve HTTP as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be used.
    #[error("cannot listen on {host} port {port} for metrics: {source}")]
    Listen {
        /// The address as it is configured.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// Only one of the two files is named.
    #[error("metrics has `{present}` but no `{absent}`")]
    Half {
        /// The setting that is there.
        present: &'static str,
        /// The one that is not.
        absent: &'static str,
    },
    /// A file cannot be used.
    #[error("metrics: {0}")]
    Tls(#[from] TlsError),
    /// The thread that looks into the repository cannot be started.
    #[error("cannot watch the repository for metrics: {0}")]
    Watch(io::Error),
}

impl HttpError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    Some("another program listens there: choose another metrics.port".to_owned())
                }
                io::ErrorKind::AddrNotAvailable => Some(
                    "metrics.host is a name or address of this host, or * for all of them"
                        .to_owned(),
                ),
                io::ErrorKind::PermissionDenied => {
                    Some("ports below 1024 are for root: choose another metrics.port".to_owned())
                }
                _ => None,
            },
            Self::Half { absent, .. } => Some(format!(
                "set metrics.{absent}, too, or neither of the two for plain HTTP"
            )),
            Self::Tls(_) => Some(
                "certificate and key are PEM files; the key belongs to pgmd's user and has mode \
                 0600, or to root with 0640"
                    .to_owned(),
            ),
            Self::Watch(_) => None,
        }
    }
}
