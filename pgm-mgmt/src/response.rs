//! The answers. One type for each request.
//!
//! All of them serialise with serde; the command line prints the payload of a variant as JSON. That shape is a promise:
//! fields are added, never renamed or removed. LSNs are text (`16/B374D848`), moments are RFC 3339 in UTC, sizes are
//! bytes, system identifiers are text (they do not fit a JavaScript number).

use pgm_proto::{Lsn, RepositoryName, ServerName, ServerVersion, SlotName, TimelineId};
use serde::{Deserialize, Serialize};

use crate::restore::{PlannedRestore, RestoreOutcome};

use crate::archive::Archived;
use crate::delete::Deleted;
use crate::details::StatusDetails;
use crate::event::{JobId, JobProgress};
use crate::hello::Welcome;
use crate::jobs::{JobList, JobRecord, StartedJob};
use crate::marks::{Annotation, BackupMarks};
use crate::mode::ModeReport;
use crate::retention::RetentionOutcome;
use crate::settings::{Reloaded, SettingList, SettingSet};
use crate::standby::{StandbyOutcome, StandbyStatus};
use crate::users::UsersReloaded;
use crate::verify::{Finding, TrialSummary, VerificationSummary, Verified};
use crate::window::RecoveryWindow;

/// The answer to a request that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To [`crate::Request::Hello`].
    Welcome(Welcome),
    /// To [`crate::Request::Ping`].
    Pong(Pong),
    /// To [`crate::Request::Status`].
    Status(DaemonStatus),
    /// To [`crate::Request::StatusDetails`].
    StatusDetails(StatusDetails),
    /// To [`crate::Request::Backup`].
    BackedUp(BackupSummary),
    /// To [`crate::Request::ListBackups`].
    Backups(BackupList),
    /// To [`crate::Request::Info`].
    Backup(Box<BackupDetails>),
    /// To [`crate::Request::Restore`] with `plan_only`.
    Planned(PlannedRestore),
    /// To [`crate::Request::Restore`].
    Restored(RestoreOutcome),
    /// Of a job that the daemon begins by itself after a backup: no request asks for it.
    StandbyUpdated(StandbyOutcome),
    /// To [`crate::Request::Delete`].
    Deleted(Deleted),
    /// To [`crate::Request::Retention`].
    Retention(RetentionOutcome),
    /// To [`crate::Request::Retain`], [`crate::Request::Expunge`] and [`crate::Request::Annotate`].
    Marked(BackupMarks),
    /// To [`crate::Request::Archive`].
    Archived(Archived),
    /// To [`crate::Request::Verify`]. What is damaged is in it: a verification that finds damage has succeeded.
    Verified(Verified),
    /// To [`crate::Request::Progress`].
    Jobs(RunningJobs),
    /// To [`crate::Request::Cancel`]: the job was told; its own client gets the end.
    Cancelling(JobId),
    /// To [`crate::Request::ListJobs`].
    JobList(JobList),
    /// To [`crate::Request::Job`] and [`crate::Request::Follow`].
    Job(JobRecord),
    /// To [`crate::Request::Start`].
    Started(StartedJob),
    /// To [`crate::Request::ClearJobs`].
    Cleared(Cleared),
    /// To [`crate::Request::Settings`].
    Settings(SettingList),
    /// To [`crate::Request::SetSetting`].
    SettingSet(SettingSet),
    /// To [`crate::Request::Mode`].
    Mode(ModeReport),
    /// To [`crate::Request::Reload`].
    Reloaded(Reloaded),
    /// To [`crate::Request::ReloadUsers`].
    UsersReloaded(UsersReloaded),
    /// To [`crate::Request::Shutdown`].
    Stopping(Stopping),
}

/// The daemon is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The daemon's version.
    pub version: String,
    /// The protocol it speaks ([`crate::PROTOCOL_VERSION`]).
    pub protocol: u32,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: String,
}

/// How the daemon and its servers are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started.
    pub started: String,
    /// The configuration file.
    pub config: String,
    /// Where the repository is.
    pub repository: String,
    /// Bytes free in the repository, where the engine can say.
    pub repository_free_bytes: Option<u64>,
    /// Bytes free where the spool is.
    pub spool_free_bytes: Option<u64>,
    /// The servers, by name.
    pub servers: Vec<ServerStatus>,
    /// The jobs that run now.
    pub jobs: Vec<JobProgress>,
}

