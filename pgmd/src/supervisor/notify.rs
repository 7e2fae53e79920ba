//! Tells systemd how we are (sd_notify): datagrams to the socket that `NOTIFY_SOCKET` names, and nothing without it.
//!
//! `READY=1` when everything listens, `RELOADING=1` around a reload (with the time, as `Type=notify-reload` wants it),
//! `STOPPING=1` at the end, and `WATCHDOG=1` twice in the interval that `WATCHDOG_USEC` asks for: from the loop that starts
//! and ends everything, so that a supervisor that hangs is restarted. Sending never waits.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::debug;

/// What systemd tells us, and workers need not know.
pub(super) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The line to systemd.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    /// Half of the watchdog's interval.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        Self::new(
            variable("NOTIFY_SOCKET").as_deref(),
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
        )
    }

    fn new(socket: Option<&str>, watchdog_usec: Option<&str>, watchdog_pid: Option<&str>) -> Self {
        let socket = socket.and_then(|name| {
            let connected = connect(name);
            if let Err(error) = &connected {
                debug!("NOTIFY_SOCKET {name} cannot be used: {error}");
            }
            connected.ok()
        });
        let ours = std::process::id().to_string();
        let for_us = watchdog_pid.is_none_or(|pid| pid == ours);
        let interval = watchdog_usec
            .filter(|_| for_us && socket.is_some())
            .and_then(|microseconds| microseconds.parse().ok())
            .filter(|microseconds| *microseconds > 0)
            .map(Duration::from_micros);
        Self {
            socket,
            watchdog: interval.map(|interval| interval / 2),
        }
    }

    /// Everything listens.
    pub(super) fn ready(&self, status: &str) {
        self.send(&format!(
            "READY=1\nSTATUS={status}\nMAINPID={}\n",
            std::process::id()
        ));
    }

    /// A reload begins; [`Notifier::ready`] ends it.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\n"));
    }

    /// The end begins.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping in order\n");
    }

    /// We are alive.
    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1\n");
    }

    /// Returns when it is time to say that we are alive; never without a watchdog.
    pub(super) async fn heartbeat(&self) {
        match self.watchdog {
            Some(pause) => tokio::time::sleep(pause).await,
            None => std::future::pending().await,
        }
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            debug!("systemd does not listen: {error}");
        }
    }
}

fn connect(name: &str) -> std::io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_systemd_nothing_is_said_and_nothing_is_due() {
        let notifier = Notifier::new(None, Some("1000"), None);
        assert!(notifier.socket.is_none() && notifier.watchdog.is_none());
        notifier.ready("x");
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let socket = path.to_str();
        let pause = |pid: Option<&str>| Notifier::new(socket, Some("30000000"), pid).watchdog;
        assert_eq!(pause(Some("1")), None);
        assert_eq!(pause(None), Some(Duration::from_secs(15)));
        let ours = std::process::id().to_string();
        assert_eq!(pause(Some(&ours)), Some(Duration::from_secs(15)));
        let notifier = Notifier::new(socket, Some("nonsense"), None);
        assert_eq!(notifier.watchdog, None);
        notifier.reloading();
        let mut bytes = [0; 100];
        let length = systemd.recv(&mut bytes).unwrap();
        let said = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert!(said.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said}");
    }

    #[test]
    fn a_socket_without_a_file_is_found() {
        let name = format!("pgmd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::new(Some(&format!("@{name}")), None, None).alive();
        let mut bytes = [0; 100];
        let length = systemd.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"WATCHDOG=1\n");
    }
}
