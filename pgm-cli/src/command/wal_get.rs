//! `pgm-cli wal get`: PostgreSQL's `restore_command`. Works with and without a daemon.
//!
//! PostgreSQL takes an exit status of 1 to 125 as «there is no such file», ends recovery there and opens. So 1 is said
//! only when nothing lies behind the file either; damage, a gap and failing storage end with 128, which stops recovery.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use pgm_backup::Repository;
use pgm_storage::LocalStorage;
use pgm_wal::archive::{Archive, Lookup};
use pgm_wal::{SegmentSize, Spool, WalFileName};

use super::Cx;
use crate::arguments::WalGetArguments;
use crate::error::{CliError, Failure, chain};

/// «There is no such file.»
const ABSENT: u8 = 1;

pub(super) fn run(cx: &Cx, arguments: &WalGetArguments) -> Result<ExitCode, CliError> {
    get(cx, arguments).map_err(|error| error.with_failure(Failure::StopRecovery))
}

fn get(cx: &Cx, arguments: &WalGetArguments) -> Result<ExitCode, CliError> {
    let (repository, spool) = places(cx, arguments)?;
    let storage = LocalStorage::open(&repository).map_err(|error| stop(&error, error.hint()))?;
    let repository =
        Repository::open(Arc::new(storage)).map_err(|error| stop(&error, error.hint()))?;
    let archive = Archive::new(Arc::clone(repository.storage()), arguments.server.clone());
    let spool = match spool {
        Some(spool) => Spool::find(spool).map_err(|error| stop(&error, error.hint()))?,
        None => None,
    };
    let Some(size) = segment_size(&repository, &archive, spool.as_ref(), arguments)? else {
        return Ok(ExitCode::from(ABSENT));
    };
    // What is no WAL file is asked for too, such as backup history files of earlier archives: there is none here.
    let Ok(name) = WalFileName::parse(&arguments.file, size) else {
        return Ok(ExitCode::from(ABSENT));
    };
    let found = archive
        .fetch(name, size, &arguments.path, spool.as_ref())
        .map_err(|error| stop(&error, error.hint()))?;
    match found {
        Lookup::Delivered(_) => Ok(ExitCode::SUCCESS),
        Lookup::Absent => Ok(ExitCode::from(ABSENT)),
        Lookup::Gap { missing, next_present } => Err(CliError::new(
            Failure::StopRecovery,
            format!("wal segment {missing} is missing from the archive, and {next_present} is there: recovery must not end here"),
            Some("look for the segment in pg_wal of the server or its standbys, or restore with --target-lsn below it".into()),
        )),
    }
}

fn places(cx: &Cx, arguments: &WalGetArguments) -> Result<(PathBuf, Option<PathBuf>), CliError> {
    if let Some(repository) = &arguments.repository {
        return Ok((repository.clone(), arguments.spool.clone()));
    }
    let config = cx.config()?;
    let spool = arguments
        .spool
        .clone()
        .unwrap_or_else(|| config.spool_of(&arguments.server));
    Ok((config.repository.path, Some(spool)))
}

/// The server's segment size, from whichever place knows it.
fn segment_size(
    repository: &Repository,
    archive: &Archive,
    spool: Option<&Spool>,
    arguments: &WalGetArguments,
) -> Result<Option<SegmentSize>, CliError> {
    let record = repository
        .server(&arguments.server)
        .map_err(|error| stop(&error, error.hint()))?;
    if let Some(size) =
        record.and_then(|record| SegmentSize::new(u64::from(record.segment_bytes)).ok())
    {
        return Ok(Some(size));
    }
    if let Some(spool) = spool
        && let Some(size) = spool
            .segment_size()
            .map_err(|error| stop(&error, error.hint()))?
    {
        return Ok(Some(size));
    }
    archive
        .segment_size()
        .map_err(|error| stop(&error, error.hint()))
}

fn stop(error: &dyn std::error::Error, hint: Option<String>) -> CliError {
    CliError::new(Failure::StopRecovery, chain(error), hint)
}
