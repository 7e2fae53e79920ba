//! The pgm command line: drives the daemon, and works on a repository without it.
//!
//! Thin: one file per command under `command/`, what it prints under `output/`, how it fails in `error.rs`.

mod arguments;
mod command;
mod error;
mod import;
mod locate;
mod output;
mod relation_names;
mod remote;

use std::process::ExitCode;

use crate::arguments::Arguments;

fn main() -> ExitCode {
    if let Some(status) = pgmd::trial::guard() {
        return status;
    }
    // Nothing that is written here is for others to read, unless it says so itself.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let arguments = Arguments::read();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(arguments.log_level())
        .with_target(false)
        .init();
    let format = arguments.format;
    match command::run(arguments) {
        Ok(status) => status,
        Err(error) => {
            output::print_error(format, &error);
            error.exit_code()
        }
    }
}
