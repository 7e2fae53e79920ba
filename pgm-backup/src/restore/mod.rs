//! Giving a backup back.
//!
//! [`plan`] finds out whether the target can be reached and refuses it before a byte is written; [`restore`] carries a
//! plan out. What is written last is what makes the directory a server: `pg_control`, then the markers go.
//!
//! PostgreSQL itself replays the WAL: the restored directory holds `recovery.signal` and a `restore_command` that the
//! caller gives (`pgm-cli wal get …`), and in `pg_wal` the segments that the backup needs to become consistent, so that
//! `pg_verifybackup` finds everything it looks for.

pub(crate) mod backup_manifest;
mod beside;
mod destination;
mod dispatch;
mod elsewhere;
mod end;
mod error;
mod existing;
mod export;
mod open_file;
mod outside;
mod overrides;
mod pieces;
mod place;
mod plan;
mod queue;
mod reach;
mod recovery;
mod roots;
mod search;
mod settings;
mod spans;
mod standby;
mod tablespaces;
mod tar_writer;
mod target;
mod wal;
mod window;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pgm_proto::{Lsn, ServerName, TimelineId};
use pgm_wal::archive::Archive;
use pgm_wal::digest::LastBefore;
use pgm_wal::{History, SegmentSize, Spool};

pub use self::elsewhere::OtherRepository;
pub use self::error::{Reach, RestoreError};
pub use self::existing::Existing;
pub use self::export::{ExportReport, export};
pub use self::outside::first_outside;
pub use self::plan::{plan, plan_export};
pub use self::standby::{StandbyDirectory, standby_directory};
pub use self::target::{Boundary, Target, TargetAction, TimelineChoice};

pub(crate) use self::reach::segments;

use self::elsewhere::Elsewhere;
use self::existing::Removed;
use self::overrides::Overrides;
use self::place::{CONTROL_FILE, Placed, Source};
use self::roots::{Found, Roots};
use crate::catalog::{BackupEntry, BackupStatus};
use crate::context::{Context, Phase};
use crate::label::BackupLabel;
use crate::repository::Repository;

/// The largest number of threads that decode frames.
const WORKERS_MAX: usize = 8;

/// Which backup is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupChoice {
    /// The newest from which the target can be reached.
    Newest,
    /// The oldest.
    Oldest,
    /// This one.
    Label(BackupLabel),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// Which backup.
    pub backup: BackupChoice,
    /// The data directory: absolute; absent, empty or left by an unfinished restore, or what `existing` allows.
    pub directory: PathBuf,
    /// What is done with a directory in which something is.
    pub existing: Existing,
    /// Where recovery ends.
    pub target: Target,
    /// On which side of the target.
    pub boundary: Boundary,
    /// Along which timeline.
    pub timeline: TimelineChoice,
    /// What the server does there.
    pub action: TargetAction,
    /// New places of tablespaces, by their old places.
    pub tablespaces: Vec<(PathBuf, PathBuf)>,
    /// How the restored server gets WAL.
    pub recovery: Recovery,
}

/// How the restored server gets WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// With this `restore_command` (`%f` and `%p` as PostgreSQL takes them), up to the target.
    Command(String),
    /// As a standby: it stays in recovery, and goes on with what comes later, along whichever timeline.
    Standby(StandbySettings),
    /// From its own `pg_wal` only: for a stand-alone backup, which is restored to its end.
    None,
}

/// What a restored standby is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StandbySettings {
    /// Its `restore_command`.
    pub restore_command: String,
    /// Where it streams from; without it it has what the `restore_command` gives.
    pub primary_conninfo: Option<String>,
    /// A folder whose files take the place of the backup's: settings of its own.
    pub overrides: Option<PathBuf>,
}

/// Where PostgreSQL is told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopAt {
    /// The point.
    pub target: Target,
    /// On which side of it.
    pub boundary: Boundary,
}

