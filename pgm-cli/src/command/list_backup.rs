//! `pgm-cli list-backup`: the backups of a server, or of all; also when pgmd is not running.

use std::process::ExitCode;

use pgm_mgmt::{BackupList, BackupStatus, Request, Response, ServerBackups};

use super::{Cx, daemon, offline, verify, window};
use crate::arguments::{Format, ListBackupArguments, Order};
use crate::error::CliError;
use crate::output::stdout::{out, out_text};
use crate::output::{Table, bytes, print_json, seconds};

pub(super) fn run(cx: &Cx, arguments: ListBackupArguments) -> Result<ExitCode, CliError> {
    let mut list = if daemon::is_running(cx)? {
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
        offline::list(cx, arguments.server.as_ref())?
    };
    if arguments.sort == Order::Desc {
        list.servers
            .iter_mut()
            .for_each(|server| server.backups.reverse());
    }
    match cx.format {
        Format::Json => print_json(&list),
        Format::Text => print_list(&list),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_list(list: &BackupList) {
    let mut table = Table::new([
        "SERVER",
        "REPOSITORY",
        "LABEL",
        "KIND",
        "STATUS",
        "KEPT",
        "VERIFIED",
        "TIMELINE",
        "START",
        "END",
        "WAL",
        "SIZE",
        "STORED",
        "COMPRESSION",
        "DURATION",
        "NOTES",
    ]);
    for server in &list.servers {
        for backup in &server.backups {
            table.row([
                backup.server.to_string(),
                backup.repository.to_string(),
                backup.label.clone(),
                backup.kind.clone(),
                status(backup.status).to_owned(),
                if backup.retained { "yes" } else { "no" }.to_owned(),
                verify::in_words(backup.verified.as_ref()),
                backup.timeline.to_string(),
                backup.start_lsn.to_string(),
                backup.end_lsn.to_string(),
                backup.wal.clone(),
                bytes(backup.raw_bytes),
                bytes(backup.stored_bytes),
                backup.compression.clone(),
                seconds(backup.elapsed_ms as f64 / 1000.0),
                backup.annotations.to_string(),
            ]);
        }
    }
    out_text!("{table}");
    for server in &list.servers {
        print_remarks(server);
    }
}

fn print_remarks(server: &ServerBackups) {
    if server.backups.is_empty() {
        out!("{}: no backup yet", server.server);
    }
    for failed in &server.unreadable {
        out!(
            "{}: the repository {} cannot be looked at: {}",
            server.server,
            failed.repository,
            failed.error
        );
    }
    for one in &server.windows {
        out!("{}: restorable {}", server.server, window::in_words(one));
    }
    for gap in &server.gaps {
        out!(
            "{}: WAL is missing on timeline {} from {} to {}: no restore crosses it",
            server.server,
            gap.timeline,
            gap.from,
            gap.to
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
