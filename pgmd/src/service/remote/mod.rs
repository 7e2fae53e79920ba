//! Management over TCP: PostgreSQL's own login, then management frames or the admin console.
//!
//! ```text
//! TCP -> (SSLRequest -> TLS) -> startup -> SCRAM-SHA-256(-PLUS) -> ReadyForQuery -> 0x80: frames   Q, P: console
//! ```
//!
//! Nobody is asked anything before TLS unless the configuration allows it, and nobody is believed before SCRAM. A client
//! that has not logged in costs one buffer of at most 10 KB and a place that the next one may take (`gate`); addresses
//! whose logins fail wait (`backoff`); what takes longer than `authentication_timeout` is cut off.
//!
//! Who the users are is the business of `secrets`; what they may do is `caller.rs`'s.

mod backoff;
mod certificate;
mod gate;
mod login;
mod session;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pgm_proto::server::CancelKey;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};

use self::backoff::{Backoff, Source};
use self::certificate::{CurrentCertificate, Reloaded};
use self::gate::{Gate, GateLimits, Ticket};
use crate::config::{Config, ManagementConfig};
use crate::supervisor::{Daemon, lock};

pub use certificate::RemoteTlsError;

/// The pause after a failed accept (no descriptors left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why remote management cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Its certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] RemoteTlsError),
    /// Its address cannot be used.
    #[error("cannot listen on {host} port {port} for remote management: {source}")]
    Listen {
        /// The address as it is configured.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
}

impl RemoteError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tls(error) => error.hint(),
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    Some("another program listens there: choose another management.port".to_owned())
                }
                io::ErrorKind::AddrNotAvailable => Some(
                    "management.host is an address of this host, or * for all of them".to_owned(),
                ),
                _ => None,
            },
        }
    }
}

/// Remote management, listening.
pub struct Remote {
    certificate: CurrentCertificate,
    gate: Mutex<Gate<oneshot::Sender<()>>>,
    backoff: Mutex<Backoff>,
    sessions: AtomicUsize,
    /// What tells a console that its client wants to cancel what runs.
    consoles: Mutex<BTreeMap<CancelKey, Arc<Notify>>>,
    clock: Instant,
}

/// The sockets of [`Remote`].
#[derive(Debug)]
pub struct RemoteListeners(Vec<TcpListener>);

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl Remote {
    /// Reads the certificate and listens, when `config` has a port for it.
    pub async fn bind(config: &Config) -> Result<Option<(Self, RemoteListeners)>, RemoteError> {
        let Some(management) = &config.management else {
            return Ok(None);
        };
        let certificate = CurrentCertificate::load(management)?;
        let listeners = listen(management).await?;
        let remote = Self {
            certificate,
            gate: Mutex::default(),
            backoff: Mutex::default(),
            sessions: AtomicUsize::new(0),
            consoles: Mutex::default(),
            clock: Instant::now(),
        };
        Ok(Some((remote, listeners)))
    }

    /// Reads the certificate again; what changed, for the report of a reload. The old one stays when there is an error.
    pub fn reload(&self, config: &Config) -> Result<Option<String>, RemoteTlsError> {
        let Some(management) = &config.management else {
            return Ok(None);
        };
        Ok(match self.certificate.reload(management)? {
            Reloaded::Same => None,
            Reloaded::Other => Some("the certificate of remote management is another".to_owned()),
        })
    }

    fn enter(&self, source: Source, limits: GateLimits) -> (Ticket, oneshot::Receiver<()>) {
        let (cut, is_cut) = oneshot::channel();
        let (ticket, evicted) = lock(&self.gate).enter(source, cut, limits);
        // Told by its end: the client that has to go.
        drop(evicted);
        (ticket, is_cut)
    }

    fn leave(&self, ticket: Ticket) {
        lock(&self.gate).leave(ticket);
    }

    fn wait(&self, source: Source) -> Duration {
        lock(&self.backoff).wait(source, self.clock.elapsed())
    }

    fn login_failed(&self, source: Source) {
        lock(&self.backoff).failed(source, self.clock.elapsed());
    }

    fn login_succeeded(&self, source: Source) {
        lock(&self.backoff).succeeded(source);
    }

    /// A console that `key` may interrupt, and what tells it.
    fn open_console(&self, key: CancelKey) -> Arc<Notify> {
        let cancelled = Arc::new(Notify::new());
        lock(&self.consoles).insert(key, Arc::clone(&cancelled));
        cancelled
    }

    fn close_console(&self, key: CancelKey) {
        lock(&self.consoles).remove(&key);
    }

    /// Interrupts what runs for the holder of `key`; nothing when nothing does.
    fn cancel(&self, key: CancelKey) {
        if let Some(cancelled) = lock(&self.consoles).get(&key) {
            cancelled.notify_waiters();
        }
    }

    /// A place among those who are logged in, unless all are taken.
    fn place(self: &Arc<Self>, places: usize) -> Option<Place> {
        let taken = |count: usize| (count < places).then_some(count + 1);
        self.sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .ok()?;
        Some(Place(Arc::clone(self)))
    }
}

