//! Why segments in files cannot be read.

use std::io;
use std::path::{Path, PathBuf};

use crate::history::HistoryError;

/// Files with WAL could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The file system refused, or compressed data is damaged.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no segment.
    #[error("there is no WAL segment in {}", list(paths))]
    Nothing {
        /// Where it was looked for.
        paths: Vec<PathBuf>,
    },
    /// The file is named as a segment but does not begin as one.
    #[error("{} does not begin as a WAL segment of PostgreSQL 14 to 18", path.display())]
    NoSegment {
        /// The file.
        path: PathBuf,
    },
    /// A history file cannot be understood.
    #[error("{} is not usable as a history file", path.display())]
    History {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: HistoryError,
    },
    /// A pack cannot be read.
    #[error("the pack {} cannot be read", path.display())]
    Pack {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pgm_storage::StorageError,
    },
    /// The file is sealed, and its key is not known here.
    #[error("{} is sealed", path.display())]
    Sealed {
        /// The file.
        path: PathBuf,
    },
    /// A tar archive cannot be understood.
    #[error("{} is no tar archive: {reason}", path.display())]
    Tar {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl FilesError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing { .. } => Some(
                "name segment files, a folder such as pg_wal, or a tar archive with segments in it"
                    .to_owned(),
            ),
            Self::Sealed { .. } => Some(
                "an object of a sealed repository is read by naming the repository and the server; what `pgm-cli encrypt` \
                 made is opened by `pgm-cli decrypt`"
                    .to_owned(),
            ),
            Self::Io { source, path, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some(format!("there is no {}", path.display()))
            }
            _ => None,
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}
