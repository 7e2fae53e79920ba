//! Planning a restore: which backup, along which timeline, with which WAL; or what stands in the way.

use std::collections::BTreeMap;
use std::path::Path;

use pgm_proto::ServerName;
use pgm_wal::archive::Archive;
use pgm_wal::digest::{self, LastBefore};
use pgm_wal::record;
use pgm_wal::{SegmentSize, Spool};

use super::error::RestoreError;
use super::existing::{self, Existing};
use super::reach::{Wal, Way};
use super::tablespaces;
use super::target::Boundary;
use super::{BackupChoice, Recovery, RestorePlan, RestoreRequest, Target};
use crate::catalog::{BackupEntry, BackupWal};
use crate::context::{Context, Phase};
use crate::error::Error;
use crate::label::BackupLabel;
use crate::repository::Repository;
use crate::verify::verification::Outcome;

/// Finds out how to carry out `request`, with the WAL of `archive` and, where it is at hand, of `spool`. Writes nothing;
/// what cannot be reached is refused with the newest point that can.
pub fn plan(
    cx: &Context,
    repository: &Repository,
    archive: &Archive,
    spool: Option<&Spool>,
    server: &ServerName,
    request: RestoreRequest,
) -> Result<RestorePlan, RestoreError> {
    let mut plan = plan_export(cx, repository, archive, spool, server, request)?;
    let RestoreRequest {
        directory,
        tablespaces,
        ..
    } = &plan.request;
    let tablespaces = tablespaces::places(&plan.entry, directory, tablespaces)?;
    let existing = plan.request.existing;
    existing::check(directory, &tablespaces, existing, plan.entry.system_id)?;
    if tablespaces.is_empty() {
        let there = match existing {
            Existing::Refuse => 0,
            Existing::Update => existing::occupied(directory),
        };
        check_room(directory, plan.entry.size.raw_bytes.saturating_sub(there))?;
    }
    plan.tablespaces = tablespaces;
    Ok(plan)
}

/// Like [`plan`], for an [`export`](super::export()): where folders would go does not matter.
pub fn plan_export(
    cx: &Context,
    repository: &Repository,
    archive: &Archive,
    spool: Option<&Spool>,
    server: &ServerName,
    request: RestoreRequest,
) -> Result<RestorePlan, RestoreError> {
    cx.report(Phase::Plan, 0, None, "");
    let mut candidates = candidates(repository, server, request.backup)?;
    let known_damaged = set_back_damaged(repository, &mut candidates)?;
    let (entry, way) = choose(cx, archive, spool, candidates, &request)?;
    Ok(RestorePlan {
        commits: commits(archive, spool, &entry, &way, &request),
        warnings: warnings(&known_damaged, &entry),
        timeline: way.history.timeline(),
        history: way.history,
        reach: way.reach,
        stop: way.stop,
        needed: way.needed,
        wal_segments: way.wal_segments,
        tablespaces: BTreeMap::new(),
        entry,
        request,
    })
}

/// Which commit a target in time comes down to. It is told, not needed: WAL that cannot be read for it gives none.
fn commits(
    archive: &Archive,
    spool: Option<&Spool>,
    entry: &BackupEntry,
    way: &Way,
    request: &RestoreRequest,
) -> Option<LastBefore> {
    let (Target::Time(time), Some(reach)) = (&request.target, &way.reach) else {
        return None;
    };
    let target = record::Target::Time {
        time: *time,
        inclusion: match request.boundary {
            Boundary::Inclusive => record::Inclusion::Inclusive,
            Boundary::Exclusive => record::Inclusion::Exclusive,
        },
    };
    let size = segment_size(entry).ok()?;
    let range = (entry.start_lsn, reach.end);
    digest::transactions(archive, spool, &way.history, size, range, &target).ok()
}

/// The backups to consider, best first.
fn candidates(
    repository: &Repository,
    server: &ServerName,
    choice: BackupChoice,
) -> Result<Vec<BackupEntry>, RestoreError> {
    let catalog = repository.catalog(server)?;
    let backups: Vec<BackupEntry> = match choice {
        BackupChoice::Newest => catalog.backups().iter().rev().cloned().collect(),
        BackupChoice::Oldest => catalog.backups().iter().take(1).cloned().collect(),
        BackupChoice::Label(label) => vec![catalog.find(&label.to_string())?.clone()],
    };
    if !backups.is_empty() {
        return Ok(backups);
    }
    // That an entry is damaged is a better answer than that there is none.
    if let Some(damaged) = catalog.damaged().last() {
        catalog.find(&damaged.label.to_string())?;
    }
    Err(RestoreError::NoBackup {
        server: server.clone(),
    })
}

