//! From the startup message to the first ReadyForQuery: a value without I/O.
//!
//! Frames go in, answers come out. Whatever a server (or what pretends to be one) sends, the number of messages and
//! the memory they take are bounded here, their length by the [`FrameReader`](crate::frame::FrameReader), and the time by
//! the caller. Follows the manual's 55.2.1, "Start-up".

use std::collections::BTreeMap;

use bytes::BytesMut;
use pgwire::messages::startup::{ParameterStatus, Startup};
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};

use super::Session;
use super::login::{Credentials, Login};
use crate::frame::Frame;
use crate::{AuthenticationError, ConnInfo, Error, ServerError};

/// A server sends about 15 parameters and a handful of notices; a pooler a few more.
const MESSAGES_MAX: u32 = 500;

/// The startup message for `info`.
pub(crate) fn startup(info: &ConnInfo, user: &str, session: Session) -> Result<BytesMut, Error> {
    let mut message = Startup::new();
    let mut set = |name: &str, value: &str| {
        message.parameters.insert(name.to_owned(), value.to_owned());
    };
    set("user", user);
    set("client_encoding", "UTF8");
    match session {
        Session::PhysicalReplication => set("replication", "true"),
        Session::Sql => {
            set("database", info.database.as_deref().unwrap_or(user));
            set("DateStyle", "ISO");
        }
    }
    if let Some(name) = &info.application_name {
        set("application_name", name);
    }
    if let Some(options) = &info.options {
        set("options", options);
    }
    let mut bytes = BytesMut::new();
    message
        .encode(&mut bytes)
        .map_err(|error| Error::Protocol(format!("the startup message is too long: {error}")))?;
    Ok(bytes)
}

pub(crate) struct Handshake {
    login: Login,
    parameters: BTreeMap<String, String>,
    /// The server's process for this session.
    backend: Option<u32>,
    messages: u32,
}

/// What to do after a message.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Wait for the next one.
    Wait,
    /// Send this and wait.
    Send(BytesMut),
    /// The server has accepted us; long messages are fine from now on.
    Accepted,
    /// The session is ready for the first command.
    Ready(BTreeMap<String, String>),
}

/// Why a handshake cannot go on.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Box<ServerError>),
    Authentication(AuthenticationError),
    Protocol(String),
}

impl Handshake {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            login: Login::new(credentials),
            parameters: BTreeMap::new(),
            backend: None,
            messages: 0,
        }
    }

    /// The server's process for this session, as it says.
    pub(crate) fn backend(&self) -> Option<u32> {
        self.backend
    }

    /// Takes the server's next message.
    pub(crate) fn handle(&mut self, frame: Frame<'_>) -> Result<Reaction, Failure> {
        self.messages += 1;
        if self.messages > MESSAGES_MAX {
            return Err(Failure::Protocol(format!(
                "more than {MESSAGES_MAX} messages before ready"
            )));
        }
        match (frame.tag, self.login.is_done()) {
            (b'E', _) => Err(Failure::Refused(Box::new(ServerError::from_body(
                frame.body,
            )))),
            (b'N', _) => {
                tracing::debug!(notice = %ServerError::from_body(frame.body), "server notice");
                Ok(Reaction::Wait)
            }
            (b'R', false) => self.authentication(frame),
            (b'S', true) => {
                let status: ParameterStatus = decode(frame)?;
                self.parameters.insert(status.name, status.value);
                Ok(Reaction::Wait)
            }
            // An offer of an older protocol, which we speak anyway.
            (b'v', false) => Ok(Reaction::Wait),
            // Of the key to cancel queries with, which nothing here does, the process is of interest.
            (b'K', true) => {
                let process = frame.body.first_chunk();
                self.backend = process.map(|bytes| u32::from_be_bytes(*bytes));
                Ok(Reaction::Wait)
            }
            (b'Z', true) => Ok(Reaction::Ready(std::mem::take(&mut self.parameters))),
            (tag, _) => Err(Failure::Protocol(format!(
                "unexpected message `{}` during login",
                tag.escape_ascii()
            ))),
        }
    }

    fn authentication(&mut self, frame: Frame<'_>) -> Result<Reaction, Failure> {
        let code = frame
            .body
            .first_chunk()
            .map(|code| u32::from_be_bytes(*code));
        let method = match code {
            Some(7 | 8) => "GSSAPI",
            Some(9) => "SSPI",
            Some(5) if frame.body.len() < 8 => return Err(cut_off(frame)),
            Some(_) => "",
            None => return Err(cut_off(frame)),
        };
        if !method.is_empty() {
            let method = method.to_owned();
            return Err(Failure::Authentication(AuthenticationError::Unsupported {
                method,
            }));
        }
        let answer = self
            .login
            .handle(decode(frame)?)
            .map_err(Failure::Authentication)?;
        Ok(match answer {
            Some(answer) => Reaction::Send(answer),
            None if self.login.is_done() => Reaction::Accepted,
            None => Reaction::Wait,
        })
    }
}

/// Decodes a frame whose body is known to be long enough for the fixed part of `M`.
fn decode<M: Message>(frame: Frame<'_>) -> Result<M, Failure> {
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = false;
    let mut body = BytesMut::from(frame.body);
    M::decode_body(&mut body, frame.body.len() + 4, &context)
        .map_err(|error| Failure::Protocol(error.to_string()))
}

fn cut_off(frame: Frame<'_>) -> Failure {
    Failure::Protocol(format!(
        "message `{}` is too short",
        frame.tag.escape_ascii()
    ))
}

#[cfg(test)]
mod tests;
