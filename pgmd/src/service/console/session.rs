//! One client's conversation with the console.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgm_mgmt::{JobProgress, MessageLevel, Response};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::sync::Notify;

use super::command::{self, Command, HELP};
use super::frontend::{Bind, Broken, Frontend, Object, read};
use super::lexer::statements;
use super::reply::{Report, complete, ready};
use super::table::{Cell, Column, ColumnType, Format, description, message, row};
use super::words::SyntaxError;
use crate::service::answer::{Answer, answer};
use crate::service::caller::Caller;
use crate::supervisor::{Daemon, JobTicket};

/// How long a client may take to read what it is sent.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How often a job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the same phase of a job is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How many statements or portals a client may keep.
const NAMES_MAX: usize = 64;

/// Why a command was not carried out to its end.
enum Failure {
    /// The client hears why, and goes on.
    Reported(Box<Report>),
    /// The client is gone.
    Gone,
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Reported(Box::new(report))
    }
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Whether the conversation goes on.
enum Next {
    Go,
    End,
}

/// Serves one client until it goes or misbehaves. `cancelled` is notified when it wants what runs to be cancelled.
pub(in crate::service) async fn converse(
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    caller: &Caller,
    daemon: &Arc<Daemon>,
    idle: Duration,
    cancelled: &Notify,
) {
    let mut guest = daemon.guests().enter();
    let mut session = Session {
        reader: BufReader::new(reader),
        writer,
        caller,
        daemon,
        cancelled,
        prepared: BTreeMap::new(),
        portals: BTreeMap::new(),
        skipping: Skipping::Nothing,
    };
    loop {
        let message = tokio::select! {
            biased;
            message = tokio::time::timeout(idle, read(&mut session.reader)) => message,
            () = guest.dismissed() => {
                let report = Report::fatal("57P01", "pgmd is shutting down");
                let _ = session.send(&report.bytes()).await;
                return;
            }
        };
        let farewell = match message {
            Ok(Ok(message)) => match session.handle(message).await {
                Ok(Next::Go) => continue,
                Ok(Next::End) | Err(_) => return,
            },
            Ok(Err(Broken::Gone)) => return,
            Ok(Err(Broken::Garbage(text))) => Report::fatal("08P01", text),
            Err(_) => Report::fatal("57P05", "the connection was idle for too long")
                .with_hint("management.idle_timeout says how long it may be"),
        };
        let _ = session.send(&farewell.bytes()).await;
        return;
    }
}

/// After an error in the extended protocol everything up to Sync is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skipping {
    Nothing,
    UntilSync,
}

