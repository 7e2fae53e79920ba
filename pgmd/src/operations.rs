//! What is done with a backup that is there, as the daemon and the command line without a daemon do it: from the typed
//! request of the management protocol to the repository.

use std::path::Path;
use std::sync::Arc;

use pgm_backup::catalog::BackupEntry;
use pgm_backup::delete::{self, Force, WalAtHand};
use pgm_backup::marks::{AnnotationKey, FoundMarks, MarkChange};
use pgm_backup::verify::{self, Level, Listing, VerifyReport, VerifyRequest};
use pgm_backup::{BackupLabel, Context, Repository, restore};
use pgm_mgmt::{
    AnnotationChange, BackupChoice, BackupMarks, Deleted, Error, ErrorCode, ListedFiles, Verified,
    VerifiedBackup, VerifiedFile, VerifyLevel, VerifyOptions,
};
use pgm_proto::ServerName;
use pgm_wal::Spool;
use pgm_wal::archive::Archive;

use crate::config::nearest_hint;
use crate::known_repository;
use crate::listing;
use crate::place::RepositoryPlace;
use crate::repository::{self, chain, failure};
use crate::trial::{self, TrialError, TrialSetup};

/// Where a server's backups and WAL are.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The repository.
    pub repository: &'a RepositoryPlace,
    /// The server's spool, if there is one on this host; the folder need not exist.
    pub spool: Option<&'a Path>,
    /// The server; it need not be configured any more.
    pub server: &'a ServerName,
}

/// A server's part of an opened repository.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) repository: Repository,
    pub(crate) archive: Archive,
    pub(crate) spool: Option<Spool>,
}

impl Place<'_> {
    /// Opens the repository; fails for a server of which there is nothing.
    pub(crate) fn open(&self) -> Result<Opened, Error> {
        let repository = match self.spool {
            Some(spool) => known_repository::open_beside(self.repository, spool),
            None => repository::open(self.repository),
        };
        let repository = repository.map_err(|error| failure(&error))?;
        refuse_unknown(&repository, self.server)?;
        let archive = Archive::new(Arc::clone(repository.storage()), self.server.clone());
        let spool = self.spool.map_or(Ok(None), Spool::find);
        let spool = spool.map_err(|error| Error {
            code: ErrorCode::Repository,
            text: chain(&error),
            hint: error.hint(),
        })?;
        Ok(Opened {
            repository,
            archive,
            spool,
        })
    }
}

/// Deletes a backup.
pub fn delete(
    cx: &Context,
    place: Place<'_>,
    backup: &BackupChoice,
    force: Force,
) -> Result<Deleted, Error> {
    let choice = choice(backup)?;
    let opened = place.open()?;
    let wal = WalAtHand {
        archive: &opened.archive,
        spool: opened.spool.as_ref(),
    };
    let report = delete::delete(cx, &opened.repository, wal, place.server, choice, force)
        .map_err(|error| refused_as(&error, ErrorCode::DeleteFailed))?;
    Ok(Deleted {
        server: report.server,
        label: report.label.to_string(),
        objects: report.objects,
        bytes: report.bytes,
        warnings: report.warnings,
    })
}

/// Keeps a backup until it is expunged.
pub fn retain(place: Place<'_>, backup: &BackupChoice) -> Result<BackupMarks, Error> {
    mark(place, backup, &MarkChange::Retain)
}

/// Allows again that a retained backup is deleted.
pub fn expunge(place: Place<'_>, backup: &BackupChoice) -> Result<BackupMarks, Error> {
    mark(place, backup, &MarkChange::Expunge)
}

/// Changes the notes of a backup.
pub fn annotate(
    place: Place<'_>,
    backup: &BackupChoice,
    change: AnnotationChange,
) -> Result<BackupMarks, Error> {
    let key = |text: String| {
        AnnotationKey::new(text).map_err(|error| Error {
            code: ErrorCode::BadValue,
            text: error.to_string(),
            hint: error.hint(),
        })
    };
    let change = match change {
        AnnotationChange::Add { key: name, text } => MarkChange::Add(key(name)?, text),
        AnnotationChange::Update { key: name, text } => MarkChange::Update(key(name)?, text),
        AnnotationChange::Remove { key: name } => MarkChange::Remove(key(name)?),
    };
    mark(place, backup, &change)
}

fn mark(
    place: Place<'_>,
    backup: &BackupChoice,
    change: &MarkChange,
) -> Result<BackupMarks, Error> {
    let repository = place.open()?.repository;
    let label = find_label(&repository, place.server, backup)?;
    let marks = repository
        .mark(place.server, label, change)
        .map_err(|error| failure(&error))?;
    let marks = FoundMarks {
        marks,
        damage: None,
    };
    Ok(BackupMarks {
        server: place.server.clone(),
        label: label.to_string(),
        retained: marks.marks.retention == pgm_backup::marks::Retention::Retained,
        annotations: listing::annotations(&marks),
    })
}

