//! The socket under a session: how it is opened and tuned, and the one question that is asked before TLS.

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::stream::{wait_for_bytes, write_all};
use crate::{Error, Keepalive};

/// SSLRequest: its length and its code.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

/// What a server answers to the request for TLS.
pub(crate) enum TlsAnswer {
    Yes,
    No,
    /// An error message, unread: anyone could have written it.
    Error,
    /// More than the one byte that may come before TLS.
    TooMuch,
}

/// Asks for TLS, and reads no more than the answer may be long.
pub(crate) fn request_tls(socket: &mut TcpStream, deadline: Instant) -> Result<TlsAnswer, Error> {
    write_all(socket, &SSL_REQUEST, Some(deadline))?;
    let mut answer = [0; 2];
    loop {
        wait_for_bytes(socket.as_fd(), deadline).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Error::Timeout {
                waiting_for: "the answer to the request for TLS",
            },
            _ => Error::from(error),
        })?;
        let count = match socket.read(&mut answer) {
            Err(error) if would_wait(&error) => continue,
            read => read?,
        };
        return match (count, answer[0]) {
            (0, _) => Err(Error::Closed),
            (_, b'E') => Ok(TlsAnswer::Error),
            (2.., b'S' | b'N') => Ok(TlsAnswer::TooMuch),
            (_, b'S') => Ok(TlsAnswer::Yes),
            (_, b'N') => Ok(TlsAnswer::No),
            (_, other) => Err(Error::Protocol(format!(
                "`{}` is no answer to a request for TLS",
                other.escape_ascii()
            ))),
        };
    }
}

fn would_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// The receive buffer is left to the kernel, which grows it as needed; a fixed size would stop that.
pub(crate) fn tune(socket: TcpStream, keepalive: Keepalive) -> io::Result<TcpStream> {
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    sockopt::set_socket_keepalive(&socket, keepalive.enabled)?;
    if keepalive.enabled {
        sockopt::set_tcp_keepidle(&socket, keepalive.idle)?;
        sockopt::set_tcp_keepintvl(&socket, keepalive.interval)?;
        sockopt::set_tcp_keepcnt(&socket, keepalive.count)?;
    }
    Ok(socket)
}

/// A unix socket blocks in `connect` while the server's queue is full; its send timeout bounds that.
pub(crate) fn connect_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(timeout))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let socket = UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    Ok(socket)
}
