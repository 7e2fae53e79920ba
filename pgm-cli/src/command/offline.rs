//! Works on the repository itself, when no daemon is there to be asked.

use std::sync::{Arc, Mutex, PoisonError};

use pgm_backup::{Context, Progress, ProgressSink};

use pgm_mgmt::{BackupChoice, BackupDetails, BackupList, ClientError, Error, Gap, ServerBackups};
use pgm_proto::{ServerName, SystemId};
use pgm_storage::Cancel;
use pgm_wal::Spool;
use pgm_wal::archive::{Archive, ArchiveError};
use pgmd::config::Config;
use pgmd::operations::Place;
use pgmd::repository;

use super::Cx;
use crate::error::{CliError, Failure, chain};
use crate::output::progress::Bar;

/// Carries out an operation on a server's part of the repository in this process, with a progress bar.
pub(super) fn on_place<T>(
    cx: &Cx,
    server: &ServerName,
    operation: impl FnOnce(&Context, Place<'_>) -> Result<T, Error>,
) -> Result<T, CliError> {
    let config = cx.config()?;
    let bar = Arc::new(BarSink(Mutex::new(Some(Bar::new(cx.format)))));
    let context = Context::new(Cancel::new(), bar.clone());
    let spool = config.spool_of(server);
    let place = Place {
        repository: &config.repository.path,
        spool: &spool,
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

/// The backups of one server, or of all that are configured.
pub(super) fn list(config: &Config, server: Option<&ServerName>) -> Result<BackupList, CliError> {
    let servers: Vec<ServerName> = match server {
        Some(server) => vec![known(config, server)?],
        None => config.servers.keys().cloned().collect(),
    };
    let repository = open(config)?;
    let servers = servers.into_iter().map(|server| {
        let backups = repository::backups(&repository, &server).map_err(refused)?;
        let archive = Archive::new(Arc::clone(repository.storage()), server.clone());
        let gaps = gaps(config, &archive)
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
    config: &Config,
    server: &ServerName,
    backup: &BackupChoice,
) -> Result<BackupDetails, CliError> {
    let server = known(config, server)?;
    let repository = open(config)?;
    let entry = repository::find(&repository, &server, backup).map_err(refused)?;
    repository::details(&repository, &entry).map_err(refused)
}

/// The system that the repository holds under a server's name; none when there is no repository yet.
pub(super) fn system_id(
    config: &Config,
    server: &ServerName,
) -> Result<Option<SystemId>, pgm_backup::Error> {
    let record = match repository::open(&config.repository.path) {
        Ok(repository) => repository.server(server)?,
        Err(pgm_backup::Error::RepositoryMissing { .. }) => None,
        Err(pgm_backup::Error::Storage(error)) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    Ok(record.map(|record| record.system_id))
}

fn gaps(config: &Config, archive: &Archive) -> Result<Vec<Gap>, ArchiveError> {
    let spool = Spool::find(config.spool_of(archive.server()))?;
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

fn known(config: &Config, server: &ServerName) -> Result<ServerName, CliError> {
    let known = config.server(server).map(|_| server.clone());
    known.map_err(|error| CliError::from(error).with_failure(Failure::NotFound))
}

fn open(config: &Config) -> Result<pgm_backup::Repository, CliError> {
    repository::open(&config.repository.path).map_err(|error| refused(repository::failure(&error)))
}

fn refused(error: Error) -> CliError {
    ClientError::Refused(error).into()
}
