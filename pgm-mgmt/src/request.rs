//! What a client may ask for.
//!
//! Every request has one typed answer, named in its doc comment. Fields are plain and checked where they are parsed; a
//! path is the daemon's business to judge, because it acts with the daemon's rights.

use pgm_proto::{Lsn, RepositoryName, ServerCompression, ServerName, TimelineId};
use serde::{Deserialize, Serialize};

use crate::archive::ArchiveOptions;
use crate::event::JobId;
use crate::hello::Hello;
use crate::jobs::JobScope;
use crate::marks::AnnotationChange;
use crate::mode::ServerMode;
use crate::retention::RetentionOptions;
use crate::role::{Access, Reach};
use crate::verify::VerifyOptions;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Which version do we both speak? Answer: [`crate::Response::Welcome`].
    Hello(Hello),
    /// Is the daemon there? Answer: [`crate::Response::Pong`].
    Ping,
    /// How are the servers? Answer: [`crate::Response::Status`].
    Status {
        /// Only this server.
        server: Option<ServerName>,
    },
    /// How are the servers, with everything that can be looked up? Answer: [`crate::Response::StatusDetails`].
    StatusDetails {
        /// Only this server.
        server: Option<ServerName>,
    },
    /// Take a backup; events until it is done. Answer: [`crate::Response::BackedUp`].
    ///
    /// The job goes on when the client goes away; [`Request::Cancel`] ends it.
    Backup {
        /// The server to back up.
        server: ServerName,
        /// How.
        options: BackupOptions,
    },
    /// Which backups are there? Answer: [`crate::Response::Backups`].
    ListBackups {
        /// Only those of this server.
        server: Option<ServerName>,
    },
    /// Everything about one backup. Answer: [`crate::Response::Backup`].
    Info {
        /// The server.
        server: ServerName,
        /// The backup.
        backup: BackupChoice,
    },
    /// Restore a backup; events until it is done. Answer: [`crate::Response::Restored`], or
    /// [`crate::Response::Planned`] when `plan_only`.
    Restore(RestoreOptions),
    /// Delete a backup; events until it is done. Answer: [`crate::Response::Deleted`].
    Delete {
        /// The server.
        server: ServerName,
        /// The backup.
        backup: BackupChoice,
        /// Also one that is damaged, or the last one.
        force: bool,
    },
    /// Keep a backup until it is expunged. Answer: [`crate::Response::Marked`].
    Retain {
        /// The server.
        server: ServerName,
        /// The backup.
        backup: BackupChoice,
    },
    /// Allow again that a retained backup is deleted. Answer: [`crate::Response::Marked`].
    Expunge {
        /// The server.
        server: ServerName,
        /// The backup.
        backup: BackupChoice,
    },
    /// Change the notes of a backup. Answer: [`crate::Response::Marked`].
    Annotate {
        /// The server.
        server: ServerName,
        /// The backup.
        backup: BackupChoice,
        /// How.
        change: AnnotationChange,
    },
    /// Restore a backup into one tar file; events until it is done. Answer: [`crate::Response::Archived`].
    Archive(ArchiveOptions),
    /// Verify backups; events until it is done. Answer: [`crate::Response::Verified`].
    Verify(VerifyOptions),
    /// Remove the backups and the WAL of a server that have expired; events until it is done. Answer:
    /// [`crate::Response::Retention`].
    Retention(RetentionOptions),
    /// Which jobs run? Answer: [`crate::Response::Jobs`].
    Progress,
    /// End a job, cleanly. Answer: [`crate::Response::Cancelling`].
    Cancel {
        /// The job.
        job: JobId,
    },
    /// Which jobs are there, and were there? Answer: [`crate::Response::JobList`].
    ListJobs {
        /// Only those of this server.
        server: Option<ServerName>,
        /// Only those that wait or run, or all that are remembered.
        #[serde(default)]
        scope: JobScope,
    },
    /// Everything about one job. Answer: [`crate::Response::Job`].
    Job {
        /// The job.
        job: JobId,
    },
    /// Follow a job to its end, whoever began it; events until then. Answer: [`crate::Response::Job`], also when the job
    /// failed.
    Follow {
        /// The job.
        job: JobId,
    },
    /// Begin a job, and do not wait for it. Answer: [`crate::Response::Started`]; what is no job is answered as if it
    /// had been asked for alone.
    Start(Box<Request>),
    /// Do what `request` asks for in one of the repositories. Answer: that of `request`.
    ///
    /// Without it a backup goes to all of them, what restores takes the first that can give the backup, lists name the
    /// backups of all, and what changes or verifies backups is refused when there are several.
    On {
        /// The name of the repository.
        repository: RepositoryName,
        /// What to do there.
        request: Box<Request>,
    },
    /// Forget the jobs that have ended. Answer: [`crate::Response::Cleared`].
    ClearJobs,
    /// Begin the counters of jobs, requests and logins in the metrics anew. Answer: [`crate::Response::Cleared`].
    ClearMetrics,
    /// What do the settings say? Answer: [`crate::Response::Settings`].
    Settings {
        /// Only this setting (`management.port`) or section (`servers.prod`).
        key: Option<String>,
    },
    /// Change a setting in the file and read that again. Answer: [`crate::Response::SettingSet`].
    SetSetting {
        /// The setting.
        key: String,
        /// The value as it is typed after `conf set KEY`; none for the default.
        value: Option<String>,
    },
    /// Whether the daemon works for a server, or shall. Answer: [`crate::Response::Mode`].
    Mode {
        /// The server.
        server: ServerName,
        /// The mode from now on; only asked for when `None`.
        #[serde(default)]
        set: Option<ServerMode>,
    },
    /// Read the configuration again. Answer: [`crate::Response::Reloaded`].
    Reload,
    /// Read the vault and the admins again. Answer: [`crate::Response::UsersReloaded`].
    ReloadUsers,
    /// Stop the daemon in order. Answer: [`crate::Response::Stopping`], before it stops.
    Shutdown,
}

