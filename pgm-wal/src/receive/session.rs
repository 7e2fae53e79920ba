//! One connection: carries out what the state machine says.
//!
//! The loop does all pending actions, looks at the stop flag, and receives one message. Messages borrow from the
//! transport's buffer and are written from there; nothing is allocated for one. When a connection breaks, what was
//! written is synced once more, so that nothing is lost with it.

use std::time::{Duration, Instant};

use pgm_proto::{Incoming, Lsn, TimelineId, WalTransport, Woken};
use pgm_storage::Cancel;

use super::feedback::Ask;
use super::segment_writer::Tail;
use super::start::{Facts, Start};
use super::state::{Action, Event, Machine, Stop};
use super::{ReceiveObserver, ReceiveOptions, ReceiveState, SegmentWriter, Stopped};
use crate::durable::DurableLsn;
use crate::error::ReceiveError;
use crate::history::History;
use crate::record::{DirectorySource, RecordReader};
use crate::segment::{SegmentSize, WalFileName};
use crate::spool::{Spool, SpoolIdentity};

/// How often the stop flag is looked at when nothing wakes us.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// SQLSTATE `undefined_file`: the server has removed the segment that was asked for.
const UNDEFINED_FILE: &str = "58P01";

/// A connection and what is done with it.
pub(super) struct Session<'a, T> {
    transport: &'a mut T,
    spool: &'a Spool,
    options: &'a ReceiveOptions,
    cancel: &'a Cancel,
    observer: &'a mut dyn ReceiveObserver,
    machine: Machine,
    writer: SegmentWriter,
    size: SegmentSize,
    durable: Option<DurableLsn>,
    /// When the oldest WAL arrived that was not reported as durable yet.
    unacknowledged: Option<Instant>,
    told: ReceiveState,
    /// The wake descriptor was readable, or the flag set.
    stopping: bool,
}

impl<'a, T: WalTransport> Session<'a, T> {
    /// Connects, and makes sure that the server is the one whose WAL is in the spool.
    pub(super) fn connect(
        transport: &'a mut T,
        spool: &'a Spool,
        options: &'a ReceiveOptions,
        cancel: &'a Cancel,
        observer: &'a mut dyn ReceiveObserver,
    ) -> Result<Self, ReceiveError> {
        let server = transport.connect()?;
        let size = SegmentSize::new(server.segment_bytes.into())?;
        spool.adopt(SpoolIdentity {
            system_id: server.system_id,
            segment_size: size,
        })?;
        let facts = Facts::new(&server, size, &spool.list()?, options.start_hint);
        let mut machine = Machine::new(options);
        machine.handle(Event::Connected(&facts))?;
        observer.server_end(server.flush_lsn);
        Ok(Self {
            transport,
            spool,
            options,
            cancel,
            observer,
            machine,
            writer: SegmentWriter::new(spool, size),
            size,
            durable: None,
            unacknowledged: None,
            told: ReceiveState::Connecting,
            stopping: false,
        })
    }

    /// Runs the connection to its end. `streamed` is set as soon as WAL is streamed.
    pub(super) fn run(mut self, streamed: &mut bool) -> Result<Stopped, ReceiveError> {
        let ended = self.converse(streamed);
        let stopping = self.machine.public_state() == ReceiveState::Stopping;
        if ended.is_err() {
            // A dead file gives no position: then this does nothing.
            let synced = self.writer.sync(self.observer);
            self.settle();
            synced?;
        }
        match ended {
            Err(ReceiveError::Transport(_)) if stopping => Ok(Stopped {
                durable: self.durable,
            }),
            ended => ended,
        }
    }

    fn converse(&mut self, streamed: &mut bool) -> Result<Stopped, ReceiveError> {
        loop {
            if self.stopping || self.cancel.is_cancelled() {
                self.stopping = true;
                self.machine.handle(Event::Cancelled(Instant::now()))?;
            }
            while let Some(action) = self.machine.next_action() {
                if let Some(stopped) = self.perform(action)? {
                    return stopped;
                }
            }
            let state = self.machine.public_state();
            if state != self.told {
                self.told = state;
                self.observer.state(state);
                *streamed |= state == ReceiveState::Streaming;
            }
            self.receive()?;
        }
    }

