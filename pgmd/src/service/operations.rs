//! Requests about a backup that is there: delete, retain, expunge, annotate, verify.

use std::sync::Arc;

use pgm_mgmt::{
    AnnotationChange, ArchiveOptions, BackupChoice, BackupMarks, Error, ErrorCode, JobKind,
    Response, RetentionOptions, VerifyOptions,
};
use pgm_proto::ServerName;

use super::answer::{Answer, blocking};
use super::caller::Caller;
use super::choice::Wanted;
use crate::config::Config;
use crate::operations::{self, Place};
use crate::retention;
use crate::seal_key::SealKey;
use crate::secrets::master_key;
use crate::supervisor::{Daemon, JobRequest};
use crate::tarball::{Sealing, TarFile};
use crate::trial::TrialSetup;
use crate::worker::Task;

/// A change of a backup's marks.
pub(super) enum Mark {
    Retain,
    Expunge,
    Annotate(AnnotationChange),
}

/// Starts the deletion of a backup.
pub(super) fn delete(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    on: Wanted<'_>,
    server: &ServerName,
    task: Task,
) -> Result<Answer, Error> {
    let asked = JobRequest {
        caller,
        kind: JobKind::Delete,
        server,
        repositories: vec![on.one(&daemon.config())?],
        task,
    };
    daemon.start_job(asked).map(Answer::Job)
}

/// Starts to verify backups.
pub(super) fn verify(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    on: Wanted<'_>,
    options: VerifyOptions,
) -> Result<Answer, Error> {
    let server = options.server.clone();
    let setup = TrialSetup::new(&daemon.config(), &server, &options.trial);
    let asked = JobRequest {
        caller,
        kind: JobKind::Verify,
        server: &server,
        repositories: vec![on.one(&daemon.config())?],
        task: Task::Verify { options, setup },
    };
    daemon.start_job(asked).map(Answer::Job)
}

/// Starts to write a tar file. The key of a sealed one is found here, since workers have no configuration.
pub(super) async fn archive(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    on: Wanted<'_>,
    options: ArchiveOptions,
) -> Result<Answer, Error> {
    let key = match TarFile::parse(&options.file)?.sealing() {
        Sealing::Plain => None,
        Sealing::Sealed => {
            let config = daemon.config();
            Some(blocking(move || seal_key(&config)).await?)
        }
    };
    let server = options.server.clone();
    let asked = JobRequest {
        caller,
        kind: JobKind::Archive,
        server: &server,
        repositories: on.all(&daemon.config())?,
        task: Task::Archive { options, key },
    };
    daemon.start_job(asked).map(Answer::Job)
}

/// Starts a run of retention.
pub(super) fn retain_by_policy(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    on: Wanted<'_>,
    options: RetentionOptions,
) -> Result<Answer, Error> {
    let server = options.server.clone();
    let config = daemon.config();
    let target = on.one(&config)?;
    let options = retention::with_policy(&config, &target.place.name, options);
    let asked = JobRequest {
        caller,
        kind: JobKind::Retention,
        server: &server,
        repositories: vec![target],
        task: Task::Retention { options },
    };
    daemon.start_job(asked).map(Answer::Job)
}

fn seal_key(config: &Config) -> Result<SealKey, Error> {
    let key = master_key(&config.master_key).map_err(|error| Error {
        code: ErrorCode::ArchiveFailed,
        text: error.to_string(),
        hint: error.hint(),
    })?;
    Ok(SealKey::of(&key))
}

/// Changes the marks of a backup.
pub(super) async fn mark(
    daemon: &Daemon,
    on: Wanted<'_>,
    server: ServerName,
    backup: BackupChoice,
    mark: Mark,
) -> Result<Response, Error> {
    let config = daemon.config();
    let target = on.one(&config)?;
    blocking(move || {
        let spool = config.spool_of(&server);
        let place = Place {
            repository: &target.place,
            spool: Some(&spool),
            server: &server,
        };
        let marks: BackupMarks = match mark {
            Mark::Retain => operations::retain(place, &backup),
            Mark::Expunge => operations::expunge(place, &backup),
            Mark::Annotate(change) => operations::annotate(place, &backup, change),
        }?;
        Ok(Response::Marked(marks))
    })
    .await
}
