//! `pgm-cli job`: jobs that run, wait, or have ended. `pgm-cli clear jobs` forgets the last.

use std::process::ExitCode;

use pgm_mgmt::{
    ClientError, JobId, JobRecord, JobScope, JobState, MessageLevel, Request, Response, StartedJob,
};

use super::{Cx, daemon};
use crate::arguments::{ClearCommand, Format, JobCommand, JobLsArguments};
use crate::error::{CliError, Failure};
use crate::output::stdout::{out, out_text};
use crate::output::{Table, bytes, print_json};

pub(super) fn run(cx: &Cx, command: JobCommand) -> Result<ExitCode, CliError> {
    match command {
        JobCommand::Ls(arguments) => list(cx, arguments),
        JobCommand::Show(arguments) => show(cx, JobId::new(arguments.job)),
        JobCommand::Cancel(arguments) => cancel(cx, JobId::new(arguments.job)),
        JobCommand::Wait(arguments) => wait(cx, JobId::new(arguments.job)),
    }
}

/// Begins the job that `request` asks for, and prints its number.
pub(super) fn detach(cx: &Cx, request: Request) -> Result<ExitCode, CliError> {
    if cx.at.repository.is_some() {
        return Err(CliError::new(
            Failure::Usage,
            "--detach leaves the work to pgmd, and --repository does without it",
            Some("leave out one of the two".to_owned()),
        ));
    }
    match daemon::call(cx, &Request::Start(Box::new(request)))? {
        Response::Started(StartedJob { job }) => {
            match cx.format {
                Format::Json => print_json(&StartedJob { job }),
                Format::Text => out!("{job}"),
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(daemon::unexpected(&other)),
    }
}

/// Forgets the jobs that have ended, or what was counted.
pub(super) fn clear(cx: &Cx, what: &ClearCommand) -> Result<ExitCode, CliError> {
    let (request, forgotten) = match what {
        ClearCommand::Jobs => (Request::ClearJobs, "jobs are forgotten"),
        ClearCommand::Metrics => (Request::ClearMetrics, "counters begin anew"),
    };
    match daemon::call(cx, &request)? {
        Response::Cleared(cleared) => {
            match cx.format {
                Format::Json => print_json(&cleared),
                Format::Text => out!("{} {forgotten}", cleared.entries),
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(daemon::unexpected(&other)),
    }
}

fn list(cx: &Cx, arguments: JobLsArguments) -> Result<ExitCode, CliError> {
    let scope = if arguments.all {
        JobScope::All
    } else {
        JobScope::Unfinished
    };
    let server = arguments.server;
    match daemon::call(cx, &Request::ListJobs { server, scope })? {
        Response::JobList(list) => {
            match cx.format {
                Format::Json => print_json(&list),
                Format::Text if list.jobs.is_empty() => match scope {
                    JobScope::All => out!("no job is remembered"),
                    JobScope::Unfinished => {
                        out!("no job waits or runs; --all lists those that have ended");
                    }
                },
                Format::Text => out_text!("{}", table(&list.jobs)),
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(daemon::unexpected(&other)),
    }
}

fn show(cx: &Cx, job: JobId) -> Result<ExitCode, CliError> {
    let record = match daemon::call(cx, &Request::Job { job })? {
        Response::Job(record) => record,
        other => return Err(daemon::unexpected(&other)),
    };
    match cx.format {
        Format::Json => print_json(&record),
        Format::Text => print_record(&record),
    }
    Ok(ExitCode::SUCCESS)
}

fn cancel(cx: &Cx, job: JobId) -> Result<ExitCode, CliError> {
    match daemon::call(cx, &Request::Cancel { job })? {
        Response::Cancelling(job) => {
            match cx.format {
                Format::Json => print_json(&serde_json::json!({ "job": job })),
                Format::Text => out!("job {job} is told to end; pgm-cli job wait {job}"),
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(daemon::unexpected(&other)),
    }
}

fn wait(cx: &Cx, job: JobId) -> Result<ExitCode, CliError> {
    let record = match daemon::call(cx, &Request::Follow { job })? {
        Response::Job(record) => record,
        other => return Err(daemon::unexpected(&other)),
    };
    if let Some(error) = record.error {
        return Err(ClientError::Refused(error).into());
    }
    match cx.format {
        Format::Json => print_json(&record),
        Format::Text => out!(
            "job {job}: {} of {} is {}{}",
            record.kind,
            record.server,
            record.state,
            record
                .outcome
                .map_or_else(String::new, |outcome| format!(": {outcome}"))
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(jobs: &[JobRecord]) -> Table {
    let mut table = Table::new([
        "JOB", "KIND", "SERVER", "STATE", "ASKED", "ENDED", "BY", "OUTCOME",
    ]);
    for job in jobs {
        table.row([
            job.job.to_string(),
            job.kind.to_string(),
            job.server.to_string(),
            job.state.to_string(),
            job.asked.clone(),
            job.ended.clone().unwrap_or_else(|| "-".to_owned()),
            job.asked_by.clone(),
            outcome(job),
        ]);
    }
    table
}

fn outcome(job: &JobRecord) -> String {
    match (&job.outcome, &job.error) {
        (Some(outcome), _) => outcome.clone(),
        (None, Some(error)) => error.text.clone(),
        (None, None) if job.state == JobState::Running => job.phase.clone(),
        (None, None) => "-".to_owned(),
    }
}

fn print_record(record: &JobRecord) {
    let line = |name: &str, value: &dyn std::fmt::Display| out!("{name:<12}{value}");
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    line("Job", &record.job);
    line("Kind", &record.kind);
    line("Server", &record.server);
    line("State", &record.state);
    line("Asked by", &record.asked_by);
    line("Asked", &record.asked);
    line("Started", &or_dash(&record.started));
    line("Ended", &or_dash(&record.ended));
    line("Phase", &record.phase);
    let of = record
        .total_bytes
        .map_or_else(String::new, |total| format!(" of {}", bytes(total)));
    line("Bytes", &format!("{}{of}", bytes(record.done_bytes)));
    if let Some(outcome) = &record.outcome {
        line("Outcome", outcome);
    }
    if let Some(error) = &record.error {
        line("Error", &format!("{} ({})", error.text, error.code));
        if let Some(hint) = &error.hint {
            line("Hint", hint);
        }
    }
    for (index, message) in record.messages.iter().enumerate() {
        let head = if index == 0 { "Messages" } else { "" };
        let level = match message.level {
            MessageLevel::Info => "",
            MessageLevel::Warning => "warning: ",
        };
        line(head, &format!("{} {level}{}", message.at, message.text));
    }
}
