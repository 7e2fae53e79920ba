//! `job` and `clear`.

use clap::{Args, Subcommand};
use pgm_proto::ServerName;

/// Commands on jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List the jobs that wait or run
    #[command(visible_alias = "list")]
    Ls(JobLsArguments),
    /// Show everything about one job
    Show(JobArguments),
    /// End a job cleanly
    Cancel(JobArguments),
    /// Follow a job to its end, whoever began it; the exit status is the job's
    Wait(JobArguments),
}

/// Arguments of `job ls`.
#[derive(Debug, Args)]
pub(crate) struct JobLsArguments {
    /// Only the jobs of this server
    #[arg(value_name = "SERVER")]
    pub(crate) server: Option<ServerName>,
    /// And those that have ended
    #[arg(long)]
    pub(crate) all: bool,
}

/// Which job.
#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// The job's number
    #[arg(value_name = "JOB")]
    pub(crate) job: u64,
}

/// What can be cleared.
#[derive(Debug, Subcommand)]
pub(crate) enum ClearCommand {
    /// Forget the jobs that have ended
    Jobs,
    /// Begin the counters of jobs, requests and logins in the metrics anew
    Metrics,
}
