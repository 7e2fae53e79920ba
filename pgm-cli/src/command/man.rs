//! `pgm-cli man`: the manual page, in roff.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::arguments::Arguments;
use crate::error::{CliError, Failure};

pub(super) fn run() -> Result<ExitCode, CliError> {
    let page = clap_mangen::Man::new(Arguments::command());
    page.render(&mut std::io::stdout()).map_err(|error| {
        CliError::new(
            Failure::Failed,
            format!("cannot write the page: {error}"),
            None,
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
