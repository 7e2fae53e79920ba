//! The signals that the supervisor listens to. SIGABRT keeps its default, but no core is
//! written (`main.rs`).

use std::fmt;
use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Read the configuration again.
    Reload,
    /// Stop in order; why, for the log.
    Stop(Stop),
}

/// Why the daemon stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody asked for it, through the management.
    Request,
    /// A signal with this name.
    Signal(&'static str),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "a client's request",
            Self::Signal(name) => name,
        })
    }
}

/// The listened signals.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    alarm: Stream,
    hangup: Stream,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            alarm: signal(SignalKind::alarm())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop(Stop::Signal("SIGTERM")),
            _ = self.interrupt.recv() => Signal::Stop(Stop::Signal("SIGINT")),
            _ = self.alarm.recv() => Signal::Stop(Stop::Signal("SIGALRM")),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}
