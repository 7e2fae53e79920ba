//! Which host, which address, and when to give up.
//!
//! Hosts are tried in order, and each host's addresses in the resolver's order; each address has `connect_timeout`
//! from the first packet to the first ReadyForQuery. A server that knows the user and does not let it in ends the search,
//! as with libpq: trying the same password elsewhere would hide the mistake. Of TLS there is at most one request
//! for each connection. The system's resolver has its own time limit.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use super::handshake::{Failure, Handshake, Reaction, startup};
use super::login::{Credentials, Transport};
use super::socket::{TlsAnswer, connect_unix, request_tls, tune};
use super::{Client, Session, target};
use crate::conninfo::{ConnInfoError, Host, Place};
use crate::frame::{Filled, FrameError, FrameReader};
use crate::scram::Binding;
use crate::stream::Stream;
use crate::{
    ChannelBinding, ConnInfo, Encryption, Error, Peer, Secret, ServerVersion, SslMode, TlsError,
    passfile, tls,
};

impl Client {
    /// Opens a session with the first of the hosts that will do.
    ///
    /// # Errors
    /// What the host said, or [`Error::NoHost`] when several said no.
    pub fn connect(info: &ConnInfo, session: Session) -> Result<Self, Error> {
        let user = info
            .user
            .as_deref()
            .ok_or(ConnInfoError::Missing { key: "user" })?;
        let local = [Host {
            place: Place::local_socket(),
            address: None,
            port: ConnInfo::PORT,
        }];
        let hosts = if info.hosts.is_empty() {
            &local[..]
        } else {
            &info.hosts
        };
        let mut attempts = Vec::new();
        for pass in target::passes(info.target) {
            attempts.clear();
            for host in hosts {
                let addresses = match addresses(host) {
                    Ok(addresses) => addresses,
                    Err(error) => {
                        attempts.push(error);
                        continue;
                    }
                };
                for peer in addresses {
                    let attempt = Attempt {
                        info,
                        user,
                        session,
                        host,
                        peer,
                    };
                    match attempt
                        .connect()
                        .and_then(|client| target::check(client, *pass))
                    {
                        Ok(client) => return Ok(client),
                        Err(error) if ends_search(&error) => return Err(error),
                        Err(error) => attempts.push(error),
                    }
                }
            }
        }
        match attempts.len() {
            1 => Err(attempts.remove(0)),
            _ => Err(Error::NoHost { attempts }),
        }
    }
}

fn ends_search(error: &Error) -> bool {
    match error {
        Error::Authentication { .. } => true,
        Error::Refused { source, .. } => source.sqlstate.starts_with("28"),
        _ => false,
    }
}

/// Where `host` may listen, at least one place.
fn addresses(host: &Host) -> Result<Vec<Peer>, Error> {
    let name = match &host.place {
        Place::Unix(folder) => {
            return Ok(vec![Peer::Unix(
                folder.join(format!(".s.PGSQL.{}", host.port)),
            )]);
        }
        Place::Tcp(name) => name,
    };
    let peer = |address: IpAddr| Peer::Tcp {
        host: name.clone(),
        address: Some(address),
        port: host.port,
    };
    if let Some(address) = host.address {
        return Ok(vec![peer(address)]);
    }
    let resolved = (name.as_str(), host.port).to_socket_addrs();
    let failed = |source| Error::Resolve {
        host: name.clone(),
        source,
    };
    let mut addresses: Vec<_> = resolved
        .map_err(failed)?
        .map(|found| peer(found.ip()))
        .collect();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(failed(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        )));
    }
    Ok(addresses)
}

/// One try to reach one address.
struct Attempt<'a> {
    info: &'a ConnInfo,
    user: &'a str,
    session: Session,
    host: &'a Host,
    peer: Peer,
}

