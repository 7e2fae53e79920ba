//! `pgm-cli backup`: takes a backup and waits for it.

use std::process::ExitCode;

use pgm_mgmt::{BackupOptions, BackupStatus, BackupSummary, Request, Response};

use super::{Cx, daemon, job};
use crate::arguments::{BackupArguments, Format};
use crate::error::CliError;
use crate::output::stdout::out;
use crate::output::{bytes, print_json};

pub(super) fn run(cx: &Cx, arguments: BackupArguments) -> Result<ExitCode, CliError> {
    let options = BackupOptions {
        spread_checkpoint: arguments.spread_checkpoint,
        max_rate_kib: arguments.max_rate,
        server_compression: arguments.server_compression,
        no_resume: arguments.no_resume,
        incremental: arguments.incremental,
        source: arguments.source.map(Into::into),
        workers: arguments.workers,
    };
    let request = Request::Backup {
        server: arguments.server,
        options,
    };
    if arguments.detach {
        return job::detach(cx, request);
    }
    match daemon::call(cx, &request)? {
        Response::BackedUp(backup) => {
            match cx.format {
                Format::Json => print_json(&backup),
                Format::Text => print_text(&backup),
            }
            if backup.status != BackupStatus::Valid {
                eprintln!("warning: the server reported problems with its data");
                eprintln!("HINT: pgm-cli info {} {}", backup.server, backup.label);
            }
            // The warnings have named them.
            Ok(if backup.left_out.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        other => Err(daemon::unexpected(&other)),
    }
}

fn print_text(backup: &BackupSummary) {
    out!(
        "backup {} of {}: {} stored as {} ({}), WAL {} to {}",
        backup.label,
        backup.server,
        bytes(backup.raw_bytes),
        bytes(backup.stored_bytes),
        backup.compression,
        backup.start_lsn,
        backup.end_lsn,
    );
    if let Some(basis) = &backup.basis {
        out!(
            "incremental: {} have not changed since {}",
            bytes(basis.kept_bytes),
            basis.label
        );
        if basis.packs_given_up > 0 {
            out!(
                "{} of old packs were stored again; it does not need {} of them any more",
                bytes(basis.stored_again_bytes),
                basis.packs_given_up
            );
        }
    }
    if backup.reused_bytes > 0 {
        out!(
            "{} of it were there already, from a backup that was interrupted",
            bytes(backup.reused_bytes)
        );
    }
}
