//! The trial of a backup: it is restored, a PostgreSQL of its major version is started on it, replays the WAL, and is
//! checked. What a backup is worth is known only then.
//!
//! `run` is the procedure. Everything that it makes lies in one folder of the scratch area (`scratch`), which goes
//! whatever happens; the server (`process`) has no network, no jobs and none of the original's settings (`settings`),
//! and does not outlive the process that started it. A trial says nothing of a backup when it could not be made: that is a
//! [`TrialError`]. What a backup fails at is in the report.
//!
//! Used by the verify job's worker, and by `pgm-cli` without a daemon.

mod checks;
mod error;
mod guard;
mod process;
mod programs;
mod query;
mod scratch;
mod server;
mod settings;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pgm_backup::Context;
use pgm_backup::catalog::{BackupEntry, DataChecksums};
use pgm_backup::verify::TrialReport;
use pgm_backup::verify::verification::{Check, CheckResult, Trial};
use pgm_mgmt::{
    BackupChoice, Error, ErrorCode, RestoreOptions, RestoreTarget, TablespaceMapping, TargetAction,
    TargetPoint, TrialOptions,
};
use serde::{Deserialize, Serialize};

use crate::config::{Config, ProgramFolders, Statements};
use crate::operations::Place;
use crate::restore::PreparedRestore;
use crate::seal_key::PlaceKey;

pub use error::TrialError;
pub use guard::guard;
pub use scratch::sweep;

use checks::Checks;
use programs::Programs;
use scratch::Scratch;
use server::{Server, Started};

/// WAL that PostgreSQL keeps at most while it replays (`max_wal_size`, a checkpoint's overlap included).
const WAL_BYTES_MAX: u64 = 2 << 30;
/// What else it writes: statistics, logs, temporary files.
const SPARE_BYTES: u64 = 128 << 20;

/// How trials are made, from the configuration and what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialSetup {
    /// The folder in which each trial has one of its own.
    pub scratch: PathBuf,
    /// Where PostgreSQL's programs are looked for first.
    pub postgres_bin: Vec<PathBuf>,
    /// A role that the server is known to have.
    pub role: Option<String>,
    /// The database in which the statements run.
    pub database: Option<String>,
    /// Statements that must succeed; what gives one column of type boolean must give true.
    pub statements: Vec<String>,
    /// Up to where WAL is replayed.
    pub target: RestoreTarget,
}

impl TrialSetup {
    /// What `config` says of the server, and `asked` beside or above it.
    pub fn new(config: &Config, server: &pgm_proto::ServerName, asked: &TrialOptions) -> Self {
        let own = config.servers.get(server);
        let mut setup = Self {
            scratch: config.verify.scratch.clone(),
            postgres_bin: config
                .verify
                .postgres_bin
                .clone()
                .map_or_else(Vec::new, ProgramFolders::into_paths),
            role: own.and_then(|own| own.conninfo.user().map(str::to_owned)),
            database: own.and_then(|own| own.verify_database.clone()),
            statements: own
                .and_then(|own| own.verify_sql.clone())
                .map_or_else(Vec::new, Statements::into_texts),
            target: asked.target.clone(),
        };
        if let Some(scratch) = &asked.scratch {
            setup.scratch = scratch.into();
        }
        if asked.database.is_some() {
            setup.database.clone_from(&asked.database);
        }
        setup.statements.extend(asked.sql.iter().cloned());
        setup
    }

    /// What is asked for, where no configuration says anything.
    pub fn without_configuration(asked: &TrialOptions) -> Self {
        Self {
            scratch: asked.scratch.clone().unwrap_or_default().into(),
            postgres_bin: Vec::new(),
            role: None,
            database: asked.database.clone(),
            statements: asked.sql.clone(),
            target: asked.target.clone(),
        }
    }

    /// Whether a trial of `entry` can be made here: not as root, with the programs, with enough room.
    pub fn refuse_impossible(&self, entry: &BackupEntry) -> Result<(), TrialError> {
        if rustix::process::geteuid().is_root() {
            return Err(TrialError::Root);
        }
        Programs::find(entry.version.major(), &self.postgres_bin)?;
        scratch::refuse_small(&self.scratch, entry.size.raw_bytes + SPARE_BYTES)
    }
}

