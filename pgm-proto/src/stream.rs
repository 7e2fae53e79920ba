//! One byte stream to a server: TCP, unix socket, or TLS over TCP.
//!
//! The socket never blocks: `read` answers `WouldBlock`, and every wait is a `poll(2)` with a deadline, together
//! with a file descriptor that can wake the waiting thread. No deadline means "for ever"; then the kernel's
//! keepalives find a peer that is gone. Framing is `frame.rs`, the choice of TLS is `client/handshake.rs`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There is something to read, or the peer is gone, which the next read tells.
    Readable,
    /// The wake descriptor became readable.
    Wake,
    /// The time is over.
    Timeout,
}

/// A connected, non-blocking stream.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS over TCP, its handshake finished.
    Tls(Box<TlsStream>),
}

/// A TLS session and the socket under it.
#[derive(Debug)]
pub(crate) struct TlsStream {
    pub(crate) session: rustls::ClientConnection,
    pub(crate) socket: TcpStream,
}

impl Stream {
    /// Writes all of `bytes`, waiting for room until `deadline` (then the error's kind is `TimedOut`).
    pub(crate) fn write_all(&mut self, bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => write_all(socket, bytes, deadline),
            Self::Unix(socket) => write_all(socket, bytes, deadline),
            Self::Tls(tls) => tls.write_all(bytes, deadline),
        }
    }

    /// Waits until there is something to read, `wake` becomes readable or `deadline` has come.
    pub(crate) fn wait_readable(
        &mut self,
        deadline: Option<Instant>,
        wake: Option<BorrowedFd<'_>>,
    ) -> io::Result<Woken> {
        let mut interest = PollFlags::IN;
        if let Self::Tls(tls) = self {
            // Bytes that TLS has decrypted already are invisible to poll.
            if tls.has_plaintext()? {
                return Ok(Woken::Readable);
            }
            if tls.session.wants_write() {
                tls.flush_some()?;
            }
        }
        if matches!(self, Self::Tls(tls) if tls.session.wants_write()) {
            interest |= PollFlags::OUT;
        }
        loop {
            let mut polled = pair(PollFd::from_borrowed_fd(self.as_fd(), interest), wake);
            let count = if wake.is_some() { 2 } else { 1 };
            if poll_until(&mut polled[..count], deadline)? == 0 {
                return Ok(Woken::Timeout);
            }
            if count == 2 && !polled[1].revents().is_empty() {
                return Ok(Woken::Wake);
            }
            let events = polled[0].revents();
            if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
            {
                return Ok(Woken::Readable);
            }
            if let Self::Tls(tls) = self {
                tls.flush_some()?;
                if !tls.session.wants_write() {
                    interest = PollFlags::IN;
                }
            }
        }
    }

    /// Whether the bytes are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Ends the connection; further reads find its end. Errors do not matter any more.
    pub(crate) fn close(&mut self) {
        let _ = match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Both),
            Self::Unix(socket) => socket.shutdown(Shutdown::Both),
            Self::Tls(tls) => {
                tls.session.send_close_notify();
                let _ = tls.flush_some();
                tls.socket.shutdown(Shutdown::Both)
            }
        };
    }
}

impl Read for Stream {
    /// Reads what is there: `Ok(0)` at the end of the stream, `WouldBlock` when there is nothing yet.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => retry_interrupted(|| socket.read(buffer)),
            Self::Unix(socket) => retry_interrupted(|| socket.read(buffer)),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
            Self::Tls(tls) => tls.socket.as_fd(),
        }
    }
}

impl TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            retry_interrupted(|| self.session.read_tls(&mut self.socket))?;
            let processed = self.session.process_new_packets();
            // Alerts and key updates go out as far as there is room, the rest with the next write or wait.
            if self.session.wants_write() {
                let _ = self.flush_some();
            }
            processed.map_err(invalid_data)?;
        }
    }

    fn has_plaintext(&mut self) -> io::Result<bool> {
        let state = self.session.process_new_packets().map_err(invalid_data)?;
        Ok(state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
    }

    fn write_all(&mut self, mut bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.session.writer().write(bytes)?;
            bytes = &bytes[taken..];
            self.flush(deadline)?;
        }
        Ok(())
    }

    /// Sends everything that waits to be sent.
    pub(crate) fn flush(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        loop {
            self.flush_some()?;
            if !self.session.wants_write() {
                return Ok(());
            }
            wait_writable(self.socket.as_fd(), deadline)?;
        }
    }

    /// Sends what the socket takes now.
    fn flush_some(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match retry_interrupted(|| self.session.write_tls(&mut self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                written => written?,
            };
        }
        Ok(())
    }
}

/// Waits until `socket` takes bytes; `TimedOut` when `deadline` comes first.
pub(crate) fn wait_writable(socket: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<()> {
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
    match poll_until(&mut polled, deadline)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Waits until `socket` has bytes to read; `TimedOut` when `deadline` comes first.
pub(crate) fn wait_for_bytes(socket: BorrowedFd<'_>, deadline: Instant) -> io::Result<()> {
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    match poll_until(&mut polled, Some(deadline))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Writes all of `bytes` to a non-blocking socket.
pub(crate) fn write_all<S: Write + AsFd>(
    socket: &mut S,
    mut bytes: &[u8],
    deadline: Option<Instant>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match retry_interrupted(|| socket.write(bytes)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => bytes = &bytes[taken..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_writable(socket.as_fd(), deadline)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The second place repeats the first when there is no `wake`, and is then not polled.
fn pair<'fd>(first: PollFd<'fd>, wake: Option<BorrowedFd<'fd>>) -> [PollFd<'fd>; 2] {
    let second = match wake {
        Some(wake) => PollFd::from_borrowed_fd(wake, PollFlags::IN),
        None => first.clone(),
    };
    [first, second]
}

fn poll_until(polled: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<usize> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(polled, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return Ok(ready?),
        }
    }
}

fn retry_interrupted<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn invalid_data(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
