//! A receiver of the library, on a thread of its own, that a test watches and stops.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pgm_proto::{Lsn, PostgresTransport, SlotPolicy, TimelineId, TransportOptions};
use pgm_storage::Cancel;
use pgm_wal::{
    DurableLsn, ReceiveError, ReceiveObserver, ReceiveOptions, ReceiveState, Receiver, Spool,
    Stopped,
};

use crate::scratch::Scratch;
use crate::wait::wait_until;

/// A receiver that streams into a spool of its own until stopped.
#[derive(Debug)]
pub struct Receiving {
    scratch: Scratch,
    seen: Arc<Mutex<Seen>>,
    cancel: Cancel,
    thread: Option<JoinHandle<Result<Stopped, ReceiveError>>>,
}

/// What a receiver has told so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The position up to which WAL is on disk.
    pub durable: Lsn,
    /// The timelines that were received, with the position where each began.
    pub timelines: Vec<(TimelineId, Lsn)>,
    /// How many connections streamed.
    pub streamed: usize,
    /// The errors after which it connected again.
    pub errors: Vec<String>,
}

struct Watcher(Arc<Mutex<Seen>>);

impl Watcher {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReceiveObserver for Watcher {
    fn state(&mut self, state: ReceiveState) {
        if state == ReceiveState::Streaming {
            self.seen().streamed += 1;
        }
    }

    fn durable(&mut self, lsn: DurableLsn) {
        self.seen().durable = lsn.lsn();
    }

    fn timeline(&mut self, timeline: TimelineId, start: Lsn) {
        self.seen().timelines.push((timeline, start));
    }

    fn error(&mut self, error: &ReceiveError, _retry_in: Duration) {
        self.seen().errors.push(error.to_string());
    }
}

impl Receiving {
    /// Starts receiving from the server at `conninfo`, with a slot `pgmd` that is made when it is missing, and waits
    /// until WAL streams.
    pub fn start(conninfo: &str) -> Self {
        let scratch = Scratch::new("r");
        let transport = PostgresTransport::new(TransportOptions {
            conninfo: conninfo.parse().expect("a connection string"),
            slot: Some("pgmd".parse().expect("a slot's name")),
            create_slot: SlotPolicy::Create,
        });
        let spool = Spool::open(scratch.join("spool")).expect("a spool can be made");
        let options = ReceiveOptions {
            receiver_timeout: Duration::from_secs(2),
            retry_delay_max: Duration::from_millis(200),
            ..ReceiveOptions::default()
        };
        let cancel = Cancel::new();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (watched, cancelled) = (Arc::clone(&seen), cancel.clone());
        let thread = thread::spawn(move || {
            Receiver::new(transport, spool, options).run_forever(&cancelled, &mut Watcher(watched))
        });
        let receiving = Self {
            scratch,
            seen,
            cancel,
            thread: Some(thread),
        };
        receiving.wait("WAL streams", |seen| seen.streamed > 0);
        receiving
    }

    /// The folder with the segments.
    pub fn spool(&self) -> PathBuf {
        self.scratch.join("spool")
    }

    /// What the receiver has told so far.
    pub fn seen(&self) -> Seen {
        Watcher(Arc::clone(&self.seen)).seen().clone()
    }

    /// Waits until what the receiver has told fulfils `condition`; fails the test when the receiver has given up.
    pub fn wait(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        wait_until(what, || {
            let seen = self.seen();
            let running = self
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished());
            assert!(
                running || condition(&seen),
                "the receiver gave up: {seen:?}"
            );
            condition(&seen)
        });
    }

    /// Waits until WAL up to `lsn` is on disk.
    pub fn wait_durable(&self, lsn: &str) {
        let wanted: Lsn = lsn.parse().expect("an LSN");
        self.wait("WAL becomes durable", |seen| seen.durable >= wanted);
    }

    /// Stops receiving in order; the spool stays until this value is dropped.
    pub fn stop(&mut self) -> Result<Stopped, ReceiveError> {
        self.cancel.cancel();
        let thread = self.thread.take().expect("stopped once");
        thread.join().expect("a receiver does not panic")
    }

    /// The names of the finished segments in the spool, sorted.
    pub fn segments(&self) -> Vec<String> {
        let entries = fs::read_dir(self.spool()).expect("the spool can be listed");
        let names = entries.map(|entry| {
            entry
                .expect("listed")
                .file_name()
                .into_string()
                .expect("ASCII")
        });
        let mut found: Vec<String> = names.filter(|name| is_segment(name)).collect();
        found.sort();
        found
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether `name` is that of a finished segment.
fn is_segment(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
