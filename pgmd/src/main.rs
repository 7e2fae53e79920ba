//! The pgm daemon.

use std::process::ExitCode;

use clap::Parser as _;
use pgmd::arguments::{Arguments, Command, DaemonArguments};
use pgmd::config::Config;
use pgmd::{log, supervisor, trial, worker};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

fn main() -> ExitCode {
    if let Some(status) = trial::guard() {
        return status;
    }
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
    let config = match Config::load(&arguments.file()) {
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
    let level = match log::start_daemon(&config) {
        Ok(level) => level,
        Err(error) => return refuse(&error, error.hint()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start: {error}"), None),
    };
    match runtime.block_on(supervisor::run(config, level.clone())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            level.finish();
            refuse(&error, error.hint())
        }
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
