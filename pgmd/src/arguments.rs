//! What can be typed after `pgmd`. In the library, because the manual page is made from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::FILE_NAME;

const SIGNALS: &str = "\
Signals:
  TERM, INT, ALRM  stop in order, within shutdown_timeout
  HUP              read the configuration again, open the log file anew
  ABRT             end at once, without a core file

Exit status:
  0  stopped as it was told to
  2  it cannot start: the configuration, a file or a socket cannot be used";

/// Streams WAL, takes backups, restores
///
/// Runs in the foreground until SIGTERM, SIGINT or SIGALRM; SIGHUP reads the configuration again.
#[derive(Debug, Parser)]
#[command(
    name = "pgmd",
    version,
    args_conflicts_with_subcommands = true,
    after_help = SIGNALS,
    max_term_width = 100
)]
pub struct Arguments {
    /// What pgmd itself starts.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What people type.
    #[command(flatten)]
    pub daemon: DaemonArguments,
}

/// The options of the daemon.
#[derive(Debug, Args)]
pub struct DaemonArguments {
    /// The configuration file
    #[arg(short = 'c', long, value_name = "FILE", conflicts_with = "directory")]
    pub config: Option<PathBuf>,
    /// The base directory, with its configuration in pgmd.ron
    #[arg(short = 'D', long, value_name = "DIR", env = "PGM_DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// Only check the configuration
    #[arg(long)]
    pub check_config: bool,
}

/// The parts of the daemon.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What pgmd itself starts
    #[command(hide = true)]
    Worker {
        /// For reading in a list of processes; the work itself comes on the standard input
        #[arg(num_args = 0..)]
        words: Vec<String>,
    },
}

impl DaemonArguments {
    /// The configuration file that is meant.
    pub fn file(&self) -> PathBuf {
        match (&self.config, &self.directory) {
            (Some(file), _) => file.clone(),
            (None, Some(folder)) => folder.join(FILE_NAME),
            (None, None) => FILE_NAME.into(),
        }
    }
}
