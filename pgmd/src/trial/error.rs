//! Why a trial could not be made. It says nothing of the backup.

use std::io;
use std::path::{Path, PathBuf};

use pgm_proto::Lsn;

/// Why no server could be started on a restored backup.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// PostgreSQL does not run as root.
    #[error("a trial starts PostgreSQL, which does not run as root")]
    Root,
    /// The programs are not on this host.
    #[error(
        "PostgreSQL {major} is not installed here: no program `postgres` of that version was found"
    )]
    NoPrograms {
        /// The major version.
        major: u32,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// The file system is too small.
    #[error("{} has room for {free} bytes, and the trial needs {needed}", path.display())]
    NoRoom {
        /// The scratch folder.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// The folder's path leaves no room for that of a unix socket.
    #[error("{} is too long a path for a unix socket", path.display())]
    LongPath {
        /// The folder of the socket.
        path: PathBuf,
    },
    /// No folder was named.
    #[error("no folder is named in which the backup can be restored")]
    NoScratch,
    /// The backup's own WAL makes a tablespace in a place that is not ours.
    #[error(
        "while the backup was taken a tablespace was made (at {lsn}): a trial would make it again in its place"
    )]
    TablespaceInBackup {
        /// The record.
        lsn: Lsn,
    },
    /// The restore failed for a reason that is not the backup's.
    #[error("{reason}")]
    Restore {
        /// Why.
        reason: String,
        /// What to do.
        advice: Option<String>,
    },
    /// A file or folder cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program cannot be started or waited for.
    #[error("cannot run {}: {source}", program.display())]
    Program {
        /// Which.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl TrialError {
    pub(super) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn program(program: &Path, source: io::Error) -> Self {
        Self::Program {
            program: program.to_owned(),
            source,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Root => Some(
                "run it as the user that owns the server's files: setpriv --reuid=postgres --regid=postgres \
                 --init-groups pgm-cli verify …"
                    .to_owned(),
            ),
            Self::NoPrograms { major, looked } => {
                let looked: Vec<String> = looked.iter().map(|path| path.display().to_string()).collect();
                Some(format!(
                    "install PostgreSQL {major}, or name the folder of its programs: setting verify.postgres_bin, or \
                     --postgres-bin; looked in {}",
                    looked.join(", ")
                ))
            }
            Self::NoRoom { .. } => Some(
                "name a folder on a larger file system: setting verify.scratch, or --scratch".to_owned(),
            ),
            Self::LongPath { .. } => Some(
                "a socket's path has at most 107 bytes: name a shorter folder with --scratch or verify.scratch"
                    .to_owned(),
            ),
            Self::NoScratch => Some("name one with --scratch DIR".to_owned()),
            Self::TablespaceInBackup { .. } => {
                Some("try a newer backup, or restore this one by hand on another host".to_owned())
            }
            Self::Restore { advice, .. } => advice.clone(),
            Self::File { .. } | Self::Program { .. } | Self::Cancelled => None,
        }
    }
}