impl Attempt<'_> {
    fn connect(self) -> Result<Client, Error> {
        let deadline = Instant::now() + self.info.connect_timeout;
        let stream = self.open(deadline)?;
        let encryption = if matches!(stream, Stream::Tls(_)) {
            Encryption::Tls
        } else {
            Encryption::None
        };
        self.log_in(stream, encryption, deadline)
            .map_err(|error| match error {
                // A server that dislikes our certificate says so only after TLS 1.3's handshake.
                Error::Io(error) => match tls::tls_error(&error) {
                    Some(source) => Error::Tls {
                        peer: self.peer.clone(),
                        source: Box::new(source),
                    },
                    None => Error::Io(error),
                },
                other => other,
            })
    }

    /// A connected stream, encrypted as `sslmode` asks.
    fn open(&self, deadline: Instant) -> Result<Stream, Error> {
        let failed = |source| Error::Connect {
            peer: self.peer.clone(),
            source,
        };
        let (address, port) = match &self.peer {
            Peer::Unix(path) => {
                return connect_unix(path, self.info.connect_timeout)
                    .map(Stream::Unix)
                    .map_err(failed);
            }
            Peer::Tcp { address, port, .. } => (address.unwrap_or([127, 0, 0, 1].into()), *port),
        };
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        let socket = TcpStream::connect_timeout(&SocketAddr::new(address, port), left)
            .and_then(|socket| tune(socket, self.info.keepalive))
            .map_err(failed)?;
        match self.info.tls.mode {
            SslMode::Disable => Ok(Stream::Tcp(socket)),
            _ => self.encrypt(socket, deadline),
        }
    }

    fn encrypt(&self, mut socket: TcpStream, deadline: Instant) -> Result<Stream, Error> {
        let failed = |source| Error::Tls {
            peer: self.peer.clone(),
            source: Box::new(source),
        };
        let config = tls::client_config(&self.info.tls).map_err(failed)?;
        match request_tls(&mut socket, deadline)? {
            TlsAnswer::Yes => {
                let name = self.host.place.to_string();
                tls::handshake(socket, config, &name, &self.peer, deadline)
            }
            TlsAnswer::No if self.info.tls.mode == SslMode::Prefer => Ok(Stream::Tcp(socket)),
            TlsAnswer::No => Err(failed(TlsError::NotSupported {
                sslmode: self.info.tls.mode,
            })),
            TlsAnswer::Error => Err(failed(TlsError::RequestRefused)),
            TlsAnswer::TooMuch => Err(failed(TlsError::UnencryptedData)),
        }
    }

    fn log_in(
        &self,
        mut stream: Stream,
        encryption: Encryption,
        deadline: Instant,
    ) -> Result<Client, Error> {
        let startup = startup(self.info, self.user, self.session)?;
        stream.write_all(&startup, Some(deadline))?;
        let mut reader = FrameReader::new();
        let mut handshake = Handshake::new(self.credentials(&stream, encryption));
        loop {
            let reaction = {
                read_frame(&mut reader, &mut stream, deadline)?;
                let frame = reader.current().ok_or(Error::Closed)?;
                handshake
                    .handle(frame)
                    .map_err(|failure| self.error(failure, encryption))?
            };
            match reaction {
                Reaction::Wait => {}
                Reaction::Send(answer) => stream.write_all(&answer, Some(deadline))?,
                Reaction::Accepted => reader.accept_long_messages(),
                Reaction::Ready(parameters) => {
                    let version = parameters.get("server_version");
                    let version = version.and_then(|text| ServerVersion::from_parameter(text));
                    let version = version.ok_or_else(|| {
                        Error::Protocol("the server does not report its version".to_owned())
                    })?;
                    return Ok(Client {
                        stream,
                        reader,
                        parameters,
                        version,
                        backend: handshake.backend(),
                        session: self.session,
                        peer: self.peer.clone(),
                        exchange: super::Exchange::default(),
                    });
                }
            }
        }
    }

    fn credentials(&self, stream: &Stream, encryption: Encryption) -> Credentials {
        let binding = match (stream, self.info.tls.binding) {
            (_, ChannelBinding::Disable) => None,
            (Stream::Tls(tls), _) => {
                let chain = tls.session.peer_certificates().unwrap_or_default();
                chain
                    .first()
                    .and_then(|certificate| tls::end_point_binding(certificate))
            }
            _ => None,
        };
        Credentials {
            user: self.user.to_owned(),
            password: self
                .info
                .password
                .clone()
                .or_else(|| self.password_from_file()),
            policy: self.info.tls.binding,
            binding: binding.map_or(Binding::Unavailable, Binding::EndPoint),
            encryption,
            transport: match self.peer {
                Peer::Unix(_) => Transport::Local,
                Peer::Tcp { .. } => Transport::Network,
            },
        }
    }

    fn password_from_file(&self) -> Option<Secret> {
        let host = match &self.host.place {
            Place::Unix(folder) if is_default_folder(folder) => "localhost".to_owned(),
            place => place.to_string(),
        };
        let database = self.database();
        let lookup = passfile::Lookup {
            host: &host,
            port: self.host.port,
            database,
            user: self.user,
        };
        passfile::password(self.info.passfile.as_deref()?, lookup)
    }

    fn database(&self) -> &str {
        match self.session {
            Session::PhysicalReplication => "replication",
            Session::Sql => self.info.database.as_deref().unwrap_or(self.user),
        }
    }

    fn error(&self, failure: Failure, encryption: Encryption) -> Error {
        let (peer, user) = (Box::new(self.peer.clone()), self.user.to_owned());
        match failure {
            Failure::Refused(source) => Error::Refused {
                peer,
                user,
                database: self.database().to_owned(),
                encryption,
                source,
            },
            Failure::Authentication(source) => Error::Authentication { peer, user, source },
            Failure::Protocol(problem) => Error::Protocol(problem),
        }
    }
}

fn is_default_folder(folder: &Path) -> bool {
    ["/var/run/postgresql", "/run/postgresql", "/tmp"]
        .iter()
        .any(|known| folder == Path::new(known))
}

/// Waits until `reader` has a complete frame.
fn read_frame(
    reader: &mut FrameReader,
    stream: &mut Stream,
    deadline: Instant,
) -> Result<(), Error> {
    while !reader
        .advance()
        .map_err(|error: FrameError| Error::Protocol(error.to_string()))?
    {
        // A server that drips bytes for ever never lets a wait time out.
        if Instant::now() >= deadline {
            return Err(Error::Timeout {
                waiting_for: "the login to finish",
            });
        }
        match reader.fill(stream)? {
            Filled::Bytes(_) => {}
            Filled::Closed => return Err(Error::Closed),
            Filled::Drained => {
                if stream.wait_readable(Some(deadline), None)? == crate::Woken::Timeout {
                    return Err(Error::Timeout {
                        waiting_for: "the login to finish",
                    });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
