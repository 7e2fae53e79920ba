//! The answers to START_REPLICATION and TIMELINE_HISTORY, message by message; no I/O here.
//!
//! ```text
//! Idle     -> History: a row                                   -> ReadyForQuery -> Idle
//! Idle     -> Starting: CopyBothResponse -> Streaming
//!             or, if the timeline ends where we start: result set  -> Idle
//! Streaming -> CopyData w (WAL), k (keepalive)
//!           -> CopyDone from the server, answered by ours; or ours first
//!           -> Ending: result set with the next timeline, if the streamed one has ended -> ReadyForQuery -> Idle
//!           -> CommandComplete at once: the server shuts down, and hangs up
//! ```
//!
//! The end of a history's answer is not waited for: what follows may be asked for before it has come.

use std::str::FromStr;

use crate::client::replication::history_file_name;
use crate::message::{Body, fields, unexpected};
use crate::{Error, Lsn, ServerError, TimelineId};

/// `w`, start, end of WAL, time.
pub(super) const WAL_HEADER_BYTES: usize = 1 + 3 * 8;

/// What a message means; the bytes of WAL and of a history file stay in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Skip,
    /// The server has ended its half of the stream; ours is to be ended as well.
    CopyDone,
    Started,
    Wal {
        start: Lsn,
        server_end: Lsn,
    },
    Keepalive {
        server_end: Lsn,
        reply_requested: bool,
    },
    History {
        timeline: TimelineId,
    },
    EndOfTimeline {
        next: TimelineId,
        switch: Lsn,
    },
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Idle,
    History(TimelineId),
    Starting,
    Streaming(OurHalf),
    /// Both halves of the stream have ended.
    Ending,
    /// The server has completed the command within the stream: it shuts down.
    ShuttingDown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OurHalf {
    Open,
    Ended,
}

/// The state of a connection.
#[derive(Debug, Default)]
pub(super) struct Streaming {
    stage: Stage,
    /// The rest of a history's answer has not come yet.
    history_unfinished: bool,
    /// The next timeline and where it begins, when the server has named it.
    next: Option<(TimelineId, Lsn)>,
}

impl Streaming {
    pub(super) fn ask_history(&mut self, timeline: TimelineId) -> Result<(), Error> {
        self.ask(Stage::History(timeline))
    }

    pub(super) fn ask_start(&mut self) -> Result<(), Error> {
        self.next = None;
        self.ask(Stage::Starting)
    }

    /// Whether the server reads status messages.
    pub(super) fn takes_status(&self) -> bool {
        self.stage == Stage::Streaming(OurHalf::Open)
    }

    /// Ends our half; `false` when there is nothing to end.
    pub(super) fn end_by_us(&mut self) -> bool {
        let open = self.takes_status();
        if open {
            self.stage = Stage::Streaming(OurHalf::Ended);
        }
        open
    }

    /// Whether the server may hang up now.
    pub(super) fn may_close(&self) -> bool {
        self.stage == Stage::ShuttingDown
    }

    /// Takes the next message.
    pub(super) fn take(&mut self, tag: u8, body: &[u8]) -> Result<Step, Error> {
        if tag == b'E' {
            return Err(ServerError::from_body(body).into());
        }
        if self.history_unfinished {
            return self.finish_history(tag);
        }
        match (self.stage, tag) {
            (Stage::Streaming(ours), b'd') => copy_data(body, ours),
            (Stage::Streaming(ours), b'c') => {
                self.stage = Stage::Ending;
                Ok(if ours == OurHalf::Open {
                    Step::CopyDone
                } else {
                    Step::Skip
                })
            }
            (Stage::Streaming(OurHalf::Open), b'C') => {
                self.stage = Stage::ShuttingDown;
                Ok(Step::Closed)
            }
            (Stage::Starting, b'W') => {
                self.stage = Stage::Streaming(OurHalf::Open);
                Ok(Step::Started)
            }
            (Stage::History(timeline), b'D') => {
                history(body, timeline)?;
                self.stage = Stage::Idle;
                self.history_unfinished = true;
                Ok(Step::History { timeline })
            }
            (Stage::Starting | Stage::Ending, b'D') => {
                self.next = Some(next_timeline(body)?);
                Ok(Step::Skip)
            }
            (Stage::Starting | Stage::Ending, b'Z') => {
                self.stage = Stage::Idle;
                Ok(match self.next.take() {
                    Some((next, switch)) => Step::EndOfTimeline { next, switch },
                    None => Step::Closed,
                })
            }
            (Stage::History(_) | Stage::Starting | Stage::Ending, b'T' | b'C') => Ok(Step::Skip),
            _ => Err(unexpected(tag, self.waiting_for())),
        }
    }

