//! The certificate that remote clients see, and its change while the daemon runs.
//!
//! New files take effect with the next connection; files that cannot be used change nothing, and the error is the
//! reload's. Connections that are open keep what they began with.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use pgm_proto::TlsError;
use pgm_proto::server::{ServerTls, ServerTlsFiles};
use tracing::{info, warn};

use crate::config::ManagementConfig;
use crate::supervisor::lock;

/// What libpq calls the protocol in ALPN.
pub(super) const PROTOCOL: &str = "postgresql";
/// A certificate that ends so soon is worth a word.
const ENDS_SOON: Duration = Duration::from_hours(14 * 24);

/// The certificate in force; none when clients come without TLS.
#[derive(Debug)]
pub(super) struct CurrentCertificate(Mutex<Option<Arc<ServerTls>>>);

/// Why remote management cannot be offered like this.
#[derive(Debug, thiserror::Error)]
pub enum RemoteTlsError {
    /// One of the two files is not named.
    #[error("management has `{present}` but no `{absent}`")]
    Half {
        /// The setting that is there.
        present: &'static str,
        /// The one that is not.
        absent: &'static str,
    },
    /// There is no TLS, and nobody said that this is meant.
    #[error("management over tcp has no certificate, and connections without tls are not allowed")]
    Missing,
    /// A file cannot be used.
    #[error("{0}")]
    Unusable(#[from] TlsError),
}

impl RemoteTlsError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Half { absent, .. } => format!("set management.{absent}, too"),
            Self::Missing => "set management.tls_cert_file and management.tls_key_file \
                (the manual shows how to make them), or management.allow_plaintext"
                .to_owned(),
            Self::Unusable(_) => "the certificate and the key are PEM files; the key belongs to \
                pgmd's user and has mode 0600, or to root with 0640"
                .to_owned(),
        })
    }
}

impl CurrentCertificate {
    /// What `config` names.
    pub(super) fn load(config: &ManagementConfig) -> Result<Self, RemoteTlsError> {
        Ok(Self(Mutex::new(load(config)?)))
    }

    /// For a new connection.
    pub(super) fn current(&self) -> Option<Arc<ServerTls>> {
        lock(&self.0).clone()
    }

    /// Takes what `config` names now. Whether that is another certificate.
    pub(super) fn reload(&self, config: &ManagementConfig) -> Result<Reloaded, RemoteTlsError> {
        let new = load(config)?;
        let mut current = lock(&self.0);
        let shown =
            |tls: &Option<Arc<ServerTls>>| tls.as_ref().map(|tls| tls.certificate().to_vec());
        let outcome = if shown(&new) == shown(&current) {
            Reloaded::Same
        } else {
            Reloaded::Other
        };
        // Also when the certificate is the same: key and authorities may have changed.
        *current = new;
        Ok(outcome)
    }
}

/// What a reload found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reloaded {
    Same,
    Other,
}

fn load(config: &ManagementConfig) -> Result<Option<Arc<ServerTls>>, RemoteTlsError> {
    let Some(files) = files(config)? else {
        return Ok(None);
    };
    let tls = ServerTls::load(&files, &[PROTOCOL])?;
    tell_expiry(&tls, &files.certificate);
    Ok(Some(Arc::new(tls)))
}

fn files(config: &ManagementConfig) -> Result<Option<ServerTlsFiles>, RemoteTlsError> {
    let half = |present, absent| Err(RemoteTlsError::Half { present, absent });
    match (&config.tls_cert_file, &config.tls_key_file) {
        (Some(certificate), Some(key)) => Ok(Some(ServerTlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            authorities: config.tls_ca_file.clone(),
        })),
        (Some(_), None) => half("tls_cert_file", "tls_key_file"),
        (None, Some(_)) => half("tls_key_file", "tls_cert_file"),
        (None, None) if config.tls_ca_file.is_some() => half("tls_ca_file", "tls_cert_file"),
        (None, None) if config.allow_plaintext => Ok(None),
        (None, None) => Err(RemoteTlsError::Missing),
    }
}

fn tell_expiry(tls: &ServerTls, path: &Path) {
    let Some(expires) = tls.expires() else {
        return;
    };
    let path = path.display();
    match expires.duration_since(SystemTime::now()) {
        Err(_) => warn!("the certificate {path} has expired; clients that check it refuse us"),
        Ok(left) if left < ENDS_SOON => {
            warn!(
                "the certificate {path} expires in {} hours",
                left.as_secs() / 3600
            );
        }
        Ok(left) => info!(
            "the certificate {path} is good for {} days",
            left.as_secs() / 86400
        ),
    }
}
