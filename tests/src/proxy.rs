//! A TCP proxy that behaves as networks do on a bad day.
//!
//! It stands between a client and a server and carries bytes until its [`Fault`] says otherwise. Faults concern what
//! the server sends; they apply to connections made after [`Proxy::set`], except [`Proxy::cut`], which ends all there are.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::port::Port;

/// What goes wrong with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// New connections are closed at once.
    Refuse,
    /// The connection ends in order (FIN) after this many bytes from the server.
    CutAfter(u64),
    /// The connection is reset (RST) after this many bytes from the server.
    ResetAfter(u64),
    /// Nothing moves any more after this many bytes from the server, and nobody is told.
    SilenceAfter(u64),
    /// What the server sends arrives one byte at a time.
    Dribble,
    /// What the server sends arrives this much later.
    Delay(Duration),
}

/// A proxy in front of a server; its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    fault: Mutex<Fault>,
    connections: Mutex<HashMap<u64, [TcpStream; 2]>>,
    changed: Condvar,
    accepted: AtomicU64,
    closing: AtomicBool,
}

impl Proxy {
    /// Starts a proxy before the server that listens on 127.0.0.1 at `target`.
    pub fn to(target: u16) -> Self {
        let port = Port::claim();
        let listener =
            TcpListener::bind(("127.0.0.1", port.number())).expect("a claimed port is free");
        let shared = Arc::new(Shared {
            target,
            fault: Mutex::new(Fault::None),
            connections: Mutex::new(HashMap::new()),
            changed: Condvar::new(),
            accepted: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        });
        let acceptor = Arc::clone(&shared);
        thread::spawn(move || acceptor.accept(&listener));
        Self { port, shared }
    }

    /// The port to connect to instead of the server's.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// What goes wrong with connections from now on.
    pub fn set(&self, fault: Fault) {
        *lock(&self.shared.fault) = fault;
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Ends all connections there are, in order.
    pub fn cut(&self) {
        self.shared.end_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.end_all();
        // Wakes the acceptor, which then sees that it is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.closing.load(Ordering::SeqCst) {
                return;
            }
            let Ok(client) = client else { continue };
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            let fault = *lock(&self.fault);
            if fault == Fault::Refuse {
                continue;
            }
            if let Ok(server) = TcpStream::connect(("127.0.0.1", self.target)) {
                self.carry(number, fault, &client, &server);
            }
        }
    }

    fn carry(self: &Arc<Self>, number: u64, fault: Fault, client: &TcpStream, server: &TcpStream) {
        let share = |stream: &TcpStream| stream.try_clone().expect("a socket can be shared");
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        lock(&self.connections).insert(number, [share(client), share(server)]);
        let (from, to, shared) = (share(server), share(client), Arc::clone(self));
        thread::spawn(move || {
            shared.pump(number, fault, &from, &to);
            shared.end(number);
        });
        let (from, to, shared) = (share(client), share(server), Arc::clone(self));
        thread::spawn(move || {
            shared.pump(number, Fault::None, &from, &to);
            if !matches!(fault, Fault::SilenceAfter(_)) {
                shared.end(number);
            }
        });
    }

    /// Carries bytes from one side to the other until an end or a fault.
    fn pump(&self, number: u64, fault: Fault, mut from: &TcpStream, mut to: &TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        let mut carried = 0;
        loop {
            let limit = match fault {
                Fault::CutAfter(bytes) | Fault::ResetAfter(bytes) | Fault::SilenceAfter(bytes) => {
                    bytes - carried
                }
                _ => u64::MAX,
            };
            if limit == 0 {
                self.misbehave(number, fault, to);
                return;
            }
            let want = usize::try_from(limit)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let bytes = match from.read(&mut buffer[..want]) {
                Ok(0) | Err(_) => return,
                Ok(bytes) => bytes,
            };
            let sent = match fault {
                Fault::Dribble => buffer[..bytes]
                    .iter()
                    .try_for_each(|byte| to.write_all(&[*byte])),
                Fault::Delay(time) => {
                    thread::sleep(time);
                    to.write_all(&buffer[..bytes])
                }
                _ => to.write_all(&buffer[..bytes]),
            };
            if sent.is_err() {
                return;
            }
            carried += bytes as u64;
        }
    }

    fn misbehave(&self, number: u64, fault: Fault, to: &TcpStream) {
        match fault {
            Fault::ResetAfter(_) => {
                // With a linger time of zero, closing a socket sends a reset.
                let _ = rustix::net::sockopt::set_socket_linger(to, Some(Duration::ZERO));
            }
            Fault::SilenceAfter(_) => {
                let mut connections = lock(&self.connections);
                while connections.contains_key(&number) {
                    connections = self
                        .changed
                        .wait(connections)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
            _ => {}
        }
    }

    fn end(&self, number: u64) {
        if let Some(streams) = lock(&self.connections).remove(&number) {
            close(streams);
        }
        self.changed.notify_all();
    }

    fn end_all(&self) {
        let ended: Vec<_> = lock(&self.connections).drain().collect();
        for (_, streams) in ended {
            close(streams);
        }
        self.changed.notify_all();
    }
}

fn close([client, server]: [TcpStream; 2]) {
    let reset = rustix::net::sockopt::socket_linger(&client)
        .is_ok_and(|linger| linger == Some(Duration::ZERO));
    // Ending only the reading half wakes whoever reads, and leaves the reset to the last close.
    let _ = client.shutdown(if reset {
        Shutdown::Read
    } else {
        Shutdown::Both
    });
    let _ = server.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    /// A server that sends `bytes` to every client and then waits for it to go.
    fn sender(bytes: usize) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                thread::spawn(move || {
                    let _ = client.write_all(&vec![7; bytes]);
                    let _ = client.read(&mut [0]);
                });
            }
        });
        port
    }

    fn read_through(proxy: &Proxy) -> (usize, Option<ErrorKind>) {
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let mut got = 0;
        let mut buffer = [0; 4096];
        loop {
            match client.read(&mut buffer) {
                Ok(0) => return (got, None),
                Ok(bytes) => got += bytes,
                Err(error) => return (got, Some(error.kind())),
            }
        }
    }

    #[test]
    fn each_fault_looks_to_a_client_as_it_should() {
        let proxy = Proxy::to(sender(10_000));
        assert_eq!(read_through(&proxy), (10_000, Some(ErrorKind::WouldBlock)));
        proxy.set(Fault::CutAfter(1000));
        assert_eq!(read_through(&proxy), (1000, None));
        proxy.set(Fault::SilenceAfter(1000));
        assert_eq!(read_through(&proxy), (1000, Some(ErrorKind::WouldBlock)));
        proxy.set(Fault::Dribble);
        assert_eq!(read_through(&proxy).0, 10_000);
        proxy.set(Fault::ResetAfter(1000));
        assert_eq!(read_through(&proxy).1, Some(ErrorKind::ConnectionReset));
        proxy.set(Fault::Refuse);
        assert_eq!(read_through(&proxy).0, 0);
        assert_eq!(proxy.accepted(), 6);
    }
}
