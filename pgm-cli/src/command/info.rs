//! `pgm-cli info`: everything about one backup; also when pgmd is not running.

use std::process::ExitCode;

use pgm_mgmt::{BackupChoice, BackupDetails, Request, Response};

use super::list_backup::status;
use super::{Cx, daemon, offline};
use crate::arguments::{Format, InfoArguments};
use crate::error::CliError;
use crate::output::{bytes, print_json};

pub(super) fn run(cx: &Cx, arguments: InfoArguments) -> Result<ExitCode, CliError> {
    let backup = BackupChoice::parse(&arguments.backup);
    let details = if daemon::is_running(cx)? {
        match daemon::call(
            cx,
            &Request::Info {
                server: arguments.server,
                backup,
            },
        )? {
            Response::Backup(details) => details,
            other => return Err(daemon::unexpected(&other)),
        }
    } else {
        offline::info(&cx.config()?, &arguments.server, &backup)?
    };
    match cx.format {
        Format::Json => print_json(&details),
        Format::Text => print_details(&details),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_details(details: &BackupDetails) {
    let summary = &details.summary;
    let line = |name: &str, value: &dyn std::fmt::Display| println!("{name:<18}{value}");
    line("Server", &summary.server);
    line("Label", &summary.label);
    line("Kind", &summary.kind);
    line("Status", &status(summary.status));
    line("Started", &summary.started);
    line("Stopped", &summary.stopped);
    line("PostgreSQL", &summary.version);
    line("System identifier", &summary.system_id);
    line("Timeline", &summary.timeline);
    line("Start LSN", &summary.start_lsn);
    line("End LSN", &summary.end_lsn);
    line("Size", &bytes(summary.raw_bytes));
    line(
        "Stored",
        &format!("{} ({})", bytes(summary.stored_bytes), summary.compression),
    );
    line("Packs", &details.packs);
    if let Some(files) = details.files {
        line("Files", &files);
    }
    if let Some(checksum) = &details.manifest_checksum {
        line("Manifest checksum", checksum);
    }
    for tablespace in &details.tablespaces {
        line(
            "Tablespace",
            &format!("{} at {}", tablespace.oid, tablespace.location),
        );
    }
    for warning in &details.warnings {
        line("Warning", warning);
    }
}
