//! `pgm-cli progress`: the jobs that run, once, or again and again until none is left.

use std::process::ExitCode;
use std::time::Duration;

use pgm_mgmt::{JobProgress, Request, Response, RunningJobs};

use super::{Cx, daemon};
use crate::arguments::{Format, ProgressArguments};
use crate::error::CliError;
use crate::output::stdout::{out, out_text};
use crate::output::{Table, bytes, print_json, print_json_line, seconds};

/// How often `--follow` looks.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(cx: &Cx, arguments: &ProgressArguments) -> Result<ExitCode, CliError> {
    if arguments.follow {
        return follow(cx, arguments);
    }
    let running = ask(cx, arguments)?;
    match cx.format {
        Format::Json => print_json(&running),
        Format::Text if running.jobs.is_empty() => out!("no job is running"),
        Format::Text => out_text!("{}", table(&running.jobs)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a table, or a line of JSON, every second until no job is left.
fn follow(cx: &Cx, arguments: &ProgressArguments) -> Result<ExitCode, CliError> {
    loop {
        let running = ask(cx, arguments)?;
        match cx.format {
            Format::Json => print_json_line(&running),
            Format::Text if running.jobs.is_empty() => out!("no job is running"),
            Format::Text => out!("{}", table(&running.jobs)),
        }
        if running.jobs.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(FOLLOW_EVERY);
    }
}

fn ask(cx: &Cx, arguments: &ProgressArguments) -> Result<RunningJobs, CliError> {
    let mut running = match daemon::call(cx, &Request::Progress)? {
        Response::Jobs(running) => running,
        other => return Err(daemon::unexpected(&other)),
    };
    if let Some(server) = &arguments.server {
        running.jobs.retain(|job| job.server == *server);
    }
    Ok(running)
}

/// The jobs as a table; `status` shows it too.
pub(super) fn table(jobs: &[JobProgress]) -> Table {
    let mut table = Table::new([
        "JOB", "KIND", "SERVER", "PHASE", "DONE", "OF", "%", "RATE", "ETA",
    ]);
    for job in jobs {
        let percent = job.total_bytes.filter(|total| *total > 0);
        let percent = percent.map(|total| job.done_bytes.min(total) * 100 / total);
        table.row([
            job.job.to_string(),
            job.kind.to_string(),
            job.server.to_string(),
            job.phase.clone(),
            bytes(job.done_bytes),
            job.total_bytes.map_or_else(|| "-".into(), bytes),
            percent.map_or_else(|| "-".into(), |percent| percent.to_string()),
            format!("{}/s", bytes(job.rate_bytes)),
            job.eta_seconds
                .map_or_else(|| "-".into(), |eta| seconds(eta as f64)),
        ]);
    }
    table
}
