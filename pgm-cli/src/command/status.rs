//! `pgm-cli status`: each server at a glance, and what needs a person.

use std::process::ExitCode;

use pgm_mgmt::{
    DaemonStatus, RepositoryStatus, Request, Response, ServerState, ServerStatus, StandbyResult,
};
use pgm_proto::Lsn;

use super::{Cx, daemon, progress, status_details, window};
use crate::arguments::{Format, StatusArguments};
use crate::error::CliError;
use crate::output::stdout::{out, out_text};
use crate::output::{Table, bytes, print_json, seconds};

pub(super) fn run(cx: &Cx, arguments: StatusArguments) -> Result<ExitCode, CliError> {
    let StatusArguments {
        server,
        details,
        check,
    } = arguments;
    if details {
        status_details::run(cx, server.clone())?;
        if !check {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let status = match daemon::call(cx, &Request::Status { server })? {
        Response::Status(status) => status,
        other => return Err(daemon::unexpected(&other)),
    };
    if !details {
        match cx.format {
            Format::Json => print_json(&status),
            Format::Text => print_status(&status),
        }
    }
    if check && status.servers.iter().any(needs_a_person) {
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether something of a server is not as it should be, also if it may pass by itself.
fn needs_a_person(server: &ServerStatus) -> bool {
    server.state == ServerState::Error
        || server.last_error.is_some()
        || server.repository_error.is_some()
        || !server.damaged_backups.is_empty()
        || server.repositories.iter().any(|one| one.error.is_some())
        || server
            .standbys
            .iter()
            .any(|one| one.result == Some(StandbyResult::Failed))
}

pub(super) fn print_status(status: &DaemonStatus) {
    out!(
        "pgmd {} (process {}, since {})",
        status.version,
        status.pid,
        status.started
    );
    let free = status
        .repository_free_bytes
        .map_or_else(String::new, |free| format!(", {} free", bytes(free)));
    out!("repository {}{free}\n", status.repository);
    let mut table = Table::new([
        "SERVER", "STATE", "TIMELINE", "RECEIVED", "DURABLE", "ARCHIVED", "LAG", "RPO", "SPOOL",
        "BACKUPS", "NEWEST",
    ]);
    for server in &status.servers {
        table.row(server_row(server));
    }
    out_text!("{table}");
    for server in &status.servers {
        if let Some(window) = &server.window {
            out!(
                "\n{}: restorable {}",
                server.server,
                window::in_words(window)
            );
        }
        print_troubles(server);
    }
    if !status.jobs.is_empty() {
        out_text!("\n{}", progress::table(&status.jobs));
    }
}

fn server_row(server: &ServerStatus) -> [String; 11] {
    let lsn = |lsn: Option<Lsn>| lsn.map_or_else(|| "-".into(), |lsn| lsn.to_string());
    let newest = server.newest_backup.as_ref();
    [
        server.server.to_string(),
        server.state.name().to_owned(),
        server
            .timeline
            .map_or_else(|| "-".into(), |timeline| timeline.to_string()),
        lsn(server.received_lsn),
        lsn(server.durable_lsn),
        lsn(server.archived_lsn),
        server.lag_bytes.map_or_else(|| "-".into(), bytes),
        server
            .rpo_seconds
            .map_or_else(|| "-".into(), |rpo| seconds(rpo as f64)),
        bytes(server.spool_bytes),
        server.backups.to_string(),
        newest.map_or_else(|| "none".into(), |backup| backup.label.clone()),
    ]
}

fn print_troubles(server: &ServerStatus) {
    let name = &server.server;
    if let Some(error) = &server.last_error {
        let at = server
            .last_error_at
            .as_ref()
            .map(|at| format!(" (at {at})"));
        out!("\n{name}: {error}{}", at.unwrap_or_default());
        if let Some(hint) = &server.hint {
            out!("HINT: {hint}");
        }
    }
    // A hole that no backup lies behind is the last error, with a hint; the others are only of interest.
    for gap in &server.gaps {
        out!(
            "\n{name}: no restore crosses {} to {} on timeline {}: WAL is missing",
            gap.from,
            gap.to,
            gap.timeline
        );
    }
    if !server.damaged_backups.is_empty() {
        let labels = server.damaged_backups.join(", ");
        out!("\n{name}: damaged backups: {labels}");
        out!("HINT: what is wrong with one says pgm-cli info {name} LABEL; take a new backup");
    }
    if let Some(error) = &server.repository_error {
        out!("\n{name}: {error}");
    }
    print_repositories(server);
    print_standbys(server);
}

/// How the directories are that are kept ready.
fn print_standbys(server: &ServerStatus) {
    for one in &server.standbys {
        let has = match (&one.label, &one.updated) {
            (Some(label), Some(updated)) => format!("has backup {label} since {updated}"),
            _ => "has not been updated since pgmd started".to_owned(),
        };
        let (name, directory) = (&one.standby, &one.directory);
        out!("\n{}: standby {name} in {directory} {has}", server.server);
        if let (Some(result), Some(reason)) = (one.result, &one.reason) {
            out!("{}: {reason}", result.name());
        }
        if let Some(hint) = &one.hint {
            out!("HINT: {hint}");
        }
    }
}

/// Where the WAL goes, when there is more to say than the table does.
fn print_repositories(server: &ServerStatus) {
    let told = |one: &RepositoryStatus| {
        one.error.is_some()
            && one.error != server.last_error
            && one.error != server.repository_error
    };
    let waits = |one: &RepositoryStatus| one.backlog_files > 0 || told(one);
    if server.repositories.len() < 2 && !server.repositories.iter().any(waits) {
        return;
    }
    for one in &server.repositories {
        let archived = one
            .archived_lsn
            .map_or_else(|| "nothing".into(), |lsn| lsn.to_string());
        let sealed = if one.sealed { ", sealed" } else { "" };
        let backlog = match one.backlog_files {
            0 => String::new(),
            files => format!(
                ", {files} {} of the spool {}, for {} by now",
                if files == 1 { "file" } else { "files" },
                if files == 1 { "waits" } else { "wait" },
                seconds(one.backlog_seconds as f64)
            ),
        };
        let backups = match one.backups {
            Some(backups) => format!("{backups} backups"),
            None => "cannot be looked at".to_owned(),
        };
        out!(
            "\n{}: repository {} ({}{sealed}): archived up to {archived}{backlog}; {backups}",
            server.server,
            one.repository,
            one.place
        );
        if told(one) {
            out!("{}", one.error.as_deref().unwrap_or_default());
            if let Some(hint) = &one.hint {
                out!("HINT: {hint}");
            }
        }
    }
}
