//! TLS to a server: from `sslmode` and files to a finished handshake.
//!
//! | sslmode | root certificates given | checked |
//! |---|---|---|
//! | prefer | - | nothing: it may fall back to no encryption anyway |
//! | require | no | nothing: protects from listeners only |
//! | require | yes | the chain, as with verify-ca |
//! | verify-ca | needed | the chain |
//! | verify-full | needed | the chain and the host's name or IP address |
//!
//! TLS 1.2 or newer through rustls and aws-lc-rs. Nothing is read from the home directory on its own: the folder for
//! default files comes with the [`ConnInfo`](crate::ConnInfo). Revocation lists are not supported.

mod end_point;
pub(crate) mod files;
mod verify;

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

pub(crate) use end_point::end_point_binding;

use crate::conninfo::{RootCertificates, TlsSettings};
use crate::stream::{Stream, TlsStream};
use crate::{Error, Peer, SslMode, TlsError};
use verify::{Check, Verifier};

/// The settings of [`TlsSettings`] with their files read.
pub(crate) fn client_config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new(check(settings)?, &provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Handshake)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match client_certificate(settings)? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            TlsError::Settings(format!("the client certificate is unusable: {error}"))
        })?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn check(settings: &TlsSettings) -> Result<Check, TlsError> {
    let default_file = settings
        .directory
        .as_ref()
        .map(|folder| folder.join("root.crt"));
    let default_file = default_file
        .filter(|file| file.exists())
        .map(RootCertificates::File);
    let roots = settings.roots.clone().or(default_file);
    match (settings.mode, roots) {
        (SslMode::Disable | SslMode::Prefer, _) | (SslMode::Require, None) => Ok(Check::Nothing),
        (SslMode::Require | SslMode::VerifyCa, Some(roots)) => {
            Ok(Check::Chain(files::trusted(&roots)?))
        }
        (SslMode::VerifyFull, Some(roots)) => Ok(Check::ChainAndName(files::trusted(&roots)?)),
        (mode @ (SslMode::VerifyCa | SslMode::VerifyFull), None) => {
            Err(TlsError::Settings(format!(
                "sslmode={mode} needs root certificates: give sslrootcert=FILE, or sslrootcert=system"
            )))
        }
    }
}

type ClientCertificate = (
    Vec<rustls::pki_types::CertificateDer<'static>>,
    rustls::pki_types::PrivateKeyDer<'static>,
);

fn client_certificate(settings: &TlsSettings) -> Result<Option<ClientCertificate>, TlsError> {
    let in_folder = |name| settings.directory.as_ref().map(|folder| folder.join(name));
    let certificate = match &settings.certificate {
        Some(named) => named.clone(),
        None => match in_folder("postgresql.crt").filter(|file| file.exists()) {
            Some(default) => default,
            None => return Ok(None),
        },
    };
    let key = settings
        .key
        .clone()
        .or_else(|| in_folder("postgresql.key"))
        .ok_or_else(|| {
            TlsError::Settings(
                "sslcert is given, but its private key is not: give sslkey".to_owned(),
            )
        })?;
    Ok(Some((
        files::certificates(&certificate, "client certificate")?,
        files::private_key(&key)?,
    )))
}

/// Does the handshake on a socket whose server has agreed to TLS.
pub(crate) fn handshake(
    socket: TcpStream,
    config: Arc<ClientConfig>,
    host: &str,
    peer: &Peer,
    deadline: Instant,
) -> Result<Stream, Error> {
    let failed = |source| Error::Tls {
        peer: peer.clone(),
        source: Box::new(source),
    };
    let name = server_name(host, &socket).ok_or_else(|| {
        failed(TlsError::Settings(format!(
            "`{host}` cannot be the name in a certificate"
        )))
    })?;
    let session =
        ClientConnection::new(config, name).map_err(|error| failed(TlsError::Handshake(error)))?;
    let mut tls = Box::new(TlsStream { session, socket });
    tls.finish_handshake(deadline)
        .map_err(|error| match tls_error(&error) {
            Some(source) => failed(source),
            None => Error::from(error),
        })?;
    Ok(Stream::Tls(tls))
}

/// Verification by name needs a valid name; without it the address stands in for a name that is none.
fn server_name(host: &str, socket: &TcpStream) -> Option<ServerName<'static>> {
    let named = ServerName::try_from(host.to_owned()).ok();
    named.or_else(|| socket.peer_addr().ok().map(|address| address.ip().into()))
}

/// What rustls said inside an I/O error.
pub(crate) fn tls_error(error: &io::Error) -> Option<TlsError> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match inner {
        rustls::Error::InvalidCertificate(problem) => TlsError::Certificate(problem.clone()),
        other => TlsError::Handshake(other.clone()),
    })
}

impl TlsStream {
    fn finish_handshake(&mut self, deadline: Instant) -> io::Result<()> {
        while self.session.is_handshaking() {
            self.flush(Some(deadline))?;
            if !self.session.is_handshaking() {
                break;
            }
            match self.session.read_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    if let Err(error) = self.session.process_new_packets() {
                        // The alert tells the server's log why.
                        let _ = self.flush(Some(deadline));
                        return Err(io::Error::new(ErrorKind::InvalidData, error));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    crate::stream::wait_for_bytes(self.socket.as_fd(), deadline)?;
                }
                Err(error) => return Err(error),
            }
        }
        self.flush(Some(deadline))
    }
}