/// Tries one backup.
pub(crate) fn run(
    cx: &Context,
    place: Place<'_>,
    entry: &BackupEntry,
    setup: &TrialSetup,
) -> Result<TrialReport, TrialError> {
    setup.refuse_impossible(entry)?;
    let programs = Programs::find(entry.version.major(), &setup.postgres_bin)?;
    sweep(&setup.scratch);
    let scratch = Scratch::make(&setup.scratch)?;
    let mut report = TrialReport::default();
    let begun = Instant::now();
    let Some(restored) = restore(cx, place, entry, setup, &scratch, &mut report)? else {
        return Ok(report);
    };
    let restore_time = begun.elapsed();
    settings::write(&programs, &scratch, entry)?;
    let begun = Instant::now();
    let mut server = match Server::start(cx, &programs, &scratch, &restored)? {
        Started::Ready(server) => server,
        Started::Failed(reason) => {
            report.failures.push(reason);
            return Ok(report);
        }
    };
    let replay_time = begun.elapsed();
    let begun = Instant::now();
    let surroundings = (&programs, &scratch, setup);
    let mut checks = Checks::new(cx, surroundings, &mut report, restored.shortened);
    let recovered = checks.of_running(&mut server);
    server.stop()?;
    if let Some(recovered) = recovered? {
        checks.page_checksums(entry.data_checksums == DataChecksums::On)?;
        let checks = checks.into_results();
        report.trial = Some(Trial {
            lsn: recovered.lsn,
            last_commit: recovered.last_commit,
            proven: recovered.last_commit.unwrap_or(entry.stopped),
            restore_ms: milliseconds(restore_time),
            replay_ms: milliseconds(replay_time),
            check_ms: milliseconds(begun.elapsed()),
            checks,
        });
    }
    scratch.remove()?;
    Ok(report)
}

/// A restored backup.
struct Restored {
    /// How much WAL is replayed.
    wal_bytes: u64,
    segment_bytes: u64,
    /// The key of the repository, for the `restore_command` that looks for it in its environment.
    key: Option<PlaceKey>,
    /// Why it is not all that there is.
    shortened: Option<Check>,
}

/// Restores the backup into the scratch folder; `None` when the report says why that is not possible.
fn restore(
    cx: &Context,
    place: Place<'_>,
    entry: &BackupEntry,
    setup: &TrialSetup,
    scratch: &Scratch,
    report: &mut TrialReport,
) -> Result<Option<Restored>, TrialError> {
    let asked = || options(entry, setup, scratch);
    let mut prepared = prepare(cx, place, &asked());
    if let Err(Error {
        code: ErrorCode::TargetUnreachable,
        text,
        ..
    }) = &prepared
        && setup.target.point == TargetPoint::Latest
    {
        // The backup itself may be fine, although what follows it is not.
        report.complaints.push(format!(
            "recovery cannot go on to the end of the archive: {text}"
        ));
        let mut options = asked();
        options.target.point = TargetPoint::Immediate;
        prepared = prepare(cx, place, &options);
    }
    let Some(mut prepared) = judged(prepared, report)? else {
        return Ok(None);
    };
    let mut shortened = None;
    if let Some(lsn) = judged(prepared.first_outside(cx), report)?.flatten() {
        if lsn < entry.end_lsn {
            return Err(TrialError::TablespaceInBackup { lsn });
        }
        shortened = Some(Check {
            name: "replay to the end".to_owned(),
            result: CheckResult::Skipped(format!(
                "a tablespace is made at {lsn}, which would be made again in the place of the original"
            )),
        });
        let mut options = asked();
        options.target.point = TargetPoint::Lsn(lsn);
        options.target.exclusive = true;
        match judged(prepare(cx, place, &options), report)? {
            Some(shorter) => prepared = shorter,
            None => return Ok(None),
        }
    }
    let wal_bytes = prepared.wal_bytes();
    let needed = entry.size.raw_bytes + wal_bytes.min(WAL_BYTES_MAX) + SPARE_BYTES;
    scratch::refuse_small(scratch.folder(), needed)?;
    if judged(prepared.carry_out(cx), report)?.is_none() {
        return Ok(None);
    }
    Ok(Some(Restored {
        wal_bytes,
        segment_bytes: entry.segment_bytes.into(),
        key: place.repository.key.clone(),
        shortened,
    }))
}

fn prepare(
    cx: &Context,
    place: Place<'_>,
    options: &RestoreOptions,
) -> Result<PreparedRestore, Error> {
    PreparedRestore::new(cx, place.repository, place.spool, options)
}

/// The restore that is tried: everything in the scratch folder, and a server that takes commands at the end.
fn options(entry: &BackupEntry, setup: &TrialSetup, scratch: &Scratch) -> RestoreOptions {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let tablespaces = entry
        .tablespaces
        .iter()
        .map(|tablespace| TablespaceMapping {
            from: tablespace.location.clone(),
            to: text(scratch.tablespace(tablespace.oid)),
        });
    RestoreOptions {
        server: entry.server.clone(),
        backup: BackupChoice::Label(entry.label.to_string()),
        directory: text(scratch.data()),
        delta: false,
        target: RestoreTarget {
            action: Some(TargetAction::Promote),
            ..setup.target.clone()
        },
        tablespaces: tablespaces.collect(),
        plan_only: false,
        restore_program: None,
    }
}

/// What is the backup's fault goes into the report, the rest is an error.
fn judged<T>(outcome: Result<T, Error>, report: &mut TrialReport) -> Result<Option<T>, TrialError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.code {
            ErrorCode::TargetUnreachable | ErrorCode::Repository => {
                report
                    .failures
                    .push(format!("it cannot be restored: {}", error.text));
                Ok(None)
            }
            ErrorCode::Cancelled => Err(TrialError::Cancelled),
            _ => Err(TrialError::Restore {
                reason: error.text,
                advice: error.hint,
            }),
        },
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