impl Request {
    /// How it is named in logs and counters: `list-backup`, as the command that sends it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Ping => "ping",
            Self::Status { .. } => "status",
            Self::StatusDetails { .. } => "status --details",
            Self::Backup { .. } => "backup",
            Self::ListBackups { .. } => "list-backup",
            Self::Info { .. } => "info",
            Self::Restore(options) if options.plan_only => "restore --plan",
            Self::Restore(_) => "restore",
            Self::Delete { .. } => "delete",
            Self::Retain { .. } => "retain",
            Self::Expunge { .. } => "expunge",
            Self::Annotate { .. } => "annotate",
            Self::Verify(_) => "verify",
            Self::Archive(_) => "archive",
            Self::Retention(_) => "retention",
            Self::Progress => "progress",
            Self::Cancel { .. } => "job cancel",
            Self::ListJobs { .. } => "job ls",
            Self::Job { .. } => "job show",
            Self::Follow { .. } => "job wait",
            Self::Start(request) | Self::On { request, .. } => request.name(),
            Self::ClearJobs => "clear jobs",
            Self::ClearMetrics => "clear metrics",
            Self::Mode { .. } => "mode",
            Self::ReloadUsers => "reload-users",
            Self::Settings { key: None } => "conf ls",
            Self::Settings { key: Some(_) } => "conf get",
            Self::SetSetting { .. } => "conf set",
            Self::Reload => "conf reload",
            Self::Shutdown => "shutdown",
        }
    }

    /// The server that it is about, when it is about one.
    pub const fn server(&self) -> Option<&ServerName> {
        match self {
            Self::Status { server }
            | Self::StatusDetails { server }
            | Self::ListBackups { server }
            | Self::ListJobs { server, .. } => server.as_ref(),
            Self::Backup { server, .. }
            | Self::Info { server, .. }
            | Self::Mode { server, .. }
            | Self::Delete { server, .. }
            | Self::Retain { server, .. }
            | Self::Expunge { server, .. }
            | Self::Annotate { server, .. } => Some(server),
            Self::Restore(options) => Some(&options.server),
            Self::Verify(options) => Some(&options.server),
            Self::Archive(options) => Some(&options.server),
            Self::Retention(options) => Some(&options.server),
            Self::Start(request) | Self::On { request, .. } => request.server(),
            Self::Hello(_)
            | Self::Ping
            | Self::Progress
            | Self::Cancel { .. }
            | Self::Job { .. }
            | Self::Follow { .. }
            | Self::ClearJobs
            | Self::ClearMetrics
            | Self::Settings { .. }
            | Self::SetSetting { .. }
            | Self::Reload
            | Self::ReloadUsers
            | Self::Shutdown => None,
        }
    }

    /// Whether it only reads, or changes something.
    pub const fn access(&self) -> Access {
        match self {
            Self::Start(request) | Self::On { request, .. } => request.access(),
            Self::Hello(_)
            | Self::Settings { .. }
            | Self::ListJobs { .. }
            | Self::Job { .. }
            | Self::Follow { .. }
            | Self::Ping
            | Self::Status { .. }
            | Self::StatusDetails { .. }
            | Self::Mode { set: None, .. }
            | Self::ListBackups { .. }
            | Self::Info { .. }
            | Self::Progress => Access::Read,
            Self::Restore(options) if options.plan_only => Access::Read,
            Self::Retention(options) if options.dry_run => Access::Read,
            Self::Backup { .. }
            | Self::Restore(_)
            | Self::Delete { .. }
            | Self::Retain { .. }
            | Self::Expunge { .. }
            | Self::Annotate { .. }
            | Self::Verify(_)
            | Self::Archive(_)
            | Self::Retention(_)
            | Self::Cancel { .. }
            | Self::ClearJobs
            | Self::ClearMetrics
            | Self::SetSetting { .. }
            | Self::Mode { set: Some(_), .. }
            | Self::Reload
            | Self::ReloadUsers
            | Self::Shutdown => Access::Change,
        }
    }

    /// From where it may be asked for.
    pub const fn reach(&self) -> Reach {
        match self {
            Self::Reload | Self::ReloadUsers => Reach::LocalOnly,
            // A superuser's statement can run programs.
            Self::Verify(options) if !options.trial.sql.is_empty() => Reach::LocalOnly,
            Self::Start(request) | Self::On { request, .. } => request.reach(),
            _ => Reach::Anywhere,
        }
    }
}

