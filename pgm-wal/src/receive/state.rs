//! The conversation with a server, without I/O or clock: events go in, actions come out.
//!
//! ```text
//! ExpectConnection -> ExpectHistory -> ExpectStarted -> Streaming -> ExpectClosed -> Ended
//!                          ^                               |
//!                          +------- end of timeline -------+
//! ```
//!
//! Invariants: no WAL of a timeline is asked for before its history file is stored; WAL is continuous from the start,
//! or the conversation ends; a flush position is reported only after the sync it came from.
//!
//! When the socket is drained but the server said that it has more, the sync waits for a moment: nobody can be waiting
//! for a position in the middle of what the server is sending, and catching up would otherwise sync at each pause.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pgm_proto::{Lsn, Outgoing, TimelineId};

use super::feedback::{self, Ask, Due, Feedback};
use super::start::{self, Facts, Start};
use super::{ReceiveOptions, ReceiveState};
use crate::durable::DurableLsn;
use crate::error::ReceiveError;
use crate::history::History;
use crate::segment::SegmentSize;

/// At most this much is written without a sync.
const UNSYNCED_BYTES_MAX: u64 = 16 << 20;
/// How long a sync waits for the rest of what the server has.
const SYNC_PATIENCE: Duration = Duration::from_millis(10);
/// How long the server may take to end the stream.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event<'a> {
    /// The server answered, and is the spool's.
    Connected(&'a Facts),
    /// The history that was asked for is in the spool.
    HistoryStored(&'a History),
    /// Streaming has begun.
    Started,
    /// WAL arrived, and is written when this returns without an error.
    Wal {
        start: Lsn,
        server_end: Lsn,
        bytes: u64,
    },
    /// A sign of life.
    Keepalive { server_end: Lsn, ask: Ask },
    /// The timeline ends.
    EndOfTimeline { next: TimelineId, switch: Lsn },
    /// The server ended the stream.
    Closed,
    /// There is nothing more to receive at the moment.
    Drained(Instant),
    /// A wait is over, and nothing came.
    TimedOut,
    /// Everything up to here is on disk.
    Synced(DurableLsn),
    /// We are to stop.
    Cancelled(Instant),
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send this.
    Send(Outgoing),
    /// Prepare the segment that begins here.
    Begin(Start),
    /// Sync, then say [`Event::Synced`].
    Sync,
    /// Report the positions: [`Machine::status`].
    Report(Ask),
    /// Leave the timeline, whose WAL ends at the switch.
    Leave {
        timeline: TimelineId,
        next: TimelineId,
        switch: Lsn,
    },
    /// Wait for the socket, for this long at most.
    Wait(Duration),
    /// The conversation is over.
    Stop(Stop),
}

/// How a conversation ends in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// We wanted it.
    Cancelled,
    /// The server ended it: it shuts down.
    ServerClosed,
}

/// The conversation.
#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    feedback: Feedback,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
enum State {
    ExpectConnection,
    ExpectHistory { timeline: TimelineId, then: Then },
    ExpectStarted { start: Start, size: SegmentSize },
    Streaming(Stream),
    ExpectClosed { stream: Stream, deadline: Instant },
    Ended,
}

/// What a history was asked for.
#[derive(Debug, Clone)]
enum Then {
    /// To find the start.
    Choose(Facts),
    /// Only to have it before the timeline's WAL.
    Begin(Start, SegmentSize),
    /// To go on after the end of a timeline.
    Follow {
        left: TimelineId,
        switch: Lsn,
        size: SegmentSize,
    },
}

/// A stream of WAL.
#[derive(Debug, Clone, Copy)]
struct Stream {
    timeline: TimelineId,
    size: SegmentSize,
    start: Lsn,
    written: Lsn,
    server_end: Lsn,
    durable: Option<DurableLsn>,
    /// The durable end that was reported last.
    reported: Lsn,
}

