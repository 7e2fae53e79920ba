//! `pgm-cli restore`: gives a backup back, to the end of the archive or to a point in time.
//!
//! Through the daemon when one is running, else directly from the repository: the host that has to be brought back may
//! be the daemon's own.

use std::path::Path;
use std::process::ExitCode;

use pgm_mgmt::{
    BackupChoice, PlannedRestore, Request, Response, RestoreOptions, RestoreOutcome, RestoreTarget,
    TablespaceMapping, TargetPoint,
};
use pgmd::listing;
use pgmd::restore::PreparedRestore;

use super::{Cx, daemon, job, offline};
use crate::arguments::{Format, RestoreArguments, StopArguments, TargetAction, TargetArguments};
use crate::error::{CliError, Failure};
use crate::output::stdout::out;
use crate::output::{bytes, print_json, seconds};

pub(super) fn run(cx: &Cx, arguments: RestoreArguments) -> Result<ExitCode, CliError> {
    let direct = arguments.offline || !daemon::is_running(cx)?;
    let detach = arguments.detach;
    let options = options(cx, arguments)?;
    if detach {
        return job::detach(cx, Request::Restore(options));
    }
    let answer = if direct {
        without_daemon(cx, &options)?
    } else {
        daemon::call(cx, &Request::Restore(options))?
    };
    match answer {
        Response::Planned(plan) => print_plan(cx, &plan),
        Response::Restored(outcome) => print_outcome(cx, &outcome),
        other => return Err(daemon::unexpected(&other)),
    }
    Ok(ExitCode::SUCCESS)
}

fn options(cx: &Cx, arguments: RestoreArguments) -> Result<RestoreOptions, CliError> {
    let directory = if cx.is_elsewhere() {
        absolute_there(&arguments.target)?
    } else {
        absolute(&arguments.target)?
    };
    // Elsewhere it is the pgm-cli beside the daemon.
    let program = std::env::current_exe().ok().filter(|_| !cx.is_elsewhere());
    Ok(RestoreOptions {
        server: arguments.server,
        backup: BackupChoice::parse(&arguments.backup),
        directory,
        delta: arguments.delta,
        target: target(arguments.target_point),
        tablespaces: arguments
            .tablespace
            .iter()
            .map(|(from, to)| TablespaceMapping {
                from: from.to_string_lossy().into_owned(),
                to: to.to_string_lossy().into_owned(),
            })
            .collect(),
        plan_only: arguments.plan,
        restore_program: program.map(|program| program.to_string_lossy().into_owned()),
    })
}

/// Where recovery ends, as it is asked for.
pub(super) fn target(arguments: TargetArguments) -> RestoreTarget {
    RestoreTarget {
        point: point(arguments.stop),
        exclusive: arguments.exclusive,
        timeline: arguments.timeline,
        action: arguments.target_action.map(|action| match action {
            TargetAction::Pause => pgm_mgmt::TargetAction::Pause,
            TargetAction::Promote => pgm_mgmt::TargetAction::Promote,
            TargetAction::Shutdown => pgm_mgmt::TargetAction::Shutdown,
        }),
    }
}

pub(super) fn point(stop: StopArguments) -> TargetPoint {
    let StopArguments {
        target_time,
        target_lsn,
        target_xid,
        target_name,
        target_immediate,
    } = stop;
    let time = target_time.map(|time| TargetPoint::Time(time.to_string()));
    time.or(target_lsn.map(TargetPoint::Lsn))
        .or(target_xid.map(TargetPoint::Xid))
        .or(target_name.map(TargetPoint::Name))
        .or(target_immediate.then_some(TargetPoint::Immediate))
        .unwrap_or(TargetPoint::Latest)
}