    fn ask(&mut self, stage: Stage) -> Result<(), Error> {
        if self.stage != Stage::Idle {
            let text = format!(
                "a command cannot be sent while waiting for {}",
                self.waiting_for()
            );
            return Err(Error::Protocol(text));
        }
        self.stage = stage;
        Ok(())
    }

    fn finish_history(&mut self, tag: u8) -> Result<Step, Error> {
        match tag {
            b'C' => Ok(Step::Skip),
            b'Z' => {
                self.history_unfinished = false;
                Ok(Step::Skip)
            }
            _ => Err(unexpected(tag, "the end of TIMELINE_HISTORY")),
        }
    }

    fn waiting_for(&self) -> &'static str {
        match self.stage {
            Stage::Idle => "nothing",
            Stage::History(_) => "a history file",
            Stage::Starting => "the start of the stream",
            Stage::Streaming(_) => "WAL",
            Stage::Ending => "the end of the stream",
            Stage::ShuttingDown => "the server's shutdown",
        }
    }
}

/// Name and content in the row that TIMELINE_HISTORY answers with.
pub(super) fn history(body: &[u8], timeline: TimelineId) -> Result<(&str, &[u8]), Error> {
    let malformed = || Error::Protocol("the answer to TIMELINE_HISTORY is malformed".into());
    let [Some(name), Some(content)] = fields(body)?[..] else {
        return Err(malformed());
    };
    let name = std::str::from_utf8(name).map_err(|_| malformed())?;
    if name == history_file_name(timeline) {
        Ok((name, content))
    } else {
        Err(malformed())
    }
}

fn copy_data(body: &[u8], ours: OurHalf) -> Result<Step, Error> {
    let mut body = Body::new(body, "CopyData");
    match body.u8()? {
        b'w' => {
            let start = Lsn::new(body.u64()?);
            let server_end = Lsn::new(body.u64()?);
            let _time = body.u64()?;
            if start.checked_add(body.rest().len() as u64).is_none() {
                return Err(Error::Protocol(format!(
                    "WAL at {start} goes beyond the last LSN"
                )));
            }
            if body.rest().is_empty() {
                return Ok(Step::Skip);
            }
            Ok(Step::Wal { start, server_end })
        }
        b'k' => {
            let server_end = Lsn::new(body.u64()?);
            let _time = body.u64()?;
            // After our end of the stream there is no way to reply.
            let reply_requested = body.u8()? != 0 && ours == OurHalf::Open;
            Ok(Step::Keepalive {
                server_end,
                reply_requested,
            })
        }
        kind => Err(unexpected(kind, "WAL")),
    }
}

fn next_timeline(body: &[u8]) -> Result<(TimelineId, Lsn), Error> {
    let malformed = || Error::Protocol("the next timeline is malformed".into());
    let [Some(timeline), Some(lsn)] = fields(body)?[..] else {
        return Err(malformed());
    };
    let timeline = parsed(timeline).ok_or_else(malformed)?;
    Ok((timeline, parsed(lsn).ok_or_else(malformed)?))
}

fn parsed<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