impl Machine {
    pub(crate) fn new(options: &ReceiveOptions) -> Self {
        Self {
            state: State::ExpectConnection,
            feedback: Feedback::new(options.status_interval, options.receiver_timeout),
            actions: VecDeque::with_capacity(16),
        }
    }

    /// The next thing to do; `None` when more must be received first.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What observers are told.
    pub(crate) fn public_state(&self) -> ReceiveState {
        match self.state {
            State::ExpectConnection => ReceiveState::Connecting,
            State::ExpectHistory { .. } | State::ExpectStarted { .. } => ReceiveState::Starting,
            State::Streaming(_) => ReceiveState::Streaming,
            State::ExpectClosed { .. } => ReceiveState::Stopping,
            State::Ended => ReceiveState::Disconnected,
        }
    }

    /// Where the WAL that is being asked for, or received, goes on; for errors of the server.
    pub(crate) fn position(&self) -> Option<(TimelineId, Lsn)> {
        match &self.state {
            State::ExpectStarted { start, .. } => Some((start.timeline, start.lsn)),
            State::Streaming(stream) => Some((stream.timeline, stream.written)),
            _ => None,
        }
    }

    /// The message that reports the positions.
    pub(crate) fn status(&mut self, ask: Ask) -> Option<Outgoing> {
        let stream = self.stream().ok()?;
        stream.reported = stream.durable_end();
        let message = feedback::status(stream.written, stream.durable, ask);
        self.feedback.sent();
        Some(message)
    }

    /// Refuses a history file that was not asked for, before it is stored.
    pub(crate) fn expect_history(&mut self, answered: TimelineId) -> Result<(), ReceiveError> {
        self.feedback.heard();
        match &self.state {
            State::ExpectHistory { timeline, .. } if *timeline == answered => Ok(()),
            _ => Err(ReceiveError::Unexpected(
                "a history file that was not asked for",
            )),
        }
    }

    /// Takes in what happened; afterwards [`Machine::next_action`] says what is to be done.
    pub(crate) fn handle(&mut self, event: Event<'_>) -> Result<(), ReceiveError> {
        match event {
            Event::Wal {
                start,
                server_end,
                bytes,
            } => return self.wal(start, server_end, bytes),
            Event::Drained(now) => return self.drained(now),
            Event::TimedOut => self.sync_and_report(),
            Event::Synced(durable) => self.synced(durable),
            Event::Keepalive { server_end, ask } => self.keepalive(server_end, ask)?,
            Event::Connected(facts) => return self.connected(facts),
            Event::HistoryStored(history) => return self.history_stored(history),
            Event::Started => self.started()?,
            Event::EndOfTimeline { next, switch } => return self.end_of_timeline(next, switch),
            Event::Closed => self.closed(),
            Event::Cancelled(now) => self.cancelled(now),
        }
        Ok(())
    }

    fn connected(&mut self, facts: &Facts) -> Result<(), ReceiveError> {
        if facts.timeline == TimelineId::FIRST {
            return self.choose(facts, &History::root(TimelineId::FIRST));
        }
        self.ask_history(facts.timeline, Then::Choose(facts.clone()));
        Ok(())
    }

    fn choose(&mut self, facts: &Facts, history: &History) -> Result<(), ReceiveError> {
        let start = start::choose(facts, history)?;
        let stored = start.timeline == TimelineId::FIRST
            || start.timeline == history.timeline()
            || facts.histories.contains(&start.timeline);
        if stored {
            self.begin(start, facts.segment_size);
        } else {
            self.ask_history(start.timeline, Then::Begin(start, facts.segment_size));
        }
        Ok(())
    }

    fn ask_history(&mut self, timeline: TimelineId, then: Then) {
        self.state = State::ExpectHistory { timeline, then };
        self.actions
            .push_back(Action::Send(Outgoing::TimelineHistory(timeline)));
    }

