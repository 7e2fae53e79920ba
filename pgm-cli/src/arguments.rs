//! What can be typed: every command and option, with the help that is printed for it.

mod conf;
mod job;
mod mode;
mod operations;
mod place;
mod restore;
mod source;
mod wal;

pub(crate) mod admin;
pub(crate) mod file;
pub(crate) mod remote;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use pgm_proto::{Lsn, ServerCompression, ServerName, SlotName};

use self::admin::AdminCommand;
use self::file::{CompressArguments, FileArguments, SealArguments};
use self::remote::RemoteArguments;

pub(crate) use conf::{ConfCommand, ConfImportArguments, ConfLsArguments, ConfSetArguments};
pub(crate) use job::{ClearCommand, JobCommand, JobLsArguments};
pub(crate) use mode::{Mode, ModeArguments};
pub(crate) use operations::{
    AnnotateArguments, ArchiveArguments, CopyArguments, DeleteArguments, ListBackupArguments,
    MarkArguments, Order, RekeyArguments, RepositoryCommand, RetentionArguments, TrialArguments,
    VerifyArguments,
};
pub(crate) use place::RepositoryArguments;
pub(crate) use restore::{RestoreArguments, StopArguments, TargetAction, TargetArguments};
pub(crate) use source::SourceChoice;
pub(crate) use wal::{
    RelationFilter, WalBrowseArguments, WalFilterArguments, WalFilterOutArguments,
    WalFindArguments, WalGetArguments, WalInfoArguments, WalSourceArguments, WalStats,
    WalSummaryArguments, WalVerifyArguments, parse_manager, parse_relation,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  failed, the error says what to do next; or verify found damage
  2  the command line or the configuration is wrong
  3  pgmd is not running or does not answer
  4  there is no such server, backup or file

`wal get` is PostgreSQL's restore_command and keeps to its rules: 0 delivered, 1 not in the
archive, 128 recovery must stop (damage, a gap, a storage error).";

/// PostgreSQL backup, restore and WAL streaming.
#[derive(Debug, Parser)]
#[command(name = "pgm-cli", version, styles = STYLES, after_help = EXIT_STATUS, max_term_width = 100)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// The daemon's directory: configuration (pgmd.ron), spool, repository and socket
    #[arg(
        short = 'D',
        long,
        global = true,
        help_heading = "Everywhere",
        env = "PGM_DIRECTORY",
        value_name = "DIR"
    )]
    pub(crate) directory: Option<PathBuf>,
    /// The configuration file, when it is not DIR/pgmd.ron
    #[arg(
        short = 'c',
        long,
        global = true,
        help_heading = "Everywhere",
        env = "PGM_CONFIG",
        value_name = "FILE"
    )]
    pub(crate) config: Option<PathBuf>,
    /// How to print results
    #[arg(long, global = true, help_heading = "Everywhere", value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Say more on standard error (-v, -vv)
    #[arg(short, long, global = true, help_heading = "Everywhere", action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print help; -h is the host, as with psql
    #[arg(short = '?', long, global = true, help_heading = "Everywhere", action = clap::ArgAction::Help)]
    pub(crate) help: Option<bool>,
    /// The repository, when no daemon and no configuration is there
    #[command(flatten)]
    pub(crate) at: RepositoryArguments,
    /// Where pgmd is
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the command line. A host that is typed for a command that works on this host alone is refused; one that is
    /// only in the environment does not matter to it.
    pub(crate) fn read() -> Self {
        let mut command = Self::command();
        let matches = command.get_matches_mut();
        let read = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let typed = matches.value_source("remote_host") == Some(ValueSource::CommandLine);
        if typed && read.command.works_here_only() {
            let text = "this command works on this host: it takes no --host";
            command
                .error(clap::error::ErrorKind::ArgumentConflict, text)
                .exit();
        }
        let named = matches.value_source("repository_address") == Some(ValueSource::CommandLine);
        if named && !read.command.takes_repository() {
            let text = "this command takes no --repository: it asks pgmd, or works on files";
            command
                .error(clap::error::ErrorKind::ArgumentConflict, text)
                .exit();
        }
        read
    }

    /// How much is logged to standard error.
    pub(crate) fn log_level(&self) -> tracing::Level {
        match self.verbose {
            0 => tracing::Level::WARN,
            1 => tracing::Level::INFO,
            _ => tracing::Level::DEBUG,
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs: one JSON document on standard output
    Json,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented configuration for some servers, then check them
    Init(InitArguments),
    /// List every requirement of the servers as ok, warning or failure, with what mends it
    Check(CheckArguments),
    /// Ask whether pgmd is running
    Ping,
    /// Show each server: streaming, received and durable WAL, spool, backups, gaps
    Status(StatusArguments),
    /// Take a full backup of a server
    Backup(BackupArguments),
    /// List the backups of a server, or of all
    #[command(visible_alias = "list")]
    ListBackup(ListBackupArguments),
    /// Show everything about one backup
    Info(InfoArguments),
    /// Restore a backup into an empty directory, to the end or to a point in time
    Restore(RestoreArguments),
    /// Restore a backup into one tar file, compressed and encrypted as its name says
    Archive(ArchiveArguments),
    /// Remove backups and WAL that have expired under the retention policy
    Retention(RetentionArguments),
    /// Delete a backup and what only it needs
    Delete(DeleteArguments),
    /// Keep a backup: nothing deletes it until it is expunged
    Retain(MarkArguments),
    /// Allow again that a retained backup is deleted
    Expunge(MarkArguments),
    /// Add, update or remove a note of a backup
    Annotate(AnnotateArguments),
    /// Read a backup and its WAL, and say whether a restore would give back what was backed up
    Verify(VerifyArguments),
    /// Show running jobs with their progress
    Progress(ProgressArguments),
    /// Show whether pgmd works for a server, take it on (online) or leave it alone (offline)
    Mode(ModeArguments),
    /// List, show, cancel and follow jobs
    #[command(subcommand)]
    Job(JobCommand),
    /// Forget what has been counted or remembered
    #[command(subcommand)]
    Clear(ClearCommand),
    /// Work with the repository as a whole
    #[command(subcommand)]
    Repository(RepositoryCommand),
    /// Work with the write-ahead log
    #[command(subcommand)]
    Wal(WalCommand),
    /// Make the master key; manage passwords and users
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Show and change the settings of pgmd
    #[command(subcommand, visible_alias = "config")]
    Conf(ConfCommand),
    /// Encrypt a file of this host with the master key, into FILE.pgm
    Encrypt(SealArguments),
    /// Decrypt a file that `encrypt` made
    Decrypt(SealArguments),
    /// Compress a file of this host, into FILE.zst, FILE.lz4 or FILE.gz
    Compress(CompressArguments),
    /// Decompress a file: zstd, lz4, gzip or bzip2, whatever its name
    Decompress(FileArguments),
    /// Stop pgmd in order
    Shutdown,
    /// Print the completion script for a shell
    Completions(CompletionsArguments),
    /// Print the manual page, or write one for pgmd, pgm-cli and each of its commands
    Man(ManArguments),
}

impl Command {
    /// Whether the command never asks a daemon elsewhere.
    pub(crate) fn works_here_only(&self) -> bool {
        match self {
            Self::Init(_)
            | Self::Check(_)
            | Self::Wal(_)
            | Self::Admin(_)
            | Self::Conf(ConfCommand::Import(_))
            | Self::Encrypt(_)
            | Self::Decrypt(_)
            | Self::Compress(_)
            | Self::Decompress(_)
            | Self::Completions(_)
            | Self::Man(_) => true,
            Self::Restore(arguments) => arguments.offline,
            _ => false,
        }
    }

    /// Whether the command can work on a repository alone.
    pub(crate) fn takes_repository(&self) -> bool {
        matches!(
            self,
            Self::Init(_)
                | Self::ListBackup(_)
                | Self::Info(_)
                | Self::Restore(_)
                | Self::Archive(_)
                | Self::Delete(_)
                | Self::Retention(_)
                | Self::Retain(_)
                | Self::Expunge(_)
                | Self::Annotate(_)
                | Self::Verify(_)
                | Self::Wal(_)
        )
    }
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// The directory to make
    #[arg(value_name = "DIR")]
    pub(crate) target: PathBuf,
    /// A server to protect: a name and how to connect, such as prod='host=db1 user=backup'
    #[arg(long = "server", required = true, value_name = "NAME=CONNINFO", value_parser = parse_server)]
    pub(crate) servers: Vec<(ServerName, String)>,
    /// Seal the repository with a new master key in DIR/repository.key; --master-key names one that there is
    #[arg(long, conflicts_with = "master_key")]
    pub(crate) seal: bool,
    /// Write the configuration only
    #[arg(long)]
    pub(crate) no_check: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The server to check; all when left out
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<ServerName>,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// The server to show; all when left out
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<ServerName>,
    /// And settings, sizes, processes, stretches of WAL, room on the disks
    #[arg(long)]
    pub(crate) details: bool,
    /// Exit with 1 if something needs a person: damaged backups, an error, a repository that cannot be reached
    #[arg(long)]
    pub(crate) check: bool,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch that is typed or not"
)]
pub(crate) struct BackupArguments {
    /// The server to back up
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// Begin with a checkpoint that is spread over time, sparing the server's disk, not with an immediate one
    #[arg(long)]
    pub(crate) spread_checkpoint: bool,
    /// Take at most this much from the server, in KiB per second
    #[arg(long, value_name = "KIB", value_parser = clap::value_parser!(u32).range(32..=1_048_576))]
    pub(crate) max_rate: Option<u32>,
    /// So many threads compress, when not as configured
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=8))]
    pub(crate) workers: Option<u16>,
    /// Have the server (15 or newer) compress what it sends: zstd, lz4 or gzip, with a level as zstd:1; none
    #[arg(long, value_name = "COMPRESSION", allow_hyphen_values = true)]
    pub(crate) server_compression: Option<ServerCompression>,
    /// Store everything anew instead of going on from a backup that was interrupted
    #[arg(long)]
    pub(crate) no_resume: bool,
    /// Store only what has changed since the newest backup, where that is possible; it restores like a full one
    #[arg(short, long)]
    pub(crate) incremental: bool,
    /// How the server's data is read, when not as configured
    #[arg(long, value_name = "SOURCE", value_enum)]
    pub(crate) source: Option<SourceChoice>,
    /// Do not wait: print the job's number and go; pgm-cli job wait JOB follows it
    #[arg(long, visible_alias = "no-wait")]
    pub(crate) detach: bool,
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArguments {
    /// The server
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// The backup: its label, or newest, or oldest
    #[arg(value_name = "LABEL|newest|oldest", default_value = "newest")]
    pub(crate) backup: String,
}

