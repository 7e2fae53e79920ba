//! A worker's connection to its supervisor: three pipes, two signals and a stop flag.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use pgm_storage::Cancel;
use rustix::event::{EventfdFlags, eventfd};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::message::{Description, LINE_BYTES_MAX, Order, WorkerEvent};
use super::title::Title;
use crate::log::LevelHandle;

/// Events that may wait to be written. Those beyond are dropped: the shared state has the numbers.
const EVENTS_MAX: usize = 256;

/// How often the list of processes learns what a receive worker does.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the working threads hold.
#[derive(Debug, Clone)]
pub(super) struct Link {
    events: mpsc::Sender<Said>,
    stop: Cancel,
    discard: Cancel,
    wake: Arc<OwnedFd>,
}

/// What goes to the main thread.
#[derive(Debug)]
enum Said {
    Event(WorkerEvent),
    Finished,
}

/// Where the main thread takes it from.
pub(super) struct Outbox(mpsc::Receiver<Said>);

impl Link {
    pub(super) fn new() -> io::Result<(Self, Outbox)> {
        let (events, outbox) = mpsc::channel(EVENTS_MAX);
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok((
            Self {
                events,
                stop: Cancel::new(),
                discard: Cancel::new(),
                wake,
            },
            Outbox(outbox),
        ))
    }

    /// Tells the supervisor something, unless it is not listening.
    pub(super) fn tell(&self, event: WorkerEvent) {
        let _ = self.events.try_send(Said::Event(event));
    }

    /// Tells the supervisor something that it must hear.
    pub(super) fn report(&self, event: WorkerEvent) {
        let _ = self.events.blocking_send(Said::Event(event));
    }

    /// The work is done.
    pub(super) fn finish(&self) {
        let _ = self.events.blocking_send(Said::Finished);
    }

    /// Is set when the worker shall end.
    pub(super) fn stop(&self) -> &Cancel {
        &self.stop
    }

    /// Is set when the worker shall end and keep nothing of what is not finished.
    pub(super) fn discard(&self) -> &Cancel {
        &self.discard
    }

    /// Becomes readable, and stays so, when the worker shall end.
    pub(super) fn wake(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.wake)
    }

    /// Waits, but not when the worker shall end.
    pub(super) fn pause(&self, time: std::time::Duration) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut wake = [PollFd::new(&self.wake, PollFlags::IN)];
        let time = Timespec {
            tv_sec: time.as_secs().cast_signed(),
            tv_nsec: time.subsec_nanos().into(),
        };
        // An interrupted pause is a short one.
        let _ = poll(&mut wake, Some(&time));
    }

    fn ask_to_stop(&self) {
        self.stop.cancel();
        // Fails only when the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

/// The standard input.
pub(super) struct Inbox {
    lines: BufReader<pipe::Receiver>,
    line: Vec<u8>,
}

impl Inbox {
    pub(super) fn open() -> io::Result<Self> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let lines = BufReader::new(pipe::Receiver::from_owned_fd(stdin)?);
        Ok(Self {
            lines,
            line: Vec::new(),
        })
    }

    /// The first line.
    pub(super) async fn description(&mut self) -> io::Result<Description> {
        let gone = || io::Error::other("the supervisor said nothing");
        self.next().await.ok_or_else(gone)?
    }

    /// The next line, `None` at the end.
    async fn next<T: DeserializeOwned>(&mut self) -> Option<io::Result<T>> {
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len()) as u64;
        let mut lines = (&mut self.lines).take(room);
        let read = lines.read_until(b'\n', &mut self.line).await;
        if read.is_err() || !self.line.ends_with(b"\n") {
            return None;
        }
        let line = std::mem::take(&mut self.line);
        Some(ron::de::from_bytes(&line).map_err(io::Error::other))
    }
}

/// Listens and speaks until the work is done.
pub(super) async fn converse(
    mut inbox: Inbox,
    mut outbox: Outbox,
    link: &Link,
    level: &LevelHandle,
    mut title: Option<Title>,
) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut stdout = pipe::Sender::from_owned_fd(stdout.into())?;
    let mut supervised = true;
    let mut looking = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            said = outbox.0.recv() => match said {
                Some(Said::Event(event)) => {
                    if let (WorkerEvent::Phase(phase), Some(title)) = (&event, &mut title) {
                        title.show(phase);
                    }
                    // A supervisor that is gone hears nothing; the end of our input ends us.
                    let _ = say(&mut stdout, &event).await;
                }
                Some(Said::Finished) | None => return Ok(()),
            },
            order = inbox.next::<Order>(), if supervised => match order {
                Some(Ok(Order::LogLevel(new))) => level.set(new),
                Some(Ok(Order::Cancel)) => {
                    // Whoever sees that it shall end knows how.
                    link.discard.cancel();
                    link.ask_to_stop();
                }
                Some(Err(error)) => tracing::warn!("the supervisor said something strange: {error}"),
                None => {
                    supervised = false;
                    link.ask_to_stop();
                }
            },
            _ = terminate.recv() => link.ask_to_stop(),
            _ = looking.tick() => if let Some(title) = &mut title {
                title.look();
            },
        }
    }
}

async fn say(stdout: &mut pipe::Sender, event: &WorkerEvent) -> io::Result<()> {
    let mut line = ron::to_string(event).map_err(io::Error::other)?;
    line.push('\n');
    stdout.write_all(line.as_bytes()).await
}
