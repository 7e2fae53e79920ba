//! `pgm-cli man`: the manual pages, in roff, made from what the programs themselves take.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::arguments::{Arguments, ManArguments};
use crate::error::{CliError, Failure};

pub(super) fn run(arguments: &ManArguments) -> Result<ExitCode, CliError> {
    let written = match &arguments.into {
        Some(folder) => write_all(folder),
        None => Man::new(Arguments::command()).render(&mut io::stdout()),
    };
    written.map_err(|error| {
        let text = format!("cannot write the manual: {error}");
        let hint = "name a directory that you may write into: pgm-cli man --into DIR";
        CliError::new(Failure::Failed, text, Some(hint.to_owned()))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn write_all(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    for program in [Arguments::command(), pgmd::arguments::Arguments::command()] {
        let mut program = program.disable_help_subcommand(true);
        program.build();
        write(&program, folder)?;
    }
    Ok(())
}

/// The page of a command, and those of the commands below it.
fn write(command: &Command, folder: &Path) -> io::Result<()> {
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        write(below, folder)?;
    }
    let page = Man::new(command.clone()).generate_to(folder)?;
    // Everybody may read it, unlike what else is written here.
    std::fs::set_permissions(page, Permissions::from_mode(0o644))
}
