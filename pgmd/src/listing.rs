//! What clients are told of backups: their catalog entries, marks and verifications.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pgm_backup::catalog::{
    BackupEntry, BackupKind, BackupMethod, BackupStatus as EntryStatus, BackupWal, DamagedEntry,
    DataChecksums, ObjectChecksum, Sent, TablespaceEntry,
};
use pgm_backup::marks::{FoundMarks, Retention};
use pgm_backup::verify::Level;
use pgm_backup::verify::verification::{self, Area, CheckResult, Outcome, Verification};
use pgm_backup::{Catalog, Repository};
use pgm_mgmt::{
    Annotation, BackupChoice, BackupDetails, BackupList, BackupStatus, BackupSummary, BasisSummary,
    CheckOutcome, Error, ErrorCode, Finding, FindingArea, ProvenRecovery, ServerBackups,
    TablespaceSummary, TrialCheck, TrialSummary, UnreadableRepository, VerificationSummary,
    VerifyLevel, VerifyOutcome,
};
use pgm_proto::{Lsn, RepositoryName, ServerName, ServerVersion, TimelineId};

use crate::place::{RepositoryPlace, RepositoryTarget};
use pgm_wal::archive::ArchiveError;

use crate::repository::{self, chain, failure, second};
use crate::windows::ServerWal;

/// A backup in a line, without what was said of it later.
pub fn summary(entry: &BackupEntry) -> BackupSummary {
    let warned = entry.status == EntryStatus::DamagedPages || !entry.warnings.is_empty();
    BackupSummary {
        server: entry.server.clone(),
        repository: RepositoryName::default(),
        label: entry.label.to_string(),
        kind: match entry.kind {
            BackupKind::Full => "full".to_owned(),
            BackupKind::Incremental => "incremental".to_owned(),
        },
        status: if warned {
            BackupStatus::Warnings
        } else {
            BackupStatus::Valid
        },
        started: second(entry.started),
        stopped: second(entry.stopped),
        timeline: entry.timeline,
        start_lsn: entry.start_lsn,
        end_lsn: entry.end_lsn,
        version: entry.version,
        system_id: entry.system_id.to_string(),
        raw_bytes: entry.size.raw_bytes,
        stored_bytes: entry.size.stored_bytes,
        reused_bytes: entry.reused.raw_bytes,
        basis: entry.basis.map(|basis| {
            Box::new(BasisSummary {
                label: basis.label.to_string(),
                kept_bytes: basis.raw_bytes,
                stored_again_bytes: basis.stored_again_bytes,
                packs_given_up: basis.packs_given_up,
            })
        }),
        compression: entry.compression.to_string(),
        wal: match entry.wal {
            BackupWal::Archive => "archive".to_owned(),
            BackupWal::Included => "included".to_owned(),
        },
        elapsed_ms: milliseconds(entry.started, entry.stopped),
        retained: false,
        annotations: 0,
        verified: None,
        trial: None,
        left_out: Vec::new(),
    }
}

/// How the server sent its files.
pub fn sent(sent: &Sent) -> String {
    match sent {
        Sent::Plain => "as they are".to_owned(),
        Sent::Compressed(compression) => format!("compressed with {compression}"),
        Sent::NotCompressed { wanted, reason } => {
            format!("as they are, not compressed with {wanted}: {reason}")
        }
    }
}

