//! Works on the repository itself, when no daemon is there to be asked.

use std::sync::{Arc, Mutex, PoisonError};

use pgm_backup::{Context, Progress, ProgressSink, Repository};
use pgm_mgmt::{BackupChoice, BackupDetails, BackupList, ClientError, Error};
use pgm_proto::{ServerName, SystemId};
use pgm_storage::Cancel;
use pgmd::config::Config;
use pgmd::listing;
use pgmd::operations::{self, Place};
use pgmd::repository;

use super::{At, Cx};
use crate::error::{CliError, Failure};
use crate::output::progress::Bar;

/// Carries out an operation on a server's part of the repository in this process, with a progress bar.
pub(super) fn on_place<T>(
    cx: &Cx,
    server: &ServerName,
    operation: impl FnOnce(&Context, Place<'_>) -> Result<T, Error>,
) -> Result<T, CliError> {
    let at = cx.at()?;
    let spool = at.spool_of(server);
    let place = Place {
        repository: at.place()?,
        spool: spool.as_deref(),
        server,
    };
    with_bar(cx, |context| operation(context, place)).map_err(refused)
}

/// Carries something out in this process, with a progress bar.
pub(super) fn with_bar<T>(cx: &Cx, operation: impl FnOnce(&Context) -> T) -> T {
    let bar = Arc::new(BarSink(Mutex::new(Some(Bar::new(cx.format)))));
    let context = Context::new(Cancel::new(), bar.clone());
    let outcome = operation(&context);
    if let Some(bar) = bar.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bar.finish();
    }
    outcome
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
    let servers: Option<Vec<ServerName>> = match (server, &at.config) {
        (Some(server), _) => {
            at.known(server)?;
            Some(vec![server.clone()])
        }
        (None, Some(config)) => Some(config.servers.keys().cloned().collect()),
        (None, None) => None,
    };
    listing::list(&at.places(), servers, |server| at.spool_of(server)).map_err(refused)
}

/// Everything about one backup.
pub(super) fn info(
    cx: &Cx,
    server: &ServerName,
    backup: &BackupChoice,
) -> Result<BackupDetails, CliError> {
    let at = cx.at()?;
    at.known(server)?;
    let spool = at.spool_of(server);
    listing::first(&at.targets, |place| {
        listing::info(place, server, backup, spool.as_deref())
    })
    .map_err(refused)
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

impl At {
    /// Refuses a server that is not configured; without a configuration, one of which the repository has nothing.
    fn known(&self, server: &ServerName) -> Result<(), CliError> {
        if let Some(config) = &self.config {
            let known = config.server(server).map(|_| ());
            return known.map_err(|error| CliError::from(error).with_failure(Failure::NotFound));
        }
        operations::refuse_unknown(&open(self)?, server).map_err(refused)
    }
}

/// Opens the repository at `at`.
pub(super) fn open(at: &At) -> Result<Repository, CliError> {
    repository::open(at.place()?).map_err(|error| refused(repository::failure(&error)))
}

pub(super) fn refused(error: Error) -> CliError {
    ClientError::Refused(error).into()
}
