//! What can go wrong with repositories, backups and restores, by what the caller can do about it.

use pgm_proto::{Lsn, ServerName, SystemId, TimelineId};
use pgm_storage::seal::{KeyId, SealError};
use pgm_storage::{ObjectPath, StorageError};

use crate::label::BackupLabel;
use crate::marks::AnnotationError;
use crate::repository::{LockOwner, Purpose};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What to do when files of the server cannot be read.
const UNREADABLE: &str = "the user of pgmd must be able to read every file of the server (the same user, or \
    `initdb --allow-group-access`); with --source stream the server sends them";
/// And when a backup ended with its session.
const TAKE_AGAIN: &str = "the server's log says why; take the backup again";

/// Why an operation on a repository failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The server or the connection to it failed.
    #[error(transparent)]
    Server(pgm_proto::Error),
    /// Somebody asked for the operation to stop.
    #[error("cancelled")]
    Cancelled,
    /// There is no repository.
    #[error("there is no repository in {location}")]
    RepositoryMissing {
        /// The storage.
        location: String,
    },
    /// A repository is there already.
    #[error("there is a repository in {location} already")]
    RepositoryExists {
        /// The storage.
        location: String,
    },
    /// The repository is not the one that was used until now.
    #[error(
        "{} in {location}, where repository {known} was used until now",
        found.as_ref().map_or_else(|| "there is no repository".to_owned(), |id| format!("there is another repository ({id})"))
    )]
    OtherRepository {
        /// Where it should be.
        location: String,
        /// The id of the one that was used.
        known: String,
        /// The id of the one that is there, if there is one.
        found: Option<String>,
    },
    /// What an incremental backup was built on was deleted while it was taken.
    #[error("backup {label}, on which this one was to be built, was deleted meanwhile")]
    BasisDeleted {
        /// The backup whose pack is gone.
        label: BackupLabel,
    },
    /// Something is to be copied from a repository to itself.
    #[error("both are the same repository: {location}")]
    SameRepository {
        /// The storage.
        location: String,
    },
    /// The repository does not know the server.
    #[error("there is nothing of server `{server}` in {location}")]
    NothingOfServer {
        /// The storage.
        location: String,
        /// The server.
        server: ServerName,
    },
    /// The repository is sealed, and there is no key.
    #[error("the repository in {location} is sealed, and no master key was given")]
    RepositorySealed {
        /// The storage.
        location: String,
    },
    /// The repository should be sealed, and is not.
    #[error("the repository in {location} is not sealed, though it should be")]
    RepositoryPlain {
        /// The storage.
        location: String,
    },
    /// The keys are wrapped by another master key.
    #[error(
        "the repository in {location} takes the master key {needed}, and the one given is {given}"
    )]
    WrongMasterKey {
        /// The storage.
        location: String,
        /// The id of the key that it takes, as it says.
        needed: String,
        /// The id of the key that was given.
        given: KeyId,
    },
    /// The master key cannot be had.
    #[error("the master key of the repository cannot be had: {reason}")]
    NoMasterKey {
        /// Why not.
        reason: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A sealed repository has lost its keys.
    #[error("the sealed repository in {location} has no keys")]
    KeysMissing {
        /// The storage.
        location: String,
    },
    /// The keys cannot be used.
    #[error("the keys of the repository in {location} cannot be used: {source}")]
    Keys {
        /// The storage.
        location: String,
        /// Why not.
        source: SealError,
    },
    /// Somebody else changed the keys.
    #[error(
        "the keys of the repository in {location} were changed by somebody else at this moment"
    )]
    KeysChanged {
        /// The storage.
        location: String,
    },
    /// An object was written by a newer pgm.
    #[error("{object} has format version {found}, but this pgm knows versions up to {newest}")]
    UnknownFormat {
        /// The object.
        object: ObjectPath,
        /// Its format version.
        found: u32,
        /// The newest format version known here.
        newest: u32,
    },
    /// An object is there, and its bytes are not what was written.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The object.
        object: ObjectPath,
        /// Where and how.
        reason: String,
    },
    /// The server is not the one that the repository knows under this name.
    #[error(
        "server `{server}` has system identifier {found}, but the repository knows it as {known}"
    )]
    OtherSystem {
        /// The server.
        server: ServerName,
        /// The identifier in the repository.
        known: SystemId,
        /// The identifier of the server that answered.
        found: SystemId,
    },
    /// The server's WAL segment size is not the one that the repository knows.
    #[error(
        "server `{server}` has WAL segments of {found} bytes, but the repository knows {known} bytes"
    )]
    OtherSegmentSize {
        /// The server.
        server: ServerName,
        /// The size in the repository.
        known: u32,
        /// The size of the server that answered.
        found: u32,
    },
    /// The repository has nothing of this server.
    #[error("the repository knows no server `{server}`")]
    UnknownServer {
        /// The server.
        server: ServerName,
    },
    /// There is no such backup.
    #[error("server `{server}` has no backup {label}")]
    NoSuchBackup {
        /// The server.
        server: ServerName,
        /// The label asked for.
        label: String,
    },
    /// Another process works on this server.
    #[error("the {purpose} lock of server `{server}` is held by {owner}")]
    LockHeld {
        /// The server.
        server: ServerName,
        /// What the lock is for.
        purpose: Purpose,
        /// Who holds it.
        owner: Box<LockOwner>,
    },
    /// Our lock ran out or was taken over; the operation stops before it changes anything.
    #[error("the {purpose} lock of server `{server}` was lost: {reason}")]
    LockLost {
        /// The server.
        server: ServerName,
        /// What the lock is for.
        purpose: Purpose,
        /// Why.
        reason: String,
    },
    /// The backup is retained.
    #[error("backup {label} of server `{server}` is retained")]
    BackupRetained {
        /// The server.
        server: ServerName,
        /// The backup.
        label: BackupLabel,
    },
    /// Without the backup nothing could be restored.
    #[error("backup {label} is the last of server `{server}` from which something can be restored")]
    LastRestorable {
        /// The server.
        server: ServerName,
        /// The backup.
        label: BackupLabel,
    },
    /// It cannot be found out whether the backup may be deleted.
    #[error("backup {label} of server `{server}` is damaged: {reason}")]
    DoubtfulBackup {
        /// The server.
        server: ServerName,
        /// The backup.
        label: BackupLabel,
        /// What cannot be read.
        reason: String,
    },
    /// A note cannot be changed like this.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
    /// The server's version cannot be backed up.
    #[error("server `{server}` runs PostgreSQL {version}; pgm backs up 14 and newer")]
    UnsupportedVersion {
        /// The server.
        server: ServerName,
        /// Its version.
        version: pgm_proto::ServerVersion,
    },
    /// The server sent a backup that cannot be right.
    #[error("the server's backup stream is not valid: {reason}")]
    BadStream {
        /// What is wrong with it.
        reason: String,
    },
    /// The server's files cannot be read, though they should be.
    #[error("the files of server `{server}` cannot be read: {reason}")]
    NoFiles {
        /// The server.
        server: ServerName,
        /// Why not.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// A file of the server cannot be read.
    #[error("cannot {operation} {path} of the server: {source}")]
    ServerFile {
        /// What was tried.
        operation: &'static str,
        /// The file or folder, below the data directory, or of a tablespace.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The session ended in which the backup had begun, and so the backup did.
    #[error("the session that had begun the backup failed: {source}")]
    BackupSessionLost {
        /// What happened to it.
        source: pgm_proto::Error,
    },
    /// One of the sessions ended for which the server read its files.
    #[error("a session in which the server read its files failed: {source}")]
    ReadingSessionLost {
        /// What happened to it.
        source: pgm_proto::Error,
    },
    /// A backup was asked for without a repository to put it into.
    #[error("there is no repository for the backup")]
    NoTarget,
    /// The WAL that a backup needs did not become durable in time.
    #[error(
        "backup {label} needs the WAL of timeline {timeline} from {start} to {end}, and {missing} did not arrive \
         within {waited_seconds} s"
    )]
    WalMissing {
        /// The backup, which was given up.
        label: BackupLabel,
        /// The timeline.
        timeline: TimelineId,
        /// The first byte needed.
        start: Lsn,
        /// The end of what is needed.
        end: Lsn,
        /// What is missing.
        missing: String,
        /// How long it was waited for.
        waited_seconds: u64,
    },
    /// No server could be started on a restored backup, for a reason that says nothing of the backup.
    #[error("backup {label} cannot be tried: {reason}")]
    Trial {
        /// The backup.
        label: BackupLabel,
        /// Why not.
        reason: String,
        /// What to do.
        advice: Option<String>,
    },
    /// WAL coverage could not be found out.
    #[error("cannot tell which WAL is durable")]
    Coverage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operating system refused something that should always work.
    #[error("{operation} failed")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
}

