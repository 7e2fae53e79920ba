//! What can go wrong between a server and the spool.

use std::io;
use std::path::{Path, PathBuf};

use pgm_proto::{SystemId, TimelineId};

use crate::history::HistoryError;
use crate::segment::SegmentSize;

/// An operation on the spool failed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no room.
    #[error("no space left for {}", path.display())]
    Full {
        /// The file that could not be written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the spool's own cannot be understood.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The spool belongs to another server.
    #[error(
        "the server's system identifier is {found}, but {} holds the WAL of system {known}",
        folder.display()
    )]
    OtherSystem {
        /// The spool.
        folder: PathBuf,
        /// Whose WAL is in it.
        known: SystemId,
        /// Who answered.
        found: SystemId,
    },
    /// The server's segments have another size than those in the spool.
    #[error(
        "the server's WAL segments are {found} large, but those in {} are {known} large",
        folder.display()
    )]
    OtherSegmentSize {
        /// The spool.
        folder: PathBuf,
        /// The size in the spool.
        known: SegmentSize,
        /// The server's size.
        found: SegmentSize,
    },
    /// A history file, from the server or from disk, cannot be understood.
    #[error("{} is not usable as a history file", path.display())]
    History {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: HistoryError,
    },
    /// The server's history of a timeline is not the stored one.
    #[error(
        "split brain: the server's history of timeline {timeline} differs from {}",
        path.display()
    )]
    HistoryDiffers {
        /// The stored file.
        path: PathBuf,
        /// The timeline.
        timeline: TimelineId,
    },
    /// Another receiver writes into the spool.
    #[error("another receiver is writing into {}", folder.display())]
    Locked {
        /// The spool.
        folder: PathBuf,
    },
}

impl SpoolError {
    /// An error of the file system while doing `action` to `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, source }
            }
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { source, path, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                return Some(format!(
                    "let the user that runs pgm read and write {}",
                    path.parent().unwrap_or(path).display()
                ));
            }
            Self::Io { .. } => return None,
            Self::Full { .. } => {
                "make room on the spool's file system; the server keeps the WAL for its slot meanwhile"
            }
            Self::Damaged { .. } => "restore the file, or move the whole spool folder aside",
            Self::OtherSystem { .. } | Self::OtherSegmentSize { .. } => {
                "give a new server a new name, or move the old spool folder aside"
            }
            Self::History { .. } => "compare the file with the one in the server's pg_wal",
            Self::HistoryDiffers { .. } => {
                "two servers were promoted to the same timeline: shut the wrong one down before going on"
            }
            Self::Locked { .. } => "stop the other pgmd or give it another base directory",
        };
        Some(hint.to_owned())
    }
}
