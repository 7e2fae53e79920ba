//! `pgm-cli status --details`: everything of the status, and sizes, processes, stretches of WAL, settings.

use std::process::ExitCode;

use pgm_mgmt::{MediumDetails, Request, Response, RestorePoint, ServerDetails, StatusDetails};
use pgm_proto::ServerName;

use super::{Cx, daemon, status, verify, window};
use crate::arguments::Format;
use crate::error::CliError;
use crate::output::stdout::out;
use crate::output::{bytes, print_json, seconds};

pub(super) fn run(cx: &Cx, server: Option<ServerName>) -> Result<ExitCode, CliError> {
    match daemon::call(cx, &Request::StatusDetails { server })? {
        Response::StatusDetails(details) => {
            match cx.format {
                Format::Json => print_json(&details),
                Format::Text => print(&details),
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(daemon::unexpected(&other)),
    }
}

fn print(details: &StatusDetails) {
    status::print_status(&details.status);
    out!();
    line("Uptime", &seconds(details.uptime_seconds as f64));
    line("Repository", &medium(&details.repository));
    line("Spool", &medium(&details.spool));
    for (index, setting) in details.settings.iter().enumerate() {
        let head = if index == 0 { "Settings" } else { "" };
        let value = setting.value.as_deref().unwrap_or("none");
        line(head, &format!("{} = {value}", setting.key));
    }
    for server in &details.servers {
        print_server(server);
    }
}

fn print_server(server: &ServerDetails) {
    out!("\n{}", server.server);
    line("Mode", server.mode.name());
    if let Some(pid) = server.worker_pid {
        let age = server
            .worker_seconds
            .map_or_else(String::new, |age| format!(" for {}", seconds(age as f64)));
        let restarts = server.restarts;
        line(
            "Worker",
            &format!("process {pid}{age}, {restarts} restarts"),
        );
    }
    line(
        "Backups",
        &format!(
            "{} stored as {}",
            bytes(server.backup_raw_bytes),
            bytes(server.backup_stored_bytes)
        ),
    );
    line(
        "WAL",
        &format!(
            "{} in {} objects, {} in the spool",
            bytes(server.wal_stored_bytes),
            server.wal_objects,
            bytes(server.spool_bytes)
        ),
    );
    for (index, stretch) in server.timelines.iter().enumerate() {
        let head = if index == 0 { "Timelines" } else { "" };
        let text = format!("{}: {} to {}", stretch.timeline, stretch.from, stretch.to);
        line(head, &text);
    }
    let point = |point: &RestorePoint| {
        let RestorePoint {
            label,
            from_time,
            from_lsn,
        } = point;
        format!("from {from_time} ({from_lsn}), backup {label}")
    };
    for (index, one) in server.windows.iter().enumerate() {
        let head = if index == 0 { "Restorable" } else { "" };
        line(head, &window::in_words(one));
    }
    if let Some(oldest) = &server.oldest_backup {
        line("Oldest", &point(oldest));
    }
    if let Some(newest) = &server.newest_backup {
        line("Newest", &point(newest));
    }
    if let Some(proven) = &server.proven {
        let text = format!("up to {}, by backup {}", proven.trial.proven, proven.label);
        line("Proven", &text);
        line("", &verify::recovery_time(&proven.trial));
    }
    if let Some(error) = &server.repository_error {
        line("Repository", error);
    }
}

fn medium(medium: &MediumDetails) -> String {
    let size = |size: Option<u64>| size.map_or_else(|| "unknown".to_owned(), bytes);
    format!(
        "{}: {} total, {} used, {} free",
        medium.path,
        size(medium.total_bytes),
        size(medium.used_bytes),
        size(medium.free_bytes)
    )
}

fn line(name: &str, value: &str) {
    out!("{name:<12}{value}");
}
