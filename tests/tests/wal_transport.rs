//! Streaming WAL from a scripted server: that every byte arrives, and what happens when the server does anything else.
#![allow(
    clippy::unwrap_used,
    reason = "what fails in a test must fail the test"
)]

use std::os::fd::AsFd;
use std::time::Duration;

use pgm_proto::{
    Client, ConnInfo, Error, Incoming, Lsn, Outgoing, PostgresTransport, Session, SlotPolicy,
    StandbyStatus, TimelineId, TransportOptions, WalTransport, Woken,
};
use pgm_tests::fake_server::{
    AtEnd, FakeServer, Fault, Script, complete, error, message, ready, result_set, wal_byte,
};
use pgm_tests::wait_until;

const START: Lsn = Lsn::new(16 << 20);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn transport(server: &FakeServer, create_slot: SlotPolicy) -> PostgresTransport {
    PostgresTransport::new(TransportOptions {
        conninfo: server.conninfo().parse().unwrap(),
        slot: Some("pgmd".parse().unwrap()),
        create_slot,
    })
}

/// WAL from [`START`] on.
fn script(wal_bytes: u64) -> Script {
    Script {
        timelines: vec![(TimelineId::FIRST, START + wal_bytes)],
        ..Script::default()
    }
}

fn start(transport: &mut PostgresTransport, timeline: TimelineId, lsn: Lsn) -> Result<(), Error> {
    transport.send(Outgoing::Start { timeline, lsn })
}

/// What came, without what it borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Came {
    History(String, Vec<u8>),
    Started,
    Wal(u64),
    Keepalive,
    EndOfTimeline(TimelineId, Lsn),
    Closed,
}

/// The next message, with a check of every byte of WAL.
fn next(transport: &mut PostgresTransport) -> Result<Came, Error> {
    loop {
        match transport.receive()? {
            Incoming::Nothing => {
                let woken = transport.wait(PATIENCE, None)?;
                assert_eq!(woken, Woken::Readable, "nothing came");
            }
            Incoming::History { name, content, .. } => {
                return Ok(Came::History(name.to_owned(), content.to_vec()));
            }
            Incoming::Started => return Ok(Came::Started),
            Incoming::Wal { start, data, .. } => {
                let mut expected = (start.bytes()..).map(wal_byte);
                assert!(
                    data.iter().all(|byte| expected.next() == Some(*byte)),
                    "{start}"
                );
                return Ok(Came::Wal(data.len() as u64));
            }
            Incoming::Keepalive { .. } => return Ok(Came::Keepalive),
            Incoming::EndOfTimeline { next, switch } => {
                return Ok(Came::EndOfTimeline(next, switch));
            }
            Incoming::Closed => return Ok(Came::Closed),
        }
    }
}

/// Receives so many bytes of WAL, and nothing else.
fn receive_wal(transport: &mut PostgresTransport, wal_bytes: u64) -> Result<(), Error> {
    let mut left = wal_bytes;
    while left > 0 {
        match next(transport)? {
            Came::Wal(bytes) => left = left.checked_sub(bytes).expect("not more than there is"),
            other => panic!("{other:?} with {left} bytes of WAL to come"),
        }
    }
    Ok(())
}

/// From connecting to the last byte.
fn receive_all(server: &FakeServer, wal_bytes: u64) -> Result<(), Error> {
    let mut transport = transport(server, SlotPolicy::Create);
    transport.connect()?;
    start(&mut transport, TimelineId::FIRST, START)?;
    assert_eq!(next(&mut transport)?, Came::Started);
    receive_wal(&mut transport, wal_bytes)
}

#[test]
fn every_byte_arrives_whatever_the_size_of_messages() {
    for (message_bytes, wal_bytes) in [
        (1, 5_000),
        (1000, 3 << 20),
        (8192, 8 << 20),
        (131_072, 64 << 20),
    ] {
        let server = FakeServer::start(Script {
            message_bytes,
            ..script(wal_bytes)
        });
        receive_all(&server, wal_bytes).unwrap();
    }
}

#[test]
fn every_byte_arrives_when_each_is_a_packet() {
    let one_byte = Script {
        fault: Fault::OneByteWrites,
        message_bytes: 700,
        ..script(20_000)
    };
    receive_all(&FakeServer::start(one_byte), 20_000).unwrap();
}

#[test]
fn a_connection_cut_anywhere_is_an_error_and_nothing_worse() {
    for cut_after in (0..1_400).step_by(7) {
        let cut = Script {
            fault: Fault::CutAfter(cut_after),
            message_bytes: 100,
            ..script(1_000)
        };
        let error = receive_all(&FakeServer::start(cut), 1_000).unwrap_err();
        assert!(error.is_retryable(), "cut after {cut_after}: {error:?}");
    }
}

