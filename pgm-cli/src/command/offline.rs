//! Works on the repository itself, when no daemon is there to be asked.

use std::sync::{Arc, Mutex, PoisonError};

use pgm_backup::{Context, Progress, ProgressSink, Repository};
use pgm_mgmt::{BackupChoice, BackupDetails, BackupList, ClientError, Error, Gap, ServerBackups};
use pgm_proto::{ServerName, SystemId};
use pgm_storage::Cancel;
use pgm_wal::Spool;
use pgm_wal::archive::{Archive, ArchiveError};
use pgmd::config::Config;
use pgmd::operations::{self, Place};
use pgmd::repository;

use super::{At, Cx};
use crate::error::{CliError, Failure, chain};
use crate::output::progress::Bar;

/// Carries out an operation on a server's part of the repository in this process, with a progress bar.
pub(super) fn on_place<T>(
    cx: &Cx,
    server: &ServerName,
    operation: impl FnOnce(&Context, Place<'_>) -> Result<T, Error>,
) -> Result<T, CliError> {
    let at = cx.at()?;
    let bar = Arc::new(BarSink(Mutex::new(Some(Bar::new(cx.format)))));
    let context = Context::new(Cancel::new(), bar.clone());
    let spool = at.spool_of(server);
    let place = Place {
        repository: &at.place,
        spool: spool.as_deref(),
        server,
    };
    let outcome = operation(&context, place);
    if let Some(bar) = bar.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bar.finish();
    }
    outcome.map_err(refused)
}

/// Draws the progress of an operation in this process.
#[derive(Debug)]
struct BarSink(Mutex<Option<Bar>>);

impl ProgressSink for BarSink {
    fn report(&self, progress: &Progress<'_>) {
        let mut bar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = bar.as_mut() {
            bar.update(
                progress.phase.word(),
                progress.done_bytes,
                progress.total_bytes,
            );
        }
    }
}

/// The backups of one server, or of all: those that are configured, else those that the repository has.
pub(super) fn list(cx: &Cx, server: Option<&ServerName>) -> Result<BackupList, CliError> {
    let at = cx.at()?;
    let repository = open(&at)?;
    let servers: Vec<ServerName> = match (server, &at.config) {
        (Some(server), _) => vec![known(&at, &repository, server)?],
        (None, Some(config)) => config.servers.keys().cloned().collect(),
        (None, None) => servers(&repository)?,
    };
    let servers = servers.into_iter().map(|server| {
        let backups = repository::backups(&repository, &server).map_err(refused)?;
        let archive = Archive::new(Arc::clone(repository.storage()), server.clone());
        let gaps = gaps(&at, &archive)
            .map_err(|error| CliError::new(Failure::Failed, chain(&error), error.hint()))?;
        Ok(ServerBackups {
            server,
            backups,
            gaps,
        })
    });
    Ok(BackupList {
        servers: servers.collect::<Result<_, CliError>>()?,
    })
}

/// Everything about one backup.
pub(super) fn info(
    cx: &Cx,
    server: &ServerName,
    backup: &BackupChoice,
) -> Result<BackupDetails, CliError> {
    let at = cx.at()?;
    let repository = open(&at)?;
    let server = known(&at, &repository, server)?;
    let entry = repository::find(&repository, &server, backup).map_err(refused)?;
    repository::details(&repository, &entry).map_err(refused)
}

/// The system that the repository holds under a server's name; none when there is no repository yet.
pub(super) fn system_id(
    config: &Config,
    server: &ServerName,
) -> Result<Option<SystemId>, pgm_backup::Error> {
    let record = match repository::open(&config.repository.place()) {
        Ok(repository) => repository.server(server)?,
        Err(pgm_backup::Error::RepositoryMissing { .. }) => None,
        Err(pgm_backup::Error::Storage(error)) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    Ok(record.map(|record| record.system_id))
}

fn gaps(at: &At, archive: &Archive) -> Result<Vec<Gap>, ArchiveError> {
    let spool = match at.spool_of(archive.server()) {
        Some(folder) => Spool::find(folder)?,
        None => None,
    };
    let Some(size) = archive.segment_size()? else {
        return Ok(Vec::new());
    };
    let index = archive.index(size, spool.as_ref())?;
    let gaps = index.gaps().into_iter();
    Ok(gaps
        .map(|gap| Gap {
            timeline: gap.timeline,
            from: gap.start,
            to: gap.end,
        })
        .collect())
}

/// `server`, if it is configured; without a configuration, if the repository has anything of it.
fn known(at: &At, repository: &Repository, server: &ServerName) -> Result<ServerName, CliError> {
    if let Some(config) = &at.config {
        let known = config.server(server).map(|_| server.clone());
        return known.map_err(|error| CliError::from(error).with_failure(Failure::NotFound));
    }
    operations::refuse_unknown(repository, server).map_err(refused)?;
    Ok(server.clone())
}

fn servers(repository: &Repository) -> Result<Vec<ServerName>, CliError> {
    let servers = repository.servers();
    servers.map_err(|error| refused(repository::failure(&error)))
}

/// Opens the repository at `at`.
pub(super) fn open(at: &At) -> Result<Repository, CliError> {
    repository::open(&at.place).map_err(|error| refused(repository::failure(&error)))
}

fn refused(error: Error) -> CliError {
    ClientError::Refused(error).into()
}