/// How the WAL of one server is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The server.
    pub server: ServerName,
    /// What its receive worker does.
    pub state: ServerState,
    /// The replication slot.
    pub slot: SlotName,
    /// The process id of the worker, while there is one.
    pub worker_pid: Option<u32>,
    /// The server's version, once it has been reached.
    pub version: Option<ServerVersion>,
    /// Its system identifier, once it has been reached.
    pub system_id: Option<String>,
    /// The timeline it is on.
    pub timeline: Option<TimelineId>,
    /// How far WAL has arrived.
    pub received_lsn: Option<Lsn>,
    /// How far it is safe on our disk, and so acknowledged.
    pub durable_lsn: Option<Lsn>,
    /// How far it is in the repository.
    pub archived_lsn: Option<Lsn>,
    /// How far the server itself had written when it was last heard of.
    pub server_lsn: Option<Lsn>,
    /// Bytes from `durable_lsn` to `server_lsn`.
    pub lag_bytes: Option<u64>,
    /// Seconds of work that would be lost if the server vanished now: 0 while everything it wrote is durable here.
    pub rpo_seconds: Option<u64>,
    /// Seconds since the server was last heard of.
    pub last_message_seconds: Option<u64>,
    /// Bytes of WAL received since the daemon started.
    pub received_bytes: u64,
    /// Segments archived since the daemon started.
    pub archived_segments: u64,
    /// Bytes in the spool, waiting to be archived or still being filled.
    pub spool_bytes: u64,
    /// How often the worker was started again.
    pub restarts: u64,
    /// The newest error, until the worker streams again.
    pub last_error: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// When it happened.
    pub last_error_at: Option<String>,
    /// Holes in the archive.
    pub gaps: Vec<Gap>,
    /// The newest stretch to any point of which it can be restored. With a repository that is no local folder it is looked up
    /// only when details are asked for.
    #[serde(default)]
    pub window: Option<RecoveryWindow>,
    /// How each repository is, the one named `default` first.
    #[serde(default)]
    pub repositories: Vec<RepositoryStatus>,
    /// How many backups there are.
    pub backups: u64,
    /// The newest backup.
    pub newest_backup: Option<BackupSummary>,
    /// The labels of those that cannot be relied on: their entry cannot be read, or verifying them found damage.
    #[serde(default)]
    pub damaged_backups: Vec<String>,
    /// Why the repository could not be asked, when it could not.
    pub repository_error: Option<String>,
    /// The directories that are kept ready to be started as its standbys.
    #[serde(default)]
    pub standbys: Vec<StandbyStatus>,
}

/// What a server's receive worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// The worker process starts.
    Starting,
    /// It connects, or finds out where to go on.
    Connecting,
    /// WAL flows.
    Streaming,
    /// The connection is gone; it is tried again shortly.
    Backoff,
    /// The worker died; it is started again shortly.
    Restarting,
    /// Something a person has to mend; it is still tried again.
    Error,
    /// The daemon or the server's entry is going away.
    Stopping,
    /// No worker.
    Stopped,
    /// It is left alone, as was ordered.
    Offline,
}

impl ServerState {
    /// The name in JSON: `streaming`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Backoff => "backoff",
            Self::Restarting => "restarting",
            Self::Error => "error",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Offline => "offline",
        }
    }
}

/// WAL that is missing from a server's archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The timeline.
    pub timeline: TimelineId,
    /// The first missing byte.
    pub from: Lsn,
    /// The first byte after the hole.
    pub to: Lsn,
}

/// One backup, in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// The server.
    pub server: ServerName,
    /// The name of the repository that it is in.
    #[serde(default)]
    pub repository: RepositoryName,
    /// The backup's name.
    pub label: String,
    /// `full`.
    pub kind: String,
    /// Whether it can be trusted.
    pub status: BackupStatus,
    /// When it began.
    pub started: String,
    /// When it ended.
    pub stopped: String,
    /// The timeline it was taken on.
    pub timeline: TimelineId,
    /// Where its WAL begins.
    pub start_lsn: Lsn,
    /// Where it is consistent.
    pub end_lsn: Lsn,
    /// The server's version.
    pub version: ServerVersion,
    /// The server's system identifier.
    pub system_id: String,
    /// Bytes of the server's files.
    pub raw_bytes: u64,
    /// Bytes in the repository.
    pub stored_bytes: u64,
    /// Raw bytes that it did not store again, because a backup that was interrupted had.
    #[serde(default)]
    pub reused_bytes: u64,
    /// What an incremental one is built on.
    #[serde(default)]
    pub basis: Option<Box<BasisSummary>>,
    /// How it is compressed: `zstd:3`.
    pub compression: String,
    /// Where the WAL is that makes it consistent: `archive`, or `included` in the backup.
    #[serde(default)]
    pub wal: String,
    /// How long it took.
    #[serde(default)]
    pub elapsed_ms: u64,
    /// Whether it is kept until it is expunged.
    #[serde(default)]
    pub retained: bool,
    /// How many notes it has.
    #[serde(default)]
    pub annotations: u64,
    /// When it was verified last, and what came of it.
    #[serde(default)]
    pub verified: Option<VerificationSummary>,
    /// What the newest verification on the level `restore` showed.
    #[serde(default)]
    pub trial: Option<TrialSummary>,
    /// Of a backup just taken: the repositories that it was meant for, too, and is not in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<UnreadableRepository>,
}

