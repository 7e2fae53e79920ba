//! The log as datagrams: to syslog, or to systemd's journal.
//!
//! ```text
//! syslog    <30>Nov 22 02:34:56 pgmd[4711]: receive prod: streaming from 0/3000000
//! journal   PRIORITY=6\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=pgmd\nSYSLOG_PID=4711\nMESSAGE=receive prod: …\n
//! ```
//!
//! Syslog is written as the C library writes it to `/dev/log` (RFC 3164 without a host), which every syslog daemon and
//! journald understand there; RFC 5424 is for the network. The journal gets its own protocol, so that a message keeps its
//! priority and can be searched by fields; a line never holds a line end, so fields need no lengths. Sending never waits:
//! what a busy daemon does not take at once is lost. A daemon that was restarted is found again.

use std::fmt;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::Level;

/// The facility for daemons.
const FACILITY: u8 = 3;

/// Whose protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Syslog,
    Journal,
}

/// The socket of a log daemon.
#[derive(Debug)]
pub(super) struct Datagrams {
    protocol: Protocol,
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Protocol {
    /// Where its daemon listens.
    pub(super) fn usual_path(self) -> &'static Path {
        Path::new(match self {
            Self::Syslog => "/dev/log",
            Self::Journal => "/run/systemd/journal/socket",
        })
    }
}

impl Datagrams {
    /// To the daemon that listens at `path`, which must be there.
    pub(super) fn open(protocol: Protocol, path: &Path) -> io::Result<Self> {
        Ok(Self {
            protocol,
            path: path.to_owned(),
            socket: Some(connect(path)?),
        })
    }

    pub(super) fn send(&mut self, (level, text): (Level, &str)) -> io::Result<()> {
        let datagram = match self.protocol {
            Protocol::Syslog => syslog(level, text),
            Protocol::Journal => journal(level, text),
        };
        let sent = match &self.socket {
            Some(socket) => socket.send(datagram.as_bytes()),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // The daemon was restarted, and has a new socket.
            Err(_) => {
                self.socket = None;
                let socket = connect(&self.path)?;
                let sent = socket.send(datagram.as_bytes());
                self.socket = Some(socket);
                sent.map(drop)
            }
        }
    }
}

impl fmt::Display for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn syslog(level: Level, text: &str) -> String {
    let priority = FACILITY << 3 | severity(level);
    let time = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
    format!("<{priority}>{time} pgmd[{}]: {text}", std::process::id())
}

fn journal(level: Level, text: &str) -> String {
    // A line end would begin another field; lines have none, and stay so.
    let text = text.replace('\n', " ");
    format!(
        "PRIORITY={}\nSYSLOG_FACILITY={FACILITY}\nSYSLOG_IDENTIFIER=pgmd\nSYSLOG_PID={}\nMESSAGE={text}\n",
        severity(level),
        std::process::id(),
    )
}

/// syslog(3)'s severities.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(daemon: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let length = daemon.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn syslog_hears_priority_time_and_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut log = Datagrams::open(Protocol::Syslog, &path).unwrap();
        log.send((Level::WARN, "be careful")).unwrap();
        let said = heard(&daemon);
        let end = format!(" pgmd[{}]: be careful", std::process::id());
        assert!(said.starts_with("<28>") && said.ends_with(&end), "{said}");
        // `<28>Nov 22 02:34:56`
        assert_eq!(said.len() - end.len(), 4 + 15, "{said}");
    }

    #[test]
    fn the_journal_hears_fields_that_a_message_cannot_forge() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut log = Datagrams::open(Protocol::Journal, &path).unwrap();
        log.send((Level::ERROR, "a\nPRIORITY=0")).unwrap();
        let said = heard(&daemon);
        assert!(said.starts_with("PRIORITY=3\n"), "{said}");
        assert!(said.ends_with("MESSAGE=a PRIORITY=0\n"), "{said}");
        assert_eq!(said.lines().count(), 5, "{said}");
    }

    #[test]
    fn a_daemon_that_is_busy_is_not_waited_for_and_one_that_was_restarted_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut log = Datagrams::open(Protocol::Syslog, &path).unwrap();
        let full = (0..100_000).any(|_| log.send((Level::INFO, "x")).is_err());
        assert!(full, "nobody read, and still everything was taken");
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert!(log.send((Level::INFO, "lost")).is_err());
        let daemon = UnixDatagram::bind(&path).unwrap();
        log.send((Level::INFO, "here again")).unwrap();
        assert!(heard(&daemon).ends_with("here again"));
    }
}
