//! Restores, as the daemon's jobs and the command line without a daemon do them: from the typed request of the
//! management protocol to a plan, and from the plan to a data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgm_backup::restore::{
    self, Boundary, Existing, OtherRepository, Recovery, RestoreError, RestorePlan, RestoreReport,
    RestoreRequest, RestoreSource, StandbySettings, Target, TimelineChoice,
};
use pgm_backup::{Context, Repository};
use pgm_mgmt::{
    Error, ErrorCode, PlannedRestore, PlannedTransaction, RestoreOptions, RestoreOutcome,
    RestoreRead, TargetAction, TargetPoint,
};
use pgm_proto::Lsn;
use pgm_wal::Spool;
use pgm_wal::archive::Archive;

use crate::operations::{choice, refuse_unknown};
use crate::place::RepositoryPlace;
use crate::repository::{self, chain, failure, second};
use crate::restore_command::{Needed, program_beside, restore_command};
use crate::windows::microsecond;

/// A restore that is planned: its target can be reached.
#[derive(Debug)]
pub struct PreparedRestore {
    place: RepositoryPlace,
    /// Where else the backup may be.
    others: Vec<RepositoryPlace>,
    repository: Repository,
    archive: Archive,
    spool: Option<Spool>,
    /// Where the spool is, or would be.
    spool_folder: Option<PathBuf>,
    /// What the `restore_command` runs.
    program: PathBuf,
    plan: RestorePlan,
}

impl PreparedRestore {
    /// Plans what `options` ask for, from the repository in `repository` and the spool of the server in `spool`, which
    /// need not exist, if there is one at all. Nothing is written.
    pub fn new(
        cx: &Context,
        repository: &RepositoryPlace,
        spool: Option<&Path>,
        options: &RestoreOptions,
    ) -> Result<Self, Error> {
        let request = request(options)?;
        let place = repository;
        let repository = repository::open(place).map_err(|error| failure(&error))?;
        let archive = Archive::new(Arc::clone(repository.storage()), options.server.clone());
        let folder = spool;
        let spool = folder
            .map_or(Ok(None), Spool::find)
            .map_err(|error| Error {
                code: ErrorCode::RestoreFailed,
                text: chain(&error),
                hint: error.hint(),
            })?;
        let server = &options.server;
        refuse_unknown(&repository, server)?;
        let plan = restore::plan(cx, &repository, &archive, spool.as_ref(), server, request)
            .map_err(|error| refusal(&error))?;
        let program = options.restore_program.as_ref();
        let prepared = Self {
            place: place.clone(),
            others: Vec::new(),
            repository,
            archive,
            spool,
            spool_folder: folder.map(Path::to_owned),
            program: program.map_or_else(program_beside, PathBuf::from),
            plan,
        };
        Ok(prepared.with_others([]))
    }

    /// Where else the backup and its WAL may be, for what cannot be read in the repository of the plan: `places`, but for that
    /// one.
    #[must_use]
    pub fn with_others(mut self, places: impl IntoIterator<Item = RepositoryPlace>) -> Self {
        let others = places.into_iter().filter(|place| *place != self.place);
        self.others = others.collect();
        self.plan.request.recovery = Recovery::Command(restore_command(
            &self.program,
            &self.place,
            &self.others,
            self.spool_folder.as_deref(),
            self.archive.server(),
            Needed::of(&self.plan),
        ));
        self
    }

    /// The same, into a standby with these settings; its `restore_command` is ours.
    #[must_use]
    pub(crate) fn for_standby(mut self, settings: StandbySettings) -> Self {
        if let Recovery::Command(restore_command) = self.plan.request.recovery {
            self.plan.request.recovery = Recovery::Standby(StandbySettings {
                restore_command,
                ..settings
            });
        }
        self
    }

    /// WAL that recovery reads, in bytes.
    pub(crate) fn wal_bytes(&self) -> u64 {
        let segment_bytes = u64::from(self.plan.entry.segment_bytes);
        self.plan.wal_segments.saturating_mul(segment_bytes)
    }

    /// The first record on the way that would make the restored server write outside its own folders.
    pub(crate) fn first_outside(&self, cx: &Context) -> Result<Option<Lsn>, Error> {
        restore::first_outside(cx, &self.archive, self.spool.as_ref(), &self.plan)
            .map_err(|error| refusal(&error))
    }

    /// What will be done, for people and programs.
    pub fn planned(&self) -> PlannedRestore {
        planned(&self.plan)
    }

