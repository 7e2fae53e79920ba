//! `pgm-cli repository`: which repository this host's WAL goes to; copies of repositories; their keys.

mod copy;
mod rekey;

use std::process::ExitCode;

use pgm_mgmt::ClientError;
use pgmd::{known_repository, repository};

use super::Cx;
use crate::arguments::{Format, RepositoryCommand};
use crate::error::CliError;
use crate::output::print_json;
use crate::output::stdout::out;

pub(super) fn run(cx: &Cx, command: &RepositoryCommand) -> Result<ExitCode, CliError> {
    match command {
        RepositoryCommand::Accept => accept(cx),
        RepositoryCommand::Copy(arguments) => copy::run(cx, arguments),
        RepositoryCommand::Rekey(arguments) => rekey::run(cx, arguments),
    }
}

fn accept(cx: &Cx) -> Result<ExitCode, CliError> {
    let config = cx.config()?;
    let failed = |error: &pgm_backup::Error| ClientError::Refused(repository::failure(error));
    let at = cx.at()?;
    let place = at.place()?;
    let before = known_repository::read(&config.spool, &place.name);
    let before = before.map_err(|error| failed(&error))?;
    let known = known_repository::accept(place, &config.spool).map_err(|error| failed(&error))?;
    if cx.format == Format::Json {
        print_json(&known);
        return Ok(ExitCode::SUCCESS);
    }
    let place = &known.path;
    match before {
        Some(before) if before.id == known.id => {
            out!("{place} is the repository already ({})", known.id);
        }
        Some(before) => out!(
            "{place} is the repository from now on ({}), no longer {} ({})",
            known.id,
            before.path,
            before.id
        ),
        None => out!("{place} is the repository from now on ({})", known.id),
    }
    Ok(ExitCode::SUCCESS)
}
