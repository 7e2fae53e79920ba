//! One worker process.
//!
//! It is this program again, told on its standard input what to do. It ends when that pipe ends, when its parent dies,
//! on SIGTERM (in order) and when this value is dropped (at once): no worker outlives its supervisor. Its log comes
//! through a pipe, and we write it. It has its own process group, so that a Ctrl-C at the terminal reaches the supervisor alone.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child as Process, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::notify;
use crate::shared_state::FD_VARIABLE;
use crate::worker::{Description, LINE_BYTES_MAX, Order, WorkerEvent};

/// A longer line is cut in pieces.
const LOG_LINE_BYTES_MAX: u64 = 16 << 10;
/// How long the rest of a dead worker's log may take.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(1);

/// A running worker.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    /// Kept open: its end tells the worker that we are gone.
    stdin: ChildStdin,
    events: BufReader<ChildStdout>,
    line: Vec<u8>,
    /// Takes its log over.
    log: Option<JoinHandle<()>>,
}

/// What a worker's pipe gave.
#[derive(Debug)]
pub(super) enum Heard {
    /// An event.
    Event(WorkerEvent),
    /// The pipe has ended: the process is going.
    End,
}

impl Child {
    /// Starts a worker and tells it what to do.
    ///
    /// The environment variable `hidden` is none of its business: it holds the master key. Nor are those that hold the keys
    /// of repositories: it is told these.
    pub(super) async fn start(
        description: &Description,
        shared_fd: i32,
        hidden: Option<&str>,
    ) -> io::Result<Self> {
        // This very program, also after an upgrade has put another file in its place.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("pgmd");
        command.arg("worker").args(description.task.words());
        command.arg(description.server.as_str());
        command.env(FD_VARIABLE, shared_fd.to_string());
        let keys = description.repositories.iter();
        let keys = keys.filter_map(|target| target.place.key.as_ref()?.variable());
        for name in keys.chain(hidden) {
            command.env_remove(name);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // What systemd says to us is not for them.
        for variable in notify::VARIABLES {
            command.env_remove(variable);
        }
        command.process_group(0).kill_on_drop(true);
        let mut process = command.spawn()?;
        let pipe = |name| io::Error::other(format!("the worker has no {name}"));
        let stdin = process.stdin.take().ok_or_else(|| pipe("standard input"))?;
        let stdout = process
            .stdout
            .take()
            .ok_or_else(|| pipe("standard output"))?;
        let events = BufReader::new(stdout);
        let log = process
            .stderr
            .take()
            .map(|log| tokio::spawn(take_over(log)));
        let mut child = Self {
            process,
            stdin,
            events,
            line: Vec::new(),
            log,
        };
        // It may hold a password.
        let description = description.clone();
        let told = tokio::task::spawn_blocking(move || ron::to_string(&description.with_keys()));
        let text = Zeroizing::new(told.await?.map_err(io::Error::other)?);
        child.say(text).await?;
        Ok(child)
    }

    /// The process id, 0 once it is known to be gone.
    pub(super) fn pid(&self) -> u32 {
        self.process.id().unwrap_or(0)
    }

    /// What the worker says next. May be dropped and called again without losing anything.
    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            let room = (LINE_BYTES_MAX - self.line.len().min(LINE_BYTES_MAX)) as u64;
            let mut events = (&mut self.events).take(room);
            let complete = match events.read_until(b'\n', &mut self.line).await {
                Ok(_) => self.line.ends_with(b"\n"),
                Err(_) => false,
            };
            if !complete {
                return Heard::End;
            }
            let event = ron::de::from_bytes(&self.line);
            self.line.clear();
            match event {
                Ok(event) => return Heard::Event(event),
                Err(error) => tracing::warn!("a worker said something strange: {error}"),
            }
        }
    }

    /// Tells the worker something while it works.
    pub(super) async fn order(&mut self, order: &Order) {
        let Ok(text) = ron::to_string(order) else {
            return;
        };
        // A worker that cannot be told is about to be noticed as gone.
        let _ = self.say(Zeroizing::new(text)).await;
    }

    /// Asks the worker to end in order.
    pub(super) fn terminate(&self) {
        let pid = self
            .process
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // Fails only when the process has just gone by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Ends the worker at once.
    pub(super) fn kill(&mut self) {
        let _ = self.process.start_kill();
    }

    /// Waits until the process is gone.
    pub(super) async fn gone(&mut self) -> String {
        let how = match self.process.wait().await {
            Ok(status) => describe(status),
            Err(error) => format!("could not be waited for: {error}"),
        };
        if let Some(log) = self.log.take() {
            // Its last words come before ours about it.
            let _ = tokio::time::timeout(LAST_WORDS_PATIENCE, log).await;
        }
        how
    }

    async fn say(&mut self, mut text: Zeroizing<String>) -> io::Result<()> {
        text.push('\n');
        self.stdin.write_all(text.as_bytes()).await?;
        self.stdin.flush().await
    }
}

/// Logs what a worker has to say, line by line, until its pipe ends.
async fn take_over(log: ChildStderr) {
    let mut log = BufReader::new(log);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut log)
            .take(LOG_LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                crate::log::pass_on(text.trim_end_matches('\n'));
            }
        }
    }
}

pub(crate) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(0), _) => "ended".to_owned(),
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended for no known reason".to_owned(),
    }
}