struct Session<'a, R, W> {
    reader: BufReader<R>,
    writer: W,
    caller: &'a Caller,
    daemon: &'a Arc<Daemon>,
    cancelled: &'a Notify,
    /// A statement may be empty.
    prepared: BTreeMap<String, Option<Command>>,
    portals: BTreeMap<String, (Option<Command>, Vec<Format>)>,
    skipping: Skipping,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<'_, R, W> {
    async fn handle(&mut self, message: Frontend) -> io::Result<Next> {
        let outcome = match message {
            Frontend::Terminate => return Ok(Next::End),
            Frontend::Sync => {
                self.skipping = Skipping::Nothing;
                self.portals.clear();
                self.send(&ready()).await?;
                return Ok(Next::Go);
            }
            Frontend::Query(query) => {
                let outcome = self.query(&query).await;
                return self.finish_query(outcome).await;
            }
            Frontend::Flush | Frontend::Copy => return Ok(Next::Go),
            _ if self.skipping == Skipping::UntilSync => return Ok(Next::Go),
            Frontend::Parse { name, query } => self.prepare(name, &query).await,
            Frontend::Bind(bind) => self.bind(bind).await,
            Frontend::Describe(object) => self.describe(&object).await,
            Frontend::Execute { portal } => self.execute(&portal).await,
            Frontend::Close(object) => self.close(&object).await,
        };
        match outcome {
            Ok(()) => Ok(Next::Go),
            Err(Failure::Gone) => Ok(Next::End),
            Err(Failure::Reported(report)) => {
                self.skipping = Skipping::UntilSync;
                self.send(&report.bytes()).await?;
                Ok(Next::Go)
            }
        }
    }

    /// Carries out the statements of a simple query.
    async fn query(&mut self, query: &str) -> Result<(), Failure> {
        let commands = understand(query)?;
        if commands.is_empty() {
            self.send(&message(b'I', &[])).await?;
        }
        for command in commands {
            let columns = columns(&command);
            if !columns.is_empty() {
                self.send(&description(&columns, &[])).await?;
            }
            self.run(command, &[]).await?;
        }
        Ok(())
    }

    async fn finish_query(&mut self, outcome: Result<(), Failure>) -> io::Result<Next> {
        match outcome {
            Ok(()) => {}
            Err(Failure::Gone) => return Ok(Next::End),
            Err(Failure::Reported(report)) => self.send(&report.bytes()).await?,
        }
        self.send(&ready()).await?;
        Ok(Next::Go)
    }

    async fn prepare(&mut self, name: String, query: &str) -> Result<(), Failure> {
        let mut commands = understand(query)?;
        let command = commands.pop();
        if !commands.is_empty() {
            let text = "cannot insert multiple commands into a prepared statement";
            return Err(Report::error("42601", text).into());
        }
        if self.prepared.len() >= NAMES_MAX && !self.prepared.contains_key(&name) {
            let text = format!("there are {NAMES_MAX} prepared statements already");
            return Err(Report::error("53400", text)
                .with_hint("close some of them")
                .into());
        }
        self.prepared.insert(name, command);
        Ok(self.send(&message(b'1', &[])).await?)
    }

    async fn bind(&mut self, bind: Bind) -> Result<(), Failure> {
        let command = self.statement(&bind.statement)?;
        if bind.parameters > 0 {
            let report = Report::error("0A000", "commands have no parameters here");
            return Err(report.with_hint("write the values into the command").into());
        }
        if self.portals.len() >= NAMES_MAX && !self.portals.contains_key(&bind.portal) {
            let text = format!("there are {NAMES_MAX} portals already");
            return Err(Report::error("53400", text).into());
        }
        self.portals.insert(bind.portal, (command, bind.formats));
        Ok(self.send(&message(b'2', &[])).await?)
    }

    fn statement(&self, name: &str) -> Result<Option<Command>, Failure> {
        self.prepared.get(name).cloned().ok_or_else(|| {
            let text = format!("prepared statement \"{name}\" does not exist");
            Report::error("26000", text).into()
        })
    }

    fn portal(&self, name: &str) -> Result<(Option<Command>, Vec<Format>), Failure> {
        self.portals.get(name).cloned().ok_or_else(|| {
            let text = format!("portal \"{name}\" does not exist");
            Report::error("34000", text).into()
        })
    }

    async fn describe(&mut self, object: &Object) -> Result<(), Failure> {
        let mut answer = Vec::new();
        let (command, formats) = match object {
            Object::Statement(name) => {
                // ParameterDescription: none.
                answer.extend(message(b't', &[0, 0]));
                (self.statement(name)?, Vec::new())
            }
            Object::Portal(name) => self.portal(name)?,
        };
        let columns = command.as_ref().map(columns).unwrap_or_default();
        answer.extend(match columns.as_slice() {
            [] => message(b'n', &[]),
            columns => description(columns, &formats),
        });
        Ok(self.send(&answer).await?)
    }

    async fn execute(&mut self, portal: &str) -> Result<(), Failure> {
        match self.portal(portal)? {
            (None, _) => Ok(self.send(&message(b'I', &[])).await?),
            (Some(command), formats) => self.run(command, &formats).await,
        }
    }

    async fn close(&mut self, object: &Object) -> Result<(), Failure> {
        match object {
            Object::Statement(name) => drop(self.prepared.remove(name)),
            Object::Portal(name) => drop(self.portals.remove(name)),
        }
        Ok(self.send(&message(b'3', &[])).await?)
    }

    /// Carries out one command: its notices, its rows, and its CommandComplete.
    async fn run(&mut self, command: Command, formats: &[Format]) -> Result<(), Failure> {
        let mut stopping = false;
        let (rows, tag) = match command {
            Command::Ask {
                request,
                shape,
                tag,
            } => {
                let response = match answer(self.daemon, self.caller, *request).await {
                    Ok(Answer::Now(response)) => *response,
                    Ok(Answer::Job(ticket)) => self.follow(ticket).await?,
                    Err(error) => return Err(Report::from(error).into()),
                };
                stopping = matches!(response, Response::Stopping(_));
                let (rows, notices) = shape.rows(response);
                for notice in notices {
                    self.notice("NOTICE", notice).await?;
                }
                (rows, complete(tag, None))
            }
            Command::Help => {
                let rows = HELP
                    .iter()
                    .map(|(form, does)| vec![(*form).into(), (*does).into()]);
                (rows.collect(), complete("SHOW", None))
            }
            Command::Constant(_, value) => (vec![vec![value.into()]], complete("SELECT", Some(1))),
            Command::Names(names) => {
                let tag = complete("SELECT", Some(names.len()));
                let rows = names.into_iter().map(|name| vec![Cell::Text(name)]);
                (rows.collect(), tag)
            }
            Command::Nothing(tag) => (Vec::new(), complete(tag, None)),
        };
        let mut bytes: Vec<u8> = rows.iter().flat_map(|cells| row(cells, formats)).collect();
        bytes.extend(tag);
        let sent = self.send(&bytes).await;
        if stopping {
            // Only now: the answer is with the client.
            self.daemon.ask_to_stop();
        }
        Ok(sent?)
    }

    /// Tells the client of a job until it is done. The job goes on when the client goes or loses patience.
    async fn follow(&mut self, mut ticket: JobTicket) -> Result<Response, Failure> {
        let mut ticking = tokio::time::interval(LOOK_EVERY);
        let mut told: Option<(String, Instant)> = None;
        loop {
            tokio::select! {
                biased;
                said = ticket.messages.recv(), if !ticket.messages.is_closed() || !ticket.messages.is_empty() => {
                    if let Some((level, text)) = said {
                        let severity = match level {
                            MessageLevel::Info => "NOTICE",
                            MessageLevel::Warning => "WARNING",
                        };
                        self.notice(severity, text).await?;
                    }
                }
                outcome = &mut ticket.outcome => {
                    let lost = Report::error("XX000", "the job ended without a report");
                    return match outcome {
                        Ok(Ok(response)) => Ok(response),
                        Ok(Err(error)) => Err(Report::from(error).into()),
                        Err(_) => Err(lost.into()),
                    };
                }
                () = self.cancelled.notified() => {
                    let id = ticket.id;
                    let text = format!("canceling statement due to user request; job {id} goes on");
                    let hint = format!("CANCEL {id} ends it, WAIT {id} follows it again");
                    return Err(Report::error("57014", text).with_hint(hint).into());
                }
                gone = gone(&mut self.reader) => {
                    if gone {
                        return Err(Failure::Gone);
                    }
                }
                _ = ticking.tick() => {
                    if let Some(progress) = self.daemon.jobs().progress_of(ticket.id)
                        && let Some(text) = news(&progress, &mut told)
                    {
                        self.notice("NOTICE", text).await?;
                    }
                }
            }
        }
    }

    async fn notice(&mut self, severity: &'static str, text: String) -> io::Result<()> {
        self.send(&Report::notice(severity, text).bytes()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = async {
            self.writer.write_all(bytes).await?;
            // TLS may hold back what the socket did not take at once.
            self.writer.flush().await
        };
        tokio::time::timeout(WRITE_PATIENCE, written).await?
    }
}

