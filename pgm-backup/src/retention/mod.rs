//! Retention: which backups and which WAL stay, and the removal of the rest.
//!
//! [`plan`] reads the catalog and says for each backup why it stays or that it goes, and which WAL nothing needs then;
//! [`carry_out`] does that, or only says so. The decisions are calculations without I/O ([`select`], [`WalNeed`]).
//! Whatever is in doubt stays: a backup that is damaged, one whose marks cannot be read, WAL whose branch is unknown. A
//! catalog or a list that cannot be read ends the run before anything is removed.

mod need;
mod policy;
mod report;
mod select;
mod wal_need;

use std::collections::BTreeSet;

use pgm_proto::ServerName;
use pgm_wal::SegmentSize;
use pgm_wal::archive::Unneeded;

use crate::catalog::{BackupEntry, Catalog};
use crate::context::{Context, Phase};
use crate::delete::{self, Force, WalAtHand};
use crate::error::{Error, Result};
use crate::label::BackupLabel;
use crate::marks::Retention;
use crate::repository::{Lock, Purpose, Repository};
use crate::restore::BackupChoice;
use crate::verify::verification::Outcome;

pub use policy::{ParsePolicyError, RULE_MAX, RetentionPolicy};
pub use report::{PrunedWal, RetentionReport};
pub use select::{Candidate, Decision, Mark, Reason, Standing, select};
pub use wal_need::{Keeper, Recovery, WalNeed};

/// What would go under a policy, and why the rest stays.
#[derive(Debug)]
pub struct Plan {
    /// The policy.
    pub policy: RetentionPolicy,
    /// Every backup, oldest first.
    pub decisions: Vec<Decision>,
    /// Archived WAL that nothing needs once those backups are gone, by timeline, oldest first.
    pub wal: Vec<Unneeded>,
    size: Option<SegmentSize>,
}

/// Whether anything is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Only say what would be done.
    DryRun,
    /// Do it.
    Apply,
}

/// Applies `policy` to the backups and the WAL of `server`.
pub fn carry_out(
    cx: &Context,
    repository: &Repository,
    wal: WalAtHand<'_>,
    server: &ServerName,
    policy: &RetentionPolicy,
    mode: Mode,
) -> Result<RetentionReport> {
    cx.report(Phase::Plan, 0, None, "");
    let plan = plan(repository, wal, server, policy)?;
    let mut report = RetentionReport::new(server.clone(), &plan, mode);
    if mode == Mode::DryRun {
        return Ok(report);
    }
    for label in plan.expired() {
        cx.check_cancel()?;
        let choice = BackupChoice::Label(label);
        match delete::delete(cx, repository, wal, server, choice, Force::No) {
            Ok(deleted) => report.deleted(deleted),
            // Somebody retained it meanwhile, or removed another one.
            Err(
                error @ (Error::BackupRetained { .. }
                | Error::LastRestorable { .. }
                | Error::DoubtfulBackup { .. }
                | Error::NoSuchBackup { .. }),
            ) => report.spared(label, &error),
            Err(error) => return Err(error),
        }
    }
    prune(cx, repository, wal, server, policy, &mut report)?;
    Ok(report)
}

/// What would go under `policy`. Takes no lock and changes nothing.
pub fn plan(
    repository: &Repository,
    wal: WalAtHand<'_>,
    server: &ServerName,
    policy: &RetentionPolicy,
) -> Result<Plan> {
    let catalog = repository.catalog(server)?;
    let decisions = select(policy, &candidates(repository, &catalog)?, None);
    let staying: BTreeSet<BackupLabel> = decisions
        .iter()
        .filter(|decision| decision.stays())
        .map(|decision| decision.label)
        .collect();
    let coverage = |error| Error::Coverage(Box::new(error));
    let size = wal.archive.segment_size().map_err(coverage)?;
    let unneeded = match size {
        // A damaged entry does not say what it needs.
        Some(size) if catalog.damaged().is_empty() && !policy.keeps_everything() => {
            let kept = catalog.backups().iter();
            let kept: Vec<&BackupEntry> = kept
                .filter(|entry| staying.contains(&entry.label))
                .collect();
            let need = need::of(wal, size, policy, &decisions, &kept).map_err(coverage)?;
            let needed = |name| need.needs(name);
            wal.archive.unneeded(size, &needed).map_err(coverage)?
        }
        _ => Vec::new(),
    };
    Ok(Plan {
        policy: *policy,
        decisions,
        wal: unneeded,
        size,
    })
}

impl Plan {
    /// The backups that go, oldest first.
    pub fn expired(&self) -> Vec<BackupLabel> {
        let going = self.decisions.iter().filter(|decision| !decision.stays());
        going.map(|decision| decision.label).collect()
    }
}

/// What the rules look at, oldest first.
fn candidates(repository: &Repository, catalog: &Catalog) -> Result<Vec<Candidate>> {
    let server = catalog.server();
    let mut candidates = Vec::new();
    for entry in catalog.backups() {
        let newest = repository
            .verifications(server, entry.label)?
            .into_iter()
            .next();
        let damaged = newest.is_some_and(|found| found.outcome == Outcome::Damaged);
        candidates.push(Candidate {
            label: entry.label,
            consistent: entry.stopped,
            standing: if damaged {
                Standing::Damaged
            } else {
                Standing::Sound
            },
            mark: mark(repository, server, entry.label)?,
        });
    }
    for entry in catalog.damaged() {
        candidates.push(Candidate {
            label: entry.label,
            consistent: entry.label.time(),
            standing: Standing::Damaged,
            mark: mark(repository, server, entry.label)?,
        });
    }
    candidates.sort_by_key(|candidate| candidate.label);
    Ok(candidates)
}

fn mark(repository: &Repository, server: &ServerName, label: BackupLabel) -> Result<Mark> {
    let found = repository.marks(server, label)?;
    // Marks that cannot be read may say that it is retained.
    Ok(match (found.damage, found.marks.retention) {
        (None, Retention::Normal) => Mark::None,
        _ => Mark::Retained,
    })
}

/// Removes the WAL that nothing needs, as it is now that the backups are gone.
fn prune(
    cx: &Context,
    repository: &Repository,
    wal: WalAtHand<'_>,
    server: &ServerName,
    policy: &RetentionPolicy,
    report: &mut RetentionReport,
) -> Result<()> {
    let lock: Lock = repository.lock(server, Purpose::Retention)?;
    let plan = plan(repository, wal, server, policy)?;
    report.wal = PrunedWal::default();
    let Some(size) = plan.size else {
        return Ok(());
    };
    for object in plan.wal {
        cx.check_cancel()?;
        lock.check()?;
        let removed = wal.archive.remove(object.name, size);
        removed.map_err(|error| Error::Coverage(Box::new(error)))?;
        report.wal.count(&object);
        cx.report(Phase::Delete, report.wal.bytes, None, "wal");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod years_tests;
