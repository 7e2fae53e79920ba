//! `pgm-cli mode`: whether pgmd works for a server.

use std::process::ExitCode;

use pgm_mgmt::{ModeReport, Request, Response, ServerMode};

use super::{Cx, daemon};
use crate::arguments::{Format, Mode, ModeArguments};
use crate::error::CliError;
use crate::output::print_json;
use crate::output::stdout::out;

pub(super) fn run(cx: &Cx, arguments: ModeArguments) -> Result<ExitCode, CliError> {
    let set = arguments.mode.map(|mode| match mode {
        Mode::Online => ServerMode::Online,
        Mode::Offline => ServerMode::Offline,
    });
    let server = arguments.server;
    match daemon::call(cx, &Request::Mode { server, set })? {
        Response::Mode(report) => {
            match cx.format {
                Format::Json => print_json(&report),
                Format::Text => print(&report),
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(daemon::unexpected(&other)),
    }
}

fn print(report: &ModeReport) {
    let ModeReport { server, mode, .. } = report;
    let now = if report.changed { " now" } else { "" };
    out!("{server} is {mode}{now}");
    if let (ServerMode::Offline, Some(lsn)) = (mode, report.durable_lsn) {
        out!(
            "its wal is durable, and reported as flushed, up to {lsn}; its slot keeps what follows"
        );
    }
}