/// The commands of `query`, all of which must be understood.
fn understand(query: &str) -> Result<Vec<Command>, Failure> {
    let failed = |error: SyntaxError| Failure::from(Report::syntax(query, error));
    let statements = statements(query).map_err(|error| failed(error.into()))?;
    statements
        .iter()
        .map(|tokens| command::command(tokens).map_err(failed))
        .collect()
}

/// The columns of what `command` gives.
fn columns(command: &Command) -> Vec<Column> {
    let text = |name| Column {
        name,
        kind: ColumnType::Text,
    };
    match command {
        Command::Ask { shape, .. } => shape.columns(),
        Command::Help => vec![text("command"), text("meaning")],
        Command::Constant(name, _) => vec![text(name)],
        Command::Names(_) => vec![text("name")],
        Command::Nothing(_) => Vec::new(),
    }
}

/// Whether the client has gone. Waits for ever while it is there and silent, or has more to say.
async fn gone(reader: &mut (impl AsyncBufRead + Unpin)) -> bool {
    match reader.fill_buf().await {
        Ok([]) | Err(_) => true,
        Ok(_) => std::future::pending().await,
    }
}

/// What there is to tell of a job now: another phase, or some progress after a while.
fn news(progress: &JobProgress, told: &mut Option<(String, Instant)>) -> Option<String> {
    let phase = progress.phase.split(':').next().unwrap_or_default();
    let is_old = |(of, at): &(String, Instant)| of == phase && at.elapsed() < TELL_EVERY;
    if told.as_ref().is_some_and(is_old) {
        return None;
    }
    *told = Some((phase.to_owned(), Instant::now()));
    let far = match progress.total_bytes {
        Some(total) if total > 0 => {
            let percent = u128::from(progress.done_bytes) * 100 / u128::from(total);
            format!(", {} % of {total} bytes", percent.min(100))
        }
        _ => String::new(),
    };
    Some(format!("job {}: {}{far}", progress.job, progress.phase))
}
