//! The pgm daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use pgmd::config::{Config, FILE_NAME};
use pgmd::{log, supervisor, worker};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Streams WAL, takes backups, restores
///
/// Runs in the foreground until SIGTERM, SIGINT or SIGALRM; SIGHUP reads the configuration again.
#[derive(Debug, Parser)]
#[command(
    name = "pgmd",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    daemon: DaemonArguments,
}

#[derive(Debug, Args)]
struct DaemonArguments {
    /// The configuration file
    #[arg(short = 'c', long, value_name = "FILE", conflicts_with = "directory")]
    config: Option<PathBuf>,
    /// The base directory, with its configuration in pgmd.ron
    #[arg(short = 'D', long, value_name = "DIR", env = "PGM_DIRECTORY")]
    directory: Option<PathBuf>,
    /// Only check the configuration
    #[arg(long)]
    check_config: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What pgmd itself starts
    #[command(hide = true)]
    Worker {
        /// For reading in a list of processes; the work itself comes on the standard input
        #[arg(num_args = 0..)]
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    // The first thing: nothing of ours is ever readable by others.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    keep_memory_private();
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Worker { .. }) => worker::run(),
        None => daemon(&arguments.daemon),
    }
}

fn daemon(arguments: &DaemonArguments) -> ExitCode {
    let config = match Config::load(&file(arguments)) {
        Ok(config) => config,
        Err(error) => return refuse(&error, error.hint()),
    };
    if arguments.check_config {
        println!(
            "{}: fine, {} servers",
            config.file.display(),
            config.servers.len()
        );
        return ExitCode::SUCCESS;
    }
    if rustix::process::geteuid().is_root() {
        let hint = "run it as the user that owns its files, such as postgres: \
                    setpriv --reuid=postgres --regid=postgres --init-groups pgmd …";
        return refuse(&"pgmd does not run as root", Some(hint.to_owned()));
    }
    let level = log::start(config.log_level, "");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start: {error}"), None),
    };
    match runtime.block_on(supervisor::run(config, level)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error, error.hint()),
    }
}

fn file(arguments: &DaemonArguments) -> PathBuf {
    match (&arguments.config, &arguments.directory) {
        (Some(file), _) => file.clone(),
        (None, Some(folder)) => folder.join(FILE_NAME),
        (None, None) => FILE_NAME.into(),
    }
}

/// Passwords are in our memory: it is written into no core file, and no other process of our user may look into it.
fn keep_memory_private() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let limited = setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = limited {
        eprintln!("pgmd: warning: core files cannot be switched off: {error}");
    }
}

/// Says why not, and what to do.
fn refuse(error: &dyn std::fmt::Display, hint: Option<String>) -> ExitCode {
    eprintln!("pgmd: {error}");
    if let Some(hint) = hint {
        eprintln!("HINT: {hint}");
    }
    // As a wrong command line: starting again does not help.
    ExitCode::from(2)
}
