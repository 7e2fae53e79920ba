//! The way from the configuration to the repository, and from a catalog to what clients are told.

use std::path::Path;
use std::sync::Arc;

use pgm_backup::catalog::{BackupEntry, BackupKind, BackupStatus as EntryStatus};
use pgm_backup::{BackupLabel, Repository};
use pgm_mgmt::{
    BackupChoice, BackupDetails, BackupStatus, BackupSummary, Error, ErrorCode, TablespaceSummary,
};
use pgm_proto::ServerName;
use pgm_storage::LocalStorage;

use crate::config::Config;

/// Opens the repository of `config`, or makes it.
pub fn open_or_create(config: &Config) -> pgm_backup::Result<Repository> {
    Repository::open_or_create(Arc::new(LocalStorage::create(&config.repository.path)?))
}

/// Opens the repository in `folder`.
pub fn open(folder: &Path) -> pgm_backup::Result<Repository> {
    match LocalStorage::open(folder) {
        Ok(storage) => Repository::open(Arc::new(storage)),
        Err(error) if error.is_not_found() => Err(pgm_backup::Error::RepositoryMissing {
            location: folder.display().to_string(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// A backup in a line.
pub fn summary(entry: &BackupEntry) -> BackupSummary {
    let warned = entry.status == EntryStatus::DamagedPages || !entry.warnings.is_empty();
    BackupSummary {
        server: entry.server.clone(),
        label: entry.label.to_string(),
        kind: match entry.kind {
            BackupKind::Full => "full".to_owned(),
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
        compression: entry.compression.to_string(),
    }
}

/// Everything about a backup.
pub fn details(entry: &BackupEntry) -> BackupDetails {
    let tablespace = |tablespace: &pgm_backup::catalog::TablespaceEntry| TablespaceSummary {
        oid: tablespace.oid,
        location: tablespace.location.clone(),
    };
    BackupDetails {
        summary: summary(entry),
        packs: entry.size.packs.into(),
        files: Some(entry.size.files),
        tablespaces: entry.tablespaces.iter().map(tablespace).collect(),
        manifest_checksum: Some(format!("crc32c:{:08x}", entry.manifest.crc32c)),
        warnings: entry.warnings.clone(),
    }
}

/// The backups of a server, oldest first; damaged ones are listed, not hidden.
pub fn backups(repository: &Repository, server: &ServerName) -> Result<Vec<BackupSummary>, Error> {
    let catalog = repository
        .catalog(server)
        .map_err(|error| failure(&error))?;
    let mut backups: Vec<_> = catalog.backups().iter().map(summary).collect();
    backups.extend(
        catalog
            .damaged()
            .iter()
            .map(|damaged| damaged_summary(server, damaged)),
    );
    backups.sort_by(|one, other| one.label.cmp(&other.label));
    Ok(backups)
}

/// A backup of which only the label is known.
fn damaged_summary(
    server: &ServerName,
    damaged: &pgm_backup::catalog::DamagedEntry,
) -> BackupSummary {
    use pgm_proto::{Lsn, ServerVersion, TimelineId};
    BackupSummary {
        server: server.clone(),
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
        compression: String::new(),
    }
}

/// The entry that `choice` names.
pub fn find(
    repository: &Repository,
    server: &ServerName,
    choice: &BackupChoice,
) -> Result<BackupEntry, Error> {
    let name = match choice {
        BackupChoice::Newest => "newest",
        BackupChoice::Oldest => "oldest",
        BackupChoice::Label(label) => label,
    };
    let catalog = repository
        .catalog(server)
        .map_err(|error| failure(&error))?;
    catalog.find(name).cloned().map_err(|error| failure(&error))
}

/// The label that a client wrote.
pub fn label(text: &str) -> Result<BackupLabel, Error> {
    text.parse().map_err(|error: pgm_backup::ParseLabelError| {
        Error::new(ErrorCode::UnknownBackup, error.to_string())
            .with_hint("pgm-cli list-backup lists the labels; newest and oldest do too")
    })
}

/// What a client is told of a failure of the repository or of a backup.
pub fn failure(error: &pgm_backup::Error) -> Error {
    use pgm_backup::Error as Cause;
    let code = match error {
        Cause::Cancelled | Cause::Server(pgm_proto::Error::Interrupted) => ErrorCode::Cancelled,
        Cause::Server(_) => ErrorCode::ServerUnreachable,
        Cause::UnknownServer { .. } => ErrorCode::UnknownServer,
        Cause::NoSuchBackup { .. } => ErrorCode::UnknownBackup,
        Cause::LockHeld { .. } => ErrorCode::AlreadyRunning,
        Cause::Storage(_)
        | Cause::RepositoryMissing { .. }
        | Cause::RepositoryExists { .. }
        | Cause::UnknownFormat { .. }
        | Cause::Damaged { .. } => ErrorCode::Repository,
        _ => ErrorCode::BackupFailed,
    };
    Error {
        code,
        text: chain(error),
        hint: error.hint(),
    }
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors print their source themselves.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A moment as clients see it: RFC 3339, UTC, whole seconds.
pub fn second(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
