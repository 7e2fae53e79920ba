//! The certificate and key of the HTTP service.

use jiff::Timestamp;
use pgm_proto::server::{ServerTls, ServerTlsFiles};
use tokio_rustls::TlsAcceptor;

use super::HttpError;
use crate::config::MetricsConfig;

/// What is spoken inside TLS.
const PROTOCOL: &str = "http/1.1";

/// How connections are secured.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// Until when the certificate is valid, where that can be read.
    pub(super) not_after: Option<Timestamp>,
}

/// What `config` asks for; `None` for plain HTTP.
pub(super) fn load(config: &MetricsConfig) -> Result<Option<Tls>, HttpError> {
    let half = |present, absent| Err(HttpError::Half { present, absent });
    let files = match (&config.tls_cert_file, &config.tls_key_file) {
        (Some(certificate), Some(key)) => ServerTlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            authorities: None,
        },
        (Some(_), None) => return half("tls_cert_file", "tls_key_file"),
        (None, Some(_)) => return half("tls_key_file", "tls_cert_file"),
        (None, None) => return Ok(None),
    };
    let tls = ServerTls::load(&files, &[PROTOCOL])?;
    Ok(Some(Tls {
        acceptor: TlsAcceptor::from(tls.config()),
        not_after: tls.expires().and_then(|at| Timestamp::try_from(at).ok()),
    }))
}