#[test]
fn garbage_and_impossible_lengths_are_protocol_violations() {
    for fault in [Fault::Garbage, Fault::HugeLength] {
        let server = FakeServer::start(Script {
            fault,
            ..script(1 << 20)
        });
        let error = receive_all(&server, 1 << 20).unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{fault:?}: {error:?}");
    }
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let server = FakeServer::start(Script {
        fault: Fault::NeverAnswers,
        ..Script::default()
    });
    let info: ConnInfo = server.conninfo().parse().unwrap();
    let mut client = Client::connect(&info, Session::PhysicalReplication).unwrap();
    client.set_silence_max(Duration::from_millis(20));
    let error = client.identify_system().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    let error = client.identify_system().unwrap_err();
    assert!(error.is_retryable(), "the connection is closed: {error:?}");
}

#[test]
fn a_wait_for_an_answer_can_be_interrupted() {
    let server = FakeServer::start(Script {
        fault: Fault::NeverAnswers,
        ..Script::default()
    });
    let info: ConnInfo = server.conninfo().parse().unwrap();
    let mut client = Client::connect(&info, Session::PhysicalReplication).unwrap();
    client.set_interrupt(|| true);
    assert!(matches!(client.identify_system(), Err(Error::Interrupted)));
}

#[test]
fn a_timeline_switch_is_told_and_followed_on_the_same_connection() {
    let (switch, end) = (START + 300_000, START + 500_000);
    let server = FakeServer::start(Script {
        timelines: vec![(timeline(9), switch), (timeline(10), end)],
        ..Script::default()
    });
    let mut transport = transport(&server, SlotPolicy::Create);
    assert_eq!(transport.connect().unwrap().timeline, timeline(10));

    transport
        .send(Outgoing::TimelineHistory(timeline(10)))
        .unwrap();
    let content = format!("9\t{switch}\tno recovery target specified\n").into_bytes();
    let history = Came::History("0000000A.history".into(), content);
    assert_eq!(next(&mut transport).unwrap(), history);

    start(&mut transport, timeline(9), START).unwrap();
    assert_eq!(next(&mut transport).unwrap(), Came::Started);
    receive_wal(&mut transport, 300_000).unwrap();
    let end_of_timeline = Came::EndOfTimeline(timeline(10), switch);
    assert_eq!(next(&mut transport).unwrap(), end_of_timeline);

    // Started where the timeline ends, there is nothing to stream.
    start(&mut transport, timeline(9), switch).unwrap();
    assert_eq!(next(&mut transport).unwrap(), end_of_timeline);

    start(&mut transport, timeline(10), switch).unwrap();
    assert_eq!(next(&mut transport).unwrap(), Came::Started);
    receive_wal(&mut transport, 200_000).unwrap();
}

#[test]
fn a_stream_that_we_end_leaves_a_connection_that_can_start_again() {
    let server = FakeServer::start(script(1 << 20));
    let mut transport = transport(&server, SlotPolicy::Create);
    transport.connect().unwrap();
    for _ in 0..3 {
        start(&mut transport, TimelineId::FIRST, START).unwrap();
        assert_eq!(next(&mut transport).unwrap(), Came::Started);
        transport.send(Outgoing::EndStream).unwrap();
        // What is on its way still arrives.
        while let came = next(&mut transport).unwrap()
            && came != Came::Closed
        {
            assert!(matches!(came, Came::Wal(_)), "{came:?}");
        }
    }
}

#[test]
fn a_shutdown_is_told_apart_from_a_lost_connection() {
    for (at_end, in_order) in [(AtEnd::ShutDown, true), (AtEnd::Close, false)] {
        let server = FakeServer::start(Script {
            at_end,
            ..script(10_000)
        });
        let mut transport = transport(&server, SlotPolicy::Create);
        transport.connect().unwrap();
        start(&mut transport, TimelineId::FIRST, START).unwrap();
        assert_eq!(next(&mut transport).unwrap(), Came::Started);
        receive_wal(&mut transport, 10_000).unwrap();
        let end = next(&mut transport);
        assert_eq!(matches!(end, Ok(Came::Closed)), in_order, "{end:?}");
        assert_eq!(matches!(end, Err(Error::Closed)), !in_order, "{end:?}");
    }
}

#[test]
fn what_is_written_and_what_is_durable_are_reported_apart() {
    let server = FakeServer::start(script(0));
    let mut transport = transport(&server, SlotPolicy::Create);
    transport.connect().unwrap();
    start(&mut transport, TimelineId::FIRST, START).unwrap();
    assert_eq!(next(&mut transport).unwrap(), Came::Started);
    let status = StandbyStatus {
        write: START + 20,
        flush: START + 10,
        apply: Lsn::INVALID,
        reply_requested: true,
    };
    transport.send(Outgoing::Status(status)).unwrap();
    assert_eq!(next(&mut transport).unwrap(), Came::Keepalive);
    assert_eq!(
        (server.written(), server.flushed()),
        (START + 20, START + 10)
    );
    assert_eq!(server.statuses(), 1);
}

