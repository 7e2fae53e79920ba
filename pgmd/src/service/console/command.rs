//! From a statement to what it asks for: the grammar of the console.
//!
//! Keywords are known in any case. What a command does is a [`Request`] like any other client's; the console itself
//! answers only what is about the console or what every client of PostgreSQL asks of its server.

use pgm_mgmt::{
    BackupChoice, BackupOptions, BackupSource, JobId, JobScope, ListedFiles, Request,
    RestoreOptions, RestoreTarget, ServerMode, TargetAction, TargetPoint, TrialOptions,
    VerifyLevel, VerifyOptions,
};
use pgm_proto::{ServerName, TimelineId};

use super::lexer::Token;
use super::shape::Shape;
use super::sql;
use super::words::{SyntaxError, Words};

/// What a statement asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Something that the daemon does, shown in this form.
    Ask {
        request: Box<Request>,
        shape: Shape,
        /// What stands in CommandComplete.
        tag: &'static str,
    },
    /// The list of commands.
    Help,
    /// One value that the console knows itself: its column's name, and the value.
    Constant(&'static str, String),
    /// Names for a client that completes words.
    Names(Vec<String>),
    /// Something of SQL that is allowed and does nothing.
    Nothing(&'static str),
}

/// The commands: how each is written, and what it does.
pub(super) const HELP: &[(&str, &str)] = &[
    (
        "SHOW SERVERS [server]",
        "how the servers are: state, lag, newest backup, what to do",
    ),
    (
        "SHOW WAL [server]",
        "how far WAL has come, from the server to the repository",
    ),
    ("SHOW GAPS [server]", "WAL that is missing"),
    ("SHOW BACKUPS [server]", "the backups, oldest first"),
    (
        "SHOW BACKUP server [label | newest | oldest]",
        "everything about one backup",
    ),
    (
        "SHOW JOBS [ALL]",
        "jobs that wait or run, or also those that have ended",
    ),
    ("SHOW JOB number", "everything about one job"),
    (
        "SHOW CONFIG [setting]",
        "the settings, their values and where those come from",
    ),
    ("SHOW STATUS", "the daemon, its repository and spool"),
    ("SHOW VERSION", "the version of pgmd"),
    ("SHOW HELP", "this list"),
    (
        "BACKUP server [SPREAD] [RATE kib] [WORKERS n] [COMPRESSION compression] [ANEW] [INCREMENTAL] [LOCAL | BLOCKS | NATIVE | STREAM] [NOWAIT]",
        "take a backup; COMPRESSION is the server's, as zstd:1; ANEW goes on from no interrupted one; INCREMENTAL stores what has changed; LOCAL reads the server's files, BLOCKS lets it read them for ordinary sessions, NATIVE lets it send what has changed, STREAM everything; NOWAIT gives the job's number at once",
    ),
    (
        "EXPLAIN RESTORE server [label] TO 'directory' [UNTIL …]",
        "what a restore would do",
    ),
    (
        "RESTORE server [label] TO 'directory' [UNTIL TIME 'time' | LSN lsn | XID xid | NAME 'name' | IMMEDIATE] [EXCLUSIVE] [TIMELINE number] [ACTION PAUSE | PROMOTE | SHUTDOWN] [DELTA] [NOWAIT]",
        "restore a backup on pgmd's host; DELTA over a data directory of this server that is stopped",
    ),
    (
        "VERIFY server [label] [CATALOG | FRAMES | WAL | RESTORE]",
        "check backups, as deeply as asked, WAL included by default",
    ),
    (
        "DELETE server label [FORCE]",
        "delete a backup; FORCE also the last one, or a damaged one",
    ),
    ("RETAIN server label", "keep a backup until it is expunged"),
    (
        "EXPUNGE server label",
        "allow again that a retained backup is deleted",
    ),
    (
        "MODE server [ONLINE | OFFLINE]",
        "whether pgmd works for a server, or shall",
    ),
    ("WAIT job", "follow a job to its end"),
    ("CANCEL job", "end a job, cleanly"),
    ("CLEAR JOBS", "forget the jobs that have ended"),
    (
        "CLEAR METRICS",
        "begin the counters of jobs, requests and logins anew",
    ),
    (
        "SET setting = value",
        "change a setting in the configuration file",
    ),
    ("RESET setting", "let a setting have its default again"),
    (
        "RELOAD",
        "read the configuration again (only on pgmd's own host)",
    ),
    ("SHUTDOWN", "stop pgmd in order"),
];

const COMMANDS: &[&str] = &[
    "SHOW", "BACKUP", "RESTORE", "EXPLAIN", "VERIFY", "DELETE", "RETAIN", "EXPUNGE", "MODE",
    "WAIT", "CANCEL", "CLEAR", "SET", "RESET", "RELOAD", "SHUTDOWN", "HELP",
];
/// What can be shown; the words that a client completes after SHOW.
pub(super) const SHOWN: &[&str] = &[
    "SERVERS", "WAL", "GAPS", "BACKUPS", "BACKUP", "JOBS", "JOB", "CONFIG", "STATUS", "VERSION",
    "HELP",
];

/// Understands one statement, which has at least one token.
pub(super) fn command(tokens: &[Token]) -> Result<Command, SyntaxError> {
    let mut words = Words::new(tokens);
    if let Some(sql) = sql::command(words) {
        return sql;
    }
    let command = match words.one_of(COMMANDS)? {
        "SHOW" => show(&mut words)?,
        "BACKUP" => backup(&mut words)?,
        "RESTORE" => restore(&mut words)?,
        "EXPLAIN" => explain(&mut words)?,
        "WAIT" => {
            let request = Request::Follow {
                job: job(&mut words)?,
            };
            ask(request, Shape::Job, "WAIT")
        }
        "VERIFY" => verify(&mut words)?,
        "DELETE" => {
            let server = words.value("server")?;
            let backup = choice(Some(words.text("the label")?));
            let force = words.keyword(&["FORCE"]).is_some();
            let request = Request::Delete {
                server,
                backup,
                force,
            };
            job_command(&mut words, request, Shape::Deleted, "DELETE")
        }
        "RETAIN" => {
            let server = words.value("server")?;
            let backup = choice(Some(words.text("the label")?));
            ask(Request::Retain { server, backup }, Shape::Marks, "RETAIN")
        }
        "EXPUNGE" => {
            let server = words.value("server")?;
            let backup = choice(Some(words.text("the label")?));
            ask(Request::Expunge { server, backup }, Shape::Marks, "EXPUNGE")
        }
        "MODE" => {
            let server = words.value("server")?;
            let set = words
                .keyword(&["ONLINE", "OFFLINE"])
                .map(|mode| match mode {
                    "ONLINE" => ServerMode::Online,
                    _ => ServerMode::Offline,
                });
            ask(Request::Mode { server, set }, Shape::Mode, "MODE")
        }
        "CANCEL" => {
            let request = Request::Cancel {
                job: job(&mut words)?,
            };
            ask(request, Shape::Done, "CANCEL")
        }
        "CLEAR" => {
            let request = match words.one_of(&["JOBS", "METRICS"])? {
                "METRICS" => Request::ClearMetrics,
                _ => Request::ClearJobs,
            };
            ask(request, Shape::Done, "CLEAR")
        }
        "SET" => set(&mut words)?,
        "RESET" => {
            let key = words.text("the setting's name")?;
            let request = Request::SetSetting { key, value: None };
            ask(request, Shape::Done, "RESET")
        }
        "RELOAD" => ask(Request::Reload, Shape::Done, "RELOAD"),
        "SHUTDOWN" => ask(Request::Shutdown, Shape::Done, "SHUTDOWN"),
        _ => Command::Help,
    };
    words.end()?;
    Ok(command)
}

fn ask(request: Request, shape: Shape, tag: &'static str) -> Command {
    Command::Ask {
        request: Box::new(request),
        shape,
        tag,
    }
}

fn show(words: &mut Words<'_>) -> Result<Command, SyntaxError> {
    let what = words.one_of(SHOWN)?;
    let show = |request, shape| Ok(ask(request, shape, "SHOW"));
    match what {
        "SERVERS" => show(status(words)?, Shape::Servers),
        "WAL" => show(status(words)?, Shape::Wal),
        "GAPS" => show(status(words)?, Shape::Gaps),
        "STATUS" => show(Request::Status { server: None }, Shape::Status),
        "BACKUPS" => {
            let server = words.optional("server")?;
            show(Request::ListBackups { server }, Shape::Backups)
        }
        "BACKUP" => {
            let server = words.value("server")?;
            let backup = choice(words.optional_text());
            show(Request::Info { server, backup }, Shape::Backup)
        }
        "JOBS" => {
            let scope = match words.keyword(&["ALL"]) {
                Some(_) => JobScope::All,
                None => JobScope::Unfinished,
            };
            let server = words.optional("server")?;
            show(Request::ListJobs { server, scope }, Shape::Jobs)
        }
        "JOB" => show(Request::Job { job: job(words)? }, Shape::Job),
        "CONFIG" => {
            let key = words.optional_text();
            show(Request::Settings { key }, Shape::Settings)
        }
        "VERSION" => show(Request::Ping, Shape::Version),
        _ => Ok(Command::Help),
    }
}

fn status(words: &mut Words<'_>) -> Result<Request, SyntaxError> {
    let server = words.optional("server")?;
    Ok(Request::Status { server })
}

fn job(words: &mut Words<'_>) -> Result<JobId, SyntaxError> {
    words.keyword(&["JOB"]);
    words.value("job number").map(JobId::new)
}

fn choice(label: Option<String>) -> BackupChoice {
    label.map_or(BackupChoice::Newest, |label| {
        match label.to_ascii_lowercase().as_str() {
            "newest" | "oldest" | "latest" => BackupChoice::parse(&label.to_ascii_lowercase()),
            _ => BackupChoice::Label(label),
        }
    })
}

/// What begins a job: waited for, or only begun.
fn job_command(
    words: &mut Words<'_>,
    request: Request,
    shape: Shape,
    tag: &'static str,
) -> Command {
    match words.keyword(&["NOWAIT"]) {
        Some(_) => ask(Request::Start(Box::new(request)), Shape::Started, tag),
        None => ask(request, shape, tag),
    }
}

fn backup(words: &mut Words<'_>) -> Result<Command, SyntaxError> {
    let server = words.value("server")?;
    let mut options = BackupOptions::default();
    if words.keyword(&["SPREAD"]).is_some() {
        options.spread_checkpoint = true;
    }
    if words.keyword(&["RATE"]).is_some() {
        options.max_rate_kib = Some(words.value("rate in KiB per second")?);
    }
    if words.keyword(&["WORKERS"]).is_some() {
        options.workers = Some(words.value("number of threads")?);
    }
    if words.keyword(&["COMPRESSION"]).is_some() {
        options.server_compression = Some(words.value("compression")?);
    }
    if words.keyword(&["ANEW"]).is_some() {
        options.no_resume = true;
    }
    if words.keyword(&["INCREMENTAL"]).is_some() {
        options.incremental = true;
    }
    options.source = match words.keyword(&["LOCAL", "BLOCKS", "NATIVE", "STREAM"]) {
        Some("LOCAL") => Some(BackupSource::Local),
        Some("BLOCKS") => Some(BackupSource::Blocks),
        Some("NATIVE") => Some(BackupSource::Native),
        Some(_) => Some(BackupSource::Stream),
        None => None,
    };
    let request = Request::Backup { server, options };
    Ok(job_command(words, request, Shape::Backups, "BACKUP"))
}

fn verify(words: &mut Words<'_>) -> Result<Command, SyntaxError> {
    const LEVELS: &[&str] = &["CATALOG", "FRAMES", "WAL", "RESTORE"];
    let server = words.value("server")?;
    let mut level = words.keyword(LEVELS);
    let mut backup = None;
    // A word that is no level is a label.
    let mut ahead = *words;
    if level.is_none() && ahead.keyword(&["NOWAIT"]).is_none() {
        backup = words.optional_text().map(|label| choice(Some(label)));
        level = words.keyword(LEVELS);
    }
    let request = Request::Verify(VerifyOptions {
        server,
        backup,
        level: match level {
            Some("CATALOG") => VerifyLevel::Catalog,
            Some("FRAMES") => VerifyLevel::Frames,
            Some("RESTORE") => VerifyLevel::Restore,
            _ => VerifyLevel::Wal,
        },
        files: ListedFiles::default(),
        trial: TrialOptions::default(),
    });
    Ok(job_command(words, request, Shape::Verified, "VERIFY"))
}

fn explain(words: &mut Words<'_>) -> Result<Command, SyntaxError> {
    words.one_of(&["RESTORE"])?;
    let mut options = restore_options(words)?;
    options.plan_only = true;
    Ok(ask(Request::Restore(options), Shape::Plan, "EXPLAIN"))
}

fn restore(words: &mut Words<'_>) -> Result<Command, SyntaxError> {
    let request = Request::Restore(restore_options(words)?);
    Ok(job_command(words, request, Shape::Restored, "RESTORE"))
}

fn restore_options(words: &mut Words<'_>) -> Result<RestoreOptions, SyntaxError> {
    let server: ServerName = words.value("server")?;
    let mut backup = None;
    if words.keyword(&["TO"]).is_none() {
        backup = Some(words.text("the label, or TO 'directory'")?);
        words.one_of(&["TO"])?;
    }
    let directory = words.text("the directory")?;
    let mut target = RestoreTarget::default();
    if words.keyword(&["UNTIL"]).is_some() {
        target.point = point(words)?;
    }
    if words.keyword(&["EXCLUSIVE"]).is_some() {
        target.exclusive = true;
    }
    if words.keyword(&["TIMELINE"]).is_some() {
        target.timeline = Some(timeline(words)?);
    }
    if words.keyword(&["ACTION"]).is_some() {
        target.action = Some(match words.one_of(&["PAUSE", "PROMOTE", "SHUTDOWN"])? {
            "PAUSE" => TargetAction::Pause,
            "PROMOTE" => TargetAction::Promote,
            _ => TargetAction::Shutdown,
        });
    }
    Ok(RestoreOptions {
        server,
        backup: choice(backup),
        directory,
        delta: words.keyword(&["DELTA"]).is_some(),
        target,
        tablespaces: Vec::new(),
        plan_only: false,
        restore_program: None,
    })
}

fn timeline(words: &mut Words<'_>) -> Result<TimelineId, SyntaxError> {
    let before = *words;
    let number = words.value("timeline")?;
    TimelineId::new(number)
        .ok_or_else(|| before.error("timelines are counted from 1".to_owned(), None))
}

fn point(words: &mut Words<'_>) -> Result<TargetPoint, SyntaxError> {
    Ok(
        match words.one_of(&["TIME", "LSN", "XID", "NAME", "IMMEDIATE"])? {
            "TIME" => TargetPoint::Time(words.text("the time")?),
            "LSN" => TargetPoint::Lsn(words.value("position")?),
            "XID" => TargetPoint::Xid(words.value("transaction")?),
            "NAME" => TargetPoint::Name(words.text("the name of the restore point")?),
            _ => TargetPoint::Immediate,
        },
    )
}

fn set(words: &mut Words<'_>) -> Result<Command, SyntaxError> {
    let key = words.text("the setting's name")?;
    if !words.symbol('=') && words.keyword(&["TO"]).is_none() {
        let hint = "write SET setting = value; SHOW CONFIG lists the settings";
        let error = words.unexpected(&["=", "TO"]);
        return Err(SyntaxError {
            hint: Some(hint.to_owned()),
            ..error
        });
    }
    let value = match words.keyword(&["DEFAULT"]) {
        Some(_) => None,
        None => Some(words.text("the value")?),
    };
    let request = Request::SetSetting { key, value };
    Ok(ask(request, Shape::Done, "SET"))
}
