//! `pgm-cli verify`: would a restore give back what was backed up? Also when pgmd is not running.

use std::path::PathBuf;
use std::process::ExitCode;

use pgm_mgmt::{
    BackupChoice, CheckOutcome, Finding, ListedFiles, Request, Response, RestoreTarget,
    TrialOptions, TrialSummary, VerificationSummary, Verified, VerifiedBackup, VerifyLevel,
    VerifyOptions, VerifyOutcome,
};
use pgmd::operations;
use pgmd::trial::{TrialError, TrialSetup};

use super::{Cx, daemon, job, offline, restore};
use crate::arguments::{Format, TrialArguments, VerifyArguments};
use crate::error::{CliError, Failure};
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
        trial: trial(cx, &arguments.trial)?,
    };
    if arguments.detach {
        return job::detach(cx, Request::Verify(options));
    }
    let verified = if arguments.offline || !daemon::is_running(cx)? {
        let setup = setup(cx, &options, arguments.trial.postgres_bin)?;
        offline::on_place(cx, &options.server, |context, place| {
            operations::verify(context, place, &options, &setup)
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

/// How backups are tried, as it is asked for.
fn trial(cx: &Cx, arguments: &TrialArguments) -> Result<TrialOptions, CliError> {
    let absolute = if cx.is_elsewhere() {
        restore::absolute_there
    } else {
        restore::absolute
    };
    let scratch = arguments.scratch.as_deref();
    Ok(TrialOptions {
        scratch: scratch.map(absolute).transpose()?,
        sql: arguments.sql.clone(),
        database: arguments.database.clone(),
        target: RestoreTarget {
            point: restore::point(arguments.stop.clone()),
            ..RestoreTarget::default()
        },
    })
}

/// How backups are tried in this process: as the configuration says, if there is one.
fn setup(cx: &Cx, options: &VerifyOptions, programs: Vec<PathBuf>) -> Result<TrialSetup, CliError> {
    let mut setup = match &cx.at()?.config {
        Some(config) => TrialSetup::new(config, &options.server, &options.trial),
        None if options.trial.scratch.is_none() && options.level == VerifyLevel::Restore => {
            let error = TrialError::NoScratch;
            return Err(CliError::new(
                Failure::Usage,
                error.to_string(),
                error.hint(),
            ));
        }
        None => TrialSetup::without_configuration(&options.trial),
    };
    setup.postgres_bin.splice(0..0, programs);
    Ok(setup)
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
        print_trial(backup);
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

fn print_trial(backup: &VerifiedBackup) {
    let Some(trial) = &backup.verification.trial else {
        return;
    };
    let label = &backup.label;
    out!(
        "{label}: proven recoverable up to {} ({})",
        trial.proven,
        trial.lsn
    );
    out!("{label}: {}", recovery_time(trial));
    for check in &trial.checks {
        let result = match (check.outcome, &check.reason) {
            (CheckOutcome::Passed, _) => "passed".to_owned(),
            (CheckOutcome::Failed, _) => "FAILED".to_owned(),
            (CheckOutcome::Skipped, None) => "skipped".to_owned(),
            (CheckOutcome::Skipped, Some(why)) => format!("skipped: {why}"),
        };
        out!("{label}: {}: {result}", check.name);
    }
}

/// The measured recovery time in words.
pub(super) fn recovery_time(trial: &TrialSummary) -> String {
    let in_words = |milliseconds: u64| seconds(milliseconds as f64 / 1000.0);
    format!(
        "recovery took {}: restored in {}, replayed in {}; checked in {}",
        in_words(trial.recovery_ms()),
        in_words(trial.restore_ms),
        in_words(trial.replay_ms),
        in_words(trial.check_ms)
    )
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
            file.expected.clone().unwrap_or_else(|| "-".to_owned()),
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
        VerifyLevel::Restore => "restore",
    }
}
