//! Requests about a backup that is there: delete, retain, expunge, annotate, verify.

use std::sync::Arc;

use pgm_mgmt::{
    AnnotationChange, BackupChoice, BackupMarks, Error, JobKind, Response, VerifyOptions,
};
use pgm_proto::ServerName;

use super::answer::{Answer, blocking};
use super::caller::Caller;
use crate::operations::{self, Place};
use crate::supervisor::{Daemon, JobRequest};
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
    server: &ServerName,
    task: Task,
) -> Result<Answer, Error> {
    let asked = JobRequest {
        caller,
        kind: JobKind::Delete,
        server,
        task,
    };
    daemon.start_job(asked).map(Answer::Job)
}

/// Starts to verify backups.
pub(super) fn verify(
    daemon: &Arc<Daemon>,
    caller: &Caller,
    options: VerifyOptions,
) -> Result<Answer, Error> {
    let server = options.server.clone();
    let asked = JobRequest {
        caller,
        kind: JobKind::Verify,
        server: &server,
        task: Task::Verify { options },
    };
    daemon.start_job(asked).map(Answer::Job)
}

/// Changes the marks of a backup.
pub(super) async fn mark(
    daemon: &Daemon,
    server: ServerName,
    backup: BackupChoice,
    mark: Mark,
) -> Result<Response, Error> {
    let config = daemon.config();
    blocking(move || {
        let spool = config.spool_of(&server);
        let place = Place {
            repository: &config.repository.path,
            spool: &spool,
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
