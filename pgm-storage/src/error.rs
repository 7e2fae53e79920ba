//! What can go wrong where bytes rest, by what the caller can do about it.
//!
//! `path` is always the place as a person would look for it: the full file name for the local engine, the object's
//! path for others.

use std::io;

use crate::frame::FrameError;
use crate::remote_problem::{RemoteMessage, RemoteProblem};
use crate::seal::SealError;

/// The result of a storage operation.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Why a storage operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such object. Often an ordinary answer.
    #[error("{path} does not exist")]
    NotFound {
        /// The place.
        path: String,
    },
    /// An object is already there, and it was not touched.
    #[error("{path} already exists")]
    AlreadyExists {
        /// The place.
        path: String,
    },
    /// No room (space, quota or inodes); nothing was written.
    #[error("no space left for {path}")]
    NoSpace {
        /// The place.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system does not permit it.
    #[error("access to {path} is denied")]
    Denied {
        /// The place.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Something else is where an object or a folder should be: a symbolic link, a folder, a device.
    #[error("{path} is {found}, not {wanted}")]
    Misplaced {
        /// The place.
        path: String,
        /// What is there.
        found: &'static str,
        /// What should be there.
        wanted: &'static str,
    },
    /// The bytes are there and are not what was written.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The place.
        path: String,
        /// Where and how.
        reason: String,
    },
    /// In a sealed repository: the object was not sealed for this place. It is plain, stands in for another one, or comes
    /// from elsewhere.
    #[error("{path} is not what was stored there: {source}")]
    Foreign {
        /// The place.
        path: String,
        /// What gave it away.
        source: SealError,
    },
    /// The object is larger than the caller allows; nothing was read.
    #[error("{path} has {size} bytes, more than the {bytes_max} expected at most")]
    TooLarge {
        /// The place.
        path: String,
        /// How large it is.
        size: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// A frame could not be made or opened for a reason that is not damage.
    #[error("a frame of {path} cannot be made or read")]
    Frame {
        /// The place.
        path: String,
        /// Why not.
        source: FrameError,
    },
    /// A store across the network refused, failed or did not answer, also when it was asked again.
    #[error("{operation} {path} failed: {problem}")]
    Remote {
        /// What was tried: `read`, `write`, `list`, …
        operation: &'static str,
        /// The place, with the store.
        path: String,
        /// What kind of trouble it is.
        problem: RemoteProblem,
        /// What the store or the network said.
        source: RemoteMessage,
    },
    /// Any other failure of the operating system; a write or a sync that failed has written no object.
    #[error("{operation} {path} failed")]
    Io {
        /// What was tried: `read`, `write`, `sync`, `open`, …
        operation: &'static str,
        /// The place.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl StorageError {
    /// Sorts an error of the operating system into the variant that says what can be done about it.
    pub fn from_io(operation: &'static str, path: impl Into<String>, source: io::Error) -> Self {
        // An engine's writer hands its own error through `io::Write`: take it out again.
        let source = match source.downcast::<Self>() {
            Ok(own) => return own,
            Err(source) => source,
        };
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::AlreadyExists => Self::AlreadyExists { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path, source }
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { path, source }
            }
            _ => Self::Io {
                operation,
                path,
                source,
            },
        }
    }

    /// The place that the error is about.
    pub fn path(&self) -> &str {
        match self {
            Self::NotFound { path }
            | Self::AlreadyExists { path }
            | Self::NoSpace { path, .. }
            | Self::Denied { path, .. }
            | Self::Misplaced { path, .. }
            | Self::Damaged { path, .. }
            | Self::Foreign { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Frame { path, .. }
            | Self::Remote { path, .. }
            | Self::Io { path, .. } => path,
        }
    }

    /// Whether there simply is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether an object was already there.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    /// What is wrong with the bytes, without the name of the object, if that is what is wrong.
    pub fn damage(&self) -> Option<String> {
        match self {
            Self::Damaged { reason, .. } => Some(reason.clone()),
            Self::Foreign { source, .. } => {
                Some(format!("it is not what was stored there: {source}"))
            }
            _ => None,
        }
    }

    /// The next thing to do, for a person.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSpace { path, .. } => Some(format!(
                "free space, quota or inodes on the file system of {path}, or move the repository to a larger one; \
                 the operation can then be repeated"
            )),
            Self::Denied { path, .. } => Some(format!(
                "run pgm as the owner of the repository, or give that user read and write permission on {path} \
                 and the folders above it, on a file system that is mounted read-write"
            )),
            Self::Misplaced { path, .. } => Some(format!(
                "move {path} away; pgm follows no symbolic links inside a repository, only its root may be one"
            )),
            Self::Damaged { path, .. } => Some(format!(
                "check the disk under {path}, and restore the object from another copy of the repository"
            )),
            Self::Foreign { path, .. } => Some(format!(
                "somebody who cannot seal put {path} there, or moved it: look who writes to the storage, and take the \
                 object from another copy of the repository"
            )),
            Self::Io { path, .. } => Some(format!(
                "look for disk errors of {path} in the kernel log (dmesg)"
            )),
            Self::NotFound { path } => Some(format!(
                "is the file system of {path} mounted? what is lost has to come from another copy of the repository"
            )),
            Self::AlreadyExists { .. } | Self::TooLarge { .. } => None,
            Self::Frame { source, .. } => source.hint(),
            Self::Remote { problem, .. } => Some(problem.hint().to_owned()),
        }
    }
}

/// Lets an engine's writer report its own error through `io::Write`; [`StorageError::from_io`] takes it out again.
impl From<StorageError> for io::Error {
    fn from(error: StorageError) -> Self {
        let kind = match &error {
            StorageError::NotFound { .. } => io::ErrorKind::NotFound,
            StorageError::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
            StorageError::NoSpace { source, .. }
            | StorageError::Denied { source, .. }
            | StorageError::Io { source, .. } => source.kind(),
            StorageError::Damaged { .. } | StorageError::Foreign { .. } => {
                io::ErrorKind::InvalidData
            }
            StorageError::Remote { problem, .. } => problem.kind(),
            StorageError::Misplaced { .. }
            | StorageError::TooLarge { .. }
            | StorageError::Frame { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storage_error_survives_the_way_through_io_write() {
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let inner = StorageError::from_io("write", "/a/b", source);
        let outer = StorageError::from_io("write", "elsewhere", io::Error::from(inner));
        assert!(matches!(&outer, StorageError::NoSpace { path, .. } if path == "/a/b"));
        assert!(outer.hint().unwrap().contains("/a/b"));
    }

    #[test]
    fn quota_and_read_only_are_told_apart_from_io() {
        let sorted = |errno: rustix::io::Errno| StorageError::from_io("open", "x", errno.into());
        assert!(matches!(
            sorted(rustix::io::Errno::DQUOT),
            StorageError::NoSpace { .. }
        ));
        assert!(matches!(
            sorted(rustix::io::Errno::NOSPC),
            StorageError::NoSpace { .. }
        ));
        assert!(matches!(
            sorted(rustix::io::Errno::ROFS),
            StorageError::Denied { .. }
        ));
        assert!(matches!(
            sorted(rustix::io::Errno::ACCESS),
            StorageError::Denied { .. }
        ));
        assert!(matches!(
            sorted(rustix::io::Errno::IO),
            StorageError::Io { .. }
        ));
    }
}
