//! What the daemon has counted since it started: requests, ended jobs, reloads, failed logins. For metrics.
//!
//! Counters only grow. What they are kept by is bounded: names of requests, codes of errors, and servers, of which no
//! more than [`SERVERS_MAX`] are ever remembered, because a client may ask for a restore of any name.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use pgm_mgmt::{Error, JobKind, Verified, VerifyOutcome};
use pgm_proto::ServerName;

use super::daemon::lock;

/// Of how many servers jobs are counted.
const SERVERS_MAX: usize = 512;

/// The daemon's counters.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counts>);

/// The counters at one moment.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Ended jobs, by server and kind (`backup`).
    pub jobs: BTreeMap<(ServerName, String), JobCounts>,
    /// Requests, by name and result: `ok`, or the code of the error.
    pub requests: BTreeMap<(&'static str, &'static str), u64>,
    /// Refused logins, by reason.
    pub login_failures: BTreeMap<&'static str, u64>,
    /// Backups that verifications found not to be sound, by server and outcome.
    pub not_sound: BTreeMap<(ServerName, &'static str), u64>,
    /// The newest attempt to read the configuration; the start is the first.
    pub configuration: Option<Reading>,
}

/// How the jobs of one kind ended, for one server.
#[derive(Debug, Clone, Default)]
pub struct JobCounts {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many did not, by the code of the error.
    pub failed: BTreeMap<&'static str, u64>,
    /// When the newest one ended without success.
    pub last_failure: Option<Timestamp>,
    /// When the newest one that succeeded ended.
    pub last_success: Option<Timestamp>,
    /// How long that one took.
    pub last_duration: Duration,
}

/// One reading of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// When.
    pub at: Timestamp,
    /// Whether it is in force now.
    pub outcome: Outcome,
}

/// How something came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// Not.
    Failure,
}

impl Outcome {
    /// What a result amounts to.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() {
            Self::Success
        } else {
            Self::Failure
        }
    }
}

impl Tally {
    /// Everything as it is now.
    pub fn counts(&self) -> Counts {
        lock(&self.0).clone()
    }

    /// Begins to count anew; gives how many counters there were. What was read of the configuration last stays known.
    pub fn clear(&self) -> usize {
        let mut counts = lock(&self.0);
        let configuration = counts.configuration.take();
        let old = std::mem::replace(
            &mut *counts,
            Counts {
                configuration,
                ..Counts::default()
            },
        );
        old.jobs.len() + old.requests.len() + old.login_failures.len() + old.not_sound.len()
    }

    /// A request was answered; a job that it started counts as answered, too.
    pub fn request<T>(&self, name: &'static str, answer: &Result<T, Error>) {
        let result = answer
            .as_ref()
            .map_or_else(|error| error.code.name(), |_| "ok");
        *lock(&self.0).requests.entry((name, result)).or_default() += 1;
    }

    /// Somebody could not log in. The reason is one of a few words, never what they sent.
    pub fn login_failure(&self, reason: &'static str) {
        *lock(&self.0).login_failures.entry(reason).or_default() += 1;
    }

    /// The configuration was read.
    pub fn configuration(&self, outcome: Outcome) {
        let at = Timestamp::now();
        lock(&self.0).configuration = Some(Reading { at, outcome });
    }

    /// Backups were verified.
    pub fn verified(&self, verified: &Verified) {
        let mut counts = lock(&self.0);
        for backup in &verified.backups {
            let outcome = match backup.verification.outcome {
                VerifyOutcome::Sound => continue,
                VerifyOutcome::Flawed => "flawed",
                VerifyOutcome::Damaged => "damaged",
            };
            let key = (verified.server.clone(), outcome);
            if counts.not_sound.len() < SERVERS_MAX || counts.not_sound.contains_key(&key) {
                *counts.not_sound.entry(key).or_default() += 1;
            }
        }
    }

    /// A job ended after so long.
    pub fn job<T>(
        &self,
        kind: JobKind,
        server: &ServerName,
        took: Duration,
        end: &Result<T, Error>,
    ) {
        let mut counts = lock(&self.0);
        let key = (server.clone(), kind.to_string());
        if counts.jobs.len() >= SERVERS_MAX && !counts.jobs.contains_key(&key) {
            return;
        }
        let job = counts.jobs.entry(key).or_default();
        match end {
            Ok(_) => {
                job.succeeded += 1;
                job.last_success = Some(Timestamp::now());
                job.last_duration = took;
            }
            Err(error) => {
                *job.failed.entry(error.code.name()).or_default() += 1;
                job.last_failure = Some(Timestamp::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pgm_mgmt::ErrorCode;

    use super::*;

    #[test]
    fn jobs_are_counted_by_how_they_ended() {
        let tally = Tally::default();
        let server: ServerName = "main".parse().unwrap();
        let second = Duration::from_secs(1);
        tally.job(JobKind::Backup, &server, second, &Ok(()));
        let failed: Result<(), _> = Err(Error::new(ErrorCode::WorkerDied, "gone"));
        tally.job(JobKind::Backup, &server, second, &failed);
        let counts = tally.counts();
        let backups = &counts.jobs[&(server, "backup".to_owned())];
        assert_eq!((backups.succeeded, backups.failed["worker_died"]), (1, 1));
        assert!(backups.last_success.is_some() && backups.last_failure.is_some());
    }

    #[test]
    fn strangers_names_fill_no_memory() {
        let tally = Tally::default();
        for number in 0..SERVERS_MAX + 10 {
            let server: ServerName = format!("s{number}").parse().unwrap();
            tally.job(JobKind::Restore, &server, Duration::ZERO, &Ok(()));
        }
        assert_eq!(tally.counts().jobs.len(), SERVERS_MAX);
    }
}