    /// Takes in one message.
    fn receive(&mut self) -> Result<(), ReceiveError> {
        let incoming = match self.transport.receive() {
            Ok(incoming) => incoming,
            Err(error) => return Err(explain(error, self.machine.position())),
        };
        let event = match incoming {
            Incoming::Wal {
                start,
                server_end,
                data,
            } => {
                self.machine.handle(Event::Wal {
                    start,
                    server_end,
                    bytes: data.len() as u64,
                })?;
                // The clock is read once between two reports, not for each message.
                self.unacknowledged.get_or_insert_with(Instant::now);
                self.writer.write(data, self.observer)?;
                self.observer.server_end(server_end);
                self.observer.received(self.writer.written());
                self.settle();
                return Ok(());
            }
            Incoming::Nothing => Event::Drained(Instant::now()),
            Incoming::Keepalive {
                server_end,
                reply_requested,
            } => {
                self.observer.server_end(server_end);
                let ask = if reply_requested {
                    Ask::Reply
                } else {
                    Ask::Nothing
                };
                Event::Keepalive { server_end, ask }
            }
            Incoming::History {
                timeline,
                name,
                content,
            } => {
                self.machine.expect_history(timeline)?;
                if WalFileName::History(timeline).file_name(self.size) != name {
                    return Err(ReceiveError::Unexpected("a history file of another name"));
                }
                let history = self.spool.store_history(timeline, content)?;
                self.observer.history_stored(timeline);
                return self.machine.handle(Event::HistoryStored(&history));
            }
            Incoming::Started => Event::Started,
            Incoming::EndOfTimeline { next, switch } => Event::EndOfTimeline { next, switch },
            Incoming::Closed => Event::Closed,
        };
        self.machine.handle(event)
    }

    /// Carries out one action; tells when the conversation is over.
    fn perform(
        &mut self,
        action: Action,
    ) -> Result<Option<Result<Stopped, ReceiveError>>, ReceiveError> {
        match action {
            Action::Send(message) => self.transport.send(message)?,
            Action::Begin(Start { timeline, lsn }) => {
                self.writer.begin(timeline, lsn)?;
                self.observer.timeline(timeline, lsn);
            }
            Action::Sync => {
                self.writer.sync(self.observer)?;
                self.settle();
            }
            Action::Report(ask) => {
                if let Some(message) = self.machine.status(ask) {
                    self.transport.send(message)?;
                    self.acknowledged();
                }
            }
            Action::Leave {
                timeline,
                next,
                switch,
            } => self.leave(timeline, next, switch)?,
            Action::Wait(timeout) => self.wait(timeout)?,
            Action::Stop(Stop::Cancelled) => {
                return Ok(Some(Ok(Stopped {
                    durable: self.durable,
                })));
            }
            Action::Stop(Stop::ServerClosed) => return Ok(Some(Err(ReceiveError::ServerClosed))),
        }
        Ok(None)
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), ReceiveError> {
        use std::os::fd::AsFd;
        let wake = self.options.wake.as_ref().filter(|_| !self.stopping);
        let timeout = if wake.is_some() {
            timeout
        } else {
            timeout.min(LOOK_INTERVAL)
        };
        match self.transport.wait(timeout, wake.map(|fd| fd.as_fd()))? {
            Woken::Readable => Ok(()),
            Woken::Wake => {
                self.stopping = true;
                Ok(())
            }
            Woken::Timeout => self.machine.handle(Event::TimedOut),
        }
    }

    /// Tells everyone how far we are durable, if that has changed.
    fn settle(&mut self) {
        let durable = self.writer.durable();
        if let Some(durable) = durable.filter(|_| durable != self.durable) {
            self.durable = Some(durable);
            self.observer.durable(durable);
            // A position alone is never refused.
            let _ = self.machine.handle(Event::Synced(durable));
        }
    }

    /// A report is on its way: the wait is over if it covers everything that was received.
    fn acknowledged(&mut self) {
        let covered = self
            .durable
            .is_some_and(|durable| durable.lsn() >= self.writer.written());
        if let Some(since) = self.unacknowledged.take_if(|_| covered) {
            self.observer.acknowledged(since.elapsed());
        }
    }

    /// Leaves a timeline. What we hold of it behind the switch may only be the beginning of a record that was never
    /// completed: a whole record there is one that the server's branch has lost.
    fn leave(
        &mut self,
        timeline: TimelineId,
        next: TimelineId,
        switch: Lsn,
    ) -> Result<(), ReceiveError> {
        let Tail::Held(_) = self.writer.leave(switch)? else {
            return Ok(());
        };
        let source = DirectorySource::new(self.spool.folder(), self.size);
        let mut records = RecordReader::at(source, History::root(timeline), switch);
        if matches!(records.next(), Ok(Some(_))) {
            let ours = records.position();
            return Err(ReceiveError::Diverged {
                timeline,
                ours,
                fork: switch,
                server: next,
            });
        }
        Ok(())
    }
}

/// Tells a server that has removed our WAL from other failures.
fn explain(error: pgm_proto::Error, position: Option<(TimelineId, Lsn)>) -> ReceiveError {
    match position {
        Some((timeline, lsn)) if error.sqlstate() == Some(UNDEFINED_FILE) => {
            ReceiveError::WalRemoved {
                timeline,
                lsn,
                source: error,
            }
        }
        _ => ReceiveError::Transport(error),
    }
}
