//! Restores, as the daemon's jobs and the command line without a daemon do them: from the typed request of the
//! management protocol to a plan, and from the plan to a data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgm_backup::restore::{
    self, BackupChoice, Boundary, Recovery, RestorePlan, RestoreRequest, Target, TargetAction,
    TimelineChoice,
};
use pgm_backup::{Context, Repository};
use pgm_mgmt::{
    Error, ErrorCode, PlannedRestore, RestoreOptions, RestoreOutcome, TargetPoint,
};
use pgm_proto::ServerName;
use pgm_storage::LocalStorage;
use pgm_wal::Spool;
use pgm_wal::archive::Archive;

/// The command line's program, which PostgreSQL calls for WAL.
const PROGRAM: &str = "pgm-cli";

/// A restore that is planned: its target can be reached.
#[derive(Debug)]
pub struct PreparedRestore {
    repository: Repository,
    archive: Archive,
    spool: Option<Spool>,
    plan: RestorePlan,
}

impl PreparedRestore {
    /// Plans what `options` ask for, from the repository in `repository` and the spool of the server in `spool`, which
    /// need not exist. Nothing is written.
    pub fn new(
        cx: &Context,
        repository: &Path,
        spool: &Path,
        options: &RestoreOptions,
    ) -> Result<Self, Error> {
        let request = request(repository, spool, options)?;
        let storage = LocalStorage::open(repository).map_err(|error| repository_error(&error, error.hint()))?;
        let repository =
            Repository::open(Arc::new(storage)).map_err(|error| repository_error(&error, error.hint()))?;
        let archive = Archive::new(Arc::clone(repository.storage()), options.server.clone());
        let spool = Spool::find(spool).map_err(|error| repository_error(&error, error.hint()))?;
        let plan = restore::plan(cx, &repository, &archive, spool.as_ref(), &options.server, request)
            .map_err(|error| refused(&error))?;
        Ok(Self { repository, archive, spool, plan })
    }

    /// What will be done, for people and programs.
    pub fn planned(&self) -> PlannedRestore {
        let RestorePlan { entry, request, timeline, reach, wal_segments, tablespaces, .. } = &self.plan;
        let mut steps = vec![
            format!("read {} packs of backup {}", entry.size.packs, entry.label),
            format!("write {} files into {}", entry.size.files, request.directory.display()),
        ];
        for (oid, place) in tablespaces {
            steps.push(format!("put tablespace {oid} into {}", place.display()));
        }
        if matches!(request.recovery, Recovery::Command(_)) {
            steps.push(format!("set recovery to {} on timeline {timeline}", request.target));
        }
        PlannedRestore {
            server: entry.server.clone(),
            label: entry.label.to_string(),
            directory: request.directory.display().to_string(),
            target: request.target.to_string(),
            timeline: *timeline,
            start_lsn: entry.start_lsn,
            reachable_lsn: reach.as_ref().map(|reach| reach.end),
            packs: u64::from(entry.size.packs),
            stored_bytes: entry.size.stored_bytes,
            raw_bytes: entry.size.raw_bytes,
            wal_segments: *wal_segments,
            steps,
        }
    }

    /// Carries the plan out.
    pub fn carry_out(&self, cx: &Context) -> Result<RestoreOutcome, Error> {
        let report = restore::restore(cx, &self.repository, &self.archive, self.spool.as_ref(), &self.plan)
            .map_err(|error| refused(&error))?;
        Ok(RestoreOutcome {
            server: report.server,
            label: report.label.to_string(),
            directory: report.directory.display().to_string(),
            target: self.plan.request.target.to_string(),
            files: report.files,
            raw_bytes: report.bytes,
            elapsed_ms: u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
            warnings: report.warnings,
        })
    }
}

