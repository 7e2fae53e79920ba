//! `pgm-cli retention`: removes the backups and the WAL that have expired, or says what would go and why the rest stays.

use std::process::ExitCode;

use pgm_mgmt::{Request, Response, RetentionOptions, RetentionOutcome};

use super::{Cx, daemon, offline};
use crate::arguments::{Format, RetentionArguments};
use crate::error::{CliError, Failure};
use crate::output::stdout::out;
use crate::output::{Table, bytes, print_json};

pub(super) fn run(cx: &Cx, arguments: RetentionArguments) -> Result<ExitCode, CliError> {
    let options = RetentionOptions {
        server: arguments.server,
        policy: arguments.policy.map(|policy| policy.to_string()),
        dry_run: arguments.dry_run,
    };
    let outcome = if arguments.offline || !daemon::is_running(cx)? {
        let at = cx.at()?;
        let options = match &at.config {
            Some(config) => pgmd::retention::with_policy(config, &at.place()?.name, options),
            None if options.policy.is_some() => options,
            None => return Err(no_policy()),
        };
        let outcome = offline::on_place(cx, &options.server, |context, place| {
            pgmd::retention::carry_out(context, place, &options)
        })?;
        for warning in &outcome.warnings {
            eprintln!("warning: {warning}");
        }
        outcome
    } else {
        match daemon::call(cx, &Request::Retention(options))? {
            Response::Retention(outcome) => outcome,
            other => return Err(daemon::unexpected(&other)),
        }
    };
    match cx.format {
        Format::Json => print_json(&outcome),
        Format::Text => print(&outcome, arguments.explain || arguments.dry_run),
    }
    Ok(ExitCode::SUCCESS)
}

fn no_policy() -> CliError {
    let hint = "such as --policy 'last 3, window 14d'; add --dry-run to see what would go";
    CliError::new(
        Failure::Usage,
        "a repository that is named with --repository has no policy of its own: say --policy",
        Some(hint.to_owned()),
    )
}

fn print(outcome: &RetentionOutcome, explain: bool) {
    if explain {
        let mut table = Table::new(["LABEL", "BACKUP", "WHY"]);
        for backup in &outcome.backups {
            let (what, why) = if backup.stays {
                ("stays", backup.reasons.join("; "))
            } else {
                ("goes", "no rule keeps it".to_owned())
            };
            table.row([backup.label.clone(), what.to_owned(), why]);
        }
        out!("{table}");
    }
    let going = outcome
        .backups
        .iter()
        .filter(|backup| !backup.stays)
        .count();
    let wal = format!(
        "{} of WAL in {} objects",
        bytes(outcome.wal_bytes),
        outcome.wal_objects
    );
    let server = &outcome.server;
    let policy = &outcome.policy;
    if outcome.dry_run {
        out!("retention of {server} ({policy}) would delete {going} backups and {wal}");
        out!("nothing was removed");
    } else {
        out!(
            "retention of {server} ({policy}): {going} backups expired, {} freed, and {wal}",
            bytes(outcome.deleted_bytes)
        );
    }
}
