//! Verifying backups: would a restore give back what was backed up?
//!
//! [`verify`] is the whole procedure: for each backup the catalog level (`catalog`), then every frame and
//! file (`frames`), then the WAL (`wal`, whose segments are read once however many backups need
//! them), then a [`Trial`], which the caller makes; then what was found is noted beside the backup. Damage is a finding and never an error: a verification that
//! finds damage has done its work. Nothing is mended and nothing is removed here, and no lock is held.
//!
//! Not here: starting a server. Whoever wants the level [`Level::Restore`] brings the function that does it.

mod catalog;
mod findings;
mod frames;
pub mod verification;
mod wal;

use std::sync::Mutex;

use jiff::Timestamp;
use pgm_proto::ServerName;
use serde::{Deserialize, Serialize};

use crate::catalog::{BackupEntry, DamagedEntry};
use crate::context::Context;
use crate::delete::WalAtHand;
use crate::error::{Error, Result};
use crate::label::BackupLabel;
use crate::repository::{Repository, layout};
use crate::restore::BackupChoice;

use findings::{Findings, Room};
use verification::{Area, Counts, Trial, Verification};
use wal::WalCheck;

/// How far a verification goes; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Catalog entry, manifests and packs agree.
    Catalog,
    /// Every frame is read, and every file has its checksum.
    Frames,
    /// The WAL is complete and sound, too.
    Wal,
    /// A server is started on the restored backup, replays the WAL, and is checked.
    Restore,
}

/// Restores a backup, starts a server on it, and tells what that showed. Fails when it cannot be tried, which says nothing
/// of the backup.
pub type RunTrial<'a> = dyn Fn(&BackupEntry) -> Result<TrialReport> + 'a;

/// What a trial showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrialReport {
    /// What is noted; `None` if the server did not get as far as to take commands.
    pub trial: Option<Trial>,
    /// Why the backup cannot be restored.
    pub failures: Vec<String>,
    /// What is wrong although it can be restored.
    pub complaints: Vec<String>,
}

/// Which files are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Those that are damaged.
    Failed,
    /// All of them, as far as there is room.
    All,
}

/// What is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyRequest {
    /// The backup; all of the server when `None`.
    pub backup: Option<BackupChoice>,
    /// How far.
    pub level: Level,
    /// Which files are listed.
    pub listing: Listing,
}

/// What verifying one backup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The backup.
    pub label: BackupLabel,
    /// The findings, as they were noted.
    pub verification: Verification,
    /// The files that were asked for: damaged ones first, then by path.
    pub files: Vec<VerifiedFile>,
    /// How many more there are.
    pub files_omitted: u64,
    /// Why the result could not be noted in the repository, when it could not.
    pub not_noted: Option<String>,
}

/// A file that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedFile {
    /// Its path in the data directory, printable.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Its checksum in the manifest, if that has one.
    pub expected: Option<u32>,
    /// The checksum of what is in the repository; `None` when a part of it cannot be read.
    pub found: Option<u32>,
}

impl VerifiedFile {
    /// Whether it is as it was backed up.
    pub fn is_sound(&self) -> bool {
        self.found.is_some() && (self.expected.is_none() || self.found == self.expected)
    }
}

/// Verifies one backup of `server`, or all, oldest first; on the level [`Level::Restore`] with `run_trial`.
pub fn verify(
    cx: &Context,
    repository: &Repository,
    wal: WalAtHand<'_>,
    server: &ServerName,
    request: VerifyRequest,
    run_trial: &RunTrial<'_>,
) -> Result<Vec<VerifyReport>> {
    let (entries, damaged) = choose(repository, server, request.backup)?;
    let room = Mutex::new(Room::default());
    let mut segments = None;
    if request.level >= Level::Wal {
        segments = Some(WalCheck::run(cx, wal, &entries)?);
    }
    let mut reports = Vec::new();
    for entry in damaged {
        let findings = Findings::new(&room, request.listing);
        let path = layout::entry(server, entry.label);
        findings.failed(Area::Catalog, &path, &entry.error);
        let begun = Begun {
            level: request.level,
            started: Timestamp::now(),
            counts: Counts::default(),
            trial: None,
        };
        reports.push(conclude(repository, server, entry.label, begun, findings)?);
    }
    for entry in &entries {
        let findings = Findings::new(&room, request.listing);
        let mut begun = Begun {
            level: request.level,
            started: Timestamp::now(),
            counts: Counts::default(),
            trial: None,
        };
        let counts = &mut begun.counts;
        let manifest = catalog::check(cx, repository, entry, request.level, &findings, counts)?;
        if request.level >= Level::Frames {
            frames::check(cx, repository, entry, manifest, &findings, counts)?;
        }
        if let Some(segments) = &segments {
            segments.judge(entry, &findings, counts);
        }
        // What is known to be damaged is not restored.
        if request.level >= Level::Restore && findings.is_restorable() {
            begun.trial = judge_trial(entry, run_trial(entry)?, &findings);
        }
        reports.push(conclude(repository, server, entry.label, begun, findings)?);
    }
    reports.sort_by_key(|report| report.label);
    Ok(reports)
}

/// The backups that are meant: those that can be read, and those that cannot.
fn choose(
    repository: &Repository,
    server: &ServerName,
    choice: Option<BackupChoice>,
) -> Result<(Vec<BackupEntry>, Vec<DamagedEntry>)> {
    let catalog = repository.catalog(server)?;
    let found = match choice {
        None => return Ok(catalog.into_parts()),
        Some(BackupChoice::Newest) => catalog.find("newest")?.clone(),
        Some(BackupChoice::Oldest) => catalog.find("oldest")?.clone(),
        Some(BackupChoice::Label(label)) => {
            let is_damaged = |entry: &DamagedEntry| entry.label == label;
            if catalog.damaged().iter().any(is_damaged) {
                let (_, damaged) = catalog.into_parts();
                return Ok((Vec::new(), damaged.into_iter().filter(is_damaged).collect()));
            }
            catalog.find(&label.to_string())?.clone()
        }
    };
    Ok((vec![found], Vec::new()))
}

/// A verification that has begun.
struct Begun {
    level: Level,
    started: Timestamp,
    counts: Counts,
    trial: Option<Trial>,
}

fn judge_trial(entry: &BackupEntry, report: TrialReport, findings: &Findings<'_>) -> Option<Trial> {
    let object = layout::entry(&entry.server, entry.label);
    for reason in report.failures {
        findings.object(Area::Trial, &object, reason);
    }
    for reason in report.complaints {
        findings.object(Area::Checks, &object, reason);
    }
    report.trial
}

/// Notes what was found; fails only if the backup was deleted meanwhile.
fn conclude(
    repository: &Repository,
    server: &ServerName,
    label: BackupLabel,
    begun: Begun,
    findings: Findings<'_>,
) -> Result<VerifyReport> {
    let collected = findings.into_collected();
    let verification = Verification {
        format: Verification::FORMAT,
        level: begun.level,
        outcome: collected.outcome,
        started: begun.started,
        finished: Timestamp::now(),
        counts: begun.counts,
        trial: begun.trial,
        findings_total: collected.total,
        findings: collected.findings,
    };
    let not_noted = match repository.note_verification(server, label, &verification) {
        Ok(()) => None,
        Err(error @ Error::NoSuchBackup { .. }) => return Err(error),
        Err(error) => Some(error.to_string()),
    };
    Ok(VerifyReport {
        label,
        verification,
        files: collected.files,
        files_omitted: collected.files_omitted,
        not_noted,
    })
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
pub(crate) mod tests;
