//! Listening, and the life of one connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::HttpError;
use super::place::{Place, Places};
use super::response::respond;
use super::tls;
use crate::config::MetricsConfig;
use crate::service::facts::Watcher;
use crate::service::listen::listen;
use crate::supervisor::Daemon;

/// How long a request's head may be.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The pause after a failed accept (no descriptors left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a client hears when there is no place and nobody who could go.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The HTTP service, listening.
pub struct HttpServer {
    listeners: Vec<TcpListener>,
    tls: Option<TlsAcceptor>,
    not_after: Option<Timestamp>,
    config: MetricsConfig,
}

impl std::fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpServer").finish_non_exhaustive()
    }
}

impl HttpServer {
    /// Reads certificate and key, and listens.
    pub fn bind(config: &MetricsConfig) -> Result<Self, HttpError> {
        let tls = tls::load(config)?;
        let failed = |source| HttpError::Listen {
            host: config.host.clone(),
            port: config.port,
            source,
        };
        let listeners = listen(&config.host, config.port).map_err(failed)?;
        Ok(Self {
            listeners,
            not_after: tls.as_ref().and_then(|tls| tls.not_after),
            tls: tls.map(|tls| tls.acceptor),
            config: config.clone(),
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter().map(TcpListener::local_addr);
        addresses.filter_map(Result::ok).collect()
    }

    /// Begins to watch the daemon; gives what serves clients until it is dropped.
    pub fn start(
        self,
        daemon: &Arc<Daemon>,
    ) -> Result<impl Future<Output = ()> + use<>, HttpError> {
        let certificates = self.not_after.map(|until| ("metrics", until));
        let watcher = Watcher::start(
            daemon,
            self.config.cache_max_age,
            certificates.into_iter().collect(),
        );
        let watcher = watcher.map_err(HttpError::Watch)?;
        let scheme = self.tls.as_ref().map_or("http", |_| "https");
        for address in self.addresses() {
            info!("overview and metrics are at {scheme}://{address}/");
        }
        let service = Service {
            places: Places::new(self.config.max_connections),
            tls: self.tls,
            timeout: self.config.timeout,
            watcher,
        };
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(accept(listener, service.clone()));
        }
        Ok(async move { while accepting.join_next().await.is_some() {} })
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Service {
    places: Arc<Mutex<Places>>,
    tls: Option<TlsAcceptor>,
    timeout: Duration,
    watcher: Arc<Watcher>,
}

async fn accept(listener: TcpListener, service: Service) {
    // Dropped with this future, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("cannot accept a client of metrics: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some((place, needed)) = Place::take(&service.places) else {
            if service.tls.is_none() {
                // Into an empty buffer; whoever does not read it has lost nothing.
                let _ = stream.try_write(FULL);
            }
            continue;
        };
        let service = service.clone();
        connections.spawn(async move {
            tokio::select! {
                () = service.connection(stream, &place) => {}
                // Before it has asked for anything, somebody else came.
                _ = needed => {}
            }
        });
    }
}

impl Service {
    async fn connection(&self, stream: TcpStream, place: &Place) {
        let Some(tls) = &self.tls else {
            return self.answer(stream, place).await;
        };
        match tokio::time::timeout(self.timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.answer(stream, place).await,
            Ok(Err(error)) => debug!("a client of metrics failed to agree on TLS: {error}"),
            Err(_) => debug!("a client of metrics was too slow to agree on TLS"),
        }
    }

    /// Reads one request and answers it, within twice the timeout.
    async fn answer(&self, stream: impl AsyncRead + AsyncWrite + Unpin, place: &Place) {
        let kept = Mutex::new(None);
        let service = service_fn(|request| {
            *crate::supervisor::lock(&kept) = place.keep();
            let response = respond(&request, || self.watcher.facts());
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        match tokio::time::timeout(self.timeout * 2, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!("a client of metrics was not served: {error}"),
            Err(_) => debug!("a client of metrics was too slow"),
        }
    }
}
