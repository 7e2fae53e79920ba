//! `pgmd worker job standby SERVER`: brings a directory that is kept as a standby to the state of the newest backup.
//!
//! It is a restore over what is there, with the settings of a standby. One that runs is let alone: it follows by itself, with its
//! `restore_command` or from its primary.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgm_backup::restore::{StandbyDirectory, StandbySettings, standby_directory};
use pgm_mgmt::{
    BackupChoice, Error, ErrorCode, Response, RestoreOptions, RestoreTarget, StandbyOutcome,
    StandbyResult, TablespaceMapping,
};
use serde::{Deserialize, Serialize};

use super::backup::cancelled;
use super::job;
use super::link::Link;
use super::message::{Description, Task, WorkerEvent};
use crate::config::{StandbyConfig, TablespacePlaces};
use crate::listing;
use crate::restore::{PreparedRestore, refusal};
use crate::shared_state::SharedState;

/// Which directory, and what is in it besides the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyOptions {
    /// How the configuration calls it.
    pub name: String,
    /// The data directory.
    pub directory: PathBuf,
    overrides: Option<PathBuf>,
    tablespaces: Vec<(PathBuf, PathBuf)>,
    /// It holds no password: the configuration is not accepted with one.
    primary_conninfo: Option<String>,
}

impl StandbyOptions {
    /// What the configuration says.
    pub fn new(name: &str, config: &StandbyConfig) -> Self {
        let places = config.tablespaces.iter().flat_map(TablespacePlaces::pairs);
        let primary = config.primary_conninfo.as_ref();
        Self {
            name: name.to_owned(),
            directory: config.directory.clone(),
            overrides: config.overrides.clone(),
            tablespaces: places
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .collect(),
            primary_conninfo: primary.map(|conninfo| conninfo.expose().to_owned()),
        }
    }

    fn restore(&self, description: &Description) -> RestoreOptions {
        let text = |path: &Path| path.display().to_string();
        let places = self.tablespaces.iter();
        RestoreOptions {
            server: description.server.clone(),
            backup: BackupChoice::Newest,
            directory: text(&self.directory),
            delta: true,
            target: RestoreTarget::default(),
            tablespaces: places
                .map(|(from, to)| TablespaceMapping {
                    from: text(from),
                    to: text(to),
                })
                .collect(),
            plan_only: false,
            restore_program: None,
        }
    }
}

/// Brings the directory up to date, and reports how that ended.
pub(super) fn standby(link: &Link, description: &Description, state: &Arc<SharedState>) {
    match carry_out(link, description, state) {
        Ok(outcome) => {
            for warning in &outcome.warnings {
                link.report(WorkerEvent::Warning(warning.clone()));
            }
            let response = Response::StandbyUpdated(outcome);
            link.report(WorkerEvent::Done(Box::new(response)));
        }
        Err(error) => link.report(WorkerEvent::Failed(cancelled(link, error))),
    }
}

fn carry_out(
    link: &Link,
    description: &Description,
    state: &Arc<SharedState>,
) -> Result<StandbyOutcome, Error> {
    let Task::Standby { options } = &description.task else {
        return Err(Error::new(
            ErrorCode::Internal,
            "this is no task for a standby",
        ));
    };
    let outcome = StandbyOutcome {
        server: description.server.clone(),
        standby: options.name.clone(),
        directory: options.directory.display().to_string(),
        result: StandbyResult::Skipped,
        label: None,
        files: 0,
        raw_bytes: 0,
        kept_bytes: 0,
        removed: 0,
        elapsed_ms: 0,
        warnings: Vec::new(),
    };
    let found = standby_directory(&options.directory).map_err(|error| refusal(&error))?;
    if found == StandbyDirectory::Follows {
        let text = format!(
            "standby {} in {} is let alone: a server runs there, or was not stopped (postmaster.pid); a standby that runs follows by itself",
            options.name, outcome.directory
        );
        return Ok(StandbyOutcome {
            warnings: vec![text],
            ..outcome
        });
    }
    let context = job::context(link, description, state);
    let restore = options.restore(description);
    let spool = Some(description.spool.as_path());
    let prepared = listing::first(&description.repositories, |place| {
        PreparedRestore::new(&context, place, spool, &restore)
    })?;
    let settings = StandbySettings {
        primary_conninfo: options.primary_conninfo.clone(),
        overrides: options.overrides.clone(),
        ..StandbySettings::default()
    };
    let places = description.repositories.iter();
    let prepared = prepared.with_others(places.map(|target| target.place.clone()));
    let restored = prepared.for_standby(settings).carry_out(&context)?;
    Ok(StandbyOutcome {
        result: StandbyResult::Updated,
        label: Some(restored.label),
        files: restored.files,
        raw_bytes: restored.raw_bytes,
        kept_bytes: restored.kept_bytes,
        removed: restored.removed,
        elapsed_ms: restored.elapsed_ms,
        warnings: restored.warnings,
        ..outcome
    })
}
