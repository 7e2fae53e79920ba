//! A server inside the test: a transport that answers from memory and can be told to misbehave.

use std::collections::{HashMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use pgm_proto::{
    Error, Incoming, Lsn, Outgoing, ServerIdentity, ServerVersion, StandbyStatus, SystemId,
    TimelineId, WalTransport, Woken,
};
use pgm_storage::Cancel;

/// The WAL of one timeline.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub(super) start: Lsn,
    pub(super) bytes: Vec<u8>,
    /// Where it was left, and for what.
    pub(super) next: Option<(TimelineId, Lsn)>,
}

/// How the peer misbehaves, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misbehaviour {
    None,
    /// Cuts the connection after so many messages.
    CutAfter(usize),
    /// Leaves out one message.
    SkipAfter(usize),
    /// Sends one message twice.
    RepeatAfter(usize),
    /// Ends the stream in order after so many messages.
    CloseAfter(usize),
}

/// A scripted server.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) identity: ServerIdentity,
    pub(super) histories: HashMap<u32, Vec<u8>>,
    pub(super) branches: HashMap<u32, Branch>,
    /// The lengths of the messages, in turn.
    pub(super) lengths: Vec<usize>,
    pub(super) misbehaviour: Misbehaviour,
    /// Set when everything was received and the receiver waits.
    pub(super) cancel: Cancel,
    pub(super) sent: Vec<Outgoing>,
    pub(super) connections: usize,
    stream: Option<(TimelineId, Lsn)>,
    replies: VecDeque<Reply>,
    messages: usize,
    buffer: Vec<u8>,
    name: String,
}

#[derive(Debug)]
enum Reply {
    History(TimelineId),
    Started,
    EndOfTimeline { next: TimelineId, switch: Lsn },
    Closed,
    Missing,
}

impl Peer {
    /// A server with segments of 1 MiB whose only timeline 1 has `bytes` from `start` on.
    pub(super) fn new(start: Lsn, bytes: Vec<u8>) -> Self {
        let first = TimelineId::FIRST;
        let identity = ServerIdentity {
            system_id: SystemId::new(7),
            timeline: first,
            flush_lsn: start + bytes.len() as u64,
            version: ServerVersion::from_number(170_000),
            segment_bytes: 1 << 20,
            slot: None,
        };
        Self {
            identity,
            histories: HashMap::new(),
            branches: HashMap::from([(
                1,
                Branch {
                    start,
                    bytes,
                    next: None,
                },
            )]),
            lengths: vec![128 << 10],
            misbehaviour: Misbehaviour::None,
            cancel: Cancel::new(),
            sent: Vec::new(),
            connections: 0,
            stream: None,
            replies: VecDeque::new(),
            messages: 0,
            buffer: Vec::new(),
            name: String::new(),
        }
    }

    /// Promotes: a new timeline leaves the server's newest one at `switch` and has `bytes` from there on.
    pub(super) fn promote(&mut self, to: u32, switch: Lsn, bytes: &[u8]) {
        let left = self.identity.timeline;
        let timeline = TimelineId::new(to).unwrap();
        let old = self.branches.get_mut(&left.number()).unwrap();
        old.next = Some((timeline, switch));
        let segment_start = Lsn::new(switch.bytes() - switch.bytes() % (1 << 20));
        let (from, to_byte) = (segment_start - old.start, switch - old.start);
        let mut new = old.bytes[from as usize..to_byte as usize].to_vec();
        new.extend_from_slice(bytes);
        let mut history = self
            .histories
            .get(&left.number())
            .cloned()
            .unwrap_or_default();
        history.extend(format!("{left}\t{switch}\tno recovery target specified\n").bytes());
        self.identity.timeline = timeline;
        self.identity.flush_lsn = segment_start + new.len() as u64;
        self.histories.insert(to, history);
        self.branches.insert(
            to,
            Branch {
                start: segment_start,
                bytes: new,
                next: None,
            },
        );
    }

    pub(super) fn statuses(&self) -> Vec<StandbyStatus> {
        let statuses = self.sent.iter().filter_map(|message| match message {
            Outgoing::Status(status) => Some(*status),
            _ => None,
        });
        statuses.collect()
    }

    fn start(&mut self, timeline: TimelineId, lsn: Lsn) {
        let Some(branch) = self.branches.get(&timeline.number()) else {
            self.replies.push_back(Reply::Missing);
            return;
        };
        match branch.next {
            _ if lsn < branch.start => self.replies.push_back(Reply::Missing),
            Some((next, switch)) if lsn == switch => {
                self.replies
                    .push_back(Reply::EndOfTimeline { next, switch });
            }
            _ => {
                self.stream = Some((timeline, lsn));
                self.replies.push_back(Reply::Started);
            }
        }
    }