/// What an incremental backup has in common with the one before, which it does not need any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasisSummary {
    /// The backup before.
    pub label: String,
    /// Raw bytes that did not change since then, and were not stored again.
    pub kept_bytes: u64,
    /// Raw bytes that did not change either, and were stored again, so that old packs can go.
    #[serde(default)]
    pub stored_again_bytes: u64,
    /// How many old packs it does not need for that reason.
    #[serde(default)]
    pub packs_given_up: u32,
}

/// Whether a backup can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupStatus {
    /// Complete.
    Valid,
    /// Complete, with something that a person should read: see the warnings.
    Warnings,
    /// Its catalog entry cannot be read, or verifying it found damage.
    Damaged,
}

/// The backups of the servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupList {
    /// By server name.
    pub servers: Vec<ServerBackups>,
}

/// The backups of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerBackups {
    /// The server.
    pub server: ServerName,
    /// Oldest first.
    pub backups: Vec<BackupSummary>,
    /// Holes in the server's archived WAL.
    pub gaps: Vec<Gap>,
    /// From where to where it can be restored, oldest first, with the first repository that can be looked at.
    #[serde(default)]
    pub windows: Vec<RecoveryWindow>,
    /// Repositories that could not be looked at.
    #[serde(default)]
    pub unreadable: Vec<UnreadableRepository>,
}

/// How one repository is, for one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryStatus {
    /// Its name.
    pub repository: RepositoryName,
    /// Where it is.
    pub place: String,
    /// Whether everything there is sealed.
    #[serde(default)]
    pub sealed: bool,
    /// How far the server's WAL is archived there.
    pub archived_lsn: Option<Lsn>,
    /// Finished files of the spool that wait for it.
    pub backlog_files: u64,
    /// How long the oldest of them has waited; 0 if there is none.
    #[serde(default)]
    pub backlog_seconds: u64,
    /// How many backups it has; none when it could not be looked at.
    pub backups: Option<u64>,
    /// Why WAL does not get there, or why it could not be looked at.
    pub error: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

/// A repository that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableRepository {
    /// Its name.
    pub repository: RepositoryName,
    /// Why.
    pub error: String,
}

/// Everything about one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupDetails {
    /// The line of the list.
    pub summary: BackupSummary,
    /// From where to where a server can be restored with it; none when it cannot become consistent.
    #[serde(default)]
    pub window: Option<RecoveryWindow>,
    /// Its packs: names and sizes.
    pub packs: u64,
    /// How the server sent its files, in words: `as they are`, `compressed with zstd:1`.
    #[serde(default)]
    pub sent: String,
    /// The packs of interrupted backups with them.
    #[serde(default)]
    pub reused_packs: u64,
    /// Files in it, where the catalog says.
    pub files: Option<u64>,
    /// Its tablespaces.
    pub tablespaces: Vec<TablespaceSummary>,
    /// The checksum of its manifest.
    pub manifest_checksum: Option<String>,
    /// What a person should read: damaged pages, notices of the server.
    pub warnings: Vec<String>,
    /// How it was taken: `base_backup`.
    #[serde(default)]
    pub method: String,
    /// Why so.
    #[serde(default)]
    pub reason: String,
    /// Whether the server had page checksums, and checked every page that it sent.
    #[serde(default)]
    pub data_checksums: bool,
    /// The server's WAL segment size.
    #[serde(default)]
    pub segment_bytes: u32,
    /// Directories in it.
    #[serde(default)]
    pub directories: u64,
    /// The checkpoint from which replay begins.
    #[serde(default)]
    pub checkpoint_lsn: Option<Lsn>,
    /// `primary` or `standby`.
    #[serde(default)]
    pub taken_from: Option<String>,
    /// When it began, in the server's words.
    #[serde(default)]
    pub server_start_time: Option<String>,
    /// The label that the server was given.
    #[serde(default)]
    pub server_label: Option<String>,
    /// Bytes of its manifest.
    #[serde(default)]
    pub manifest_bytes: u64,
    /// The checksum of the server's own manifest, when it sent one.
    #[serde(default)]
    pub server_manifest_checksum: Option<String>,
    /// Its notes, by key.
    #[serde(default)]
    pub notes: Vec<Annotation>,
    /// Why its marks cannot be read, when they cannot; then it counts as retained.
    #[serde(default)]
    pub marks_error: Option<String>,
    /// What verifying it found, newest first.
    #[serde(default)]
    pub verifications: Vec<VerificationSummary>,
    /// What the newest verification found.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// A tablespace of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceSummary {
    /// Its object id.
    pub oid: u32,
    /// Where it was on the server.
    pub location: String,
}

/// The jobs that run now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningJobs {
    /// Oldest first.
    pub jobs: Vec<JobProgress>,
}

/// Something was emptied or set back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// How many entries there were.
    pub entries: u64,
}

/// The daemon stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// Its process id, to wait for its end.
    pub pid: u32,
}
