//! A blocking client: over the daemon's unix socket, or over TCP after a login in PostgreSQL's own messages.
//!
//! Every wait has a deadline: connecting and writing, and the silence between two messages (the daemon sends an event
//! at least every second while it works on something long). After an error other than the daemon's own answer the
//! connection is of no further use.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pgm_proto::{ByteStream, ConnInfo, Session};

use crate::error_code::Error;
use crate::event::Event;
use crate::frame::{Frame, FrameError, MessageId};
use crate::place::DaemonPlace;
use crate::request::Request;
use crate::response::Response;

/// How long a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// For a request to be written.
    pub send: Duration,
    /// For the next message of the daemon.
    pub silence: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            send: Duration::from_secs(10),
            silence: Duration::from_mins(1),
        }
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no pgmd answers {place}: {source}")]
    Connect {
        /// Where.
        place: DaemonPlace,
        /// Why not.
        source: io::Error,
    },
    /// The daemon cannot be reached over TCP, or did not let us in.
    #[error("cannot log in to pgmd: {source}")]
    Login {
        /// Why not.
        source: Box<pgm_proto::Error>,
    },
    /// The daemon did not speak in time.
    #[error("pgmd {place} has not spoken for {} seconds", silence.as_secs())]
    Silent {
        /// Where.
        place: DaemonPlace,
        /// How long the client waited.
        silence: Duration,
    },
    /// The connection broke, or what came is not the protocol.
    #[error("the connection to pgmd {place} broke: {source}")]
    Connection {
        /// Where.
        place: DaemonPlace,
        /// What happened.
        source: FrameError,
    },
    /// The daemon answered with an error.
    #[error("{0}")]
    Refused(Error),
}

impl ClientError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run the command as the user that pgmd runs as".to_owned())
            }
            Self::Connect { .. } => Some(
                "start it: pgmd -c FILE (or name the right directory or configuration)".to_owned(),
            ),
            Self::Login { source } => login_hint(source),
            Self::Silent { .. } | Self::Connection { .. } => Some("look at pgmd's log".to_owned()),
            Self::Refused(error) => error.hint.clone(),
        }
    }

    /// Whether the daemon could not be reached at all.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Silent { .. } => true,
            Self::Login { source } => !matches!(
                **source,
                pgm_proto::Error::Refused { .. } | pgm_proto::Error::Authentication { .. }
            ),
            Self::Connection { .. } | Self::Refused(_) => false,
        }
    }
}

/// What the daemon itself advises, or what helps with a daemon, where a PostgreSQL server would need something else.
fn login_hint(error: &pgm_proto::Error) -> Option<String> {
    if let Some(hint) = error.server_error().and_then(|said| said.hint.clone()) {
        return Some(hint);
    }
    match error {
        pgm_proto::Error::Refused { source, .. } if source.sqlstate == "28P01" => Some(
            "check user and password; pgm-cli admin user ls on pgmd's host lists the users"
                .to_owned(),
        ),
        pgm_proto::Error::Connect { source, .. }
            if source.kind() == io::ErrorKind::ConnectionRefused =>
        {
            Some("does pgmd run there, and does its configuration have management.port?".to_owned())
        }
        pgm_proto::Error::Authentication {
            source: pgm_proto::AuthenticationError::ChannelBinding { .. },
            ..
        } => Some(
            "verify the daemon's certificate: --sslmode verify-full --sslrootcert FILE".to_owned(),
        ),
        pgm_proto::Error::Closed => {
            Some("pgmd hung up: is this its management.port? its log tells more".to_owned())
        }
        other => other.hint(),
    }
}

/// One connection to a daemon.
#[derive(Debug)]
pub struct Client {
    place: DaemonPlace,
    stream: Stream,
    deadlines: Deadlines,
}

#[derive(Debug)]
enum Stream {
    Local(UnixStream),
    Remote(Box<ByteStream>),
}

impl Client {
    /// Connects to the daemon that listens on the socket at `path`.
    pub fn connect(path: &Path, deadlines: Deadlines) -> Result<Self, ClientError> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(deadlines.send))?;
            stream.set_read_timeout(Some(deadlines.silence))?;
            Ok(stream)
        };
        let place = DaemonPlace::Socket(path.to_owned());
        match connect() {
            Ok(stream) => Ok(Self {
                place,
                stream: Stream::Local(stream),
                deadlines,
            }),
            Err(source) => Err(ClientError::Connect { place, source }),
        }
    }

    /// Connects to the daemon that listens where `info` says and logs in as `info` says; the database is always
    /// [`DATABASE`](crate::DATABASE).
    pub fn connect_remote(info: &ConnInfo, deadlines: Deadlines) -> Result<Self, ClientError> {
        let info = info.clone().with_database(crate::DATABASE);
        let session = pgm_proto::Client::connect(&info, Session::Sql).map_err(|source| {
            ClientError::Login {
                source: Box::new(source),
            }
        })?;
        let place = DaemonPlace::Remote(session.peer().clone());
        let stream = session.into_byte_stream(deadlines.silence, deadlines.send);
        Ok(Self {
            place,
            stream: Stream::Remote(Box::new(stream)),
            deadlines,
        })
    }

    /// Sends `request` and waits for its answer; events on the way are dropped.
    pub fn call(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.call_with_events(request, |_| {})
    }

    /// Sends `request` and hands every event to `on_event` until the answer arrives.
    pub fn call_with_events(
        &mut self,
        request: &Request,
        mut on_event: impl FnMut(&Event),
    ) -> Result<Response, ClientError> {
        self.send(request)?;
        loop {
            match self.next()? {
                Message::Event(event) => on_event(&event),
                Message::Response(response) => return Ok(*response),
            }
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let frame = Frame::new(MessageId::Request, request);
        frame
            .and_then(|frame| frame.write_to(&mut self.stream))
            .map_err(|source| self.broken(source))
    }

    fn next(&mut self) -> Result<Message, ClientError> {
        let frame = Frame::read_from(&mut self.stream).map_err(|source| self.broken(source))?;
        let message = match frame.id {
            MessageId::Event => frame.message().map(Message::Event),
            MessageId::Response => frame
                .message()
                .map(|answer| Message::Response(Box::new(answer))),
            MessageId::Error => match frame.message() {
                Ok(error) => return Err(ClientError::Refused(error)),
                Err(error) => Err(error),
            },
            MessageId::Request => Err(FrameError::UnknownId(frame.id.byte())),
        };
        message.map_err(|source| self.broken(source))
    }

    fn broken(&self, source: FrameError) -> ClientError {
        let place = self.place.clone();
        match source {
            FrameError::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                ClientError::Silent {
                    place,
                    silence: self.deadlines.silence,
                }
            }
            source => ClientError::Connection { place, source },
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Local(stream) => stream.read(buffer),
            Self::Remote(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Local(stream) => stream.write(bytes),
            Self::Remote(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Local(stream) => stream.flush(),
            Self::Remote(stream) => stream.flush(),
        }
    }
}

enum Message {
    Event(Event),
    Response(Box<Response>),
}
