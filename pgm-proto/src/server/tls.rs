//! TLS of a server: from files to what a handshake needs.
//!
//! TLS 1.2 or newer through rustls and aws-lc-rs; no session tickets and no early data, as PostgreSQL. The key must be
//! a file that nobody else can read or has made: mode 0600 and our own, or 0640 and root's. With authorities, a client
//! must show a certificate that one of them has signed. Revocation lists are not supported.
//!
//! Files are read once, here; to take new ones, load again and use the new value for the next connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::TlsError;
use crate::conninfo::RootCertificates;
use crate::tls::files;

/// Where a server's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// The certificate, and those between it and its authority: PEM.
    pub certificate: PathBuf,
    /// Its private key: PEM, without a passphrase.
    pub key: PathBuf,
    /// The authorities that vouch for clients, when clients must have certificates: PEM.
    pub authorities: Option<PathBuf>,
}

/// What a server shows to its clients.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificate: Vec<u8>,
    expires: Option<SystemTime>,
}

impl ServerTls {
    /// Reads `files`. `protocols` are those of ALPN, such as `postgresql`; a client that names others is refused.
    pub fn load(files: &ServerTlsFiles, protocols: &[&str]) -> Result<Self, TlsError> {
        let chain = files::certificates(&files.certificate, "server certificate")?;
        let key = files::server_key(&files.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Handshake)?;
        let builder = match &files.authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let trusted = files::trusted(&RootCertificates::File(path.clone()))?;
                let roots = Arc::new(trusted.authorities);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| {
                    TlsError::Settings(format!("{} is unusable: {error}", path.display()))
                })?)
            }
        };
        let certificate = chain
            .first()
            .map(|first| first.to_vec())
            .unwrap_or_default();
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let (certificate, key) = (files.certificate.display(), files.key.display());
            TlsError::Settings(format!(
                "{certificate} with the key {key} is unusable: {error}"
            ))
        })?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Ok(Self {
            config: Arc::new(config),
            expires: expiry(&certificate),
            certificate,
        })
    }

    /// For the acceptor of connections.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The server's own certificate (DER), which logins are bound to.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Until when the certificate is good, where that can be read.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }
}

fn expiry(certificate: &[u8]) -> Option<SystemTime> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let seconds = parsed.tbs_certificate.validity.not_after.to_unix_duration();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn write(folder: &Path) -> ServerTlsFiles {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let files = ServerTlsFiles {
            certificate: folder.join("server.crt"),
            key: folder.join("server.key"),
            authorities: None,
        };
        fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        mode(&files.key, 0o600);
        files
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_certificate_and_its_key_are_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = write(folder.path());
        let tls = ServerTls::load(&files, &["postgresql"]).unwrap();
        assert!(tls.expires().unwrap() > SystemTime::now());
        assert!(!tls.certificate().is_empty());
        assert_eq!(tls.config().alpn_protocols, [b"postgresql".to_vec()]);
        files.authorities = Some(files.certificate.clone());
        assert!(ServerTls::load(&files, &[]).is_ok());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path());
        let refused = |files: &ServerTlsFiles, name: &str| {
            let error = ServerTls::load(files, &[]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        };
        mode(&files.key, 0o644);
        refused(&files, "server.key");
        mode(&files.key, 0o600);
        let elsewhere = tempfile::tempdir().unwrap();
        let mut mixed = files.clone();
        mixed.key = write(elsewhere.path()).key;
        refused(&mixed, "server.crt");
        fs::write(&files.certificate, "nonsense").unwrap();
        refused(&files, "server.crt");
        fs::remove_file(&files.key).unwrap();
        mixed = write(elsewhere.path());
        mixed.authorities = Some(files.key.clone());
        refused(&mixed, "server.key");
    }
}
