//! The log: lines on the standard error, one event each.
//!
//! ```text
//! 2026-11-22T02:34:56.123Z INFO  receive prod: streaming from 0/3000000 on timeline 1
//! ```
//!
//! Times are UTC. Whatever a peer sent is escaped: an event never spans lines nor steers a terminal. Secrets are kept
//! out by their type, which does not print.

use std::fmt::{self, Write as _};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;

use crate::config::LogLevel;

type Layered = tracing_subscriber::Registry;

/// Changes the level of a log that is in use.
#[derive(Debug, Clone)]
pub struct LevelHandle(reload::Handle<LevelFilter, Layered>);

impl LevelHandle {
    /// From now on, log this much.
    pub fn set(&self, level: LogLevel) {
        // Fails only when the subscriber is gone, and then there is nothing left to set.
        let _ = self.0.modify(|filter| *filter = filter_of(level));
    }
}

/// Begins to log as `who` (empty for the supervisor, `receive prod` for a worker). To be called once.
pub fn start(level: LogLevel, who: &str) -> LevelHandle {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    let (filter, handle) = reload::Layer::new(filter_of(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(Line {
            who: who.to_owned(),
        });
    // Fails only when a log was started before, which then stays.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    LevelHandle(handle)
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