/// Everything about a backup.
pub fn details(repository: &Repository, entry: &BackupEntry) -> Result<BackupDetails, Error> {
    let said = Said::of(repository, entry)?;
    let newest = said.verifications.first();
    Ok(BackupDetails {
        summary: said.complete(summary(entry)),
        window: None,
        packs: entry.size.packs.into(),
        reused_packs: entry.reused.packs.into(),
        sent: sent(&entry.sent),
        files: Some(entry.size.files),
        tablespaces: entry.tablespaces.iter().map(tablespace).collect(),
        manifest_checksum: Some(checksum(entry.manifest)),
        warnings: entry.warnings.clone(),
        method: match entry.method {
            BackupMethod::BaseBackup => "base_backup".to_owned(),
            BackupMethod::BaseBackupIncremental => "base_backup_incremental".to_owned(),
            BackupMethod::Files => "files".to_owned(),
            BackupMethod::Blocks => "blocks".to_owned(),
        },
        reason: entry.reason.clone(),
        data_checksums: entry.data_checksums == DataChecksums::On,
        segment_bytes: entry.segment_bytes,
        directories: entry.size.directories,
        checkpoint_lsn: entry.start_facts.checkpoint_lsn,
        taken_from: entry.start_facts.from.clone(),
        server_start_time: entry.start_facts.start_time.clone(),
        server_label: entry.start_facts.label.clone(),
        manifest_bytes: entry.manifest.size,
        server_manifest_checksum: entry.server_manifest.map(checksum),
        notes: annotations(&said.marks),
        marks_error: said.marks.damage.as_ref().map(ToString::to_string),
        verifications: said.verifications.iter().map(verified).collect(),
        findings: newest
            .map(|newest| findings(&newest.findings))
            .unwrap_or_default(),
    })
}

/// The backups of a server, oldest first; damaged ones are listed, not hidden.
pub fn backups(repository: &Repository, server: &ServerName) -> Result<Vec<BackupSummary>, Error> {
    Ok(catalog(repository, server)?.1)
}

/// The catalog of a server, and its backups as [`backups`] has them.
pub fn catalog(
    repository: &Repository,
    server: &ServerName,
) -> Result<(Catalog, Vec<BackupSummary>), Error> {
    let catalog = repository
        .catalog(server)
        .map_err(|error| failure(&error))?;
    let mut backups = Vec::new();
    for entry in catalog.backups() {
        backups.push(Said::of(repository, entry)?.complete(summary(entry)));
    }
    let damaged = catalog.damaged().iter();
    backups.extend(damaged.map(|damaged| damaged_summary(server, damaged)));
    backups.sort_by(|one, other| one.label.cmp(&other.label));
    Ok((catalog, backups))
}

/// The catalog of one server in the repository at `place`, and its backups, oldest first.
pub fn catalog_at(
    place: &RepositoryPlace,
    repository: &Repository,
    server: &ServerName,
) -> Result<(Catalog, Vec<BackupSummary>), Error> {
    let (catalog, mut backups) = catalog(repository, server)?;
    for backup in &mut backups {
        backup.repository = place.name.clone();
    }
    Ok((catalog, backups))
}

/// The backups of `servers` in all of `places`, oldest first; `None`: of the servers that are there. A repository that
/// cannot be looked at is named, unless none can. `spool` tells where a server's spool is.
pub fn list(
    places: &[RepositoryPlace],
    servers: Option<Vec<ServerName>>,
    spool: impl Fn(&ServerName) -> Option<PathBuf>,
) -> Result<BackupList, Error> {
    let mut opened = Vec::new();
    let mut failed = Vec::new();
    for place in places {
        match repository::open(place) {
            Ok(repository) => opened.push((place, repository)),
            Err(error) => failed.push((place, failure(&error))),
        }
    }
    if opened.is_empty() {
        let first = failed.into_iter().next();
        let none = || Error::new(ErrorCode::Internal, "no repository was named");
        return Err(first.map_or_else(none, |(_, error)| error));
    }
    let servers = match servers {
        Some(servers) => servers,
        None => servers_in(&opened)?,
    };
    let unreadable = |(place, error): &(&RepositoryPlace, Error)| UnreadableRepository {
        repository: place.name.clone(),
        error: error.text.clone(),
    };
    let servers = servers.into_iter().map(|server| {
        let mut listed = ServerBackups {
            server,
            backups: Vec::new(),
            gaps: Vec::new(),
            windows: Vec::new(),
            unreadable: failed.iter().map(unreadable).collect(),
        };
        let spool = spool(&listed.server);
        for (index, (place, repository)) in opened.iter().enumerate() {
            match catalog_at(place, repository, &listed.server) {
                Ok((catalog, backups)) => {
                    if index == 0
                        && let Err(error) = look_at_wal(
                            &mut listed,
                            repository,
                            spool.as_deref(),
                            &catalog,
                            &backups,
                        )
                    {
                        listed.unreadable.push(unreadable(&(place, error)));
                    }
                    listed.backups.extend(backups);
                }
                Err(error) if opened.len() > 1 => {
                    listed.unreadable.push(unreadable(&(place, error)));
                }
                Err(error) => return Err(error),
            }
        }
        listed
            .backups
            .sort_by(|one, other| one.label.cmp(&other.label));
        Ok(listed)
    });
    Ok(BackupList {
        servers: servers.collect::<Result<_, Error>>()?,
    })
}

