//! The log: lines, one event each, on the console, into a file, to syslog or to the journal.
//!
//! ```text
//! 2026-11-22T02:34:56.123Z INFO  receive prod: streaming from 0/3000000 on timeline 1
//! ```
//!
//! All processes log through the supervisor: workers write lines into a pipe that never makes them wait, and one thread of
//! the supervisor writes everything. So files are opened anew in one place only, a log disk that is full, slow or gone
//! costs log lines and never WAL, and workers need no rights on files or sockets of the log.
//!
//! Times are UTC. Whatever a peer sent is escaped: an event never spans lines nor steers a terminal. Secrets are kept
//! out by their type, which does not print.

mod datagram;
mod file;
mod queue;
mod sink;
mod worker;

use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;

use crate::config::{Config, LogLevel, LogType};

pub(crate) use queue::pass_on;

use datagram::{Datagrams, Protocol};
use file::{FileOptions, LogFile};
use queue::Writing;
use sink::{Place, Sink};

type Layered = tracing_subscriber::Registry;

/// How long what waits may take to be written at the end.
const FINISH_PATIENCE: Duration = Duration::from_secs(1);

/// A log that is in use.
#[derive(Debug, Clone)]
pub struct LevelHandle {
    filter: reload::Handle<LevelFilter, Layered>,
    writing: Option<Arc<Writing>>,
}

/// Why the log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot log to {place}: {source}")]
pub struct LogError {
    /// Where to.
    place: String,
    /// What the system said.
    source: io::Error,
    hint: &'static str,
}

impl LogError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(self.hint.to_owned())
    }
}

impl LevelHandle {
    /// From now on, log this much.
    pub fn set(&self, level: LogLevel) {
        // Fails only when the subscriber is gone, and then there is nothing left to set.
        let _ = self.filter.modify(|filter| *filter = filter_of(level));
    }

    /// Opens the log file anew: somebody may have moved it away.
    pub fn reopen(&self) {
        if let Some(writing) = &self.writing {
            writing.reopen();
        }
    }

    /// Writes what still waits; what is logged afterwards is lost.
    pub fn finish(&self) {
        if let Some(writing) = &self.writing {
            writing.finish(FINISH_PATIENCE);
        }
    }
}

/// Begins the log of the daemon, as its configuration says. To be called once.
pub fn start_daemon(config: &Config) -> Result<LevelHandle, LogError> {
    let place = place(config)?;
    let writing = Writing::start(Sink::new(place)).map_err(|source| LogError {
        place: "anything".to_owned(),
        source,
        hint: "the system has no thread left for pgmd",
    })?;
    let filter = install(config.log_level, "", writing.queue());
    Ok(LevelHandle {
        filter,
        writing: Some(Arc::new(writing)),
    })
}

/// Begins to log as `who` (`receive prod`) into the pipe on the standard error. To be called once.
pub fn start(level: LogLevel, who: &str) -> LevelHandle {
    worker::never_wait();
    LevelHandle {
        filter: install(level, who, worker::PipeWriter::default),
        writing: None,
    }
}

fn place(config: &Config) -> Result<Place, LogError> {
    let socket = |protocol: Protocol, hint| {
        let path = protocol.usual_path();
        let opened = Datagrams::open(protocol, path).map(Place::Socket);
        opened.map_err(|source| LogError {
            place: path.display().to_string(),
            source,
            hint,
        })
    };
    match config.logging.destination {
        LogType::Console => Ok(Place::Console),
        LogType::File => {
            let opened = LogFile::open(FileOptions::new(&config.logging)).map(Place::File);
            opened.map_err(|source| LogError {
                place: config.logging.path.as_path().display().to_string(),
                source,
                hint: "let pgmd's user write there, or set log_path to another file",
            })
        }
        LogType::Syslog => socket(
            Protocol::Syslog,
            "no syslog daemon listens there: start one, or set log_type to console or file",
        ),
        LogType::Journald => socket(
            Protocol::Journal,
            "systemd's journal is not here: set log_type to console, file or syslog",
        ),
    }
}

fn install<W>(level: LogLevel, who: &str, writer: W) -> reload::Handle<LevelFilter, Layered>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    let (filter, handle) = reload::Layer::new(filter_of(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .event_format(Line {
            who: who.to_owned(),
        });
    // Fails only when a log was started before, which then stays.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    handle
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// `text` without anything that moves a cursor or ends a line.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push(' '),
            // Besides control characters, those that turn the direction of writing.
            letter
                if letter.is_control()
                    || matches!(letter, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}') =>
            {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => safe.push(letter),
        }
    }
    safe
}

struct Line {
    who: String,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = jiff::Timestamp::now();
        write!(writer, "{now:.3} {:<5} ", event.metadata().level())?;
        if !self.who.is_empty() {
            write!(writer, "{}: ", self.who)?;
        }
        let mut text = String::new();
        if let Some(scope) = context.event_scope() {
            for span in scope.from_root() {
                if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                    let _ = write!(text, "{fields} ");
                }
            }
        }
        context
            .field_format()
            .format_fields(Writer::new(&mut text), event)?;
        writeln!(writer, "{}", escaped(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_sends_cannot_break_a_line_or_steer_a_terminal() {
        assert_eq!(
            escaped("a\nERROR b\r\u{1b}[2J"),
            "a\\nERROR b\\u{d}\\u{1b}[2J"
        );
        assert_eq!(escaped("grüße \u{202e}x"), "grüße \\u{202e}x");
    }
}