/// Arguments of `progress`.
#[derive(Debug, Args)]
pub(crate) struct ProgressArguments {
    /// Only the jobs of this server
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<ServerName>,
    /// Look again every second until no job is left
    #[arg(long)]
    pub(crate) follow: bool,
}

/// Commands on the write-ahead log.
#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Deliver one archived WAL file: PostgreSQL's restore_command
    Get(WalGetArguments),
    /// Stream WAL from a server into a folder, as pg_receivewal does
    Receive(WalReceiveArguments),
    /// Show records of the write-ahead log as pg_waldump does, of PostgreSQL 14 to 18
    Info(WalInfoArguments),
    /// Check every record of the write-ahead log, and that none is missing
    Verify(WalVerifyArguments),
    /// List the blocks that changed between two positions, as pg_walsummary does, of PostgreSQL 14 to 18
    Summary(WalSummaryArguments),
    /// Copy WAL without given transactions, so that PostgreSQL replays the rest
    Filter(WalFilterOutArguments),
    /// Look through the write-ahead log on the screen: records, their parts and bytes, statistics
    Browse(WalBrowseArguments),
    /// Find the position just before a drop, a truncation, a commit, to restore to
    Find(WalFindArguments),
}

/// Arguments of `wal receive`.
#[derive(Debug, Args)]
pub(crate) struct WalReceiveArguments {
    /// How to connect
    #[arg(value_name = "CONNINFO")]
    pub(crate) conninfo: String,
    /// The folder for the segments
    #[arg(value_name = "DIR")]
    pub(crate) target: PathBuf,
    /// The replication slot to use
    #[arg(long, value_name = "NAME")]
    pub(crate) slot: Option<SlotName>,
    /// Make the slot when it is missing
    #[arg(long, requires = "slot")]
    pub(crate) create_slot: bool,
    /// Stop when this position is durable
    #[arg(long, value_name = "LSN")]
    pub(crate) endpos: Option<Lsn>,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// Write all pages into this directory, such as /usr/local/share/man/man1
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

fn parse_server(text: &str) -> Result<(ServerName, String), String> {
    let (name, conninfo) = text
        .split_once('=')
        .ok_or("write NAME=CONNINFO, such as prod='host=db1 user=backup'")?;
    let name = name
        .parse::<ServerName>()
        .map_err(|error| error.to_string())?;
    conninfo
        .parse::<pgm_proto::ConnInfo>()
        .map_err(|error| error.to_string())?;
    Ok((name, conninfo.to_owned()))
}

/// Reads a moment as PostgreSQL prints it (`2026-11-22 10:00:00.5+00`) or in RFC 3339; local when it names no zone.
pub(crate) fn parse_time(text: &str) -> Result<jiff::Timestamp, String> {
    let text = text.trim();
    let iso = text
        .replacen(' ', "T", 1)
        .replace(" UTC", "Z")
        .replace(' ', "");
    if let Ok(moment) = iso.parse::<jiff::Timestamp>() {
        return Ok(moment);
    }
    let local = iso.parse::<jiff::civil::DateTime>();
    let moment = local.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::system()));
    moment.map(|zoned| zoned.timestamp()).map_err(|_| {
        format!("`{text}` is not a moment such as '2026-11-22 10:00:00+00' or 2026-11-22T10:00:00Z")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn moments_are_read_as_postgresql_prints_them() {
        let expected: jiff::Timestamp = "2026-11-22T10:00:00.5Z".parse().unwrap();
        for text in [
            "2026-11-22 10:00:00.5+00",
            "2026-11-22 11:00:00.5+01",
            "2026-11-22 15:30:00.5+05:30",
            "2026-11-22T10:00:00.5Z",
            "2026-11-22 10:00:00.5 UTC",
        ] {
            assert_eq!(parse_time(text).unwrap(), expected, "{text}");
        }
        assert!(parse_time("yesterday").is_err());
    }

    #[test]
    fn at_most_one_target_is_taken() {
        let two = [
            "pgm-cli",
            "restore",
            "s",
            "newest",
            "/d",
            "--target-xid",
            "7",
            "--target-immediate",
        ];
        assert!(Arguments::try_parse_from(two).is_err());
        let one = [
            "pgm-cli",
            "restore",
            "s",
            "newest",
            "/d",
            "--target-xid",
            "7",
            "--exclusive",
        ];
        assert!(Arguments::try_parse_from(one).is_ok());
        let none = ["pgm-cli", "restore", "s", "newest", "/d", "--exclusive"];
        assert!(Arguments::try_parse_from(none).is_err());
    }
}