/// Puts those at the end that a verification found to be damaged, from the first on that is not; gives all of them. As many
/// candidates are asked as it takes to find one that is not known to be damaged.
fn set_back_damaged(
    repository: &Repository,
    candidates: &mut [BackupEntry],
) -> Result<Vec<BackupLabel>, RestoreError> {
    let mut damaged = Vec::new();
    for entry in candidates.iter() {
        let verifications = repository.verifications(&entry.server, entry.label)?;
        match verifications.first() {
            Some(newest) if newest.outcome == Outcome::Damaged => damaged.push(entry.label),
            _ => break,
        }
    }
    candidates.rotate_left(damaged.len());
    Ok(damaged)
}

/// What a person should know of the choice.
fn warnings(damaged: &[BackupLabel], chosen: &BackupEntry) -> Vec<String> {
    let said = damaged.iter().map(|label| {
        if *label == chosen.label {
            format!("verifying backup {label} found damage; `pgm-cli info` lists it")
        } else {
            format!("backup {label} is passed over: verifying it found damage")
        }
    });
    said.collect()
}

/// The first candidate from which the target can be reached.
fn choose(
    cx: &Context,
    archive: &Archive,
    spool: Option<&Spool>,
    candidates: Vec<BackupEntry>,
    request: &RestoreRequest,
) -> Result<(BackupEntry, Way), RestoreError> {
    let in_wal = matches!(request.target, Target::Xid(_) | Target::Name(_));
    let mut refusal = None;
    let mut newer: Option<BackupEntry> = None;
    for entry in candidates {
        let tried = match request.recovery {
            Recovery::Command(_) | Recovery::Standby(_) => {
                find_way(cx, archive, spool, &entry, newer.as_ref(), request)
            }
            Recovery::None => stand_alone(&entry, request),
        };
        match tried {
            Ok(way) => return Ok((entry, way)),
            // An older backup may do, and if none does, the oldest says how early the target is.
            Err(error @ RestoreError::BeforeBackup { .. }) => refusal = Some(error),
            Err(
                error @ (RestoreError::OtherBranch { .. } | RestoreError::BackupWithoutWal { .. }),
            ) => {
                refusal.get_or_insert(error);
            }
            // What is not in the WAL behind this backup may be in that before it.
            Err(
                error @ (RestoreError::NotInWal { .. }
                | RestoreError::MissingWal { .. }
                | RestoreError::UnreadableWal { .. }),
            ) if in_wal => {
                // That a newer backup is on another branch says less.
                if refusal.is_none() || matches!(refusal, Some(RestoreError::OtherBranch { .. })) {
                    refusal = Some(error);
                }
                newer = Some(entry);
            }
            Err(error) => return Err(error),
        }
    }
    Err(refusal.unwrap_or(RestoreError::Repository(Error::Cancelled)))
}

fn find_way(
    cx: &Context,
    archive: &Archive,
    spool: Option<&Spool>,
    entry: &BackupEntry,
    newer: Option<&BackupEntry>,
    request: &RestoreRequest,
) -> Result<Way, RestoreError> {
    let index = archive.index(segment_size(entry)?, spool)?;
    Wal {
        archive,
        spool,
        index,
    }
    .find_way(cx, entry, newer, request)
}

/// A backup that brings its WAL along needs no archive, and ends where it ends.
fn stand_alone(entry: &BackupEntry, request: &RestoreRequest) -> Result<Way, RestoreError> {
    let history = pgm_wal::History::root(entry.timeline);
    match (entry.wal, &request.target) {
        (BackupWal::Included, Target::Latest | Target::Immediate) => Ok(Way {
            history,
            reach: None,
            stop: super::StopAt {
                target: request.target.clone(),
                boundary: request.boundary,
            },
            needed: entry.end_lsn,
            wal_segments: 0,
        }),
        (BackupWal::Included, target) => Err(RestoreError::BeyondArchive {
            target: target.clone(),
            reach: super::Reach {
                end: entry.end_lsn,
                timeline: entry.timeline,
                last_commit: None,
            },
        }),
        (BackupWal::Archive, _) => {
            let size = segment_size(entry)?;
            let first = pgm_wal::SegmentName::at(entry.timeline, entry.start_lsn, size);
            Err(RestoreError::BackupWithoutWal {
                missing: first.file_name(size),
                label: entry.label,
            })
        }
    }
}

fn segment_size(entry: &BackupEntry) -> Result<SegmentSize, RestoreError> {
    SegmentSize::new(u64::from(entry.segment_bytes)).map_err(|error| RestoreError::Damaged {
        label: entry.label,
        reason: error.to_string(),
    })
}

/// Refuses a file system that is too small, before anything is written to it.
fn check_room(directory: &Path, needed: u64) -> Result<(), RestoreError> {
    let Some(existing) = directory.ancestors().find(|ancestor| ancestor.exists()) else {
        return Ok(());
    };
    let Ok(file_system) = rustix::fs::statvfs(existing) else {
        return Ok(());
    };
    let free = file_system.f_bavail.saturating_mul(file_system.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(RestoreError::NoSpace {
        path: directory.to_owned(),
        free,
        needed,
    })
}
