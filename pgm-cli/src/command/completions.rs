//! `pgm-cli completions`: the completion script for a shell.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::arguments::{Arguments, CompletionsArguments};

pub(super) fn run(arguments: &CompletionsArguments) -> ExitCode {
    let mut command = Arguments::command();
    clap_complete::generate(
        arguments.shell,
        &mut command,
        "pgm-cli",
        &mut std::io::stdout(),
    );
    ExitCode::SUCCESS
}
