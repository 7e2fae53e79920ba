//! An HTTP proxy that makes of a sound store one on a bad day.
//!
//! Some of the requests, chosen by a seed, get a fault instead of (or after) being carried out: 500, 503, a reset before or
//! after, silence, a body cut short, an error behind the status 200. Which request gets which fault depends on the order
//! in which they come, so a seed narrows a failure down without replaying it exactly. A test that fails prints it.
//!
//! All requests that come are counted by what they ask for, in the words of [`pgm_storage::Operation`], and the objects that were
//! written are known in their order.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::http_message::Message;
use crate::port::Port;
use crate::s3_requests::Requests;

/// A fault of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// 500, nothing is carried out.
    Internal,
    /// 503, nothing is carried out.
    SlowDown,
    /// The connection is reset, nothing is carried out.
    ResetBefore,
    /// It is carried out, and the connection is reset instead of the answer.
    ResetAfter,
    /// It is carried out, and nobody is told.
    Silence,
    /// It is carried out, and half of the answer's body arrives.
    CutShort,
    /// The completion of an object in parts: an error with the status 200, nothing is carried out.
    ErrorIn200,
}

const FAULTS: [Fault; 7] = [
    Fault::Internal,
    Fault::SlowDown,
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::Silence,
    Fault::CutShort,
    Fault::ErrorIn200,
];

/// A proxy before a store; its connections end when it is dropped.
#[derive(Debug)]
pub struct ChaosProxy {
    port: Port,
    seed: u64,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    per_mille: AtomicU32,
    state: AtomicU64,
    faults: AtomicU64,
    requests: Mutex<Requests>,
    written: Mutex<Vec<String>>,
    closing: AtomicBool,
}

impl ChaosProxy {
    /// Starts a proxy before the store on 127.0.0.1 at `target`: of 1000 requests `per_mille` get a fault.
    pub fn to(target: u16, per_mille: u32, seed: u64) -> Self {
        let port = Port::claim();
        let listener =
            TcpListener::bind(("127.0.0.1", port.number())).expect("a claimed port is free");
        let shared = Arc::new(Shared {
            target,
            per_mille: AtomicU32::new(per_mille),
            state: AtomicU64::new(seed),
            faults: AtomicU64::new(0),
            requests: Mutex::default(),
            written: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.closing.load(Ordering::Acquire) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                // A connection that breaks is what this is about.
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { port, seed, shared }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// From now on `per_mille` of 1000 requests get a fault.
    pub fn set(&self, per_mille: u32) {
        self.shared.per_mille.store(per_mille, Ordering::Release);
    }

    /// How many requests came, and how many of them got a fault.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.requests().total(),
            self.shared.faults.load(Ordering::Acquire),
        )
    }

    /// The requests that came so far.
    pub fn requests(&self) -> Requests {
        lock(&self.shared.requests).clone()
    }

    /// The paths of the objects that were written so far, in this order.
    pub fn written(&self) -> Vec<String> {
        lock(&self.shared.written).clone()
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        if thread::panicking() {
            let (requests, faults) = self.counts();
            eprintln!(
                "chaos with seed {}: {faults} faults in {requests} requests",
                self.seed
            );
        }
        self.shared.closing.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port.number()));
    }
}

impl Shared {
    /// The next fault, if this request gets one (splitmix64).
    fn next_fault(&self) -> Option<Fault> {
        let mut z = self
            .state
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::AcqRel);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        if z % 1000 >= u64::from(self.per_mille.load(Ordering::Acquire)) {
            return None;
        }
        self.faults.fetch_add(1, Ordering::AcqRel);
        Some(FAULTS[(z >> 32) as usize % FAULTS.len()])
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = Message::read_request(&mut stream)? {
            lock(&self.requests).count(request.method(), request.target());
            let fault = self.next_fault();
            match fault {
                Some(Fault::ErrorIn200) if completes(&request) => {
                    refuse(stream.get_mut(), "200 OK", "InternalError")?;
                    continue;
                }
                Some(Fault::Internal | Fault::ErrorIn200) => {
                    refuse(
                        stream.get_mut(),
                        "500 Internal Server Error",
                        "InternalError",
                    )?;
                    continue;
                }
                Some(Fault::SlowDown) => {
                    refuse(stream.get_mut(), "503 Slow Down", "SlowDown")?;
                    continue;
                }
                Some(Fault::ResetBefore) => return reset(stream.get_mut()),
                _ => {}
            }
            let answer = self.forward(&request)?;
            if answer.status() == "200" && (writes(&request) || completes(&request)) {
                let path = request.target().split('?').next().unwrap_or_default();
                lock(&self.written).push(path.to_owned());
            }
            let length = match answer.header("content-length") {
                Some(_) => vec![],
                None => vec![("content-length".to_owned(), answer.body.len().to_string())],
            };
            let more: Vec<_> = length
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let out = stream.get_mut();
            match fault {
                Some(Fault::ResetAfter) => return reset(out),
                Some(Fault::Silence) => {
                    // Until the client has had enough.
                    out.set_read_timeout(Some(Duration::from_mins(1)))?;
                    let _ = out.read(&mut [0]);
                    return Ok(());
                }
                Some(Fault::CutShort) => {
                    answer.write_head(out, &more)?;
                    out.write_all(&answer.body[..answer.body.len() / 2])?;
                    return out.shutdown(Shutdown::Both);
                }
                _ => {}
            }
            answer.write_head(out, &more)?;
            out.write_all(&answer.body)?;
        }
        Ok(())
    }

    fn forward(&self, request: &Message) -> io::Result<Message> {
        let mut target = TcpStream::connect(("127.0.0.1", self.target))?;
        request.write_head(&mut target, &[("connection", "close")])?;
        target.write_all(&request.body)?;
        Message::read_answer(&mut BufReader::new(target), request.method())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn writes(request: &Message) -> bool {
    request.method() == "PUT" && !request.target().contains("partNumber=")
}

fn completes(request: &Message) -> bool {
    request.method() == "POST" && request.target().contains("uploadId=")
}

fn refuse(stream: &mut TcpStream, status: &str, code: &str) -> io::Result<()> {
    let body = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Ends the connection with a reset instead of in order.
fn reset(stream: &mut TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?;
    stream.shutdown(Shutdown::Read)?;
    Err(io::ErrorKind::ConnectionReset.into())
}
