//! Where lines end up: the console, a file, syslog or the journal.
//!
//! A line that cannot be written is lost; the first one is complained about on the standard error, and when writing works
//! again the log says how many there were.

use std::io::{self, Write as _};

use tracing::Level;

use super::datagram::Datagrams;
use super::file::LogFile;

/// The place, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Sink {
    place: Place,
    outage: Option<Outage>,
}

#[derive(Debug)]
pub(super) enum Place {
    Console,
    File(LogFile),
    Socket(Datagrams),
}

/// Lines that could not be written, since writing last worked.
#[derive(Debug)]
struct Outage {
    lines: u64,
    reason: String,
}

impl Sink {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            outage: None,
        }
    }

    /// Writes one line, given without its end.
    pub(super) fn write(&mut self, line: &str) {
        if let Some(mut outage) = self.outage.take() {
            let Outage { lines, reason } = &outage;
            let said = note(&format!("{lines} messages could not be logged: {reason}"));
            if self.place.write(&said).is_err() {
                outage.lines += 1;
                self.outage = Some(outage);
                return;
            }
        }
        if let Err(error) = self.place.write(line) {
            let reason = format!("{}: {error}", self.place);
            self.complain(&reason, line);
            self.outage = Some(Outage { lines: 1, reason });
        }
    }

    /// Opens the file anew, which somebody has moved away.
    pub(super) fn reopen(&mut self) {
        let reopened = match &mut self.place {
            Place::File(file) => file.reopen(),
            // Sockets find a new listener by themselves.
            Place::Console | Place::Socket(_) => Ok(()),
        };
        if let Err(error) = reopened {
            // The old file is still open.
            let text = format!("cannot open the log file anew, {}: {error}", self.place);
            self.write(&note(&text));
        }
    }

    fn complain(&self, reason: &str, line: &str) {
        if !matches!(self.place, Place::Console) {
            let text = note(&format!("cannot log to {reason}; the first that is lost:"));
            let _ = writeln!(io::stderr(), "{text}\n{line}");
        }
    }
}

impl Place {
    fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Console => writeln!(io::stderr().lock(), "{line}"),
            Self::File(file) => file.write(line),
            Self::Socket(socket) => socket.send(level_of(line)),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Console => f.write_str("the standard error"),
            Self::File(file) => file.path().display().fmt(f),
            Self::Socket(socket) => socket.fmt(f),
        }
    }
}

/// A line of the log itself.
pub(super) fn note(text: &str) -> String {
    format!("{:.3} {:<5} {text}", jiff::Timestamp::now(), Level::WARN)
}

/// Level and text of a line, without its time. What has no level (a panic, mostly) is an error.
pub(super) fn level_of(line: &str) -> (Level, &str) {
    let parts = line
        .split_once(' ')
        .and_then(|(_, rest)| rest.split_once(' '));
    let known = parts.and_then(|(level, text)| Some((level.parse().ok()?, text.trim_start())));
    known.unwrap_or((Level::ERROR, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_its_level() {
        let line = "2026-11-22T02:34:56.123Z INFO  receive prod: streaming from 0/3000000";
        let text = "receive prod: streaming from 0/3000000";
        assert_eq!(level_of(line), (Level::INFO, text));
        let panic = "thread 'pgm-receive' panicked at x.rs:1:1:";
        assert_eq!(level_of(panic), (Level::ERROR, panic));
        assert_eq!(level_of(""), (Level::ERROR, ""));
        let own = note("x");
        assert_eq!(level_of(&own), (Level::WARN, "x"));
    }

    #[test]
    fn what_was_lost_is_said_when_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("log");
        std::os::unix::fs::symlink("/dev/full", &link).unwrap();
        let file = LogFile::open(super::super::file::tests::options(&link)).unwrap();
        let mut sink = Sink::new(Place::File(file));
        for _ in 0..3 {
            sink.write("2026-11-22T02:34:56.123Z INFO  lost");
        }
        std::fs::remove_file(&link).unwrap();
        sink.reopen();
        sink.write("2026-11-22T02:34:56.123Z INFO  kept");
        let text = std::fs::read_to_string(&link).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].contains("3 messages could not be logged"),
            "{text}"
        );
        assert!(lines[0].contains("No space left"), "{text}");
        assert!(lines[1].ends_with("kept"), "{text}");
    }
}
