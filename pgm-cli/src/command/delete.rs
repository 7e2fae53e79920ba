//! `pgm-cli delete`: deletes a backup; also when pgmd is not running.

use std::process::ExitCode;

use pgm_backup::delete::Force;
use pgm_mgmt::{BackupChoice, Request, Response};
use pgmd::operations;

use super::{Cx, daemon, offline};
use crate::arguments::{DeleteArguments, Format};
use crate::error::CliError;
use crate::output::stdout::out;
use crate::output::{bytes, print_json};

pub(super) fn run(cx: &Cx, arguments: DeleteArguments) -> Result<ExitCode, CliError> {
    let backup = BackupChoice::parse(&arguments.backup);
    let force = arguments.force;
    let deleted = if arguments.offline || !daemon::is_running(cx)? {
        let force = if force { Force::Yes } else { Force::No };
        let deleted = offline::on_place(cx, &arguments.server, |context, place| {
            operations::delete(context, place, &backup, force)
        })?;
        for warning in &deleted.warnings {
            eprintln!("warning: {warning}");
        }
        deleted
    } else {
        let server = arguments.server;
        match daemon::call(
            cx,
            &Request::Delete {
                server,
                backup,
                force,
            },
        )? {
            Response::Deleted(deleted) => deleted,
            other => return Err(daemon::unexpected(&other)),
        }
    };
    match cx.format {
        Format::Json => print_json(&deleted),
        Format::Text => out!(
            "deleted backup {} of {}: {} objects, {}",
            deleted.label,
            deleted.server,
            deleted.objects,
            bytes(deleted.bytes)
        ),
    }
    Ok(ExitCode::SUCCESS)
}