/// The label that is meant. One that is written out may be that of a backup whose catalog entry is damaged.
fn find_label(
    repository: &Repository,
    server: &ServerName,
    backup: &BackupChoice,
) -> Result<BackupLabel, Error> {
    match backup {
        BackupChoice::Label(text) => repository::label(text),
        _ => Ok(repository::find(repository, server, backup)?.label),
    }
}

/// The choice as the library takes it.
pub(crate) fn choice(backup: &BackupChoice) -> Result<restore::BackupChoice, Error> {
    Ok(match backup {
        BackupChoice::Newest => restore::BackupChoice::Newest,
        BackupChoice::Oldest => restore::BackupChoice::Oldest,
        BackupChoice::Label(text) => restore::BackupChoice::Label(repository::label(text)?),
    })
}

/// Refuses a server of which there is nothing; it need not be configured any more.
pub fn refuse_unknown(repository: &Repository, server: &ServerName) -> Result<(), Error> {
    let known = repository.servers().map_err(|error| failure(&error))?;
    if known.contains(server) {
        return Ok(());
    }
    let known: Vec<&str> = known.iter().map(ServerName::as_str).collect();
    let text = format!("there is nothing of server `{server}` in the repository");
    let error = Error::new(ErrorCode::UnknownServer, text);
    Err(error.with_hint(nearest_hint(server.as_str(), &known)))
}

/// What a client is told, with `code` for what has no code of its own.
pub(crate) fn refused_as(error: &pgm_backup::Error, code: ErrorCode) -> Error {
    let told = failure(error);
    match told.code {
        ErrorCode::BackupFailed => Error { code, ..told },
        _ => told,
    }
}

/// Verifies backups; on the level `restore` as `setup` says.
pub fn verify(
    cx: &Context,
    place: Place<'_>,
    options: &VerifyOptions,
    setup: &TrialSetup,
) -> Result<Verified, Error> {
    let request = VerifyRequest {
        backup: options.backup.as_ref().map(choice).transpose()?,
        level: match options.level {
            VerifyLevel::Catalog => Level::Catalog,
            VerifyLevel::Frames => Level::Frames,
            VerifyLevel::Wal => Level::Wal,
            VerifyLevel::Restore => Level::Restore,
        },
        listing: match options.files {
            ListedFiles::Failed => Listing::Failed,
            ListedFiles::All => Listing::All,
        },
    };
    let opened = place.open()?;
    let wal = WalAtHand {
        archive: &opened.archive,
        spool: opened.spool.as_ref(),
    };
    if request.level == Level::Restore {
        refuse_impossible_trials(&opened.repository, place, options, setup)?;
    }
    let run_trial = |entry: &BackupEntry| {
        trial::run(cx, place, entry, setup).map_err(|error| untried(entry, &error))
    };
    let reports = verify::verify(
        cx,
        &opened.repository,
        wal,
        place.server,
        request,
        &run_trial,
    )
    .map_err(|error| refused_as(&error, ErrorCode::VerifyFailed))?;
    Ok(Verified {
        server: place.server.clone(),
        backups: reports.into_iter().map(verified_backup).collect(),
    })
}

/// What cannot be tried here is said before anything is read.
fn refuse_impossible_trials(
    repository: &Repository,
    place: Place<'_>,
    options: &VerifyOptions,
    setup: &TrialSetup,
) -> Result<(), Error> {
    let entries = if let Some(backup) = &options.backup {
        vec![repository::find(repository, place.server, backup)?]
    } else {
        let catalog = repository.catalog(place.server);
        catalog.map_err(|error| failure(&error))?.backups().to_vec()
    };
    for entry in &entries {
        setup
            .refuse_impossible(entry)
            .map_err(|error| refused_as(&untried(entry, &error), ErrorCode::VerifyFailed))?;
    }
    Ok(())
}

fn untried(entry: &BackupEntry, error: &TrialError) -> pgm_backup::Error {
    match error {
        TrialError::Cancelled => pgm_backup::Error::Cancelled,
        error => pgm_backup::Error::Trial {
            label: entry.label,
            reason: error.to_string(),
            advice: error.hint(),
        },
    }
}

fn verified_backup(report: VerifyReport) -> VerifiedBackup {
    let verification = &report.verification;
    let counts = verification.counts;
    let file = |file: verify::VerifiedFile| VerifiedFile {
        sound: file.is_sound(),
        path: file.path,
        size: file.size,
        expected: file.expected.map(|expected| format!("{expected:08x}")),
        found: file.found.map(|found| format!("{found:08x}")),
    };
    VerifiedBackup {
        label: report.label.to_string(),
        verification: listing::verified(verification),
        checked_files: counts.files,
        raw_bytes: counts.raw_bytes,
        packs: counts.packs,
        frames: counts.frames,
        wal_segments: counts.wal_segments,
        findings: listing::findings(&verification.findings),
        files: report.files.into_iter().map(file).collect(),
        files_omitted: report.files_omitted,
        not_noted: report.not_noted,
    }
}