    /// Carries the plan out.
    pub fn carry_out(&self, cx: &Context) -> Result<RestoreOutcome, Error> {
        let others = self.others.iter();
        let others: Vec<OtherRepository<'_>> = others
            .map(|place| {
                let hurried = place.hurried();
                let hurried = move || repository::open(&hurried);
                OtherRepository::new(place.name.as_str(), || repository::open(place), hurried)
            })
            .collect();
        let source = RestoreSource {
            repository: &self.repository,
            archive: &self.archive,
            spool: self.spool.as_ref(),
            others: &others,
        };
        let report = restore::restore(cx, source, &self.plan).map_err(|error| refusal(&error))?;
        Ok(outcome(&self.plan, self.place.name.as_str(), report))
    }
}

pub(crate) fn request(options: &RestoreOptions) -> Result<RestoreRequest, Error> {
    let folder = absolute(&options.directory)?;
    let tablespaces = options.tablespaces.iter();
    let tablespaces =
        tablespaces.map(|mapping| Ok((PathBuf::from(&mapping.from), absolute(&mapping.to)?)));
    Ok(RestoreRequest {
        backup: choice(&options.backup)?,
        directory: folder,
        existing: if options.delta {
            Existing::Update
        } else {
            Existing::Refuse
        },
        target: target(&options.target.point)?,
        boundary: if options.target.exclusive {
            Boundary::Exclusive
        } else {
            Boundary::Inclusive
        },
        timeline: options
            .target
            .timeline
            .map_or(TimelineChoice::Newest, TimelineChoice::Exactly),
        action: match options.target.action {
            Some(TargetAction::Pause) => restore::TargetAction::Pause,
            Some(TargetAction::Promote) => restore::TargetAction::Promote,
            Some(TargetAction::Shutdown) => restore::TargetAction::Shutdown,
            None => restore::TargetAction::default(),
        },
        tablespaces: tablespaces.collect::<Result<_, Error>>()?,
        // The command itself depends on the plan.
        recovery: Recovery::Command(String::new()),
    })
}

fn absolute(text: &str) -> Result<PathBuf, Error> {
    let path = Path::new(text);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let error = Error::new(
        ErrorCode::BadValue,
        format!("`{text}` is not an absolute path"),
    );
    Err(error.with_hint("pgmd has another working directory than you: write the whole path"))
}

fn target(point: &TargetPoint) -> Result<Target, Error> {
    Ok(match point {
        TargetPoint::Latest => Target::Latest,
        TargetPoint::Immediate => Target::Immediate,
        TargetPoint::Lsn(lsn) => Target::Lsn(*lsn),
        TargetPoint::Xid(xid) => Target::Xid(*xid),
        TargetPoint::Name(name) => Target::Name(name.clone()),
        TargetPoint::Time(text) => Target::Time(moment(text)?),
    })
}

/// A moment as PostgreSQL prints it or RFC 3339 has it; UTC when it names no zone.
fn moment(text: &str) -> Result<jiff::Timestamp, Error> {
    let with_zone = text.trim().parse::<jiff::Timestamp>();
    let without = || text.trim().parse::<jiff::civil::DateTime>();
    let zoned = with_zone.or_else(|_| {
        without()
            .and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC))
            .map(|time| time.timestamp())
    });
    zoned.map_err(|_| {
        let error = Error::new(
            ErrorCode::BadValue,
            format!("`{text}` is not a moment in time"),
        );
        error.with_hint("such as 2026-11-22 02:34:56+00 or 2026-11-22T02:34:56.123Z")
    })
}

pub(crate) fn refusal(error: &RestoreError) -> Error {
    let code = match error {
        RestoreError::Repository(error) => return failure(error),
        RestoreError::NoBackup { .. } => ErrorCode::UnknownBackup,
        RestoreError::BeforeBackup { .. }
        | RestoreError::BeyondArchive { .. }
        | RestoreError::NotInWal { .. }
        | RestoreError::MissingWal { .. }
        | RestoreError::UnreadableWal { .. }
        | RestoreError::BackupWithoutWal { .. }
        | RestoreError::OtherBranch { .. }
        | RestoreError::HistoryMissing { .. } => ErrorCode::TargetUnreachable,
        RestoreError::Tablespace { .. }
        | RestoreError::Directory { .. }
        | RestoreError::NoStandby { .. }
        | RestoreError::Override { .. }
        | RestoreError::Running { .. } => ErrorCode::BadValue,
        RestoreError::Damaged { .. } => ErrorCode::Repository,
        _ => ErrorCode::RestoreFailed,
    };
    Error {
        code,
        text: chain(error),
        hint: error.hint(),
    }
}