#[test]
fn a_wait_ends_when_it_is_woken() {
    let server = FakeServer::start(script(0));
    let mut transport = transport(&server, SlotPolicy::Create);
    transport.connect().unwrap();
    let (wake, waker) = rustix::pipe::pipe().unwrap();
    let woken = transport.wait(Duration::from_millis(1), Some(wake.as_fd()));
    assert_eq!(woken.unwrap(), Woken::Timeout);
    rustix::io::write(&waker, b"!").unwrap();
    assert_eq!(
        transport.wait(PATIENCE, Some(wake.as_fd())).unwrap(),
        Woken::Wake
    );
}

#[test]
fn a_slot_is_created_only_on_request() {
    let server = FakeServer::start(script(0));
    let error = transport(&server, SlotPolicy::Require)
        .connect()
        .unwrap_err();
    assert!(matches!(error, Error::SlotMissing { .. }), "{error:?}");
    let hint = error.hint().unwrap();
    let call = "SELECT pg_create_physical_replication_slot('pgmd', true);";
    assert!(hint.contains(call), "{hint}");

    let identity = transport(&server, SlotPolicy::Create).connect().unwrap();
    assert_eq!(identity.slot.unwrap().restart_lsn, Some(START));
    transport(&server, SlotPolicy::Require).connect().unwrap();
}

#[test]
fn before_15_a_missing_slot_is_found_when_streaming_starts() {
    let server = FakeServer::start(Script {
        version: "14.19".into(),
        ..script(0)
    });
    let mut without = transport(&server, SlotPolicy::Require);
    assert_eq!(without.connect().unwrap().slot, None);
    start(&mut without, TimelineId::FIRST, START).unwrap();
    let error = next(&mut without).unwrap_err();
    assert!(matches!(error, Error::SlotMissing { .. }), "{error:?}");

    let mut with = transport(&server, SlotPolicy::Create);
    with.connect().unwrap();
    start(&mut with, TimelineId::FIRST, START).unwrap();
    assert_eq!(next(&mut with).unwrap(), Came::Started);
    let created = "CREATE_REPLICATION_SLOT \"pgmd\" PHYSICAL RESERVE_WAL";
    assert!(server.commands().iter().any(|command| command == created));
}

#[test]
fn wal_that_the_server_no_longer_has_is_recognised() {
    let text = "requested WAL segment 000000010000000000000001 has already been removed";
    let answer = [
        b"W\0\0\0\x07\0\0\0".to_vec(),
        error("ERROR", "58P01", text),
        ready(),
    ]
    .concat();
    let server = FakeServer::start(Script {
        answers: [("START_REPLICATION".to_owned(), answer)].into(),
        ..script(0)
    });
    let mut transport = transport(&server, SlotPolicy::Create);
    transport.connect().unwrap();
    start(&mut transport, TimelineId::FIRST, START).unwrap();
    assert_eq!(next(&mut transport).unwrap(), Came::Started);
    let error = next(&mut transport).unwrap_err();
    assert!(error.is_wal_removed() && !error.is_retryable(), "{error:?}");
}

#[test]
fn impossible_identities_are_refused() {
    let row = |fields: &[&str]| {
        let fields: Vec<_> = fields.iter().map(|field| Some(field.as_bytes())).collect();
        [result_set(&["a", "b", "c"], &[&fields]), ready()].concat()
    };
    let answers = [
        ("IDENTIFY_SYSTEM", row(&["1", "0", "0/0"])),
        ("IDENTIFY_SYSTEM", row(&["1", "1"])),
        ("IDENTIFY_SYSTEM", row(&["x", "1", "0/0"])),
        (
            "IDENTIFY_SYSTEM",
            [complete("IDENTIFY_SYSTEM"), ready()].concat(),
        ),
        (
            "IDENTIFY_SYSTEM",
            [message(b'D', b"\xFF\xFF"), ready()].concat(),
        ),
        ("SHOW", row(&["17MB"])),
        ("SHOW", row(&["2GB"])),
    ];
    for (command, answer) in answers {
        let server = FakeServer::start(Script {
            answers: [(command.to_owned(), answer)].into(),
            ..script(0)
        });
        let error = transport(&server, SlotPolicy::Create)
            .connect()
            .unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{command}: {error:?}");
    }
}

#[test]
fn disconnecting_ends_the_connection_and_connecting_again_works() {
    let server = FakeServer::start(script(1 << 20));
    let mut transport = transport(&server, SlotPolicy::Create);
    for _ in 0..3 {
        transport.connect().unwrap();
        start(&mut transport, TimelineId::FIRST, START).unwrap();
        assert_eq!(next(&mut transport).unwrap(), Came::Started);
        receive_wal(&mut transport, 1 << 20).unwrap();
        transport.disconnect();
        assert!(matches!(transport.receive(), Err(Error::Closed)));
    }
    server.cut();
    wait_until("three streams were asked for", || {
        let streams = server.commands();
        streams
            .iter()
            .filter(|command| command.starts_with("START_REPLICATION"))
            .count()
            == 3
    });
}
