//! What the audit log is told of a request: who asked for what, and how it came out.

use std::time::Instant;

use pgm_mgmt::{Access, BackupChoice, Error, Request, RestoreOptions, TargetPoint};

use super::answer::Answer;
use super::caller::Caller;
use crate::audit::{Outcome, Record};
use crate::config::Key;
use crate::supervisor::Daemon;

/// A request whose outcome will be recorded.
pub(super) struct Audited {
    record: Record,
    began: Instant,
}

/// Begins to record `request`; nothing when it is not for the audit log.
pub(super) fn begin(daemon: &Daemon, caller: &Caller, request: &Request) -> Option<Audited> {
    let reads = daemon.config().audit_reads;
    if request.access() == Access::Read && !reads {
        return None;
    }
    // What is started is asked for again, and recorded then.
    if matches!(request, Request::Start(_)) {
        return None;
    }
    let record = record(caller, request.name()).server(request.server());
    Some(Audited {
        record: with_facts(record, request),
        began: Instant::now(),
    })
}

/// A record of something that `caller` does.
pub(crate) fn record(caller: &Caller, action: &str) -> Record {
    Record::new(action, caller.origin.to_string()).by(&caller.user, Some(caller.role))
}

impl Audited {
    /// Records how it came out; the job that it began has a record of its own at its end.
    pub(super) fn end(self, daemon: &Daemon, answer: &Result<Answer, Error>) {
        let (record, outcome) = match answer {
            Ok(Answer::Now(_)) => (self.record, Outcome::Ok),
            Ok(Answer::Job(ticket)) => (self.record.job(ticket.id), Outcome::Started),
            Err(error) => (self.record, Outcome::Failed(error)),
        };
        daemon
            .audit()
            .record(&record.outcome(&outcome).took(self.began.elapsed()));
    }
}

/// The facts of a request that are worth keeping. Whoever adds a request that changes something adds its facts; values
/// that may be secrets are none.
fn with_facts(record: Record, request: &Request) -> Record {
    match request {
        Request::Restore(options) => restore(record, options),
        Request::Delete { backup, force, .. } => {
            let record = record.fact("backup", choice(backup));
            if *force {
                record.fact("force", "true")
            } else {
                record
            }
        }
        Request::Retain { backup, .. }
        | Request::Expunge { backup, .. }
        | Request::Annotate { backup, .. } => record.fact("backup", choice(backup)),
        Request::Cancel { job } => record.job(*job),
        Request::SetSetting { key, value } => setting(record, key, value.as_deref()),
        _ => record,
    }
}

fn setting(record: Record, key: &str, value: Option<&str>) -> Record {
    let key = Key::new(key);
    let record = record.fact("setting", key.as_str());
    let shown = key
        .setting()
        .is_ok_and(|setting| !setting.kind.may_hold_secrets());
    match value {
        Some(value) if shown => record.fact("value", value),
        Some(_) => record,
        None => record.fact("value", "default"),
    }
}

fn restore(record: Record, options: &RestoreOptions) -> Record {
    let record = record
        .fact("backup", choice(&options.backup))
        .fact("directory", &options.directory);
    match &options.target.point {
        TargetPoint::Latest => record,
        TargetPoint::Immediate => record.fact("target", "immediate"),
        TargetPoint::Time(time) => record.fact("target", format_args!("time {time}")),
        TargetPoint::Lsn(lsn) => record.fact("target", format_args!("lsn {lsn}")),
        TargetPoint::Xid(xid) => record.fact("target", format_args!("xid {xid}")),
        TargetPoint::Name(name) => record.fact("target", format_args!("name {name}")),
    }
}

fn choice(backup: &BackupChoice) -> &str {
    match backup {
        BackupChoice::Newest => "newest",
        BackupChoice::Oldest => "oldest",
        BackupChoice::Label(label) => label,
    }
}
