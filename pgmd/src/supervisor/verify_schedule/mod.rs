//! Backups are verified without being asked: each again after `verify.interval`, the one whose last verification lies furthest
//! back first, one at a time, and only while there is something left of the day's budget ([`budget`]).

mod budget;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pgm_backup::BackupLabel;
use pgm_backup::verify::Level;
use pgm_backup::verify::verification::Verification;
use pgm_mgmt::{
    BackupChoice, Error, ErrorCode, JobKind, ListedFiles, Response, Role, TrialOptions, Verified,
    VerifyLevel, VerifyOptions, VerifyOutcome,
};
use pgm_proto::{RepositoryName, ServerName};
use tracing::{error, warn};

use super::{Daemon, JobRequest};
use crate::config::{Config, VerifyDepth};
use crate::known_repository;
use crate::place::RepositoryTarget;
use crate::repository::chain;
use crate::service::{Caller, Origin};
use crate::trial::TrialSetup;
use crate::worker::Task;

use budget::Budget;

/// How often it is looked whether something is due, at least and at most; in between, in proportion to the interval.
const LOOK_EVERY_MIN: Duration = Duration::from_secs(5);
const LOOK_EVERY_MAX: Duration = Duration::from_hours(1);
const LOOKS_PER_INTERVAL: u32 = 24;
/// How long a verification that failed for another reason than damage is let alone.
const AFTER_FAILURE: Duration = Duration::from_mins(10);

/// A backup that is to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Due {
    server: ServerName,
    repository: RepositoryName,
    label: BackupLabel,
    level: VerifyLevel,
    stored_bytes: u64,
    segment_bytes: u64,
    /// When it was last verified as far as is asked for now.
    last: Option<Timestamp>,
}

/// Runs until it is aborted.
pub(super) async fn keep(daemon: Arc<Daemon>) {
    let mut budget = Budget::open(daemon.config().folder(), today());
    loop {
        let config = daemon.config();
        let every = config.verify.interval;
        let pause = (every / LOOKS_PER_INTERVAL).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX);
        tokio::time::sleep(pause).await;
        while !config.verify.interval.is_zero()
            && budget.allows(config.verify.budget.bytes(), today())
        {
            let Some(due) = first_due(&config).await else {
                break;
            };
            if let Err(error) = verify(&daemon, &config, &due, &mut budget).await {
                warn!(
                    "backup {} of {} was not verified: {error}",
                    due.label, due.server
                );
                tokio::time::sleep(AFTER_FAILURE).await;
                break;
            }
        }
    }
}

fn today() -> jiff::civil::Date {
    jiff::tz::TimeZone::UTC.to_datetime(Timestamp::now()).date()
}

/// Verifies one backup, and takes what that read from the budget.
async fn verify(
    daemon: &Arc<Daemon>,
    config: &Config,
    due: &Due,
    budget: &mut Budget,
) -> Result<(), Error> {
    let caller = Caller {
        user: "schedule".to_owned(),
        role: Role::Admin,
        origin: Origin::Local { pid: None },
    };
    let options = VerifyOptions {
        server: due.server.clone(),
        backup: Some(BackupChoice::Label(due.label.to_string())),
        level: due.level,
        files: ListedFiles::Failed,
        trial: TrialOptions::default(),
    };
    let setup = TrialSetup::new(config, &due.server, &options.trial);
    let asked = JobRequest {
        caller: &caller,
        kind: JobKind::Verify,
        server: &due.server,
        repositories: vec![target(config, due)?],
        task: Task::Verify { options, setup },
    };
    let ticket = daemon.start_job(asked)?;
    let outcome = ticket.outcome.await;
    budget.spend(match &outcome {
        Ok(Ok(Response::Verified(verified))) => cost(due, verified),
        // Nobody knows how far it got.
        _ => due.stored_bytes,
    });
    match outcome {
        Ok(Err(error)) => Err(error),
        _ => Ok(()),
    }
}

fn target(config: &Config, due: &Due) -> Result<RepositoryTarget, Error> {
    config.target(&due.repository).map_err(|error| Error {
        code: ErrorCode::BadValue,
        text: error.to_string(),
        hint: error.hint(),
    })
}

/// What a verification has read: packs where it read frames, segments at their full size, and for a restore both twice.
fn cost(due: &Due, verified: &Verified) -> u64 {
    let read = verified.backups.iter().map(|backup| {
        let packs = if backup.frames > 0 {
            due.stored_bytes
        } else {
            0
        };
        packs.saturating_add(backup.wal_segments.saturating_mul(due.segment_bytes))
    });
    let times = if due.level == VerifyLevel::Restore {
        2
    } else {
        1
    };
    read.sum::<u64>().saturating_mul(times)
}