    fn begin(&mut self, start: Start, size: SegmentSize) {
        let Start { timeline, lsn } = start;
        self.state = State::ExpectStarted { start, size };
        self.actions.push_back(Action::Begin(start));
        self.actions
            .push_back(Action::Send(Outgoing::Start { timeline, lsn }));
    }

    fn history_stored(&mut self, history: &History) -> Result<(), ReceiveError> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        let State::ExpectHistory { then, .. } = state else {
            return Err(ReceiveError::Unexpected(
                "a history file that was not asked for",
            ));
        };
        match then {
            Then::Choose(facts) => self.choose(&facts, history),
            Then::Begin(start, size) => {
                self.begin(start, size);
                Ok(())
            }
            Then::Follow { left, switch, size } => {
                if history
                    .ancestor(left)
                    .is_none_or(|entry| entry.end != switch)
                {
                    return Err(ReceiveError::Unexpected(
                        "a history file that does not tell of the switch",
                    ));
                }
                let start = Start {
                    timeline: history.timeline(),
                    lsn: size.round_down(switch),
                };
                self.begin(start, size);
                Ok(())
            }
        }
    }

    fn started(&mut self) -> Result<(), ReceiveError> {
        let State::ExpectStarted { start, size } = &self.state else {
            return Err(ReceiveError::Unexpected("a stream that was not asked for"));
        };
        self.feedback.heard();
        self.state = State::Streaming(Stream {
            timeline: start.timeline,
            size: *size,
            start: start.lsn,
            written: start.lsn,
            server_end: start.lsn,
            durable: None,
            reported: start.lsn,
        });
        Ok(())
    }

    fn stream(&mut self) -> Result<&mut Stream, ReceiveError> {
        match &mut self.state {
            State::Streaming(stream) | State::ExpectClosed { stream, .. } => Ok(stream),
            _ => Err(ReceiveError::Unexpected("WAL outside a stream")),
        }
    }

    fn wal(&mut self, start: Lsn, server_end: Lsn, bytes: u64) -> Result<(), ReceiveError> {
        self.feedback.heard_wal();
        let stream = self.stream()?;
        if start != stream.written {
            return Err(ReceiveError::NotContinuous {
                expected: stream.written,
                found: start,
            });
        }
        let end = start.checked_add(bytes);
        stream.written = end.ok_or(ReceiveError::Unexpected("WAL behind the last position"))?;
        stream.server_end = server_end;
        // A segment that becomes full is synced by itself.
        let synced = stream
            .durable_end()
            .max(stream.size.round_down(stream.written));
        if stream.written.bytes_since(synced) >= UNSYNCED_BYTES_MAX {
            self.sync_and_report();
        }
        Ok(())
    }

    fn keepalive(&mut self, server_end: Lsn, ask: Ask) -> Result<(), ReceiveError> {
        self.feedback.heard();
        let stream = self.stream()?;
        stream.server_end = server_end;
        if ask == Ask::Reply {
            if stream.unsynced() {
                self.actions.push_back(Action::Sync);
            }
            self.report(Ask::Nothing);
        }
        Ok(())
    }

    /// Reports, unless the stream is being ended: after `EndStream` nothing may be sent.
    fn report(&mut self, ask: Ask) {
        let report = Action::Report(ask);
        if matches!(self.state, State::Streaming(_)) && !self.actions.contains(&report) {
            self.actions.push_back(report);
        }
    }

    fn sync_and_report(&mut self) {
        if self.stream().is_ok_and(|stream| stream.unsynced()) {
            self.actions.push_back(Action::Sync);
            self.report(Ask::Nothing);
        }
    }

    fn synced(&mut self, durable: DurableLsn) {
        let Ok(stream) = self.stream() else { return };
        stream.durable = stream.durable.max(Some(durable));
        if stream.durable_end().bytes_since(stream.reported) >= UNSYNCED_BYTES_MAX {
            self.report(Ask::Nothing);
        }
    }

    fn drained(&mut self, now: Instant) -> Result<(), ReceiveError> {
        let stream = match &self.state {
            State::ExpectClosed { deadline, .. } if now >= *deadline => {
                self.closed();
                return Ok(());
            }
            State::ExpectClosed { deadline, .. } => {
                self.actions.push_back(Action::Wait(*deadline - now));
                return Ok(());
            }
            State::Streaming(stream) => Some(*stream),
            _ => None,
        };
        let unsynced = stream.filter(Stream::unsynced);
        if unsynced.is_some_and(|stream| stream.written >= stream.server_end) {
            self.sync_and_report();
            return Ok(());
        }
        match (self.feedback.look(now), stream) {
            (Due::Silent, _) => {
                return Err(ReceiveError::Silent {
                    after: self.feedback.silence_max(),
                });
            }
            (Due::Status(ask), Some(_)) => self.report(ask),
            (Due::Status(_), None) => self.feedback.sent(),
            (Due::Nothing(wait), _) => {
                let wait = if unsynced.is_some() {
                    wait.min(SYNC_PATIENCE)
                } else {
                    wait
                };
                self.actions.push_back(Action::Wait(wait));
            }
        }
        Ok(())
    }

    fn end_of_timeline(&mut self, next: TimelineId, switch: Lsn) -> Result<(), ReceiveError> {
        self.feedback.heard();
        let (timeline, size, written) = match &self.state {
            State::ExpectStarted { start, size } => (start.timeline, *size, start.lsn),
            State::Streaming(stream) => (stream.timeline, stream.size, stream.written),
            State::ExpectClosed { .. } => {
                self.closed();
                return Ok(());
            }
            _ => {
                return Err(ReceiveError::Unexpected(
                    "the end of a timeline outside a stream",
                ));
            }
        };
        if next <= timeline {
            return Err(ReceiveError::Unexpected(
                "a next timeline that is not newer",
            ));
        }
        // More than the switch may have come: the beginning of a record that was never completed.
        if written < switch {
            return Err(ReceiveError::NotContinuous {
                expected: written,
                found: switch,
            });
        }
        self.sync_unreported();
        self.actions.push_back(Action::Leave {
            timeline,
            next,
            switch,
        });
        self.ask_history(
            next,
            Then::Follow {
                left: timeline,
                switch,
                size,
            },
        );
        Ok(())
    }

    fn sync_unreported(&mut self) {
        if self.stream().is_ok_and(|stream| stream.unsynced()) {
            self.actions.push_back(Action::Sync);
        }
    }

    fn closed(&mut self) {
        let stop = match &self.state {
            State::ExpectClosed { .. } => Stop::Cancelled,
            _ => Stop::ServerClosed,
        };
        self.end(stop);
    }

    fn cancelled(&mut self, now: Instant) {
        match &self.state {
            State::Streaming(stream) => {
                let stream = *stream;
                self.actions
                    .retain(|action| !matches!(action, Action::Wait(_)));
                if stream.unsynced() {
                    self.actions.push_back(Action::Sync);
                }
                self.actions.push_back(Action::Report(Ask::Nothing));
                self.actions.push_back(Action::Send(Outgoing::EndStream));
                self.state = State::ExpectClosed {
                    stream,
                    deadline: now + CLOSE_PATIENCE,
                };
            }
            State::ExpectClosed { deadline, .. } if now < *deadline => {}
            State::Ended => {}
            _ => self.end(Stop::Cancelled),
        }
    }

    fn end(&mut self, stop: Stop) {
        self.sync_unreported();
        self.actions.push_back(Action::Stop(stop));
        self.state = State::Ended;
    }
}

impl Stream {
    fn unsynced(&self) -> bool {
        self.durable_end() < self.written
    }

    fn durable_end(&self) -> Lsn {
        self.durable.map_or(self.start, DurableLsn::lsn)
    }
}

#[cfg(test)]
mod tests;
