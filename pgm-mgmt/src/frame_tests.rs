//! Frames: round trips, limits, hostile bytes.

use proptest::prelude::*;

use super::*;
use crate::{
    BackupChoice, Error, ErrorCode, Event, JobId, JobKind, JobProgress, Request, Response,
    RestoreOptions, RestoreTarget, TablespaceMapping, TargetAction, TargetPoint,
};

fn read(bytes: &[u8]) -> Result<Frame, FrameError> {
    Frame::read_from(&mut &*bytes)
}

fn round_trip<T>(id: MessageId, message: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = Frame::new(id, message).unwrap().to_bytes();
    let frame = read(&bytes).unwrap();
    assert_eq!(frame.id, id);
    assert_eq!(&frame.message::<T>().unwrap(), message);
}

fn restore(path: String, name: String) -> Request {
    Request::Restore(RestoreOptions {
        server: "prod".parse().unwrap(),
        backup: BackupChoice::Label(name.clone()),
        directory: path.clone(),
        delta: true,
        target: RestoreTarget {
            point: TargetPoint::Name(name),
            exclusive: true,
            timeline: "3".parse().ok(),
            action: Some(TargetAction::Promote),
        },
        tablespaces: vec![TablespaceMapping {
            from: path.clone(),
            to: path,
        }],
        plan_only: false,
        restore_program: None,
    })
}

#[test]
fn ids_never_collide_with_postgresql() {
    for byte in 0..=u8::MAX {
        if let Some(id) = MessageId::from_byte(byte) {
            assert_eq!(id.byte(), byte);
            assert!(!byte.is_ascii() && byte != 0);
        }
    }
}

#[test]
fn requests_events_errors_and_answers_survive_the_wire() {
    round_trip(MessageId::Request, &Request::Ping);
    round_trip(MessageId::Request, &Request::Status { server: None });
    let progress = JobProgress {
        job: JobId::new(7),
        kind: JobKind::Backup,
        server: "prod".parse().unwrap(),
        phase: "copy".to_owned(),
        done_bytes: 1,
        total_bytes: Some(u64::MAX),
        rate_bytes: 3,
        eta_seconds: None,
        started: "2026-11-22T02:34:56Z".to_owned(),
        elapsed_seconds: 4,
    };
    round_trip(MessageId::Event, &Event::Progress(progress));
    let error = Error::new(ErrorCode::UnknownServer, "no \"x\"\n").with_hint("a\u{7}");
    round_trip(MessageId::Error, &error);
    round_trip(MessageId::Response, &Response::Cancelling(JobId::new(1)));
}

#[test]
fn a_length_over_the_bound_is_refused_before_anything_is_allocated() {
    let mut bytes = vec![MessageId::Request.byte()];
    bytes.extend_from_slice(&(REQUEST_BYTES_MAX + 1).to_be_bytes());
    assert!(matches!(read(&bytes), Err(FrameError::TooLong { .. })));
    let largest = [0x81, 0x01, 0x00, 0x00, 0x00];
    assert_eq!(Header::parse(largest).unwrap().length, RESPONSE_BYTES_MAX);
}

#[test]
fn a_message_over_the_bound_is_never_sent() {
    let request = restore("x".repeat(REQUEST_BYTES_MAX as usize), String::new());
    assert!(matches!(
        Frame::new(MessageId::Request, &request),
        Err(FrameError::TooLong { .. })
    ));
}

#[test]
fn half_a_frame_is_told_from_a_closed_connection() {
    let bytes = Frame::new(MessageId::Request, &Request::Shutdown)
        .unwrap()
        .to_bytes();
    assert!(matches!(read(&[]), Err(FrameError::Closed)));
    for end in 1..bytes.len() {
        assert!(
            matches!(read(&bytes[..end]), Err(FrameError::Truncated)),
            "{end}"
        );
    }
}

#[test]
fn a_payload_nested_beyond_reason_is_an_error_and_not_a_stack_overflow() {
    for nest in ["Some(", "(", "[", "Status(server:"] {
        let frame = Frame {
            id: MessageId::Request,
            payload: nest.repeat(100_000).into_bytes(),
        };
        assert!(frame.message::<Request>().is_err());
    }
}

#[test]
fn a_field_that_a_newer_peer_adds_is_skipped() {
    let payload = br#"Status(server:None,colour:"red")"#.to_vec();
    let frame = Frame {
        id: MessageId::Request,
        payload,
    };
    assert_eq!(
        frame.message::<Request>().unwrap(),
        Request::Status { server: None }
    );
}

#[test]
fn code_names_are_those_on_the_wire() {
    for code in [
        ErrorCode::UnknownServer,
        ErrorCode::TooBusy,
        ErrorCode::WorkerDied,
    ] {
        assert_eq!(
            serde_json::to_string(&code).unwrap(),
            format!("\"{}\"", code.name())
        );
    }
}

proptest! {
    #[test]
    fn any_text_survives(path: String, name: String) {
        round_trip(MessageId::Request, &restore(path, name));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Ok(frame) = read(&bytes) {
            let _ = frame.message::<Request>();
            let _ = frame.message::<Response>();
        }
    }

    #[test]
    fn any_payload_is_read_or_refused(payload in "[A-Za-z(){}\\[\\]:,\"0-9 ]{0,200}") {
        let frame = Frame { id: MessageId::Request, payload: payload.into_bytes() };
        let _ = frame.message::<Request>();
        let _ = frame.message::<Event>();
    }
}
