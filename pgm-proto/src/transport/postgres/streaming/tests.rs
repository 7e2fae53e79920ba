//! WAL streams as golden scripts, cut at every place.

use super::*;

fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn wal(start: u64, server_end: u64, data: &[u8]) -> Vec<u8> {
    let mut body = vec![b'w'];
    body.extend(start.to_be_bytes());
    body.extend(server_end.to_be_bytes());
    body.extend([0; 8]);
    body.extend_from_slice(data);
    body
}

fn keepalive(server_end: u64, reply: u8) -> Vec<u8> {
    let mut body = vec![b'k'];
    body.extend(server_end.to_be_bytes());
    body.extend([0; 8]);
    body.push(reply);
    body
}

/// A connection that streams.
fn started() -> Streaming {
    let mut streaming = Streaming::default();
    streaming.ask_start().unwrap();
    assert_eq!(streaming.take(b'W', b"\0\0\0").unwrap(), Step::Started);
    streaming
}

const NEXT: &[u8] = b"\0\x02\0\0\0\x012\0\0\0\x090/3000000";

#[test]
fn wal_and_keepalives_are_told_with_their_positions() {
    let mut streaming = started();
    let step = streaming.take(b'd', &wal(0x10, 0x30, b"abc")).unwrap();
    let (start, server_end) = (Lsn::new(0x10), Lsn::new(0x30));
    assert_eq!(step, Step::Wal { start, server_end });
    let step = streaming.take(b'd', &keepalive(0x30, 1)).unwrap();
    let reply_requested = true;
    assert_eq!(
        step,
        Step::Keepalive {
            server_end,
            reply_requested
        }
    );
    assert_eq!(
        streaming.take(b'd', &wal(0x13, 0x30, b"")).unwrap(),
        Step::Skip
    );
}

#[test]
fn a_timeline_switch_ends_both_halves_and_names_the_next() {
    let mut streaming = started();
    assert_eq!(streaming.take(b'c', b"").unwrap(), Step::CopyDone);
    assert!(!streaming.takes_status());
    for (tag, body) in [
        (b'T', &b""[..]),
        (b'D', NEXT),
        (b'C', b"SELECT\0"),
        (b'C', b"X\0"),
    ] {
        assert_eq!(streaming.take(tag, body).unwrap(), Step::Skip);
    }
    let step = streaming.take(b'Z', b"I").unwrap();
    let (next, switch) = (timeline(2), Lsn::new(0x0300_0000));
    assert_eq!(step, Step::EndOfTimeline { next, switch });
    streaming.ask_start().unwrap();
}

#[test]
fn a_timeline_that_ends_where_we_start_gives_no_stream() {
    let mut streaming = Streaming::default();
    streaming.ask_start().unwrap();
    for (tag, body) in [
        (b'T', &b""[..]),
        (b'D', NEXT),
        (b'C', b"SELECT\0"),
        (b'C', b"X\0"),
    ] {
        assert_eq!(streaming.take(tag, body).unwrap(), Step::Skip);
    }
    let step = streaming.take(b'Z', b"I").unwrap();
    assert!(matches!(step, Step::EndOfTimeline { .. }));
}

#[test]
fn our_end_of_the_stream_still_lets_wal_on_its_way_arrive() {
    let mut streaming = started();
    assert!(streaming.end_by_us());
    assert!(!streaming.end_by_us());
    let step = streaming.take(b'd', &wal(0x10, 0x30, b"abc")).unwrap();
    assert!(matches!(step, Step::Wal { .. }));
    let step = streaming.take(b'd', &keepalive(0x30, 1)).unwrap();
    assert!(matches!(
        step,
        Step::Keepalive {
            reply_requested: false,
            ..
        }
    ));
    assert_eq!(streaming.take(b'c', b"").unwrap(), Step::Skip);
    assert_eq!(
        streaming.take(b'C', b"START_STREAMING\0").unwrap(),
        Step::Skip
    );
    assert_eq!(streaming.take(b'Z', b"I").unwrap(), Step::Closed);
}

#[test]
fn a_shutdown_completes_the_command_within_the_stream() {
    let mut streaming = started();
    assert!(!streaming.may_close());
    assert_eq!(streaming.take(b'C', b"COPY 0\0").unwrap(), Step::Closed);
    assert!(streaming.may_close());
}

#[test]
fn streaming_may_be_asked_for_before_the_history_has_ended() {
    let row = b"\0\x02\0\0\0\x1000000002.history\0\0\0\x031\t\xFF";
    let mut streaming = Streaming::default();
    streaming.ask_history(timeline(2)).unwrap();
    assert_eq!(streaming.take(b'T', b"").unwrap(), Step::Skip);
    let step = streaming.take(b'D', row).unwrap();
    assert_eq!(
        step,
        Step::History {
            timeline: timeline(2)
        }
    );
    assert_eq!(
        history(row, timeline(2)).unwrap(),
        ("00000002.history", &b"1\t\xFF"[..])
    );
    streaming.ask_start().unwrap();
    for tag in [b'C', b'C', b'Z'] {
        assert_eq!(streaming.take(tag, b"").unwrap(), Step::Skip);
    }
    assert_eq!(streaming.take(b'W', b"\0\0\0").unwrap(), Step::Started);
}

#[test]
fn a_history_under_another_name_is_refused() {
    let mut streaming = Streaming::default();
    streaming.ask_history(timeline(3)).unwrap();
    let row = b"\0\x02\0\0\0\x1000000002.history\0\0\0\x031\t\xFF";
    assert!(streaming.take(b'D', row).is_err());
}

#[test]
fn commands_are_not_sent_into_a_stream() {
    assert!(started().ask_start().is_err());
    assert!(started().ask_history(timeline(2)).is_err());
}

#[test]
fn errors_come_through_at_any_time() {
    for mut streaming in [Streaming::default(), started()] {
        let error = streaming
            .take(b'E', b"SERROR\0C58P01\0Mremoved\0\0")
            .unwrap_err();
        assert!(error.is_wal_removed());
    }
}

#[test]
fn hostile_messages_are_errors_and_no_panics() {
    let bodies = [wal(0x10, 0x30, b"abc"), keepalive(1, 1)];
    for body in &bodies {
        let whole = if body[0] == b'w' {
            WAL_HEADER_BYTES
        } else {
            body.len()
        };
        for end in 0..whole {
            assert!(started().take(b'd', &body[..end]).is_err(), "{end}");
        }
    }
    assert!(started().take(b'd', &wal(u64::MAX - 1, 0, b"abc")).is_err());
    for tag in 0..=u8::MAX {
        for body in [&b""[..], b"\0", b"\xFF\xFF\xFF\xFF"] {
            let _ = started().take(tag, body);
            let _ = Streaming::default().take(tag, body);
        }
    }
    assert!(Streaming::default().take(b'd', &bodies[0]).is_err());
}