fn planned(plan: &RestorePlan) -> PlannedRestore {
    let entry = &plan.entry;
    let request = &plan.request;
    let verb = match request.existing {
        Existing::Refuse => "write",
        Existing::Update => "bring what differs of",
    };
    let mut steps = vec![
        format!(
            "{verb} backup {} into {}",
            entry.label,
            request.directory.display()
        ),
        format!(
            "recover with restore_command from {} on timeline {}",
            plan.start_lsn(),
            plan.timeline
        ),
        format!("stop at {} and {}", request.target, request.action.word()),
    ];
    let (last_commit, stops_before) = transactions(plan);
    if let Some(commit) = &last_commit {
        steps.push(format!(
            "the last transaction that is recovered is {}, committed at {} ({})",
            commit.xid, commit.time, commit.lsn
        ));
    }
    if let Some(next) = &stops_before {
        steps.push(format!(
            "transaction {} is not: it ended at {} ({})",
            next.xid, next.time, next.lsn
        ));
    }
    for (oid, folder) in &plan.tablespaces {
        steps.insert(
            1,
            format!("write tablespace {oid} into {}", folder.display()),
        );
    }
    PlannedRestore {
        server: entry.server.clone(),
        label: entry.label.to_string(),
        directory: request.directory.display().to_string(),
        target: request.target.to_string(),
        last_commit,
        stops_before,
        timeline: plan.timeline,
        start_lsn: plan.start_lsn(),
        consistent_lsn: entry.end_lsn,
        consistent_time: second(entry.stopped),
        reachable_lsn: plan.reach.as_ref().map(|reach| reach.end),
        reachable_time: plan
            .reach
            .as_ref()
            .and_then(|reach| reach.last_commit)
            .map(microsecond),
        packs: entry.size.packs.into(),
        stored_bytes: entry.size.stored_bytes,
        raw_bytes: entry.size.raw_bytes,
        wal_segments: plan.wal_segments,
        steps,
        warnings: plan.warnings.clone(),
    }
}

/// The last commit that is recovered, and what recovery stops at.
fn transactions(plan: &RestorePlan) -> (Option<PlannedTransaction>, Option<PlannedTransaction>) {
    let told = |xid, lsn, time: jiff::Timestamp| PlannedTransaction {
        xid,
        lsn,
        time: microsecond(time),
    };
    let Some(commits) = &plan.commits else {
        return (None, None);
    };
    let last = commits.last_commit;
    let last = last.map(|commit| told(commit.xid, commit.lsn, commit.time));
    let stop = commits.stop;
    let next = stop.and_then(|stop| Some(told(stop.xid?, stop.lsn, stop.time?)));
    (last, next)
}

fn outcome(plan: &RestorePlan, repository: &str, report: RestoreReport) -> RestoreOutcome {
    let own = (repository.to_owned(), report.own_bytes);
    let sources = std::iter::once(own).chain(report.others_bytes);
    RestoreOutcome {
        sources: sources
            .map(|(repository, raw_bytes)| RestoreRead {
                repository,
                raw_bytes,
            })
            .collect(),
        server: report.server,
        label: report.label.to_string(),
        directory: report.directory.display().to_string(),
        target: plan.request.target.to_string(),
        files: report.files,
        raw_bytes: report.bytes,
        kept_bytes: report.kept_bytes,
        removed: report.removed,
        elapsed_ms: u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
        warnings: report.warnings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_postgresql_prints_them_and_default_to_utc() {
        let expected = moment("2026-11-22T02:34:56Z").unwrap();
        for text in [
            "2026-11-22 02:34:56",
            "2026-11-22 02:34:56+00",
            "2026-11-22 04:34:56+02",
            "2026-11-22T02:34:56.000Z",
            " 2026-11-22 02:34:56.000000+00:00 ",
        ] {
            assert_eq!(moment(text).unwrap(), expected, "{text}");
        }
        assert!(moment("yesterday").unwrap_err().hint.is_some());
    }

    #[test]
    fn a_relative_path_is_refused() {
        assert!(absolute("x").is_err() && absolute("/x").is_ok());
    }
}
