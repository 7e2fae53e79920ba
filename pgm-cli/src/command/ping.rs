//! `pgm-cli ping`: whether pgmd is running.

use std::process::ExitCode;

use pgm_mgmt::{Request, Response};

use super::{Cx, daemon};
use crate::arguments::Format;
use crate::error::CliError;
use crate::output::print_json;
use crate::output::stdout::out;

pub(super) fn run(cx: &Cx) -> Result<ExitCode, CliError> {
    match daemon::call(cx, &Request::Ping)? {
        Response::Pong(pong) => {
            match cx.format {
                Format::Json => print_json(&pong),
                Format::Text => out!(
                    "pgmd {} is running (process {}, since {})",
                    pong.version,
                    pong.pid,
                    pong.started
                ),
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(daemon::unexpected(&other)),
    }
}