/// How a backup is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupOptions {
    /// Spread the checkpoint at the start over the usual time instead of asking for it at once.
    pub spread_checkpoint: bool,
    /// Transfer at most this much, in KiB a second.
    pub max_rate_kib: Option<u32>,
    /// How the server compresses what it sends, when not as the configuration says.
    pub server_compression: Option<ServerCompression>,
    /// Store everything anew, also what a backup that was interrupted has stored.
    pub no_resume: bool,
    /// Do not store again what has not changed since the backup before, where that is possible.
    #[serde(default)]
    pub incremental: bool,
    /// How the server's data is read, when not as the configuration says.
    #[serde(default)]
    pub source: Option<BackupSource>,
    /// How many threads compress, from 1 to 8, when not as the configuration says.
    #[serde(default)]
    pub workers: Option<u16>,
}

/// How the server's data is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupSource {
    /// The first of the others that is possible.
    #[default]
    Auto,
    /// Its files are read where they are, on the daemon's host; where that is not possible, there is no backup.
    Local,
    /// It reads its files for ordinary sessions, several at a time; where that is not possible, there is no backup.
    Blocks,
    /// It sends changed pages only, for an incremental backup; where that is not possible, there is a warning.
    Native,
    /// It sends everything, and what has not changed is not stored.
    Stream,
}

/// Which backup is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupChoice {
    /// The newest one (for a restore: the newest from which the target can be reached).
    Newest,
    /// The oldest one.
    Oldest,
    /// The one with this label.
    Label(String),
}

impl BackupChoice {
    /// Reads `newest`, `oldest` or a label. Whether the label exists is the catalog's to say.
    pub fn parse(text: &str) -> Self {
        match text {
            "newest" | "latest" => Self::Newest,
            "oldest" => Self::Oldest,
            label => Self::Label(label.to_owned()),
        }
    }
}

/// What is restored, where to, and up to which point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOptions {
    /// The server whose backup it is.
    pub server: ServerName,
    /// The backup.
    pub backup: BackupChoice,
    /// The absolute path of the new data directory: absent or empty, unless `delta`.
    pub directory: String,
    /// The directory may be a data directory of the same server that is stopped: what differs from the backup is written, and
    /// what the backup does not have is removed.
    #[serde(default)]
    pub delta: bool,
    /// How far recovery goes.
    pub target: RestoreTarget,
    /// Where tablespaces go that shall not go where they came from.
    pub tablespaces: Vec<TablespaceMapping>,
    /// Only say what would be done.
    pub plan_only: bool,
    /// The absolute path of the program for `restore_command`; the `pgm-cli` beside the daemon when `None`.
    #[serde(default)]
    pub restore_program: Option<String>,
}

/// How far recovery goes, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreTarget {
    /// The point.
    pub point: TargetPoint,
    /// Stop just before the point instead of just after it (`recovery_target_inclusive = off`).
    pub exclusive: bool,
    /// The timeline to follow; the newest that descends from the backup's when `None`.
    pub timeline: Option<TimelineId>,
    /// What the server does at the target; PostgreSQL's default when `None`.
    pub action: Option<TargetAction>,
}

/// The point at which recovery stops.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TargetPoint {
    /// The end of the archived WAL.
    #[default]
    Latest,
    /// As soon as the backup is consistent.
    Immediate,
    /// A moment, as a timestamp that PostgreSQL reads; UTC when it names no zone.
    Time(String),
    /// A position.
    Lsn(Lsn),
    /// A transaction.
    Xid(u64),
    /// A restore point made with `pg_create_restore_point`.
    Name(String),
}

/// What the server does when recovery has reached its target (`recovery_target_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetAction {
    /// Wait, readable, until `pg_wal_replay_resume()`.
    Pause,
    /// Become a primary.
    Promote,
    /// Stop.
    Shutdown,
}

/// A tablespace goes somewhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablespaceMapping {
    /// Its location on the server that was backed up.
    pub from: String,
    /// The absolute path of its new folder.
    pub to: String,
}
