//! `pgm-cli info`: everything about one backup; also when pgmd is not running.

use std::process::ExitCode;

use pgm_mgmt::{BackupChoice, BackupDetails, Request, Response};

use super::list_backup::status;
use super::{Cx, daemon, offline, verify, window};
use crate::arguments::{Format, InfoArguments};
use crate::error::CliError;
use crate::output::stdout::out;
use crate::output::{bytes, print_json, seconds};

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
            Response::Backup(details) => *details,
            other => return Err(daemon::unexpected(&other)),
        }
    } else {
        offline::info(cx, &arguments.server, &backup)?
    };
    match cx.format {
        Format::Json => print_json(&details),
        Format::Text => print_details(&details),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_details(details: &BackupDetails) {
    let summary = &details.summary;
    line("Server", &summary.server);
    line("Label", &summary.label);
    line("Kind", &summary.kind);
    line(
        "Method",
        &format!("{} ({})", details.method, details.reason),
    );
    line("Status", &status(summary.status));
    line("Retained", &if summary.retained { "yes" } else { "no" });
    line("Started", &summary.started);
    line("Stopped", &summary.stopped);
    line("Duration", &seconds(summary.elapsed_ms as f64 / 1000.0));
    line("PostgreSQL", &summary.version);
    line("System identifier", &summary.system_id);
    line(
        "Page checksums",
        &if details.data_checksums { "on" } else { "off" },
    );
    optional("Taken from", details.taken_from.as_ref());
    optional("Server's label", details.server_label.as_ref());
    optional("Server's time", details.server_start_time.as_ref());
    line("Timeline", &summary.timeline);
    optional("Checkpoint LSN", details.checkpoint_lsn.as_ref());
    line("Start LSN", &summary.start_lsn);
    line("End LSN", &summary.end_lsn);
    for (name, text) in window::lines(details) {
        line(name, &text);
    }
    line(
        "WAL",
        &format!(
            "{}, in segments of {}",
            summary.wal,
            bytes(details.segment_bytes.into())
        ),
    );
    line("Size", &bytes(summary.raw_bytes));
    if let Some(basis) = &summary.basis {
        line("In earlier packs", &bytes(basis.kept_bytes));
        if basis.packs_given_up > 0 {
            let again = bytes(basis.stored_again_bytes);
            let packs = basis.packs_given_up;
            line(
                "Stored again",
                &format!("{again}, so that it does not need {packs} old packs"),
            );
        }
    }
    line(
        "Stored",
        &format!("{} ({})", bytes(summary.stored_bytes), summary.compression),
    );
    if !details.sent.is_empty() {
        line("Sent", &details.sent);
    }
    line("Packs", &details.packs);
    if details.reused_packs > 0 {
        line(
            "Taken over",
            &format!(
                "{} in {} packs of a backup that was interrupted",
                bytes(summary.reused_bytes),
                details.reused_packs
            ),
        );
    }
    optional("Files", details.files.as_ref());
    line("Directories", &details.directories);
    optional("Manifest checksum", details.manifest_checksum.as_ref());
    optional("backup_manifest", details.server_manifest_checksum.as_ref());
    for tablespace in &details.tablespaces {
        line(
            "Tablespace",
            &format!("{} at {}", tablespace.oid, tablespace.location),
        );
    }
    for warning in &details.warnings {
        line("Warning", warning);
    }
    print_said(details);
}

/// What was said of the backup since it was taken.
fn print_said(details: &BackupDetails) {
    line(
        "Verified",
        &verify::in_words(details.summary.verified.as_ref()),
    );
    for earlier in details.verifications.iter().skip(1) {
        line("", &verify::in_words(Some(earlier)));
    }
    if let Some(trial) = &details.summary.trial {
        line(
            "Proven",
            &format!("recoverable up to {} ({})", trial.proven, trial.lsn),
        );
        line("Recovery", &verify::recovery_time(trial));
    }
    for finding in &details.findings {
        line("Finding", &verify::sentence(finding));
    }
    if let Some(error) = &details.marks_error {
        line(
            "Marks",
            &format!("not readable, so it counts as retained: {error}"),
        );
    }
    for note in &details.notes {
        line("Note", &format!("{}: {}", note.key, note.text));
    }
}

fn line(name: &str, value: &dyn std::fmt::Display) {
    out!("{name:<18}{value}");
}

fn optional<T: std::fmt::Display>(name: &str, value: Option<&T>) {
    if let Some(value) = value {
        line(name, value);
    }
}
