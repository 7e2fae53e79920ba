//! One client from its first byte to its login: the shell around [`Handshake`], which knows no sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pgm_mgmt::Role;
use pgm_proto::ScramIterations;
use pgm_proto::server::{
    Encryption, Handshake, HandshakeOptions, Login, MockSecret, Next, PlainText, Refusal, ServerTls,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Remote;
use super::backoff::Source;
use super::certificate::PROTOCOL;
use super::gate::Ticket;
use super::stream::{Stream, write, write_and_end};
use crate::config::ManagementConfig;
use crate::secrets::LoadedSecrets;

/// How much is read at once before a login.
const CHUNK_BYTES: usize = 2048;
/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// A client and what holds for it.
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) source: Source,
    pub(super) ticket: Ticket,
    pub(super) limits: ManagementConfig,
    pub(super) secrets: Arc<LoadedSecrets>,
    pub(super) remote: Arc<Remote>,
}

/// A client that has logged in.
pub(super) struct LoggedIn {
    pub(super) stream: Stream,
    pub(super) login: Login<Role>,
    pub(super) tls: &'static str,
}

/// Why a client did not log in.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was told no.
    Refused {
        user: Option<String>,
        refusal: Refusal,
    },
    /// It is gone, or does not speak TLS.
    Gone(io::Error),
    /// It wanted a query to be cancelled, or said nothing.
    Nothing,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl Client {
    /// Takes the client through its login.
    pub(super) async fn log_in(&self, socket: TcpStream) -> Result<LoggedIn, Failure> {
        socket.set_nodelay(true)?;
        let certificate = self.remote.certificate.current();
        let mut first = [0; 1];
        if socket.peek(&mut first).await? == 0 {
            return Err(Failure::Nothing);
        }
        match certificate {
            Some(tls) if first[0] == TLS_HANDSHAKE => {
                let stream = encrypt(socket, &tls).await?;
                if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL.as_bytes()) {
                    let text = "a connection that begins with TLS must name postgresql in ALPN";
                    return Err(Failure::Gone(io::Error::other(text)));
                }
                let handshake = self.handshake(Encryption::Begun, Some(&tls));
                self.log_in_over(Box::new(stream), handshake, "direct TLS")
                    .await
            }
            Some(tls) => self.log_in_plainly(socket, Some(&tls)).await,
            None => self.log_in_plainly(socket, None).await,
        }
    }

    /// Without TLS at first.
    async fn log_in_plainly(
        &self,
        mut socket: TcpStream,
        tls: Option<&ServerTls>,
    ) -> Result<LoggedIn, Failure> {
        let encryption = match tls {
            Some(_) => Encryption::Offered,
            None => Encryption::Unavailable,
        };
        let mut handshake = self.handshake(encryption, tls);
        let next = self.advance(&mut socket, &mut handshake).await?;
        match (next, tls) {
            (Advanced::BeginTls, Some(tls)) => {
                let stream = encrypt(socket, tls).await?;
                handshake.encrypted();
                self.log_in_over(Box::new(stream), handshake, "TLS").await
            }
            (Advanced::Accepted(login), _) => Ok(LoggedIn {
                stream: Box::new(socket),
                login,
                tls: "no TLS",
            }),
            (Advanced::BeginTls, None) => Err(Failure::Nothing),
        }
    }

    async fn log_in_over(
        &self,
        mut stream: Stream,
        mut handshake: Handshake<Role>,
        tls: &'static str,
    ) -> Result<LoggedIn, Failure> {
        match self.advance(&mut stream, &mut handshake).await? {
            Advanced::Accepted(login) => Ok(LoggedIn { stream, login, tls }),
            Advanced::BeginTls => Err(Failure::Nothing),
        }
    }

    fn handshake(&self, encryption: Encryption, tls: Option<&ServerTls>) -> Handshake<Role> {
        let plain_text = if self.limits.allow_plaintext {
            PlainText::Allowed
        } else {
            PlainText::Refused
        };
        Handshake::new(HandshakeOptions {
            encryption,
            plain_text,
            certificate: tls.map(|tls| tls.certificate().to_vec()),
            mock_secret: MockSecret::new(*self.secrets.mock.expose()),
            iterations: ScramIterations::new(self.limits.scram_iterations).unwrap_or_default(),
        })
    }

    /// Reads and answers until TLS has to begin or the client is in.
    async fn advance(
        &self,
        stream: &mut (impl super::stream::Duplex + ?Sized),
        handshake: &mut Handshake<Role>,
    ) -> Result<Advanced, Failure> {
        let mut stream = stream;
        let find = |user: &str| {
            let admin = self.secrets.admins.find(user)?;
            Some((admin.verifier.clone(), admin.role))
        };
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let count = stream.read(&mut chunk).await?;
            if count == 0 {
                return Err(Failure::Nothing);
            }
            let step = handshake.receive(&chunk[..count], find);
            match step.next {
                Next::Refused { user, refusal } => {
                    write_and_end(&mut stream, &step.reply).await;
                    return Err(Failure::Refused { user, refusal });
                }
                Next::Cancelled(key) => {
                    self.remote.cancel(key);
                    return Err(Failure::Nothing);
                }
                Next::Read => write(&mut stream, &step.reply).await?,
                Next::BeginTls => {
                    write(&mut stream, &step.reply).await?;
                    return Ok(Advanced::BeginTls);
                }
                Next::Accepted(login) => {
                    write(&mut stream, &step.reply).await?;
                    return Ok(Advanced::Accepted(login));
                }
            }
        }
    }
}

enum Advanced {
    BeginTls,
    Accepted(Login<Role>),
}

async fn encrypt(socket: TcpStream, tls: &ServerTls) -> io::Result<TlsStream<TcpStream>> {
    TlsAcceptor::from(tls.config()).accept(socket).await
}
