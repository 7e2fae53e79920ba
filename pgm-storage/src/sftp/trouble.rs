//! What SSH and SFTP report, sorted by what can be done about it.

use russh_sftp::client::error::Error as SftpError;
use russh_sftp::protocol::StatusCode;

use crate::error::StorageError;
use crate::remote_problem::{RemoteMessage, RemoteProblem};

/// Why a request or a connection failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server answered with a status.
    Status(StatusCode, String),
    /// No answer: the connection is of no use any more.
    Lost(RemoteProblem, String),
    /// Another try would end the same way.
    Final(RemoteProblem, String),
}

impl Trouble {
    /// Whether to connect again and repeat the request.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(..))
    }

    pub(super) fn is(&self, code: StatusCode) -> bool {
        matches!(self, Self::Status(found, _) if *found == code)
    }

    /// One of our errors about `place`.
    pub(super) fn at(self, operation: &'static str, place: String) -> StorageError {
        let (problem, text) = match self {
            Self::Status(StatusCode::NoSuchFile, _) => {
                return StorageError::NotFound { path: place };
            }
            Self::Status(StatusCode::PermissionDenied, text) => (RemoteProblem::Denied, text),
            Self::Status(StatusCode::OpUnsupported, text) => (RemoteProblem::Unsupported, text),
            Self::Status(_, text) => (RemoteProblem::Other, text),
            Self::Lost(problem, text) | Self::Final(problem, text) => (problem, text),
        };
        StorageError::Remote {
            operation,
            path: place,
            problem,
            source: RemoteMessage::new(&text),
        }
    }
}

impl From<SftpError> for Trouble {
    fn from(error: SftpError) -> Self {
        match error {
            SftpError::Status(status) => {
                let text = format!("{}: {}", status.status_code, status.error_message);
                match status.status_code {
                    StatusCode::NoConnection | StatusCode::ConnectionLost => {
                        Self::Lost(RemoteProblem::Unavailable, text)
                    }
                    code => Self::Status(code, text),
                }
            }
            SftpError::Timeout => {
                Self::Lost(RemoteProblem::TimedOut, "no answer in time".to_owned())
            }
            error => Self::Lost(RemoteProblem::Unavailable, error.to_string()),
        }
    }
}

impl From<russh::Error> for Trouble {
    fn from(error: russh::Error) -> Self {
        let text = error.to_string();
        match error {
            russh::Error::UnknownKey | russh::Error::WrongServerSig => {
                Self::Final(RemoteProblem::HostKey, text)
            }
            russh::Error::IO(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Self::Lost(RemoteProblem::TimedOut, text)
            }
            russh::Error::IO(_) => Self::Lost(RemoteProblem::Unreachable, text),
            _ => Self::Lost(RemoteProblem::Unavailable, text),
        }
    }
}
