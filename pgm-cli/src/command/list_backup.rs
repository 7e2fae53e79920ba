//! `pgm-cli list-backup`: the backups of a server, or of all; also when pgmd is not running.

use std::process::ExitCode;

use pgm_mgmt::{BackupList, BackupStatus, Request, Response, ServerBackups};

use super::{Cx, daemon, offline};
use crate::arguments::{Format, ListBackupArguments};
use crate::error::CliError;
use crate::output::{Table, bytes, print_json};

pub(super) fn run(cx: &Cx, arguments: ListBackupArguments) -> Result<ExitCode, CliError> {
    let list = if daemon::is_running(cx)? {
        match daemon::call(
            cx,
            &Request::ListBackups {
                server: arguments.server,
            },
        )? {
            Response::Backups(list) => list,
            other => return Err(daemon::unexpected(&other)),
        }
    } else {
        offline::list(&cx.config()?, arguments.server.as_ref())?
    };
    match cx.format {
        Format::Json => print_json(&list),
        Format::Text => print_list(&list),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_list(list: &BackupList) {
    let mut table = Table::new([
        "SERVER", "LABEL", "KIND", "STATUS", "TIMELINE", "START", "END", "SIZE", "STORED",
    ]);
    for server in &list.servers {
        for backup in &server.backups {
            table.row([
                backup.server.to_string(),
                backup.label.clone(),
                backup.kind.clone(),
                status(backup.status).to_owned(),
                backup.timeline.to_string(),
                backup.start_lsn.to_string(),
                backup.end_lsn.to_string(),
                bytes(backup.raw_bytes),
                bytes(backup.stored_bytes),
            ]);
        }
    }
    print!("{table}");
    for server in &list.servers {
        print_remarks(server);
    }
}

fn print_remarks(server: &ServerBackups) {
    if server.backups.is_empty() {
        println!("{}: no backup yet", server.server);
    }
    for gap in &server.gaps {
        println!(
            "{}: WAL is missing on timeline {} from {} to {}: no restore crosses it",
            server.server, gap.timeline, gap.from, gap.to
        );
    }
}

/// How a backup stands, in one word.
pub(super) fn status(status: BackupStatus) -> &'static str {
    match status {
        BackupStatus::Valid => "valid",
        BackupStatus::Warnings => "warnings",
        BackupStatus::Damaged => "damaged",
    }
}
