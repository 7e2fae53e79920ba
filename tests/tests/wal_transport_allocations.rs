//! In steady state WAL is received, and its receipt reported, without an allocation.
//!
//! One test in a program of its own: it needs an allocator that counts. Only the receiving thread's allocations count; the
//! scripted server runs in the same process.
#![allow(
    clippy::unwrap_used,
    reason = "what fails in a test must fail the test"
)]

use std::time::Duration;

use pgm_proto::{
    Incoming, Lsn, Outgoing, PostgresTransport, SlotPolicy, StandbyStatus, TimelineId,
    TransportOptions, WalTransport,
};
use pgm_tests::fake_server::{FakeServer, Script};
use pgm_tests::{ThreadCountingAllocator, thread_allocations};

const START: Lsn = Lsn::new(16 << 20);
const WAL_BYTES: u64 = 256 << 20;
const MESSAGE_BYTES: usize = 8192;

#[global_allocator]
static ALLOCATOR: ThreadCountingAllocator = ThreadCountingAllocator;

/// Receives at least so much WAL, with a status after each message; gives the number of messages.
fn receive(transport: &mut PostgresTransport, wal_bytes: u64) -> u64 {
    let (mut received, mut messages) = (0, 0);
    while received < wal_bytes {
        match transport.receive().unwrap() {
            Incoming::Nothing => {
                transport.wait(Duration::from_mins(1), None).unwrap();
            }
            Incoming::Wal { start, data, .. } => {
                received += data.len() as u64;
                messages += 1;
                let end = start + data.len() as u64;
                let status = StandbyStatus {
                    write: end,
                    flush: end,
                    apply: Lsn::INVALID,
                    reply_requested: false,
                };
                transport.send(Outgoing::Status(status)).unwrap();
            }
            _ => {}
        }
    }
    messages
}

#[test]
fn wal_is_received_without_an_allocation_per_message() {
    let server = FakeServer::start(Script {
        timelines: vec![(TimelineId::FIRST, START + WAL_BYTES)],
        message_bytes: MESSAGE_BYTES,
        ..Script::default()
    });
    let mut transport = PostgresTransport::new(TransportOptions {
        conninfo: server.conninfo().parse().unwrap(),
        slot: Some("pgmd".parse().unwrap()),
        create_slot: SlotPolicy::Create,
    });
    transport.connect().unwrap();
    let (timeline, lsn) = (TimelineId::FIRST, START);
    transport.send(Outgoing::Start { timeline, lsn }).unwrap();
    receive(&mut transport, 1 << 20);

    let before = thread_allocations();
    let messages = receive(&mut transport, WAL_BYTES / 2);
    let allocations = thread_allocations() - before;
    assert!(messages > 10_000, "{messages}");
    assert_eq!(allocations, 0, "{messages} messages");
}
