//! What can be typed about backups that are there: list, delete, retain, expunge, annotate, verify.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pgm_backup::BackupLabel;
use pgm_mgmt::{AnnotationChange, ListedFiles, VerifyLevel};
use pgm_proto::ServerName;
use pgmd::config::MasterKeySource;

use super::{StopArguments, TargetArguments};

/// Arguments of `list-backup`.
#[derive(Debug, Args)]
pub(crate) struct ListBackupArguments {
    /// The server whose backups are listed; all when left out
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<ServerName>,
    /// Oldest first (asc), or newest first (desc)
    #[arg(long, value_enum, value_name = "ORDER", default_value_t = Order::Asc)]
    pub(crate) sort: Order,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// Oldest first
    Asc,
    /// Newest first
    Desc,
}

/// Arguments of `archive`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveArguments {
    /// The server whose backup it is
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// The backup: its label, or newest (the newest from which the target can be reached), or oldest
    #[arg(value_name = "LABEL|newest|oldest")]
    pub(crate) backup: String,
    /// The file to write: .tar, .tar.zst, .tar.gz or .tar.lz4, each with .pgm behind it to encrypt it
    #[arg(value_name = "OUT")]
    pub(crate) file: PathBuf,
    /// Where recovery ends; all WAL up to there is in the archive
    #[command(flatten)]
    pub(crate) target: TargetArguments,
    /// Replace a file of that name
    #[arg(long)]
    pub(crate) force: bool,
    /// Work on the repository directly, also when pgmd is running
    #[arg(long)]
    pub(crate) offline: bool,
    /// Do not wait: print the job's number and go; pgm-cli job wait JOB follows it
    #[arg(long, visible_alias = "no-wait", conflicts_with = "offline")]
    pub(crate) detach: bool,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// The server
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// The backup: its label, or oldest, or newest
    #[arg(value_name = "LABEL|oldest|newest")]
    pub(crate) backup: String,
    /// Also delete a backup that is damaged, or the last one; a retained backup stays all the same
    #[arg(long)]
    pub(crate) force: bool,
    /// Work on the repository directly, also when pgmd is running
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Arguments of `retention`.
#[derive(Debug, Args)]
pub(crate) struct RetentionArguments {
    /// The server
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// Another policy than the configured one, such as 'last 3, window 14d, days 7, weeks 4, months 12, years 3'
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<pgm_backup::retention::RetentionPolicy>,
    /// Only say what would go, and why the rest stays
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Say of each backup why it stays or that it goes
    #[arg(long)]
    pub(crate) explain: bool,
    /// Work on the repository directly, also when pgmd is running
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Arguments of `retain` and `expunge`.
#[derive(Debug, Args)]
pub(crate) struct MarkArguments {
    /// The server
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// The backup: its label, or newest, or oldest
    #[arg(value_name = "LABEL|newest|oldest")]
    pub(crate) backup: String,
}

/// Arguments of `annotate`.
#[derive(Debug, Args)]
pub(crate) struct AnnotateArguments {
    /// The server
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// The backup: its label, or newest, or oldest
    #[arg(value_name = "LABEL|newest|oldest")]
    pub(crate) backup: String,
    /// What is done
    #[command(subcommand)]
    pub(crate) change: AnnotateCommand,
}

/// Changes of a backup's notes.
#[derive(Debug, Subcommand)]
pub(crate) enum AnnotateCommand {
    /// Add a note
    Add {
        /// Its name, without spaces
        key: String,
        /// What it says
        text: String,
    },
    /// Give a note another text
    Update {
        /// Its name
        key: String,
        /// What it says from now on
        text: String,
    },
    /// Remove a note
    Remove {
        /// Its name
        key: String,
    },
}

impl AnnotateCommand {
    /// As it is asked for.
    pub(crate) fn into_change(self) -> AnnotationChange {
        match self {
            Self::Add { key, text } => AnnotationChange::Add { key, text },
            Self::Update { key, text } => AnnotationChange::Update { key, text },
            Self::Remove { key } => AnnotationChange::Remove { key },
        }
    }
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option that is given or not"
)]
pub(crate) struct VerifyArguments {
    /// The server
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// The backup: its label, or newest, or oldest, or all of them
    #[arg(value_name = "LABEL|newest|oldest|all", default_value = "newest")]
    pub(crate) backup: String,
    /// How far: each level includes those before it
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Level::Wal)]
    pub(crate) level: Level,
    /// List the files that are damaged (this is the default)
    #[arg(long, conflicts_with = "all")]
    pub(crate) failed: bool,
    /// List every file with its checksums
    #[arg(long)]
    pub(crate) all: bool,
    /// Work on the repository directly, also when pgmd is running
    #[arg(long)]
    pub(crate) offline: bool,
    /// Do not wait: print the job's number and go; pgm-cli job wait JOB follows it
    #[arg(long, visible_alias = "no-wait", conflicts_with = "offline")]
    pub(crate) detach: bool,
    /// How a backup is tried
    #[command(flatten)]
    pub(crate) trial: TrialArguments,
}