impl From<pgm_proto::Error> for Error {
    fn from(error: pgm_proto::Error) -> Self {
        match error {
            // Only a cancelled operation interrupts its own session.
            pgm_proto::Error::Interrupted => Self::Cancelled,
            error => Self::Server(error),
        }
    }
}

impl Error {
    /// The next thing to do, for a person.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Storage(error) => error.hint(),
            Self::Server(error) => error.hint(),
            Self::RepositoryMissing { .. } => Some(
                "check the path; a new repository is made by `pgm-cli init` or the first start of pgmd".into(),
            ),
            Self::OtherRepository { location, .. } => Some(format!(
                "mount the file system of {location}, or correct repository.path; WAL waits in the spool meanwhile. If \
                 the change is meant: pgm-cli repository accept"
            )),
            Self::NoMasterKey { hint, .. } => hint.clone(),
            Self::RepositorySealed { .. } => Some(
                "give its master key: --master-key FILE, env:NAME or command:COMMAND with --repository; the setting \
                 `seal` in a configuration"
                    .into(),
            ),
            Self::RepositoryPlain { .. } => Some(
                "if it was sealed before, somebody put another one in its place. A plain repository cannot be sealed: \
                 it takes a new repository"
                    .into(),
            ),
            Self::WrongMasterKey { needed, .. } => Some(format!(
                "find the master key whose id is {needed}; somebody may have changed it (`pgm-cli repository rekey`)"
            )),
            Self::KeysMissing { .. } => Some(
                "put the folder repository.keys back from another copy of the repository; without it nothing there \
                 can be read"
                    .into(),
            ),
            Self::Keys { source, .. } => source.hint(),
            Self::KeysChanged { .. } => {
                Some("look which master key opens the repository now; then try again".into())
            }
            Self::RepositoryExists { .. } => {
                Some("open it instead, or choose an empty directory".into())
            }
            Self::BasisDeleted { .. } => Some("take it again".into()),
            Self::SameRepository { .. } => Some("name another one to copy to".into()),
            Self::NothingOfServer { .. } => Some(
                "names are case-sensitive; `pgm-cli list-backup` with the repository lists its servers".into(),
            ),
            Self::UnknownFormat { .. } => {
                Some("use the pgm that wrote the repository, or a newer one".into())
            }
            Self::Damaged { object, .. } => Some(format!(
                "check the disk, and restore {object} from another copy of the repository; other backups are not \
                 affected"
            )),
            Self::OtherSystem { server, .. } => Some(format!(
                "if this is a new cluster (initdb, pg_upgrade), give it another name in the configuration; if not, \
                 check that the connection of `{server}` leads to the right server"
            )),
            Self::OtherSegmentSize { server, .. } => Some(format!(
                "the segment size was changed with pg_resetwal: give the server another name than `{server}` and take \
                 a new backup"
            )),
            Self::UnknownServer { .. } => {
                Some("`pgm-cli status` lists the servers; names are case-sensitive".into())
            }
            Self::NoSuchBackup { server, .. } => {
                Some(format!("`pgm-cli list-backup {server}` lists the backups there are"))
            }
            Self::LockHeld { owner, .. } => Some(owner.hint()),
            Self::LockLost { .. } => Some(
                "the process stood still for too long, or the repository was out of reach; nothing was changed, so \
                 run the operation again"
                    .into(),
            ),
            Self::BackupRetained { server, label } => Some(format!(
                "release it first, if it really shall go: pgm-cli expunge {server} {label}"
            )),
            Self::LastRestorable { .. } => Some(
                "take a new backup first; --force deletes it all the same, and then the server's data exists only on \
                 the server"
                    .into(),
            ),
            Self::DoubtfulBackup { .. } => Some(
                "restore the object from another copy of the repository, or delete the backup with --force".into(),
            ),
            Self::Annotation(error) => error.hint(),
            Self::UnsupportedVersion { .. } => {
                Some("upgrade the server with pg_upgrade, or back it up with its own tools".into())
            }
            Self::BadStream { .. } => Some(
                "check that the address is that of a PostgreSQL server; its log may say more".into(),
            ),
            Self::NoFiles { advice, .. } => Some(advice.clone()),
            Self::ServerFile { .. } => Some(UNREADABLE.into()),
            Self::BackupSessionLost { .. } | Self::ReadingSessionLost { .. } => {
                Some(TAKE_AGAIN.into())
            }
            Self::NoTarget => Some("name at least one repository".into()),
            Self::WalMissing { .. } => Some(
                "check that the server's WAL is being received (`pgm-cli status`), then take the backup again".into(),
            ),
            Self::Trial { advice, .. } => advice.clone(),
            Self::Coverage(_) | Self::Cancelled | Self::System { .. } => None,
        }
    }

    /// The error for a backup whose catalog entry gave `error`.
    pub(crate) fn no_such_backup(
        server: &ServerName,
        label: BackupLabel,
        error: StorageError,
    ) -> Self {
        if error.is_not_found() {
            Self::NoSuchBackup {
                server: server.clone(),
                label: label.to_string(),
            }
        } else {
            error.into()
        }
    }

    /// A failure to read `object`: damage is the object's, all else stays the storage's.
    pub(crate) fn reading(object: &ObjectPath, error: StorageError) -> Self {
        match error.damage() {
            Some(reason) => Self::damaged(object, reason),
            None => error.into(),
        }
    }

    /// An object whose bytes are not what was written.
    pub(crate) fn damaged(object: &ObjectPath, reason: impl Into<String>) -> Self {
        Self::Damaged {
            object: object.clone(),
            reason: reason.into(),
        }
    }
}
