//! How answers look as result sets: for each form its columns, which never depend on the answer, and its rows.

use pgm_mgmt::{
    BackupSummary, DaemonStatus, JobRecord, PlannedRestore, Response, RestoreOutcome, ServerStatus,
    SettingValue,
};

use super::table::{Cell, Column, ColumnType, moment, shown};

/// A form of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Servers,
    Wal,
    Gaps,
    Status,
    Version,
    Backups,
    Backup,
    Jobs,
    Job,
    Started,
    Settings,
    Plan,
    Restored,
    Mode,
    Deleted,
    Marks,
    Verified,
    /// No rows: the command's tag says it all.
    Done,
}

impl Shape {
    /// The columns: each a name and a type, `text` where none is named.
    const fn layout(self) -> &'static str {
        match self {
            Self::Servers => {
                "server, state, version, timeline int8, lag_bytes int8, rpo_seconds int8, gaps int8, \
                 backups int8, newest_backup, problem, hint"
            }
            Self::Wal => {
                "server, slot, server_lsn, received_lsn, durable_lsn, archived_lsn, \
                 received_bytes int8, archived_segments int8, spool_bytes int8, restarts int8, \
                 last_message_seconds int8"
            }
            Self::Gaps => "server, timeline int8, from_lsn, to_lsn, bytes int8",
            Self::Version => "version, protocol int8, pid int8, started timestamptz",
            Self::Backups => {
                "server, label, kind, status, started timestamptz, stopped timestamptz, \
                 timeline int8, start_lsn, end_lsn, raw_bytes int8, stored_bytes int8, compression"
            }
            Self::Jobs => {
                "job int8, kind, server, state, phase, done_bytes int8, total_bytes int8, asked_by, \
                 asked timestamptz, started timestamptz, ended timestamptz, outcome, error"
            }
            Self::Started => "job int8",
            Self::Settings => "setting, value, default, source, reload, pending, help",
            Self::Plan => "plan",
            Self::Restored => {
                "server, label, directory, target, files int8, raw_bytes int8, elapsed_ms int8"
            }
            Self::Mode => "server, mode, changed bool, durable_lsn",
            Self::Deleted => "server, label, objects int8, bytes int8",
            Self::Marks => "server, label, retained bool, notes int8",
            Self::Status | Self::Backup | Self::Job | Self::Verified => "property, value",
            Self::Done => "",
        }
    }

    /// The columns.
    pub(super) fn columns(self) -> Vec<Column> {
        let columns = self.layout().split(", ").filter(|of| !of.is_empty());
        columns
            .map(|column| {
                let (name, kind) = column.split_once(' ').unwrap_or((column, "text"));
                let kind = match kind {
                    "int8" => ColumnType::Int8,
                    "bool" => ColumnType::Bool,
                    "timestamptz" => ColumnType::TimestampTz,
                    _ => ColumnType::Text,
                };
                Column { name, kind }
            })
            .collect()
    }

    /// The rows of `response`, and lines that a person should read besides.
    pub(super) fn rows(self, response: Response) -> (Vec<Vec<Cell>>, Vec<String>) {
        let no_notices = |rows| (rows, Vec::new());
        match (self, response) {
            (Self::Wal, Response::Status(status)) => no_notices(each(&status, wal)),
            (Self::Gaps, Response::Status(status)) => no_notices(gaps(&status)),
            (Self::Status, Response::Status(status)) => no_notices(daemon(&status)),
            (_, Response::Status(status)) => no_notices(each(&status, server)),
            (_, Response::Pong(pong)) => no_notices(vec![vec![
                pong.version.into(),
                u64::from(pong.protocol).into(),
                u64::from(pong.pid).into(),
                moment(&pong.started),
            ]]),
            (_, Response::BackedUp(summary)) => no_notices(vec![backup(&summary)]),
            (_, Response::Backups(list)) => {
                let backups = list.servers.iter().flat_map(|server| &server.backups);
                no_notices(backups.map(backup).collect())
            }
            (_, Response::Backup(details)) => no_notices(flat(&*details)),
            (_, Response::Planned(plan)) => no_notices(planned(&plan)),
            (_, Response::Restored(restored)) => {
                let row = vec![vec![
                    shown(&restored.server),
                    restored.label.as_str().into(),
                    restored.directory.as_str().into(),
                    restored.target.as_str().into(),
                    restored.files.into(),
                    restored.raw_bytes.into(),
                    restored.elapsed_ms.into(),
                ]];
                let RestoreOutcome { warnings, .. } = restored;
                (row, warnings)
            }
            (_, Response::JobList(list)) => no_notices(list.jobs.iter().map(job).collect()),
            (_, Response::Job(record)) => no_notices(job_details(&record)),
            (_, Response::Started(started)) => no_notices(vec![vec![started.job.number().into()]]),
            (_, Response::Settings(list)) => {
                no_notices(list.settings.iter().map(setting).collect())
            }
            (_, Response::SettingSet(set)) => (Vec::new(), changes(set.reloaded)),
            (_, Response::Reloaded(reloaded)) => (Vec::new(), changes(reloaded)),
            (_, Response::Cleared(cleared)) => {
                let said = format!("{} jobs are forgotten", cleared.entries);
                (Vec::new(), vec![said])
            }
            (_, Response::Cancelling(job)) => {
                (Vec::new(), vec![format!("job {job} is told to end")])
            }
            (_, Response::Stopping(_)) => (Vec::new(), vec!["pgmd stops".to_owned()]),
            (_, Response::Mode(report)) => no_notices(vec![vec![
                shown(&report.server),
                shown(&report.mode),
                report.changed.into(),
                report.durable_lsn.map(|lsn| shown(&lsn)).into(),
            ]]),
            (_, Response::Deleted(deleted)) => {
                let row = vec![vec![
                    shown(&deleted.server),
                    deleted.label.into(),
                    deleted.objects.into(),
                    deleted.bytes.into(),
                ]];
                (row, deleted.warnings)
            }
            (_, Response::Marked(marks)) => no_notices(vec![vec![
                shown(&marks.server),
                marks.label.into(),
                marks.retained.into(),
                (marks.annotations.len() as u64).into(),
            ]]),
            (_, Response::Verified(verified)) => no_notices(flat(&verified)),
            // Nothing else is asked for here.
            _ => (Vec::new(), Vec::new()),
        }
    }
}

