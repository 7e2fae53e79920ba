//! A scripted PostgreSQL as a replication peer on loopback, which can be fast or malicious but keeps no data.
//!
//! ```no_run
//! use pgm_tests::fake_server::{FakeServer, Script};
//!
//! let server = FakeServer::start(Script::default());
//! let conninfo = server.conninfo(); // for PostgresTransport
//! ```
//!
//! It lets everybody in, answers the replication commands of a receiver, and streams WAL whose every byte is known
//! ([`wal_byte`]), from buffers that are made once. What it does not have: SQL, base backups (but any answer can be
//! given as bytes: [`Script::answers`]), TLS. Dropping it ends its connections.

mod message;
mod output;
mod session;
mod stream;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use pgm_proto::{Lsn, SystemId, TimelineId};

pub use message::{complete, error, message, ready, result_set};

/// What the server is and does.
#[derive(Debug, Clone)]
pub struct Script {
    /// `server_version`, such as `17.6`.
    pub version: String,
    /// The server's identity.
    pub system_id: SystemId,
    /// The timelines, oldest first, each with the position where it ends; the last one is the server's current
    /// timeline, and ends where its WAL ends.
    pub timelines: Vec<(TimelineId, Lsn)>,
    /// What `SHOW wal_segment_size` says.
    pub segment_size: String,
    /// The slots that are there, with their restart positions.
    pub slots: BTreeMap<String, Lsn>,
    /// The WAL in one message, in bytes.
    pub message_bytes: usize,
    /// What happens when all WAL has been sent.
    pub at_end: AtEnd,
    /// What it does wrong.
    pub fault: Fault,
    /// Answers to commands that begin with the key, instead of the usual ones: whole messages, or anything else.
    pub answers: BTreeMap<String, Vec<u8>>,
}

/// What happens when all WAL of the current timeline has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// The stream stays open; keepalives answer status messages that ask for a reply.
    Wait,
    /// The server shuts down as PostgreSQL does: it completes the command, and hangs up.
    ShutDown,
    /// The connection is closed without a word.
    Close,
}

/// How the server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    None,
    /// Each connection is cut when it has sent so many bytes.
    CutAfter(u64),
    /// Every byte goes out in a write of its own.
    OneByteWrites,
    /// Commands are read and never answered.
    NeverAnswers,
    /// Instead of WAL, bytes without any sense.
    Garbage,
    /// Instead of WAL, a message that claims two gigabytes.
    HugeLength,
    /// WAL begins so many bytes after the position that was asked for.
    SkipsAhead(u64),
}

/// A server that does what its script says.
#[derive(Debug)]
pub struct FakeServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What the connections of a server share.
#[derive(Debug)]
struct Shared {
    script: Script,
    slots: Mutex<BTreeMap<String, Lsn>>,
    commands: Mutex<Vec<String>>,
    connections: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
    statuses: AtomicU64,
    written: AtomicU64,
    flushed: AtomicU64,
}

/// The byte of the scripted WAL at this position.
pub const fn wal_byte(position: u64) -> u8 {
    (position >> 3) as u8
}

/// After so many bytes the scripted WAL repeats.
pub const WAL_PERIOD_BYTES: usize = 2048;

impl Default for Script {
    /// PostgreSQL 17 on timeline 1 with 64 MiB of WAL in segments of 16 MiB, no slots, well-behaved.
    fn default() -> Self {
        Self {
            version: "17.6".into(),
            system_id: SystemId::new(7_300_000_000_000_000_001),
            timelines: vec![(TimelineId::FIRST, Lsn::new(80 << 20))],
            segment_size: "16MB".into(),
            slots: BTreeMap::new(),
            message_bytes: 128 << 10,
            at_end: AtEnd::Wait,
            fault: Fault::None,
            answers: BTreeMap::new(),
        }
    }
}

impl FakeServer {
    /// Starts to listen, on a port of its own.
    pub fn start(script: Script) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            slots: Mutex::new(script.slots.clone()),
            script,
            commands: Mutex::default(),
            connections: Mutex::default(),
            stopped: AtomicBool::new(false),
            statuses: AtomicU64::new(0),
            written: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared))
        };
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection string for it.
    pub fn conninfo(&self) -> String {
        let port = self.address.port();
        format!("host=127.0.0.1 port={port} user=pgm dbname=postgres sslmode=disable")
    }

    /// The commands that it got, in order.
    pub fn commands(&self) -> Vec<String> {
        lock(&self.shared.commands).clone()
    }

    /// The number of status messages that it got.
    pub fn statuses(&self) -> u64 {
        self.shared.statuses.load(Ordering::Acquire)
    }

    /// The highest position that was reported as written.
    pub fn written(&self) -> Lsn {
        Lsn::new(self.shared.written.load(Ordering::Acquire))
    }

    /// The highest position that was reported as flushed.
    pub fn flushed(&self) -> Lsn {
        Lsn::new(self.shared.flushed.load(Ordering::Acquire))
    }

    /// Cuts all connections; new ones are accepted.
    pub fn cut(&self) {
        for connection in lock(&self.shared.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // The acceptor sees the mark when it is woken by one more connection.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.cut();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let Ok(connection) = connection else { continue };
        if let Ok(clone) = connection.try_clone() {
            lock(&shared.connections).push(clone);
        }
        let shared = Arc::clone(shared);
        // A connection that ends badly is what many scripts are about.
        thread::spawn(move || session::serve(connection, &shared));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
