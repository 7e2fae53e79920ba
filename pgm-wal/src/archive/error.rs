//! What can go wrong with archived WAL.

use std::io;
use std::path::{Path, PathBuf};

use pgm_storage::{Cancelled, ParsePathError, StorageError};

use crate::SpoolError;
use crate::record::{RecordError, SourceError};

/// WAL could not be archived or given back.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The repository failed. Trying again later may help.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A local file failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A local file is not the segment that its name says; it was not archived.
    #[error("{} is not a valid WAL segment: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The archive has other bytes under this name: two servers wrote to the same timeline.
    #[error("{} differs from the archived {object}", path.display())]
    SplitBrain {
        /// The local file.
        path: PathBuf,
        /// The object that was there before.
        object: String,
    },
    /// An archived object is not what it should be; nothing of it was delivered.
    #[error("the archived {object} is damaged: {reason}")]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// What was just stored came back different; it was removed again.
    #[error("{object} could not be read back after it was written")]
    ReadBack {
        /// The object.
        object: String,
    },
    /// Somebody else writes to the archive.
    #[error("{reason}")]
    NotPermitted {
        /// Who, or why it is not known.
        reason: String,
        /// What to do.
        advice: Option<String>,
    },
    /// A server's name cannot be part of a path.
    #[error(transparent)]
    Path(#[from] ParsePathError),
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl ArchiveError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Storage(error) => error.hint(),
            Self::SplitBrain { .. } => Some(
                "two servers wrote different WAL under the same name; find out which one is the primary, give the \
                 other its own server name, and keep both files until then"
                    .to_owned(),
            ),
            Self::Corrupt { path, .. } => Some(format!(
                "check the disk under {}; the file was left as it is",
                path.display()
            )),
            Self::Damaged { object, .. } => {
                Some(format!("restore {object} from another copy of the repository"))
            }
            Self::ReadBack { .. } => Some("check the repository's disk".to_owned()),
            Self::Spool(error) => error.hint(),
            Self::File { path, source, .. } => file_hint(path, source),
            Self::NotPermitted { advice, .. } => advice.clone(),
            Self::Path(_) | Self::Cancelled(_) => None,
        }
    }

    /// Whether trying again cannot help before somebody has looked at it.
    pub const fn needs_attention(&self) -> bool {
        matches!(
            self,
            Self::Corrupt { .. } | Self::SplitBrain { .. } | Self::Damaged { .. }
        )
    }

    pub(super) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// The error of scanning `path` for its last valid record.
    pub(super) fn scan(path: &Path, error: RecordError) -> Self {
        match error {
            RecordError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::File {
                action: "read",
                path: path.to_owned(),
                source: io::Error::other(error),
            },
        }
    }
}

fn file_hint(path: &Path, error: &io::Error) -> Option<String> {
    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some(format!("make room on the file system of {folder}"))
        }
        io::ErrorKind::PermissionDenied => Some(format!(
            "let the user that runs this read and write {folder}"
        )),
        io::ErrorKind::NotFound => Some(format!("is {folder} the right folder?")),
        _ => None,
    }
}

impl From<ArchiveError> for SourceError {
    fn from(error: ArchiveError) -> Self {
        let hint = error.hint();
        Self::new("archived WAL", error).with_hint(hint)
    }
}
