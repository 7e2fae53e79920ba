//! The server of a trial: from its start until it takes commands, and to its end.
//!
//! It takes none before recovery has ended (`hot_standby = off`), so that settings of the original that a standby would have
//! to match do not matter. Recovery may take hours; what is waited for is a sign of life: PostgreSQL logs each segment.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use pgm_backup::{Context, Phase};
use rustix::process::Signal;

use super::error::TrialError;
use super::process::{LOOK_EVERY, Process, command};
use super::programs::Programs;
use super::scratch::Scratch;
use super::{Restored, settings};
use crate::seal_key::PlaceKey;

/// How long recovery may log nothing.
const SILENCE_MAX: Duration = Duration::from_mins(30);
/// The line of `postmaster.pid` that says how the server is (`pidfile.h`), counted from 0.
const STATUS_LINE: usize = 7;
const READY: &str = "ready";
/// What PostgreSQL logs for each segment that it has got.
const RESTORED_SEGMENT: &str = "restored log file";
/// How much of the log a failure quotes.
const QUOTED_LINES: usize = 8;
const QUOTED_BYTES: u64 = 64 << 10;

/// A server that runs.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
}

/// How a start ended.
#[derive(Debug)]
pub(super) enum Started {
    /// Recovery is over, and it takes commands.
    Ready(Server),
    /// It ended by itself, because of this.
    Failed(String),
}

impl Server {
    /// Starts a server on what was restored, and waits for the end of recovery.
    pub(super) fn start(
        cx: &Context,
        programs: &Programs,
        scratch: &Scratch,
        restored: &Restored,
    ) -> Result<Started, TrialError> {
        let log = log_file(scratch)?;
        let program = programs.server();
        let mut command = command(&program, scratch)?;
        command.arg("-D").arg(scratch.data());
        command.arg(format!(
            "--config_file={}",
            settings::file(scratch).display()
        ));
        if let Some((name, key)) = restored.key.as_ref().and_then(PlaceKey::in_environment) {
            command.env(name, key.as_str());
        }
        let mut process = Process::start(command, &program, log)?;
        let mut watch = Watch::new(scratch, restored);
        loop {
            if let Some(status) = process.ended()? {
                let what = crate::supervisor::describe_end(status);
                let log = last_words(scratch);
                return Ok(Started::Failed(format!(
                    "the server {what} before it could be used: {log}"
                )));
            }
            if cx.cancel.is_cancelled() {
                return Err(TrialError::Cancelled);
            }
            if is_ready(scratch) {
                return Ok(Started::Ready(Self { process }));
            }
            if watch.silence(cx) > SILENCE_MAX {
                let log = last_words(scratch);
                return Ok(Started::Failed(format!(
                    "recovery has stopped making progress: {log}"
                )));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Stops it in order, so that what it leaves can be checked.
    pub(super) fn stop(mut self) -> Result<(), TrialError> {
        // SIGINT: the fast shutdown, with a checkpoint.
        self.process.end(Signal::INT).map(drop)
    }
}

fn log_file(scratch: &Scratch) -> Result<File, TrialError> {
    let path = scratch.log();
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| TrialError::file("write", &path, error))
}

fn is_ready(scratch: &Scratch) -> bool {
    let text = fs::read_to_string(scratch.data().join("postmaster.pid")).unwrap_or_default();
    text.lines().nth(STATUS_LINE).map(str::trim) == Some(READY)
}

/// Looks at how the log grows.
struct Watch {
    path: PathBuf,
    read: u64,
    changed: Instant,
    segments: u64,
    wal_bytes: u64,
    segment_bytes: u64,
}

impl Watch {
    fn new(scratch: &Scratch, restored: &Restored) -> Self {
        Self {
            path: scratch.log(),
            read: 0,
            changed: Instant::now(),
            segments: 0,
            wal_bytes: restored.wal_bytes,
            segment_bytes: restored.segment_bytes,
        }
    }

    /// For how long nothing was logged.
    fn silence(&mut self, cx: &Context) -> Duration {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.take(QUOTED_BYTES).read_to_end(&mut text)
        });
        if let Ok(bytes @ 1..) = read {
            self.read += bytes as u64;
            self.changed = Instant::now();
            let text = String::from_utf8_lossy(&text);
            self.segments += text.matches(RESTORED_SEGMENT).count() as u64;
            let done = self.segments.saturating_mul(self.segment_bytes);
            cx.report(
                Phase::Replay,
                done.min(self.wal_bytes),
                Some(self.wal_bytes),
                "",
            );
        }
        self.changed.elapsed()
    }
}

/// What the server said last, in one line.
fn last_words(scratch: &Scratch) -> String {
    let mut text = Vec::new();
    let read = File::open(scratch.log()).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(QUOTED_BYTES)))?;
        file.take(QUOTED_BYTES).read_to_end(&mut text)
    });
    if let Err(error) = read {
        return format!("its log cannot be read: {error}");
    }
    in_one_line(&String::from_utf8_lossy(&text))
}

/// The lines that say what went wrong, else the last ones.
fn in_one_line(log: &str) -> String {
    let is_grave = |line: &&str| {
        ["FATAL:", "PANIC:", "ERROR:", "cannot start"]
            .iter()
            .any(|word| line.contains(word))
    };
    let mut lines: Vec<&str> = log.lines().filter(is_grave).collect();
    if lines.is_empty() {
        lines = log.lines().filter(|line| !line.trim().is_empty()).collect();
    }
    let from = lines.len().saturating_sub(QUOTED_LINES);
    lines[from..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_quoted_and_the_rest_is_not() {
        let log = "LOG:  starting\nFATAL:  could not open x\nLOG:  shutting down\n";
        assert_eq!(in_one_line(log), "FATAL:  could not open x");
        assert_eq!(in_one_line("LOG: a\n\nLOG: b\n"), "LOG: a | LOG: b");
    }
}
