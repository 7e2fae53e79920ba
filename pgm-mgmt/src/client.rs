//! A blocking client over the daemon's unix socket.
//!
//! Every wait has a deadline: connecting and writing, and the silence between two messages (the daemon sends an event
//! at least every second while it works on something long). After an error other than the daemon's own answer the
//! connection is of no further use.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error_code::Error;
use crate::event::Event;
use crate::frame::{Frame, FrameError, MessageId};
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
    #[error("no pgmd answers on {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The daemon did not speak in time.
    #[error("pgmd on {path} has not spoken for {} seconds", silence.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long the client waited.
        silence: Duration,
    },
    /// The connection broke, or what came is not the protocol.
    #[error("the connection to pgmd on {path} broke: {source}")]
    Connection {
        /// The socket.
        path: PathBuf,
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
            Self::Silent { .. } | Self::Connection { .. } => Some("look at pgmd's log".to_owned()),
            Self::Refused(error) => error.hint.clone(),
        }
    }
}

/// One connection to a daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
    deadlines: Deadlines,
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
        match connect() {
            Ok(stream) => Ok(Self {
                path: path.to_owned(),
                stream,
                deadlines,
            }),
            Err(source) => Err(ClientError::Connect {
                path: path.to_owned(),
                source,
            }),
        }
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
        let path = self.path.clone();
        match source {
            FrameError::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                ClientError::Silent {
                    path,
                    silence: self.deadlines.silence,
                }
            }
            source => ClientError::Connection { path, source },
        }
    }
}

enum Message {
    Event(Event),
    Response(Box<Response>),
}