/// What will be done: everything that a person wants to know before it is.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// The backup.
    pub entry: BackupEntry,
    /// What was asked for.
    pub request: RestoreRequest,
    /// The timeline that recovery follows.
    pub timeline: TimelineId,
    /// Its history.
    pub history: History,
    /// The newest point that could be reached along it.
    pub reach: Option<Reach>,
    /// Where recovery stops. It is what was asked for, but the end of the archive is named by its last record: PostgreSQL
    /// stops at records only.
    pub stop: StopAt,
    /// Of a target in time: the last commit that is recovered, and the record before which recovery stops, as far as the
    /// WAL tells them.
    pub commits: Option<LastBefore>,
    /// The position up to which recovery reads WAL; what lies behind it does not matter, unless recovery goes to the end.
    pub needed: Lsn,
    /// WAL segments that recovery will read.
    pub wal_segments: u64,
    /// Where each tablespace goes.
    pub tablespaces: BTreeMap<u32, PathBuf>,
    /// What a person should know of the backup that was chosen, and of those that were not.
    pub warnings: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct RestoreReport {
    /// The server.
    pub server: ServerName,
    /// The backup.
    pub label: BackupLabel,
    /// The data directory.
    pub directory: PathBuf,
    /// Files that were written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, those that were there before and not written again.
    pub kept_bytes: u64,
    /// Files, links and folders that were there and that the backup does not have.
    pub removed: u64,
    /// Bytes of files that the repository of the plan gave.
    pub own_bytes: u64,
    /// And those that others gave, by name.
    pub others_bytes: Vec<(String, u64)>,
    /// How long it took.
    pub elapsed: Duration,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl RestorePlan {
    /// The first byte of WAL that recovery reads.
    pub fn start_lsn(&self) -> Lsn {
        self.entry.start_lsn
    }

    fn segment_size(&self) -> Result<SegmentSize, RestoreError> {
        SegmentSize::new(u64::from(self.entry.segment_bytes)).map_err(|error| {
            RestoreError::Damaged {
                label: self.entry.label,
                reason: error.to_string(),
            }
        })
    }
}

/// Where a restore reads from.
#[derive(Debug, Clone, Copy)]
pub struct RestoreSource<'a> {
    /// The repository in which the plan was made.
    pub repository: &'a Repository,
    /// The archive in it.
    pub archive: &'a Archive,
    /// The spool of the server, if there is one on this host.
    pub spool: Option<&'a Spool>,
    /// Where else the backup may be, in the order in which they are asked.
    pub others: &'a [OtherRepository<'a>],
}

impl<'a> RestoreSource<'a> {
    /// One repository with its archive, and nothing else.
    pub const fn new(repository: &'a Repository, archive: &'a Archive) -> Self {
        Self {
            repository,
            archive,
            spool: None,
            others: &[],
        }
    }
}

/// Carries out a plan. The directory is no server until the last step.
///
/// The first of `source.others` that has the same backup is read beside `source.repository`. Data and WAL of the backup that this
/// one does not give (damaged, missing, or it is away) come from the others; the report's warnings tell so.
pub fn restore(
    cx: &Context,
    source: RestoreSource<'_>,
    plan: &RestorePlan,
) -> Result<RestoreReport, RestoreError> {
    let repository = source.repository;
    let begun = Instant::now();
    let entry = &plan.entry;
    let manifests = repository.manifest_object(entry)?;
    let manifest = manifests.read(entry)?;
    let (directory, tablespaces) = (&plan.request.directory, &plan.tablespaces);
    if let Recovery::Standby(settings) = &plan.request.recovery
        && let Some(folder) = &settings.overrides
    {
        Overrides::read(folder)?;
    }
    // All are looked at before the first is changed.
    existing::check(
        directory,
        tablespaces,
        plan.request.existing,
        entry.system_id,
    )?;
    let roots = Roots::prepare(directory, tablespaces)?;
    let removed = match roots.found() {
        Found::Nothing => Removed::default(),
        Found::Something => {
            existing::remove_others(cx, &roots, entry.label, &mut manifests.read(entry)?)?
        }
    };
    cx.report(Phase::Restore, 0, Some(entry.size.raw_bytes), "");
    let packs = manifest.packs().to_vec();
    let elsewhere = Elsewhere::new(entry, source.others);
    let prepared = place::Restoration {
        cx,
        roots: &roots,
        source: Source {
            repository,
            server: &entry.server,
            label: entry.label,
            packs: &packs,
        },
        elsewhere: &elsewhere,
        workers: workers(),
        total_bytes: entry.size.raw_bytes,
    };
    // What PostgreSQL needs to recover is in place before `pg_control` makes the directory a server.
    let placed = place::place(prepared, manifest, |found| {
        roots.link_tablespaces()?;
        wal::place(cx, &roots, source, &elsewhere, plan)?;
        settings::write(&roots, (repository, &manifests), &elsewhere, plan, found)
    })?;
    cx.report(Phase::Sync, placed.bytes, Some(entry.size.raw_bytes), "");
    roots.sync()?;
    roots.finish()?;
    let mut report = report(plan, placed, removed, begun.elapsed());
    report.others_bytes = elsewhere.given();
    report.warnings.extend(elsewhere.into_warnings());
    Ok(report)
}

fn report(
    plan: &RestorePlan,
    placed: Placed,
    removed: Removed,
    elapsed: Duration,
) -> RestoreReport {
    let entry = &plan.entry;
    let mut warnings = plan.warnings.clone();
    warnings.extend(removed.links);
    if entry.status == BackupStatus::DamagedPages {
        warnings.push(format!(
            "the server reported damaged pages when backup {} was taken; `pgm-cli info` lists them",
            entry.label
        ));
    }
    RestoreReport {
        server: entry.server.clone(),
        label: entry.label,
        directory: plan.request.directory.clone(),
        files: placed.files,
        bytes: placed.bytes,
        kept_bytes: placed.kept_bytes,
        removed: removed.entries,
        own_bytes: placed.own_bytes,
        others_bytes: Vec::new(),
        elapsed,
        warnings,
    }
}

fn workers() -> usize {
    std::thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(WORKERS_MAX)
}
