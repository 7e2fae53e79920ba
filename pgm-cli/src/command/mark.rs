//! `pgm-cli retain`, `expunge` and `annotate`: what is said of a backup; also when pgmd is not running.

use std::process::ExitCode;

use pgm_mgmt::{BackupChoice, BackupMarks, Request, Response};
use pgmd::operations;

use super::{Cx, daemon, offline};
use crate::arguments::{AnnotateArguments, Format, MarkArguments};
use crate::error::CliError;
use crate::output::print_json;
use crate::output::stdout::out;

pub(super) fn retain(cx: &Cx, arguments: MarkArguments) -> Result<ExitCode, CliError> {
    let (server, backup) = (arguments.server, BackupChoice::parse(&arguments.backup));
    let marks = if daemon::is_running(cx)? {
        ask(cx, &Request::Retain { server, backup })?
    } else {
        offline::on_place(cx, &server, |_, place| operations::retain(place, &backup))?
    };
    print(cx, &marks);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn expunge(cx: &Cx, arguments: MarkArguments) -> Result<ExitCode, CliError> {
    let (server, backup) = (arguments.server, BackupChoice::parse(&arguments.backup));
    let marks = if daemon::is_running(cx)? {
        ask(cx, &Request::Expunge { server, backup })?
    } else {
        offline::on_place(cx, &server, |_, place| operations::expunge(place, &backup))?
    };
    print(cx, &marks);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn annotate(cx: &Cx, arguments: AnnotateArguments) -> Result<ExitCode, CliError> {
    let (server, backup) = (arguments.server, BackupChoice::parse(&arguments.backup));
    let change = arguments.change.into_change();
    let marks = if daemon::is_running(cx)? {
        let request = Request::Annotate {
            server,
            backup,
            change,
        };
        ask(cx, &request)?
    } else {
        offline::on_place(cx, &server, |_, place| {
            operations::annotate(place, &backup, change)
        })?
    };
    print(cx, &marks);
    Ok(ExitCode::SUCCESS)
}

fn ask(cx: &Cx, request: &Request) -> Result<BackupMarks, CliError> {
    match daemon::call(cx, request)? {
        Response::Marked(marks) => Ok(marks),
        other => Err(daemon::unexpected(&other)),
    }
}

fn print(cx: &Cx, marks: &BackupMarks) {
    if cx.format == Format::Json {
        return print_json(marks);
    }
    let kept = if marks.retained {
        "is retained"
    } else {
        "may be deleted"
    };
    out!("backup {} of {} {kept}", marks.label, marks.server);
    for note in &marks.annotations {
        out!("{}: {}", note.key, note.text);
    }
}
