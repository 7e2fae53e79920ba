//! What can be typed after `restore`: what is restored, where to, and where recovery ends.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pgm_proto::{Lsn, ServerName, TimelineId};

use super::parse_time;

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch that is typed or not"
)]
pub(crate) struct RestoreArguments {
    /// The server whose backup is restored
    #[arg(value_name = "SERVER")]
    pub(crate) server: ServerName,
    /// The backup: its label, or newest (the newest from which the target can be reached), or oldest
    #[arg(value_name = "LABEL|newest|oldest")]
    pub(crate) backup: String,
    /// The data directory to make: absent or empty; with --host, an absolute path on pgmd's host
    #[arg(value_name = "DIR")]
    pub(crate) target: PathBuf,
    /// Where recovery ends
    #[command(flatten)]
    pub(crate) target_point: TargetArguments,
    /// Put the tablespace that was at OLD into NEW; can be given several times
    #[arg(long, value_name = "OLD=NEW", value_parser = parse_tablespace)]
    pub(crate) tablespace: Vec<(PathBuf, PathBuf)>,
    /// DIR may be a data directory of this server that is stopped: only what differs is written, what the backup does not have is removed
    #[arg(long)]
    pub(crate) delta: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub(crate) plan: bool,
    /// Work on the repository directly, also when pgmd is running
    #[arg(long)]
    pub(crate) offline: bool,
    /// Do not wait: print the job's number and go; pgm-cli job wait JOB follows it
    #[arg(long, visible_alias = "no-wait", conflicts_with = "offline")]
    pub(crate) detach: bool,
}

/// Where recovery ends, and what happens there.
#[derive(Debug, Args)]
pub(crate) struct TargetArguments {
    /// Where recovery ends; to the end of the archive when left out
    #[command(flatten)]
    pub(crate) stop: StopArguments,
    /// Stop just before the target, not just after it
    #[arg(long, requires = "stop", conflicts_with_all = ["target_name", "target_immediate"])]
    pub(crate) exclusive: bool,
    /// The timeline to follow; the newest that the backup leads to when left out
    #[arg(long, value_name = "N")]
    pub(crate) timeline: Option<TimelineId>,
    /// What the server does when it has reached the target (default: promote)
    #[arg(long, value_enum, value_name = "ACTION", requires = "stop")]
    pub(crate) target_action: Option<TargetAction>,
}

/// The place where recovery ends: at most one.
#[derive(Debug, Clone, Args)]
#[group(id = "stop", required = false, multiple = false)]
#[expect(
    clippy::struct_field_names,
    reason = "they are named as the options are"
)]
pub(crate) struct StopArguments {
    /// Recover to this moment, such as '2026-11-22 10:00:00+00' (local time when it names no zone)
    #[arg(long, value_name = "T", value_parser = parse_time)]
    pub(crate) target_time: Option<jiff::Timestamp>,
    /// Recover to this WAL position, such as 0/3000028
    #[arg(long, value_name = "L")]
    pub(crate) target_lsn: Option<Lsn>,
    /// Recover to the commit of this transaction
    #[arg(long, value_name = "X")]
    pub(crate) target_xid: Option<u64>,
    /// Recover to a restore point made by pg_create_restore_point()
    #[arg(long, value_name = "N")]
    pub(crate) target_name: Option<String>,
    /// Recover just until the backup is consistent
    #[arg(long)]
    pub(crate) target_immediate: bool,
}

/// What the server does at the recovery target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetAction {
    /// Stay in recovery, for a look (needs hot_standby)
    Pause,
    /// Open for writing
    Promote,
    /// Stop
    Shutdown,
}

fn parse_tablespace(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let (old, new) = text
        .split_once('=')
        .ok_or("write OLD=NEW, two absolute paths")?;
    let (old, new) = (PathBuf::from(old), PathBuf::from(new));
    match (old.is_absolute(), new.is_absolute()) {
        (true, true) => Ok((old, new)),
        (false, _) => Err(format!("`{}` is not an absolute path", old.display())),
        (_, false) => Err(format!("`{}` is not an absolute path", new.display())),
    }
}