fn each(status: &DaemonStatus, row: impl Fn(&ServerStatus) -> Vec<Cell>) -> Vec<Vec<Cell>> {
    status.servers.iter().map(row).collect()
}

fn server(status: &ServerStatus) -> Vec<Cell> {
    let newest = status.newest_backup.as_ref();
    let problem = status.last_error.as_ref();
    vec![
        shown(&status.server),
        status.state.name().into(),
        status.version.map(|version| shown(&version)).into(),
        status.timeline.map(|of| u64::from(of.number())).into(),
        status.lag_bytes.into(),
        status.rpo_seconds.into(),
        (status.gaps.len() as u64).into(),
        status.backups.into(),
        newest.map(|backup| backup.label.as_str()).into(),
        problem.or(status.repository_error.as_ref()).cloned().into(),
        status.hint.clone().into(),
    ]
}

fn wal(status: &ServerStatus) -> Vec<Cell> {
    vec![
        shown(&status.server),
        shown(&status.slot),
        status.server_lsn.map(|lsn| shown(&lsn)).into(),
        status.received_lsn.map(|lsn| shown(&lsn)).into(),
        status.durable_lsn.map(|lsn| shown(&lsn)).into(),
        status.archived_lsn.map(|lsn| shown(&lsn)).into(),
        status.received_bytes.into(),
        status.archived_segments.into(),
        status.spool_bytes.into(),
        status.restarts.into(),
        status.last_message_seconds.into(),
    ]
}

fn gaps(status: &DaemonStatus) -> Vec<Vec<Cell>> {
    let of = |server: &ServerStatus| {
        let gap = |gap: &pgm_mgmt::Gap| {
            vec![
                shown(&server.server),
                u64::from(gap.timeline.number()).into(),
                shown(&gap.from),
                shown(&gap.to),
                gap.to.bytes_since(gap.from).into(),
            ]
        };
        server.gaps.iter().map(gap).collect::<Vec<_>>()
    };
    status.servers.iter().flat_map(of).collect()
}

/// Names and values, without those that are not known.
fn properties(pairs: Vec<(&str, Option<String>)>) -> Vec<Vec<Cell>> {
    let known = pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    known
        .map(|(name, value)| vec![name.into(), value.into()])
        .collect()
}

fn daemon(status: &DaemonStatus) -> Vec<Vec<Cell>> {
    let number = |number: u64| Some(number.to_string());
    properties(vec![
        ("version", Some(status.version.clone())),
        ("pid", number(status.pid.into())),
        ("started", Some(status.started.clone())),
        ("config", Some(status.config.clone())),
        ("repository", Some(status.repository.clone())),
        (
            "repository_free_bytes",
            status.repository_free_bytes.and_then(number),
        ),
        ("spool_free_bytes", status.spool_free_bytes.and_then(number)),
        ("servers", number(status.servers.len() as u64)),
        ("jobs", number(status.jobs.len() as u64)),
    ])
}

