//! The steady-state WAL path allocates nothing per message: ten thousand messages more cost not one allocation more.
//!
//! Counted on the receiving thread alone, first with a transport inside the test, then through a real connection.
#![allow(clippy::unwrap_used)] // All of it is test code, also what has no `#[test]` on it.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use pgm_proto::{
    Error, Incoming, Lsn, Outgoing, PostgresTransport, ServerIdentity, ServerVersion, SlotPolicy,
    SystemId, TimelineId, TransportOptions, WalTransport, Woken,
};
use pgm_storage::Cancel;
use pgm_tests::fake_server::{FakeServer, Script};
use pgm_tests::{Scratch, ThreadCountingAllocator, thread_allocations};
use pgm_wal::{DurableLsn, ReceiveObserver, ReceiveOptions, Receiver, Spool, StartHint};
use pgmd::shared_state::Histogram;

#[global_allocator]
static ALLOCATOR: ThreadCountingAllocator = ThreadCountingAllocator;

const MESSAGE_BYTES: u64 = 1000;

/// Stops the receiver when everything is durable.
struct StopAt {
    end: Lsn,
    cancel: Cancel,
    durable_calls: u64,
    /// What pgmd's worker counts into memory that it shares.
    synced: Histogram,
    acknowledged: Histogram,
}

impl ReceiveObserver for StopAt {
    fn durable(&mut self, lsn: DurableLsn) {
        self.durable_calls += 1;
        if lsn.lsn() >= self.end {
            self.cancel.cancel();
        }
    }

    fn synced(&mut self, took: Duration) {
        self.synced.observe(took);
    }

    fn acknowledged(&mut self, after: Duration) {
        self.acknowledged.observe(after);
    }
}

/// Receives WAL from `start` to `end`; the allocations that it cost.
fn allocations<T: WalTransport>(transport: T, folder: &Path, start: Lsn, end: Lsn) -> u64 {
    let cancel = Cancel::new();
    let mut observer = StopAt {
        end,
        cancel: cancel.clone(),
        durable_calls: 0,
        synced: Histogram::default(),
        acknowledged: Histogram::default(),
    };
    let hint = StartHint {
        timeline: TimelineId::FIRST,
        lsn: start,
    };
    let options = ReceiveOptions {
        start_hint: Some(hint),
        ..ReceiveOptions::default()
    };
    let mut receiver = Receiver::new(transport, Spool::open(folder).unwrap(), options);
    let before = thread_allocations();
    let stopped = receiver.run(&cancel, &mut observer).unwrap();
    let after = thread_allocations();
    assert_eq!(stopped.durable.unwrap().lsn(), end);
    assert!(observer.durable_calls > 0);
    assert!(observer.synced.observations().count >= observer.durable_calls);
    assert!(observer.acknowledged.observations().count > 0);
    after - before
}

/// A server inside the test: WAL out of one buffer, drained after every hundredth message.
struct InProcess {
    segment_bytes: u32,
    next: Lsn,
    end: Lsn,
    since_pause: u32,
    reply: Option<Incoming<'static>>,
    buffer: Vec<u8>,
}

impl InProcess {
    fn new(segment_bytes: u32, messages: u64) -> Self {
        let next = Lsn::new(u64::from(segment_bytes));
        let end = next + messages * MESSAGE_BYTES;
        let buffer = vec![7; MESSAGE_BYTES as usize];
        Self {
            segment_bytes,
            next,
            end,
            since_pause: 0,
            reply: None,
            buffer,
        }
    }

    fn allocations(self, folder: &Path) -> u64 {
        let (start, end) = (self.next, self.end);
        allocations(self, folder, start, end)
    }
}

impl WalTransport for InProcess {
    fn connect(&mut self) -> Result<ServerIdentity, Error> {
        Ok(ServerIdentity {
            system_id: SystemId::new(7),
            timeline: TimelineId::FIRST,
            flush_lsn: self.end,
            version: ServerVersion::from_number(170_000),
            segment_bytes: self.segment_bytes,
            slot: None,
        })
    }

    fn send(&mut self, message: Outgoing) -> Result<(), Error> {
        match message {
            Outgoing::Start { .. } => self.reply = Some(Incoming::Started),
            Outgoing::EndStream => self.reply = Some(Incoming::Closed),
            Outgoing::Status(_) | Outgoing::TimelineHistory(_) => {}
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Incoming<'_>, Error> {
        if let Some(reply) = self.reply.take() {
            return Ok(reply);
        }
        if self.next == self.end || self.since_pause == 100 {
            self.since_pause = 0;
            return Ok(Incoming::Nothing);
        }
        self.since_pause += 1;
        let start = self.next;
        self.next = start + MESSAGE_BYTES;
        // The server has no more at each pause, so that each one is a group commit.
        Ok(Incoming::Wal {
            start,
            server_end: self.next,
            data: &self.buffer,
        })
    }

    fn wait(&mut self, _: Duration, _: Option<BorrowedFd<'_>>) -> Result<Woken, Error> {
        Ok(Woken::Readable)
    }

    fn disconnect(&mut self) {}
}

#[test]
fn ten_thousand_messages_more_cost_no_allocation_more() {
    let run = |messages| {
        let folder = Scratch::new("allocations");
        InProcess::new(64 << 20, messages).allocations(folder.path())
    };
    run(100);
    let (ten, twenty) = (run(10_000), run(20_000));
    assert_eq!(ten, twenty);
}

#[test]
fn a_new_segment_costs_a_few_allocations() {
    let run = |messages| {
        let folder = Scratch::new("allocations");
        InProcess::new(1 << 20, messages).allocations(folder.path())
    };
    run(100);
    let (ten, twenty) = (run(10_000), run(20_000));
    let segments = 10_000 * MESSAGE_BYTES / (1 << 20) + 1;
    assert!(
        twenty - ten <= segments * 40,
        "{} for {segments} segments",
        twenty - ten
    );
}

#[test]
fn a_real_connection_allocates_nothing_for_a_message_either() {
    let segment = 64 << 20;
    let run = |messages: u64| {
        let folder = Scratch::new("allocations");
        let (start, end) = (
            Lsn::new(segment),
            Lsn::new(segment + messages * MESSAGE_BYTES),
        );
        let server = FakeServer::start(Script {
            timelines: vec![(TimelineId::FIRST, end)],
            segment_size: "64MB".to_owned(),
            message_bytes: MESSAGE_BYTES as usize,
            ..Script::default()
        });
        let transport = PostgresTransport::new(TransportOptions {
            conninfo: server.conninfo().parse().unwrap(),
            slot: None,
            create_slot: SlotPolicy::Require,
        });
        allocations(transport, folder.path(), start, end)
    };
    run(100);
    let (ten, twenty) = (run(10_000), run(20_000));
    assert_eq!(ten, twenty);
}
