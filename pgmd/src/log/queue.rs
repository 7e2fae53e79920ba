//! From whoever logs to the thread that writes: a bounded queue of lines.
//!
//! Nobody waits for the log, neither the supervisor nor, behind their pipes, the workers: when the medium is slow, full or
//! gone, lines are lost, never WAL. How many were lost is said once it is over.

use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::sink::{Sink, note};

/// Lines that may wait.
const LINES_MAX: usize = 4096;
/// How long a full queue is waited for at the end.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// The queue of this process, for lines that come from workers.
static QUEUE: OnceLock<Queue> = OnceLock::new();

#[derive(Debug)]
enum Item {
    Line(String),
    Reopen,
    Stop,
}

/// Where lines go in.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    items: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

/// The thread that writes them.
#[derive(Debug)]
pub(super) struct Writing {
    queue: Queue,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Takes a line over that a worker has written.
pub(crate) fn pass_on(line: &str) {
    match QUEUE.get() {
        Some(queue) => queue.push(line.to_owned()),
        None => _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{line}\n")),
    }
}

impl Queue {
    fn push(&self, line: String) {
        if self.items.try_send(Item::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writing {
    /// Writes into `sink` on a thread of its own.
    pub(super) fn start(sink: Sink) -> io::Result<Self> {
        let (items, taken) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let queue = Queue {
            items,
            lost: Arc::clone(&lost),
        };
        let thread = std::thread::Builder::new().name("pgm-log".to_owned());
        let thread = thread.spawn(move || write(sink, &taken, &lost))?;
        let _ = QUEUE.set(queue.clone());
        Ok(Self {
            queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// Opens the log anew.
    pub(super) fn reopen(&self) {
        // A queue that is full of lines will be followed by others that ask again.
        let _ = self.queue.items.try_send(Item::Reopen);
    }

    /// Writes what waits, but takes no longer than this.
    pub(super) fn finish(&self, patience: Duration) {
        let thread = {
            let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.take()
        };
        let Some(thread) = thread else { return };
        let deadline = Instant::now() + patience;
        while let Err(TrySendError::Full(_)) = self.queue.items.try_send(Item::Stop) {
            if Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(FULL_PAUSE);
        }
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(FULL_PAUSE);
        }
    }
}

fn write(mut sink: Sink, items: &Receiver<Item>, lost: &AtomicU64) {
    while let Ok(item) = items.recv() {
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            sink.write(&note(&format!(
                "{count} messages were not logged: the log did not keep up"
            )));
        }
        match item {
            Item::Line(line) => sink.write(&line),
            Item::Reopen => sink.reopen(),
            Item::Stop => return,
        }
    }
}

/// What the formatting layer writes one event into.
#[derive(Debug)]
pub(super) struct LineWriter {
    queue: Queue,
    line: String,
}

impl io::Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.line.write_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.queue.push(line.trim_end_matches('\n').to_owned());
        }
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Queue {
    type Writer = LineWriter;

    fn make_writer(&self) -> Self::Writer {
        LineWriter {
            queue: self.clone(),
            line: String::new(),
        }
    }
}