fn backup(summary: &BackupSummary) -> Vec<Cell> {
    let status = serde_json::to_value(summary.status).ok();
    let status = status.as_ref().and_then(serde_json::Value::as_str);
    vec![
        shown(&summary.server),
        summary.label.as_str().into(),
        summary.kind.as_str().into(),
        status.into(),
        moment(&summary.started),
        moment(&summary.stopped),
        u64::from(summary.timeline.number()).into(),
        shown(&summary.start_lsn),
        shown(&summary.end_lsn),
        summary.raw_bytes.into(),
        summary.stored_bytes.into(),
        summary.compression.as_str().into(),
    ]
}

/// What the answer says in JSON, a line for each value: so whatever is added to it is shown, too.
fn flat(answer: &impl serde::Serialize) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    if let Ok(value) = serde_json::to_value(answer) {
        flatten("", &value, &mut rows);
    }
    rows
}

fn flatten(name: &str, value: &serde_json::Value, rows: &mut Vec<Vec<Cell>>) {
    use serde_json::Value;
    let inner = |key: &str| match name {
        "" | "summary" => key.to_owned(),
        name => format!("{name}.{key}"),
    };
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&inner(key), value, rows);
            }
        }
        Value::Array(values) => {
            for (number, value) in values.iter().enumerate() {
                flatten(&inner(&(number + 1).to_string()), value, rows);
            }
        }
        Value::String(text) => rows.push(vec![name.into(), text.as_str().into()]),
        other => rows.push(vec![name.into(), shown(other)]),
    }
}

fn planned(plan: &PlannedRestore) -> Vec<Vec<Cell>> {
    let head = format!(
        "Restore of {} from backup {} to {} ({})",
        plan.server, plan.label, plan.directory, plan.target
    );
    let sizes = format!(
        "  {} packs, {} bytes to read, {} bytes to write, {} wal segments at most",
        plan.packs, plan.stored_bytes, plan.raw_bytes, plan.wal_segments
    );
    let steps = plan.steps.iter().map(|step| format!("  -> {step}"));
    let lines = [head, sizes].into_iter().chain(steps);
    lines.map(|line| vec![line.into()]).collect()
}

fn job(record: &JobRecord) -> Vec<Cell> {
    vec![
        record.job.number().into(),
        shown(&record.kind),
        shown(&record.server),
        record.state.name().into(),
        record.phase.as_str().into(),
        record.done_bytes.into(),
        record.total_bytes.into(),
        record.asked_by.as_str().into(),
        moment(&record.asked),
        record.started.as_deref().map_or(Cell::Null, moment),
        record.ended.as_deref().map_or(Cell::Null, moment),
        record.outcome.clone().into(),
        record
            .error
            .as_ref()
            .map(|error| error.text.as_str())
            .into(),
    ]
}

fn job_details(record: &JobRecord) -> Vec<Vec<Cell>> {
    let error = record.error.as_ref();
    let mut rows = properties(vec![
        ("job", Some(record.job.to_string())),
        ("kind", Some(record.kind.to_string())),
        ("server", Some(record.server.to_string())),
        ("state", Some(record.state.name().to_owned())),
        ("asked_by", Some(record.asked_by.clone())),
        ("asked", Some(record.asked.clone())),
        ("started", record.started.clone()),
        ("ended", record.ended.clone()),
        ("phase", Some(record.phase.clone())),
        ("done_bytes", Some(record.done_bytes.to_string())),
        ("total_bytes", record.total_bytes.map(|of| of.to_string())),
        ("outcome", record.outcome.clone()),
        ("error", error.map(|error| error.text.clone())),
        ("hint", error.and_then(|error| error.hint.clone())),
    ]);
    let messages = record.messages.iter();
    rows.extend(messages.map(|message| vec!["message".into(), message.text.as_str().into()]));
    rows
}

fn setting(setting: &SettingValue) -> Vec<Cell> {
    let name = |value: serde_json::Result<serde_json::Value>| {
        let value = value.ok();
        Cell::from(value.as_ref().and_then(serde_json::Value::as_str))
    };
    vec![
        setting.key.as_str().into(),
        setting.value.clone().into(),
        setting.default.clone().into(),
        name(serde_json::to_value(setting.source)),
        name(serde_json::to_value(setting.reload)),
        setting.pending.clone().into(),
        setting.help.as_str().into(),
    ]
}

fn changes(reloaded: pgm_mgmt::Reloaded) -> Vec<String> {
    let waiting = reloaded.restart_required.into_iter();
    let waiting = waiting.map(|line| format!("restart required: {line}"));
    let lines: Vec<String> = reloaded.applied.into_iter().chain(waiting).collect();
    if lines.is_empty() {
        return vec!["nothing has changed".to_owned()];
    }
    lines
}