/// What the WAL of a server means for its backups.
fn look_at_wal(
    listed: &mut ServerBackups,
    repository: &Repository,
    spool: Option<&Path>,
    catalog: &Catalog,
    backups: &[BackupSummary],
) -> Result<(), Error> {
    let look = || {
        let wal = ServerWal::look(repository, &listed.server, spool)?;
        Ok((wal.gaps(), wal.windows(catalog.backups(), backups)?))
    };
    (listed.gaps, listed.windows) = look().map_err(|error: ArchiveError| unreadable_wal(&error))?;
    Ok(())
}

fn unreadable_wal(error: &ArchiveError) -> Error {
    Error {
        code: ErrorCode::Repository,
        text: chain(error),
        hint: error.hint(),
    }
}

fn servers_in(opened: &[(&RepositoryPlace, Repository)]) -> Result<Vec<ServerName>, Error> {
    let mut servers = BTreeSet::new();
    for (_, repository) in opened {
        servers.extend(repository.servers().map_err(|error| failure(&error))?);
    }
    Ok(servers.into_iter().collect())
}

/// What the first of `targets` gives that can; the first one's error when none can.
pub fn first<T>(
    targets: &[RepositoryTarget],
    mut ask: impl FnMut(&RepositoryPlace) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut failed = None;
    for target in targets {
        match ask(&target.place) {
            Ok(answer) => return Ok(answer),
            Err(error) if error.code == ErrorCode::Cancelled => return Err(error),
            Err(error) => _ = failed.get_or_insert(error),
        }
    }
    Err(failed.unwrap_or_else(|| Error::new(ErrorCode::Internal, "no repository was named")))
}

/// Everything about a backup in the repository at `place`; `spool` is the server's.
pub fn info(
    place: &RepositoryPlace,
    server: &ServerName,
    backup: &BackupChoice,
    spool: Option<&Path>,
) -> Result<BackupDetails, Error> {
    let repository = repository::open(place).map_err(|error| failure(&error))?;
    let entry = repository::find(&repository, server, backup)?;
    let mut details = details(&repository, &entry)?;
    let windows = ServerWal::look(&repository, server, spool)
        .and_then(|wal| wal.windows(&[entry], &[]))
        .map_err(|error| unreadable_wal(&error))?;
    details.window = windows.into_iter().next();
    details.summary.repository = place.name.clone();
    Ok(details)
}

/// What was said of a backup after it was taken.
struct Said {
    marks: FoundMarks,
    verifications: Vec<Verification>,
}

impl Said {
    fn of(repository: &Repository, entry: &BackupEntry) -> Result<Self, Error> {
        let read = || {
            Ok(Self {
                marks: repository.marks(&entry.server, entry.label)?,
                verifications: repository.verifications(&entry.server, entry.label)?,
            })
        };
        read().map_err(|error| failure(&error))
    }

    fn complete(&self, summary: BackupSummary) -> BackupSummary {
        let newest = self.verifications.first();
        let is_damaged = newest.is_some_and(|newest| newest.outcome == Outcome::Damaged);
        BackupSummary {
            status: if is_damaged {
                BackupStatus::Damaged
            } else {
                summary.status
            },
            retained: self.marks.marks.retention == Retention::Retained,
            annotations: self.marks.marks.annotations.len() as u64,
            verified: newest.map(verified),
            trial: self
                .verifications
                .iter()
                .find_map(|one| one.trial.as_ref())
                .map(trial),
            ..summary
        }
    }
}

