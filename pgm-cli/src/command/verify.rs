//! `pgm-cli verify`: would a restore give back what was backed up? Also when pgmd is not running.

use std::process::ExitCode;

use pgm_mgmt::{
    BackupChoice, Finding, ListedFiles, Request, Response, VerificationSummary, Verified,
    VerifiedBackup, VerifyLevel, VerifyOptions, VerifyOutcome,
};
use pgmd::operations;

use super::{Cx, daemon, job, offline};
use crate::arguments::{Format, VerifyArguments};
use crate::error::CliError;
use crate::output::stdout::{out, out_text};
use crate::output::{Table, bytes, print_json, seconds};

/// Ends with 1 if anything is damaged.
pub(super) fn run(cx: &Cx, arguments: VerifyArguments) -> Result<ExitCode, CliError> {
    let files = arguments.files();
    let options = VerifyOptions {
        backup: match arguments.backup.as_str() {
            "all" => None,
            one => Some(BackupChoice::parse(one)),
        },
        level: arguments.level.into(),
        files,
        server: arguments.server,
    };
    if arguments.detach {
        return job::detach(cx, Request::Verify(options));
    }
    let verified = if arguments.offline || !daemon::is_running(cx)? {
        offline::on_place(cx, &options.server, |context, place| {
            operations::verify(context, place, &options)
        })?
    } else {
        match daemon::call(cx, &Request::Verify(options))? {
            Response::Verified(verified) => verified,
            other => return Err(daemon::unexpected(&other)),
        }
    };
    match cx.format {
        Format::Json => print_json(&verified),
        Format::Text => print(&verified, files),
    }
    let is_sound = |backup: &VerifiedBackup| backup.verification.outcome == VerifyOutcome::Sound;
    Ok(if verified.backups.iter().all(is_sound) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(verified: &Verified, files: ListedFiles) {
    if verified.backups.is_empty() {
        out!("{}: no backup yet", verified.server);
        return;
    }
    let mut table = Table::new([
        "LABEL", "OUTCOME", "LEVEL", "FILES", "SIZE", "FRAMES", "WAL", "TIME",
    ]);
    for backup in &verified.backups {
        let verification = &backup.verification;
        table.row([
            backup.label.clone(),
            outcome(verification.outcome).to_owned(),
            level(verification.level).to_owned(),
            backup.checked_files.to_string(),
            bytes(backup.raw_bytes),
            backup.frames.to_string(),
            backup.wal_segments.to_string(),
            seconds(verification.elapsed_ms as f64 / 1000.0),
        ]);
    }
    out_text!("{table}");
    for backup in &verified.backups {
        print_findings(backup);
        print_files(backup, files);
        if let Some(why) = &backup.not_noted {
            eprintln!(
                "warning: the result for {} is not noted in the repository: {why}",
                backup.label
            );
        }
    }
}

fn print_findings(backup: &VerifiedBackup) {
    for finding in &backup.findings {
        out!("{}: {}", backup.label, sentence(finding));
    }
    let more = backup
        .verification
        .findings_total
        .saturating_sub(backup.findings.len() as u64);
    if more > 0 {
        out!("{}: and {more} more", backup.label);
    }
}

fn print_files(backup: &VerifiedBackup, files: ListedFiles) {
    if backup.files.is_empty() {
        return;
    }
    out!();
    let mut table = Table::new(["FILE", "SIZE", "EXPECTED", "FOUND", ""]);
    for file in &backup.files {
        table.row([
            file.path.clone(),
            bytes(file.size),
            file.expected.clone(),
            file.found.clone().unwrap_or_else(|| "-".to_owned()),
            if file.sound { "sound" } else { "damaged" }.to_owned(),
        ]);
    }
    out_text!("{table}");
    if backup.files_omitted > 0 {
        let which = match files {
            ListedFiles::Failed => "damaged files",
            ListedFiles::All => "files",
        };
        out!("and {} {which} more", backup.files_omitted);
    }
}

/// A finding in a line.
pub(super) fn sentence(finding: &Finding) -> String {
    let mut text = finding.object.clone();
    if let Some(offset) = finding.offset {
        text = format!("{text} at {offset}");
    }
    if let Some(file) = &finding.file {
        text = format!("{text}: file {file}");
    }
    format!("{text}: {}", finding.reason)
}

/// When and how a backup was verified last, in a few words.
pub(super) fn in_words(verified: Option<&VerificationSummary>) -> String {
    verified.map_or_else(
        || "never".to_owned(),
        |verified| {
            let (outcome, level) = (outcome(verified.outcome), level(verified.level));
            format!("{outcome} ({level}) {}", verified.at)
        },
    )
}

pub(super) fn outcome(outcome: VerifyOutcome) -> &'static str {
    match outcome {
        VerifyOutcome::Sound => "sound",
        VerifyOutcome::Flawed => "flawed",
        VerifyOutcome::Damaged => "damaged",
    }
}

fn level(level: VerifyLevel) -> &'static str {
    match level {
        VerifyLevel::Catalog => "catalog",
        VerifyLevel::Frames => "frames",
        VerifyLevel::Wal => "wal",
    }
}