/// The backup that is due first, of all servers and repositories.
async fn first_due(config: &Arc<Config>) -> Option<Due> {
    let config = Arc::clone(config);
    let looked = tokio::task::spawn_blocking(move || look(&config, Timestamp::now()));
    looked.await.ok()?
}

/// A repository that does not say what it has does not keep the others from being verified.
fn look(config: &Config, now: Timestamp) -> Option<Due> {
    let mut all = Vec::new();
    for target in config.targets() {
        match backups(config, &target) {
            Ok(backups) => all.extend(backups),
            Err(error) => warn!(
                "cannot tell which backups in {} have to be verified: {}",
                target.place,
                chain(&error)
            ),
        }
    }
    choose(all, config.verify.interval, now)
}

/// What the repository has of all servers.
fn backups(config: &Config, target: &RepositoryTarget) -> pgm_backup::Result<Vec<Due>> {
    let repository = known_repository::open(&target.place, &config.spool)?;
    let mut backups = Vec::new();
    for (server, own) in &config.servers {
        let depth = own.verify_level.unwrap_or(config.verify.level);
        for entry in repository.catalog(server)?.backups() {
            let verifications = repository.verifications(server, entry.label)?;
            backups.push(Due {
                server: server.clone(),
                repository: target.place.name.clone(),
                label: entry.label,
                level: level(depth),
                stored_bytes: entry.size.stored_bytes,
                segment_bytes: entry.segment_bytes.into(),
                last: last(&verifications, depth),
            });
        }
    }
    Ok(backups)
}

const fn level(depth: VerifyDepth) -> VerifyLevel {
    match depth {
        VerifyDepth::Catalog => VerifyLevel::Catalog,
        VerifyDepth::Frames => VerifyLevel::Frames,
        VerifyDepth::Wal => VerifyLevel::Wal,
        VerifyDepth::Restore => VerifyLevel::Restore,
    }
}

/// When a verification that went at least so far ended.
fn last(verifications: &[Verification], depth: VerifyDepth) -> Option<Timestamp> {
    let wanted = match depth {
        VerifyDepth::Catalog => Level::Catalog,
        VerifyDepth::Frames => Level::Frames,
        VerifyDepth::Wal => Level::Wal,
        VerifyDepth::Restore => Level::Restore,
    };
    let deep = verifications.iter().filter(|one| one.level >= wanted);
    deep.map(|one| one.finished).max()
}

/// The one whose last verification lies furthest back; of those that were never verified, the newest.
fn choose(all: Vec<Due>, interval: Duration, now: Timestamp) -> Option<Due> {
    let interval = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX);
    let is_due = |due: &Due| {
        due.last
            .is_none_or(|last| now.duration_since(last) >= interval)
    };
    let due = all.into_iter().filter(is_due);
    due.min_by_key(|due| (due.last, std::cmp::Reverse(due.label)))
}

/// Says in the log what a verification found, whoever asked for it.
pub(super) fn log_findings(verified: &Verified) {
    for backup in &verified.backups {
        let verification = &backup.verification;
        let what = match verification.outcome {
            VerifyOutcome::Sound => continue,
            VerifyOutcome::Flawed => "is flawed",
            VerifyOutcome::Damaged => "is damaged",
        };
        let first = backup.findings.first().map_or_else(String::new, |finding| {
            format!(": {}: {}", finding.object, finding.reason)
        });
        let (label, server) = (&backup.label, &verified.server);
        let findings = verification.findings_total;
        error!(
            "backup {label} of {server} {what}, {findings} findings{first}; HINT: pgm-cli info {server} {label}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(label: &str, last: Option<&str>) -> Due {
        Due {
            server: "main".parse().unwrap(),
            repository: RepositoryName::default(),
            label: label.parse().unwrap(),
            level: VerifyLevel::Wal,
            stored_bytes: 10,
            segment_bytes: 16,
            last: last.map(|last| last.parse().unwrap()),
        }
    }

    #[test]
    fn the_one_whose_last_verification_is_oldest_comes_first() {
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let week = Duration::from_hours(7 * 24);
        let old = due("20261101T020000Z", Some("2026-11-10T00:00:00Z"));
        let older = due("20261102T020000Z", Some("2026-11-09T00:00:00Z"));
        let fresh = due("20261103T020000Z", Some("2026-11-24T00:00:00Z"));
        let never = due("20261104T020000Z", None);
        let newest = due("20261105T020000Z", None);
        let all = vec![
            old.clone(),
            older.clone(),
            fresh.clone(),
            never.clone(),
            newest.clone(),
        ];
        assert_eq!(choose(all, week, now), Some(newest));
        let all = vec![old.clone(), older.clone(), fresh.clone()];
        assert_eq!(choose(all, week, now), Some(older));
        assert_eq!(choose(vec![fresh], week, now), None);
        // A clock that was set back lets nothing be due.
        let before: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        assert_eq!(choose(vec![old], week, before), None);
    }
}