    /// The next piece of the stream: from where to where, on which branch.
    fn piece(&self) -> Option<(TimelineId, Lsn, Lsn)> {
        let (timeline, at) = self.stream?;
        let branch = &self.branches[&timeline.number()];
        let end = branch
            .next
            .map_or(branch.start + branch.bytes.len() as u64, |(_, switch)| {
                switch
            });
        let length = self.lengths[self.messages % self.lengths.len()] as u64;
        (at < end).then(|| (timeline, at, end.min(at + length)))
    }

    fn misbehaves(&mut self, misbehaviour: impl Fn(usize) -> Misbehaviour) -> bool {
        let now = self.misbehaviour == misbehaviour(self.messages);
        if now {
            self.misbehaviour = Misbehaviour::None;
        }
        now
    }

    fn wal(&mut self) -> Result<Incoming<'_>, Error> {
        if self.misbehaves(Misbehaviour::CutAfter) {
            return Err(Error::Closed);
        }
        if self.misbehaves(Misbehaviour::CloseAfter) {
            self.stream = None;
            return Ok(Incoming::Closed);
        }
        if self.misbehaves(Misbehaviour::SkipAfter)
            && let Some((timeline, _, to)) = self.piece()
        {
            self.stream = Some((timeline, to));
        }
        let Some((timeline, from, to)) = self.piece() else {
            return Ok(self.end_of_branch());
        };
        if !self.misbehaves(Misbehaviour::RepeatAfter) {
            self.stream = Some((timeline, to));
        }
        self.messages += 1;
        let branch = &self.branches[&timeline.number()];
        let range = (from - branch.start) as usize..(to - branch.start) as usize;
        self.buffer.clear();
        self.buffer.extend_from_slice(&branch.bytes[range]);
        let server_end = branch.start + branch.bytes.len() as u64;
        Ok(Incoming::Wal {
            start: from,
            server_end,
            data: &self.buffer,
        })
    }

    fn end_of_branch(&mut self) -> Incoming<'static> {
        let Some((timeline, _)) = self.stream else {
            return Incoming::Nothing;
        };
        match self.branches[&timeline.number()].next {
            Some((next, switch)) => {
                self.stream = None;
                Incoming::EndOfTimeline { next, switch }
            }
            None => Incoming::Nothing,
        }
    }
}

impl WalTransport for Peer {
    fn connect(&mut self) -> Result<ServerIdentity, Error> {
        self.connections += 1;
        Ok(self.identity.clone())
    }

    fn send(&mut self, message: Outgoing) -> Result<(), Error> {
        self.sent.push(message);
        match message {
            Outgoing::TimelineHistory(timeline) => self.replies.push_back(Reply::History(timeline)),
            Outgoing::Start { timeline, lsn } => self.start(timeline, lsn),
            Outgoing::Status(_) => {}
            Outgoing::EndStream => {
                self.stream = None;
                self.replies.push_back(Reply::Closed);
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Incoming<'_>, Error> {
        match self.replies.pop_front() {
            None => self.wal(),
            Some(Reply::Started) => Ok(Incoming::Started),
            Some(Reply::Closed) => Ok(Incoming::Closed),
            Some(Reply::EndOfTimeline { next, switch }) => {
                Ok(Incoming::EndOfTimeline { next, switch })
            }
            Some(Reply::History(timeline)) => {
                self.name = format!("{}.history", timeline.file_prefix());
                let content = self
                    .histories
                    .get(&timeline.number())
                    .ok_or(Error::Closed)?;
                Ok(Incoming::History {
                    timeline,
                    name: &self.name,
                    content,
                })
            }
            Some(Reply::Missing) => Err(Error::Server(Box::new(missing()))),
        }
    }

    fn wait(&mut self, _: Duration, _: Option<BorrowedFd<'_>>) -> Result<Woken, Error> {
        if self.piece().is_none() {
            self.cancel.cancel();
        }
        Ok(Woken::Timeout)
    }

    fn disconnect(&mut self) {
        self.stream = None;
        self.replies.clear();
    }
}

fn missing() -> pgm_proto::ServerError {
    pgm_proto::ServerError {
        sqlstate: "58P01".to_owned(),
        message: "requested WAL segment has already been removed".to_owned(),
        ..Default::default()
    }
}
