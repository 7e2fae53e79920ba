//! What can go wrong between a server and the spool.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgm_proto::{Lsn, SystemId, TimelineId};

use crate::history::HistoryError;
use crate::segment::{SegmentSize, SegmentSizeError};

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

/// Receiving ended with an error. What was acknowledged is on disk all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The connection failed, or the server refused.
    #[error(transparent)]
    Transport(#[from] pgm_proto::Error),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The server no longer has the WAL that comes next: there will be a gap.
    #[error("the server no longer has the WAL from {lsn} on timeline {timeline}")]
    WalRemoved {
        /// The timeline.
        timeline: TimelineId,
        /// The first byte that is missing.
        lsn: Lsn,
        /// What the server said.
        #[source]
        source: pgm_proto::Error,
    },
    /// A sync failed. The file was set aside, and its WAL is received again into a new one.
    #[error("could not sync {}", path.display())]
    SyncFailed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server sends other bytes than those that are in the spool.
    #[error("split brain: {} has other bytes at {lsn} than the server", path.display())]
    SplitBrain {
        /// The segment in the spool, left as it was.
        path: PathBuf,
        /// The first byte that differs.
        lsn: Lsn,
    },
    /// The server's history left our timeline before the end of our WAL.
    #[error(
        "the server is on timeline {server}, which left timeline {timeline} at {fork}, but the spool has its WAL \
         up to {ours}"
    )]
    Diverged {
        /// Our timeline.
        timeline: TimelineId,
        /// The end of our WAL on it.
        ours: Lsn,
        /// Where the server's history leaves it.
        fork: Lsn,
        /// The server's timeline.
        server: TimelineId,
    },
    /// The server's history does not include our timeline at all.
    #[error(
        "the server is on timeline {server}, whose history does not include our timeline {timeline}"
    )]
    OtherBranch {
        /// Our timeline.
        timeline: TimelineId,
        /// The server's timeline.
        server: TimelineId,
    },
    /// The server has less WAL than we have.
    #[error(
        "the server's WAL ends at {theirs} on timeline {timeline}, but the spool's goes on to {ours}"
    )]
    ServerBehind {
        /// The timeline of both.
        timeline: TimelineId,
        /// The end of our WAL.
        ours: Lsn,
        /// The end of the server's WAL.
        theirs: Lsn,
    },
    /// The WAL does not continue where it should.
    #[error("the server sent WAL from {found} where {expected} was due")]
    NotContinuous {
        /// The byte that was due.
        expected: Lsn,
        /// The byte that came.
        found: Lsn,
    },
    /// The server said something that does not fit.
    #[error("unexpected answer of the server: {0}")]
    Unexpected(&'static str),
    /// The server's segments have a size that PostgreSQL does not know.
    #[error("the server reports an impossible segment size")]
    SegmentSize(#[from] SegmentSizeError),
    /// The server ended the stream: it shuts down.
    #[error("the server ended the stream")]
    ServerClosed,
    /// Nothing came for too long.
    #[error("nothing heard from the server for {} s", after.as_secs())]
    Silent {
        /// How long.
        after: Duration,
    },
}

impl ReceiveError {
    /// Whether trying again is of no use until a person has decided something.
    pub fn is_final(&self) -> bool {
        match self {
            Self::SplitBrain { .. } | Self::Diverged { .. } | Self::OtherBranch { .. } => true,
            Self::Spool(error) => matches!(
                error,
                SpoolError::OtherSystem { .. }
                    | SpoolError::OtherSegmentSize { .. }
                    | SpoolError::HistoryDiffers { .. }
                    | SpoolError::Damaged { .. }
            ),
            _ => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Transport(error) => return error.hint(),
            Self::Spool(error) => return error.hint(),
            Self::WalRemoved { .. } => {
                "the replication slot was lost or is missing: take a new full backup, and look at \
                 max_slot_wal_keep_size"
            }
            Self::SyncFailed { .. } => "look at the health of the spool's disk",
            Self::SplitBrain { .. } => {
                "two servers write the same timeline: shut the wrong one down; nothing in the spool was overwritten"
            }
            Self::Diverged { .. } | Self::OtherBranch { .. } => {
                "the server was restored or promoted behind our WAL: keep the old branch and give this server a new \
                 name, or move the spool folder aside and take a new full backup"
            }
            Self::ServerBehind { .. } => {
                "the server is an old copy or a standby that lags; receiving goes on when it has caught up"
            }
            Self::Silent { .. } => "look at the network and at the server's wal_sender_timeout",
            Self::NotContinuous { .. }
            | Self::Unexpected(_)
            | Self::SegmentSize(_)
            | Self::ServerClosed => return None,
        };
        Some(hint.to_owned())
    }
}
