//! Why a restore is refused or fails.

use std::path::{Path, PathBuf};

use pgm_proto::{Lsn, ServerName, TimelineId};

use super::target::Target;
use crate::label::BackupLabel;

/// The newest point that a restore could reach, said with each refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The end of the WAL without a hole.
    pub end: Lsn,
    /// The timeline that it is on.
    pub timeline: TimelineId,
    /// When the last transaction before that end committed, if one did.
    pub last_commit: Option<jiff::Timestamp>,
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LSN {} on timeline {}", self.end, self.timeline)?;
        match self.last_commit {
            Some(time) => write!(f, ", last commit at {time}"),
            None => Ok(()),
        }
    }
}

/// Why a restore is refused (nothing was written) or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] crate::error::Error),
    /// The archive failed.
    #[error(transparent)]
    Wal(#[from] pgm_wal::archive::ArchiveError),
    /// The WAL of the archive cannot be read.
    #[error(transparent)]
    Record(pgm_wal::record::RecordError),
    /// The stream that is written to failed.
    #[error("cannot write the archive")]
    Stream {
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// The server has no usable backup.
    #[error("server `{server}` has no backup that can be restored")]
    NoBackup {
        /// The server.
        server: ServerName,
    },
    /// The target lies before the backup is consistent.
    #[error("{target} lies before the end of backup {label} at {consistent}")]
    BeforeBackup {
        /// The target.
        target: Target,
        /// The oldest backup that was considered.
        label: BackupLabel,
        /// Where that backup is consistent.
        consistent: Lsn,
        /// What can be reached.
        reach: Reach,
    },
    /// The archive ends before the target.
    #[error("{target} lies beyond the archive, which reaches to {reach}")]
    BeyondArchive {
        /// The target.
        target: Target,
        /// What can be reached.
        reach: Reach,
    },
    /// No record of the WAL behind the backup is the target.
    #[error(
        "{target} is not in the wal from backup {label} at {start} to the newest point that can be reached, {reach}"
    )]
    NotInWal {
        /// The target.
        target: Target,
        /// The backup.
        label: BackupLabel,
        /// Where its WAL begins.
        start: Lsn,
        /// What can be reached.
        reach: Reach,
    },
    /// WAL between the backup and the target is missing.
    #[error(
        "wal segment {missing} is missing from the archive between backup {label} and {target}; the newest point that can be \
         reached is {reach}"
    )]
    MissingWal {
        /// The file name of the first missing segment.
        missing: String,
        /// The backup.
        label: BackupLabel,
        /// The target.
        target: Target,
        /// What can be reached.
        reach: Reach,
    },
    /// WAL between the backup and the target is damaged, or storage fails.
    #[error(
        "{target} lies behind wal that cannot be read ({reason}); the newest point that can be reached from backup {label} is {reach}"
    )]
    UnreadableWal {
        /// What cannot be read, and why.
        reason: String,
        /// The backup.
        label: BackupLabel,
        /// The target.
        target: Target,
        /// What can be reached.
        reach: Reach,
    },
    /// WAL that makes the backup consistent is missing.
    #[error(
        "wal segment {missing} is missing from the archive, and backup {label} is not usable without it"
    )]
    BackupWithoutWal {
        /// The file name of the first missing segment.
        missing: String,
        /// The backup.
        label: BackupLabel,
    },
    /// The timeline does not continue the backup's.
    #[error(
        "timeline {timeline} does not pass through backup {label}, which is on timeline {backup_timeline} up to {consistent}"
    )]
    OtherBranch {
        /// The timeline asked for.
        timeline: TimelineId,
        /// The backup.
        label: BackupLabel,
        /// The backup's timeline.
        backup_timeline: TimelineId,
        /// Where the backup is consistent.
        consistent: Lsn,
        /// The timelines that do continue it.
        reachable: Vec<TimelineId>,
        /// What can be reached along the newest of them.
        reach: Option<Reach>,
    },
    /// There is WAL of a timeline, and nobody knows where the timeline began.
    #[error(
        "{missing} is missing from the archive: where timeline {timeline} branched off cannot be told"
    )]
    HistoryMissing {
        /// The file name of the history.
        missing: String,
        /// The timeline.
        timeline: TimelineId,
    },
    /// A tablespace mapping names no tablespace of the backup, or is wrong otherwise.
    #[error("tablespace {path}: {reason}", path = .path.display())]
    Tablespace {
        /// The path of the mapping.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The target directory cannot be used.
    #[error("{path} cannot be restored into: {reason}", path = .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A server may be running in the target directory.
    #[error("{path} cannot be restored into: a server runs there, or was not stopped (postmaster.pid)", path = .path.display())]
    Running {
        /// The directory.
        path: PathBuf,
    },
    /// A directory that is to be kept as a standby is none.
    #[error("{path} is not a standby: it has no standby.signal; it was promoted, or is another server", path = .path.display())]
    NoStandby {
        /// The directory.
        path: PathBuf,
    },
    /// A file of a standby's own cannot take the place of one of the backup.
    #[error("{path} cannot take the place of a file of the backup: {reason}", path = .path.display())]
    Override {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The file system is too small.
    #[error("{path} has {free} bytes free, the backup needs {needed}", path = .path.display())]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// A file of the restored server cannot be written.
    #[error("cannot {operation} {path}: {source}", path = .path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A stored backup does not say what it should.
    #[error("backup {label} is damaged: {reason}")]
    Damaged {
        /// The backup.
        label: BackupLabel,
        /// What is wrong.
        reason: String,
    },
}

impl RestoreError {
    pub(super) fn file(
        operation: &'static str,
        path: &Path,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::File {
            operation,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// Whether the request was refused before a byte was written.
    pub fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::File { .. } | Self::Stream { .. } | Self::Damaged { .. }
        )
    }

    /// The next thing to do, for a person.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Repository(error) => error.hint(),
            Self::Wal(error) => error.hint(),
            Self::Record(error) => error.hint(),
            Self::NoBackup { server } => Some(format!("take one: pgm-cli backup {server}")),
            Self::BeforeBackup {
                consistent, reach, ..
            } => Some(format!(
                "from this backup everything from --target-immediate, LSN {consistent}, to {reach} can be reached; \
                 `pgm-cli list-backup` lists older backups"
            )),
            Self::BeyondArchive { reach, .. } => Some(format!(
                "leave the target out to recover to the newest reachable point, {reach}"
            )),
            Self::NotInWal { .. } => Some(
                "look at the number or name again; an older backup, or another --timeline, may have it in its wal"
                    .into(),
            ),
            Self::MissingWal { reach, .. } => Some(format!(
                "look for the segment in pg_wal of the server or its standbys, or restore with --target-lsn {}",
                reach.end
            )),
            Self::UnreadableWal { reach, .. } => Some(format!(
                "bring the damaged file back from another copy of the repository, or restore with --target-lsn {}",
                reach.end
            )),
            Self::BackupWithoutWal { .. } => Some("restore another backup".into()),
            Self::OtherBranch {
                reachable, reach, ..
            } => {
                let reachable: Vec<_> = reachable.iter().map(ToString::to_string).collect();
                let newest = reach.as_ref().map_or_else(String::new, |reach| {
                    format!(", the newest point is {reach}")
                });
                Some(format!(
                    "from this backup the timelines {} can be reached{newest}; for another one restore a backup that \
                     was taken on it or before it branched off",
                    reachable.join(", ")
                ))
            }
            Self::HistoryMissing { .. } => Some(
                "look for the file in pg_wal of the server or its standbys, or name an older timeline with --timeline"
                    .into(),
            ),
            Self::Tablespace { .. } => {
                Some("--tablespace OLD=NEW; `pgm-cli info` lists the tablespaces".into())
            }
            Self::Directory { .. } => {
                Some("name a directory that does not exist or is empty; --delta takes a data directory of this server that is stopped".into())
            }
            Self::Running { path } => Some(format!(
                "stop it: pg_ctl -D {path} stop; if no server runs there, remove {path}/postmaster.pid",
                path = path.display()
            )),
            Self::NoStandby { path } => Some(format!(
                "its data stays as it is; take it out of `standbys`, or remove {} if nobody needs it",
                path.display()
            )),
            Self::Override { .. } => {
                Some("keep only settings in that folder, such as postgresql.conf and pg_hba.conf".into())
            }
            Self::NoSpace { .. } => Some("restore onto a larger file system".into()),
            Self::File { source, .. } | Self::Stream { source } => match source.kind() {
                std::io::ErrorKind::StorageFull => Some("restore onto a larger file system".into()),
                std::io::ErrorKind::PermissionDenied => {
                    Some("run as a user that may write there".into())
                }
                _ => None,
            },
            Self::Damaged { .. } => {
                Some("restore another backup; `pgm-cli list-backup` lists them".into())
            }
        }
    }
}