/// The place of a client that is logged in, until dropped.
struct Place(Arc<Remote>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RemoteListeners {
    /// Where they listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.0.iter().map(TcpListener::local_addr);
        addresses.filter_map(Result::ok).collect()
    }

    /// Serves clients until it is aborted.
    pub async fn serve(self, remote: Arc<Remote>, daemon: Arc<Daemon>) {
        let mut accepting = tokio::task::JoinSet::new();
        for listener in self.0 {
            accepting.spawn(accept(listener, Arc::clone(&remote), Arc::clone(&daemon)));
        }
        while accepting.join_next().await.is_some() {}
    }
}

async fn accept(listener: TcpListener, remote: Arc<Remote>, daemon: Arc<Daemon>) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                admit(&remote, &daemon, stream, address);
            }
            Err(error) => {
                warn!("cannot accept a remote client: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(remote: &Arc<Remote>, daemon: &Arc<Daemon>, stream: TcpStream, address: SocketAddr) {
    let Some(limits) = daemon.config().management.clone() else {
        return;
    };
    let source = Source::of(address.ip());
    let (ticket, cut) = remote.enter(
        source,
        GateLimits {
            total: limits.max_connections,
            per_address: limits.max_connections_per_address,
        },
    );
    let client = login::Client {
        address,
        source,
        ticket,
        limits,
        secrets: daemon.secrets(),
        remote: Arc::clone(remote),
    };
    tokio::spawn(session::run(client, stream, cut, Arc::clone(daemon)));
}

async fn listen(config: &ManagementConfig) -> Result<RemoteListeners, RemoteError> {
    let failed = |source| RemoteError::Listen {
        host: config.host.clone(),
        port: config.port,
        source,
    };
    let mut listeners = Vec::new();
    for address in addresses(&config.host, config.port).await.map_err(failed)? {
        listeners.push(bind(address).map_err(failed)?);
        info!("remote management listens on {address}");
    }
    Ok(RemoteListeners(listeners))
}

async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host == "*" {
        // One socket takes both kinds, where the system has both.
        let any_v6 = SocketAddr::from(([0_u16; 8], port));
        let any_v4 = SocketAddr::from(([0_u8; 4], port));
        let has_v6 = std::net::UdpSocket::bind(SocketAddr::from(([0_u16; 8], 0))).is_ok();
        return Ok(vec![if has_v6 { any_v6 } else { any_v4 }]);
    }
    let mut addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    // A name may stand for an address of a kind that this host does not have.
    let usable =
        |address: &SocketAddr| std::net::UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok();
    if addresses.iter().any(usable) {
        addresses.retain(usable);
    }
    Ok(addresses)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