fn request(
    repository: &Path,
    spool: &Path,
    options: &RestoreOptions,
) -> Result<RestoreRequest, Error> {
    let backup = match &options.backup {
        pgm_mgmt::BackupChoice::Newest => BackupChoice::Newest,
        pgm_mgmt::BackupChoice::Oldest => BackupChoice::Oldest,
        pgm_mgmt::BackupChoice::Label(label) => BackupChoice::Label(label.parse().map_err(bad_value)?),
    };
    let target = match &options.target.point {
        TargetPoint::Latest => Target::Latest,
        TargetPoint::Immediate => Target::Immediate,
        TargetPoint::Time(text) => Target::Time(text.parse().map_err(bad_value)?),
        TargetPoint::Lsn(lsn) => Target::Lsn(*lsn),
        TargetPoint::Xid(xid) => Target::Xid(*xid),
        TargetPoint::Name(name) => Target::Name(name.clone()),
    };
    let action = match options.target.action {
        Some(pgm_mgmt::TargetAction::Pause) => TargetAction::Pause,
        Some(pgm_mgmt::TargetAction::Shutdown) => TargetAction::Shutdown,
        Some(pgm_mgmt::TargetAction::Promote) | None => TargetAction::Promote,
    };
    let program = options.restore_program.as_ref().map_or_else(default_program, PathBuf::from);
    Ok(RestoreRequest {
        backup,
        directory: PathBuf::from(&options.directory),
        target,
        boundary: if options.target.exclusive { Boundary::Exclusive } else { Boundary::Inclusive },
        timeline: options.target.timeline.map_or(TimelineChoice::Newest, TimelineChoice::Exactly),
        action,
        tablespaces: options
            .tablespaces
            .iter()
            .map(|mapping| (PathBuf::from(&mapping.from), PathBuf::from(&mapping.to)))
            .collect(),
        recovery: Recovery::Command(restore_command(&program, repository, spool, &options.server)),
    })
}

/// The `restore_command` that takes WAL from this repository and this spool, with or without a daemon.
fn restore_command(program: &Path, repository: &Path, spool: &Path, server: &ServerName) -> String {
    format!(
        "{} wal get --repository {} --spool {} {server} \"%f\" \"%p\"",
        shell_word(program),
        shell_word(repository),
        shell_word(spool)
    )
}

/// A path as one word of a shell command in which PostgreSQL replaces `%`.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-%".contains(&byte));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The command line beside the running program, else wherever the path leads.
fn default_program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name(PROGRAM));
    beside.filter(|program| program.exists()).unwrap_or_else(|| PathBuf::from(PROGRAM))
}

fn bad_value(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::BadValue, error.to_string())
}

fn repository_error(error: &dyn std::error::Error, hint: Option<String>) -> Error {
    Error { code: ErrorCode::Repository, text: with_causes(error), hint }
}

fn refused(error: &restore::RestoreError) -> Error {
    use pgm_backup::restore::RestoreError as E;
    let code = match error {
        E::NoBackup { .. } => ErrorCode::UnknownBackup,
        E::Repository(pgm_backup::Error::NoSuchBackup { .. }) => ErrorCode::UnknownBackup,
        E::Repository(pgm_backup::Error::UnknownServer { .. }) => ErrorCode::UnknownServer,
        E::Repository(pgm_backup::Error::Cancelled) => ErrorCode::Cancelled,
        E::Repository(_) | E::Wal(_) => ErrorCode::Repository,
        E::BeforeBackup { .. }
        | E::BeyondArchive { .. }
        | E::MissingWal { .. }
        | E::BackupWithoutWal { .. }
        | E::OtherBranch { .. } => ErrorCode::TargetUnreachable,
        E::Tablespace { .. } | E::Directory { .. } => ErrorCode::BadValue,
        _ => ErrorCode::RestoreFailed,
    };
    Error { code, text: with_causes(error), hint: error.hint() }
}

/// An error's text with the texts of its causes, as far as they say something new.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_restore_command_survives_shell_and_postgresql() {
        let command = restore_command(
            Path::new("/opt/pgm/pgm-cli"),
            Path::new("/srv/it's 100%/repository"),
            Path::new("/srv/spool/main"),
            &"main".parse().unwrap(),
        );
        assert_eq!(
            command,
            "/opt/pgm/pgm-cli wal get --repository '/srv/it'\\''s 100%%/repository' --spool /srv/spool/main main \
             \"%f\" \"%p\""
        );
    }
}
