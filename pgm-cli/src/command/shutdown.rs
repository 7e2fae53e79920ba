//! `pgm-cli shutdown`: stops pgmd in order and waits until it is gone.

use std::process::ExitCode;

use pgm_mgmt::{Request, Response};

use super::{Cx, daemon};
use crate::arguments::Format;
use crate::error::CliError;
use crate::output::print_json;
use crate::output::stdout::out;

pub(super) fn run(cx: &Cx) -> Result<ExitCode, CliError> {
    match daemon::call(cx, &Request::Shutdown)? {
        Response::Stopping(stopping) => {
            if !cx.is_elsewhere() {
                daemon::wait_gone(stopping.pid)?;
            }
            match cx.format {
                Format::Json => print_json(&stopping),
                Format::Text if cx.is_elsewhere() => {
                    out!("pgmd (process {} there) is stopping", stopping.pid);
                }
                Format::Text => out!("pgmd (process {}) has stopped", stopping.pid),
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(daemon::unexpected(&other)),
    }
}