/// A path of the daemon's host, which nothing here can complete.
pub(super) fn absolute_there(path: &Path) -> Result<String, CliError> {
    let text = path.to_str().filter(|_| path.is_absolute());
    text.map(str::to_owned).ok_or_else(|| {
        let text = format!("{} is no absolute path", path.display());
        let hint = "with --host it is a path on pgmd's host, and begins with /";
        CliError::new(Failure::Usage, text, Some(hint.into()))
    })
}

pub(super) fn absolute(path: &Path) -> Result<String, CliError> {
    let absolute = std::path::absolute(path)
        .ok()
        .and_then(|path| path.to_str().map(str::to_owned));
    absolute.ok_or_else(|| {
        let text = format!("{} cannot be used as a directory's name", path.display());
        CliError::new(
            Failure::Usage,
            text,
            Some("use an absolute path in UTF-8".into()),
        )
    })
}

fn without_daemon(cx: &Cx, options: &RestoreOptions) -> Result<Response, CliError> {
    let at = cx.at()?;
    let spool = at.spool_of(&options.server);
    let restored = offline::with_bar(cx, |context| {
        let prepared = listing::first(&at.targets, |place| {
            PreparedRestore::new(context, place, spool.as_deref(), options)
        })?;
        if options.plan_only {
            return Ok(Response::Planned(prepared.planned()));
        }
        let prepared = prepared.with_others(at.places());
        prepared.carry_out(context).map(Response::Restored)
    });
    restored.map_err(offline::refused)
}

fn print_plan(cx: &Cx, plan: &PlannedRestore) {
    if cx.format == Format::Json {
        return print_json(plan);
    }
    let line = |name: &str, value: &dyn std::fmt::Display| out!("{name:<12}{value}");
    line("Server", &plan.server);
    line("Backup", &plan.label);
    line("Directory", &plan.directory);
    line("Target", &plan.target);
    line("Timeline", &plan.timeline);
    line("From", &plan.start_lsn);
    let first = format!("from {} ({})", plan.consistent_time, plan.consistent_lsn);
    line("Reachable", &first);
    match (plan.reachable_lsn, &plan.reachable_time) {
        (Some(lsn), Some(time)) => line("", &format!("to {time} ({lsn})")),
        (Some(lsn), None) => line("", &format!("to {lsn}")),
        (None, _) => {}
    }
    line(
        "Data",
        &format!(
            "{} from {} in {} packs",
            bytes(plan.raw_bytes),
            bytes(plan.stored_bytes),
            plan.packs
        ),
    );
    line("WAL", &format!("{} segments", plan.wal_segments));
    for (index, step) in plan.steps.iter().enumerate() {
        line(if index == 0 { "Steps" } else { "" }, step);
    }
    out!("nothing was written");
    for warning in &plan.warnings {
        eprintln!("warning: {warning}");
    }
}

fn print_outcome(cx: &Cx, outcome: &RestoreOutcome) {
    if cx.format == Format::Json {
        return print_json(outcome);
    }
    let kept = if outcome.kept_bytes > 0 {
        format!(", of which {} were there", bytes(outcome.kept_bytes))
    } else {
        String::new()
    };
    let removed = if outcome.removed > 0 {
        format!("; {} that the backup does not have went", outcome.removed)
    } else {
        String::new()
    };
    out!(
        "restored backup {} of {} into {}: {} files, {} in {}{kept}{removed}",
        outcome.label,
        outcome.server,
        outcome.directory,
        outcome.files,
        bytes(outcome.raw_bytes),
        seconds(outcome.elapsed_ms as f64 / 1000.0)
    );
    let read = outcome.sources.iter();
    let read = read.map(|source| format!("{} from {}", bytes(source.raw_bytes), source.repository));
    if outcome.sources.len() > 1 {
        out!("read {}", read.collect::<Vec<_>>().join(", "));
    }
    out!(
        "start it and it recovers to {}: pg_ctl -D {} start",
        outcome.target,
        outcome.directory
    );
    for warning in &outcome.warnings {
        eprintln!("warning: {warning}");
    }
}