/// Options of `verify --level restore`.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --level restore")]
pub(crate) struct TrialArguments {
    /// The folder in which the backup is restored; what is made there is removed again
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch: Option<PathBuf>,
    /// A statement that must succeed on the recovered server; what gives one column of type boolean must give true
    #[arg(long, value_name = "STATEMENT")]
    pub(crate) sql: Vec<String>,
    /// The database in which statements run
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// A folder with PostgreSQL's programs, or with folders such as 17/bin; without pgmd only
    #[arg(long, value_name = "DIR")]
    pub(crate) postgres_bin: Vec<PathBuf>,
    /// Where recovery ends; at the end of the archive when left out
    #[command(flatten)]
    pub(crate) stop: StopArguments,
}

impl VerifyArguments {
    /// Which files are listed.
    pub(crate) fn files(&self) -> ListedFiles {
        if self.all {
            ListedFiles::All
        } else {
            ListedFiles::Failed
        }
    }
}

/// Commands on the repository as a whole.
#[derive(Debug, Subcommand)]
pub(crate) enum RepositoryCommand {
    /// Use the configured repository from now on, although it is another one than before; make it if there is none
    Accept,
    /// Copy backups and WAL of servers from one repository to another; what is there already stays
    Copy(Box<CopyArguments>),
    /// Change the keys of a sealed repository: another master key, a new data key; no data is written anew
    Rekey(RekeyArguments),
}

/// Arguments of `repository rekey`.
#[derive(Debug, Args)]
pub(crate) struct RekeyArguments {
    /// The master key from now on: FILE, env:NAME or command:COMMAND
    #[arg(long, value_name = "SOURCE")]
    pub(crate) new_master_key: Option<MasterKeySource>,
    /// Seal what is written from now on with a new data key
    #[arg(long)]
    pub(crate) new_data_key: bool,
}

/// Arguments of `repository copy`.
#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    /// Where from: the name of a configured repository, a directory with a / in it, or an address such as s3://…
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// Where to, likewise; made if there is none
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// Only this server; can be given several times; all when left out
    #[arg(long, value_name = "SERVER")]
    pub(crate) server: Vec<ServerName>,
    /// Only this backup
    #[arg(long, value_name = "LABEL")]
    pub(crate) backup: Option<BackupLabel>,
    /// Leave the WAL out: it gets there by other ways
    #[arg(long)]
    pub(crate) no_wal: bool,
    /// The file with the credentials for FROM, when that is an address
    #[arg(long, value_name = "FILE")]
    pub(crate) from_credentials: Option<PathBuf>,
    /// The file with the credentials for TO, when that is an address
    #[arg(long, value_name = "FILE")]
    pub(crate) to_credentials: Option<PathBuf>,
    /// The master key of FROM, when that is a sealed one at an address: FILE, env:NAME or command:COMMAND
    #[arg(long, value_name = "SOURCE")]
    pub(crate) from_master_key: Option<MasterKeySource>,
    /// The master key of TO, when that is an address; one that is made is sealed then
    #[arg(long, value_name = "SOURCE")]
    pub(crate) to_master_key: Option<MasterKeySource>,
}

/// How far a verification goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Catalog entry, manifests and packs agree
    Catalog,
    /// Every frame is read, and every file has its checksum
    Frames,
    /// The WAL is complete and sound, too
    Wal,
    /// A server is started on the restored backup, replays the WAL, and is checked
    Restore,
}

impl From<Level> for VerifyLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Catalog => Self::Catalog,
            Level::Frames => Self::Frames,
            Level::Wal => Self::Wal,
            Level::Restore => Self::Restore,
        }
    }
}