/// A verification in short.
pub(crate) fn verified(verification: &Verification) -> VerificationSummary {
    VerificationSummary {
        at: second(verification.finished),
        level: match verification.level {
            Level::Catalog => VerifyLevel::Catalog,
            Level::Frames => VerifyLevel::Frames,
            Level::Wal => VerifyLevel::Wal,
            Level::Restore => VerifyLevel::Restore,
        },
        outcome: match verification.outcome {
            Outcome::Sound => VerifyOutcome::Sound,
            Outcome::Flawed => VerifyOutcome::Flawed,
            Outcome::Damaged => VerifyOutcome::Damaged,
        },
        findings_total: verification.findings_total,
        elapsed_ms: milliseconds(verification.started, verification.finished),
        trial: verification.trial.as_ref().map(trial),
    }
}

/// What is proven of a server's recovery: by the trial that went furthest.
pub fn proven(backups: &[BackupSummary]) -> Option<ProvenRecovery> {
    let tried = backups.iter().filter_map(|backup| {
        let trial = backup.trial.clone()?;
        Some(ProvenRecovery {
            label: backup.label.clone(),
            trial,
        })
    });
    tried.max_by(|one, other| one.trial.proven.cmp(&other.trial.proven))
}

fn trial(trial: &verification::Trial) -> TrialSummary {
    let check = |check: &verification::Check| {
        let (outcome, reason) = match &check.result {
            CheckResult::Passed => (CheckOutcome::Passed, None),
            CheckResult::Failed => (CheckOutcome::Failed, None),
            CheckResult::Skipped(why) => (CheckOutcome::Skipped, Some(why.clone())),
        };
        TrialCheck {
            name: check.name.clone(),
            outcome,
            reason,
        }
    };
    TrialSummary {
        proven: second(trial.proven),
        lsn: trial.lsn,
        last_commit: trial.last_commit.map(second),
        restore_ms: trial.restore_ms,
        replay_ms: trial.replay_ms,
        check_ms: trial.check_ms,
        checks: trial.checks.iter().map(check).collect(),
    }
}

pub(crate) fn findings(findings: &[verification::Finding]) -> Vec<Finding> {
    let finding = |finding: &verification::Finding| Finding {
        area: match finding.area {
            Area::Catalog => FindingArea::Catalog,
            Area::Data => FindingArea::Data,
            Area::Wal => FindingArea::Wal,
            Area::Window => FindingArea::Window,
            Area::Marks => FindingArea::Marks,
            Area::Trial => FindingArea::Trial,
            Area::Checks => FindingArea::Checks,
        },
        object: finding.object.clone(),
        offset: finding.offset,
        file: finding.file.clone(),
        reason: finding.reason.clone(),
    };
    findings.iter().map(finding).collect()
}

/// The notes of a backup.
pub(crate) fn annotations(found: &FoundMarks) -> Vec<Annotation> {
    let notes = found.marks.annotations.iter();
    let note = |note: &pgm_backup::marks::Annotation| Annotation {
        key: note.key.to_string(),
        text: note.text.clone(),
        changed: second(note.changed),
    };
    notes.map(note).collect()
}

fn tablespace(tablespace: &TablespaceEntry) -> TablespaceSummary {
    TablespaceSummary {
        oid: tablespace.oid,
        location: tablespace.location.clone(),
    }
}

fn checksum(object: ObjectChecksum) -> String {
    format!("crc32c:{:08x}", object.crc32c)
}

fn milliseconds(from: jiff::Timestamp, to: jiff::Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}

/// A backup of which only the label is known.
fn damaged_summary(server: &ServerName, damaged: &DamagedEntry) -> BackupSummary {
    BackupSummary {
        server: server.clone(),
        repository: RepositoryName::default(),
        label: damaged.label.to_string(),
        kind: "full".to_owned(),
        status: BackupStatus::Damaged,
        started: String::new(),
        stopped: String::new(),
        timeline: TimelineId::FIRST,
        start_lsn: Lsn::INVALID,
        end_lsn: Lsn::INVALID,
        version: ServerVersion::from_number(0),
        system_id: String::new(),
        raw_bytes: 0,
        stored_bytes: 0,
        reused_bytes: 0,
        basis: None,
        compression: String::new(),
        wal: String::new(),
        elapsed_ms: 0,
        retained: false,
        annotations: 0,
        verified: None,
        trial: None,
        left_out: Vec::new(),
    }
}
