//! What all commands share: sending one, and taking the server's messages in turn.
//!
//! Requests are encoded by pgwire. Answers are read in place from the [`FrameReader`](crate::frame::FrameReader) by
//! `message.rs`, since they may come from a hostile server and pgwire's decoders take well-formed bodies for granted.
//! Messages that may come at any time (notices, changed parameters, notifications) are dealt with here and never
//! reach a command. After anything but a [`Error::Server`] the connection is closed: it may be in the middle of an
//! answer.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::copy::{CopyDone, CopyFail};
use pgwire::messages::simplequery::Query;

use super::Client;
use crate::frame::{Filled, Frame};
use crate::message::parameter;
use crate::stream::Woken;
use crate::{Error, ServerError, ServerNotice};

/// How long the server may stay silent within an answer, unless the caller says otherwise.
pub const SILENCE_MAX: Duration = Duration::from_mins(5);

/// The server must take what we send within this time.
pub(crate) const SEND_MAX: Duration = Duration::from_mins(1);

/// How soon a wait notices an interruption.
const INTERRUPT_NOTICED: Duration = Duration::from_millis(200);

/// Notices kept per command; later ones are dropped.
const NOTICES_MAX: usize = 1000;

/// Parameters kept; a server that reports more is making them up.
const PARAMETERS_MAX: usize = 1000;

/// How a [`Client`] waits, and what the server said beside its answers.
pub(crate) struct Exchange {
    pub(crate) silence_max: Duration,
    interrupted: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    notices: Vec<ServerNotice>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            silence_max: SILENCE_MAX,
            interrupted: None,
            notices: Vec::new(),
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("silence_max", &self.silence_max)
            .field("notices", &self.notices)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Sets how long the server may stay silent within an answer; [`SILENCE_MAX`] at first.
    ///
    /// BASE_BACKUP is silent while the server makes a checkpoint.
    pub fn set_silence_max(&mut self, silence_max: Duration) {
        self.exchange.silence_max = silence_max;
    }

    /// Makes every wait end with [`Error::Interrupted`] soon after `interrupted` begins to answer true.
    pub fn set_interrupt(&mut self, interrupted: impl Fn() -> bool + Send + Sync + 'static) {
        self.exchange.interrupted = Some(Arc::new(interrupted));
    }

    /// The notices that came since this was last called, 1000 at most.
    pub fn take_notices(&mut self) -> Vec<ServerNotice> {
        std::mem::take(&mut self.exchange.notices)
    }

    /// Sends a simple query.
    pub(crate) fn send_query(&mut self, sql: &str) -> Result<(), Error> {
        if sql.contains('\0') {
            return Err(Error::Protocol(
                "a command cannot contain a zero byte".into(),
            ));
        }
        self.send_message(&Query::new(sql.to_owned()))
    }

    /// Sends the end of our half of a copy stream.
    pub(crate) fn send_copy_done(&mut self) -> Result<(), Error> {
        self.send_message(&CopyDone::new())
    }

    /// Says that our half of a copy stream will not come to its end.
    pub(crate) fn send_copy_fail(&mut self, reason: &str) -> Result<(), Error> {
        self.send_message(&CopyFail::new(reason.replace('\0', " ")))
    }

    /// Sends bytes that are a message already.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self
            .stream
            .write_all(bytes, Some(Instant::now() + SEND_MAX))?)
    }

    fn send_message(&mut self, message: &impl Message) -> Result<(), Error> {
        let mut bytes = BytesMut::new();
        message
            .encode(&mut bytes)
            .map_err(|error| Error::Protocol(error.to_string()))?;
        self.send_bytes(&bytes)
    }

    /// Moves on to the next message that belongs to an answer, waiting for it as long as the server may be silent.
    pub(crate) fn advance(&mut self, silence_max: Duration) -> Result<(), Error> {
        let mut deadline = None;
        while !self.advance_buffered()? {
            self.check_interrupt()?;
            match self.reader.fill(&mut self.stream)? {
                Filled::Bytes(_) => deadline = None,
                Filled::Closed => return Err(Error::Closed),
                Filled::Drained => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + silence_max);
                    self.wait(deadline)?;
                }
            }
        }
        Ok(())
    }

    /// Moves on to the next message of an answer among those received already; `false` when there is none.
    pub(crate) fn advance_buffered(&mut self) -> Result<bool, Error> {
        while self.reader.advance()? {
            let Some(Frame { tag, body }) = self.reader.current() else {
                break;
            };
            match tag {
                b'N' => {
                    if self.exchange.notices.len() < NOTICES_MAX {
                        self.exchange
                            .notices
                            .push(ServerNotice(ServerError::from_body(body)));
                    }
                }
                b'S' => {
                    let (name, value) = parameter(body)?;
                    let known = self.parameters.contains_key(&name);
                    if known || self.parameters.len() < PARAMETERS_MAX {
                        self.parameters.insert(name, value);
                    }
                }
                b'A' => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// The message that `advance` moved to.
    pub(crate) fn current(&self) -> Result<Frame<'_>, Error> {
        self.reader
            .current()
            .ok_or_else(|| Error::Protocol("no message to look at".into()))
    }

    /// Runs one command; whatever leaves the connection in the middle of an answer ends it.
    pub(crate) fn exchange<T>(
        &mut self,
        command: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let answer = command(self);
        if !matches!(answer, Ok(_) | Err(Error::Server(_))) {
            self.stream.close();
        }
        answer
    }

    pub(crate) fn check_interrupt(&self) -> Result<(), Error> {
        match &self.exchange.interrupted {
            Some(interrupted) if interrupted() => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    fn wait(&mut self, deadline: Instant) -> Result<(), Error> {
        let now = Instant::now();
        if now >= deadline {
            return Err(Error::Timeout {
                waiting_for: "the server's answer",
            });
        }
        let until = match self.exchange.interrupted {
            Some(_) => deadline.min(now + INTERRUPT_NOTICED),
            None => deadline,
        };
        match self.stream.wait_readable(Some(until), None)? {
            Woken::Readable | Woken::Wake | Woken::Timeout => Ok(()),
        }
    }
}
