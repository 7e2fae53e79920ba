//! Handshakes: the order of things, clients that cheat, bytes that are none.

use proptest::prelude::*;

use super::*;
use crate::scram::{Binding, Exchange as Client};

const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];
const GSSENC_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x30];
const CANCEL_REQUEST: &[u8] = &[0, 0, 0, 16, 0x04, 0xD2, 0x16, 0x2E, 0, 0, 0, 1, 0, 0, 0, 2];

fn options(encryption: Encryption, plain_text: PlainText) -> HandshakeOptions {
    HandshakeOptions {
        encryption,
        plain_text,
        certificate: None,
        mock_secret: MockSecret::new([1; 32]),
        iterations: ScramIterations::default(),
    }
}

fn plain() -> Handshake<u8> {
    Handshake::new(options(Encryption::Unavailable, PlainText::Allowed))
}

fn ann(user: &str) -> Option<(ScramVerifier, u8)> {
    let verifier = || {
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
            WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        text.parse().unwrap()
    };
    (user == "ann").then(|| (verifier(), 42))
}

fn startup(user: &str) -> Vec<u8> {
    packet(
        0x0003_0000,
        format!("user\0{user}\0database\0pgm\0\0").as_bytes(),
    )
}

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = ((body.len() + 8) as u32).to_be_bytes().to_vec();
    packet.extend_from_slice(&code.to_be_bytes());
    packet.extend_from_slice(body);
    packet
}

fn message(body: &[u8]) -> Vec<u8> {
    let mut message = vec![b'p'];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    message
}

fn initial(mechanism: &str, first: &[u8]) -> Vec<u8> {
    let mut body = mechanism.as_bytes().to_vec();
    body.push(0);
    body.extend_from_slice(&(first.len() as u32).to_be_bytes());
    body.extend_from_slice(first);
    message(&body)
}

/// The SQLSTATE in an ErrorResponse at the end of `reply`.
fn sqlstate(step: &Step<u8>) -> &str {
    match &step.next {
        Next::Refused { refusal, .. } => {
            assert!(step.reply.ends_with(&refusal.fatal()));
            refusal.sqlstate
        }
        other => panic!("{other:?}"),
    }
}

/// Body of the last message in `reply`.
fn last_body(reply: &[u8]) -> &[u8] {
    let mut rest = reply;
    loop {
        let length = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        if rest.len() == length + 1 {
            return &rest[9..];
        }
        rest = &rest[length + 1..];
    }
}

/// A whole login over what `handshake` has become; the last step, and what the proof was sent with.
fn log_in(handshake: &mut Handshake<u8>, user: &str, password: &str, trailing: &[u8]) -> Step<u8> {
    let step = handshake.receive(&startup(user), ann);
    assert!(matches!(step.next, Next::Read), "{step:?}");
    let offered = handshake.offer.mechanisms();
    let (encryption, binding) = match &handshake.offer {
        Offer::Unbound => (crate::Encryption::None, Binding::Unavailable),
        Offer::EndPoint(hash) => (crate::Encryption::Tls, Binding::EndPoint(hash.clone())),
    };
    let mut client = Client::begin(&offered, password, encryption, &binding).unwrap();
    let first = initial(client.mechanism(), client.message());
    // Byte by byte: messages may come in any pieces.
    let (last, before) = first.split_last().unwrap();
    for byte in before {
        let step = handshake.receive(&[*byte], ann);
        assert!(matches!(step.next, Next::Read) && step.reply.is_empty());
    }
    let step = handshake.receive(&[*last], ann);
    assert!(matches!(step.next, Next::Read), "{step:?}");
    client.challenge(last_body(&step.reply)).unwrap();
    let mut proof = message(client.message());
    proof.extend_from_slice(trailing);
    handshake.receive(&proof, ann)
}

#[test]
fn a_login_without_tls_where_that_is_allowed() {
    let step = log_in(&mut plain(), "ann", "pencil", b"Q");
    let Next::Accepted(login) = step.next else {
        panic!()
    };
    assert_eq!((login.user.as_str(), login.identity), ("ann", 42));
    assert_eq!(login.parameters["database"], "pgm");
    assert_eq!(login.mechanism, "SCRAM-SHA-256");
    assert_eq!(login.unread, b"Q");
    assert!(step.reply.ends_with(b"R\0\0\0\x08\0\0\0\0"));
}

#[test]
fn a_login_through_tls_is_bound_to_the_certificate() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key);
    let mut options = options(Encryption::Offered, PlainText::Refused);
    options.certificate = Some(certificate.unwrap().der().to_vec());
    let mut handshake = Handshake::new(options);
    assert_eq!(handshake.receive(GSSENC_REQUEST, ann).reply, b"N");
    let step = handshake.receive(SSL_REQUEST, ann);
    assert!(matches!(step.next, Next::BeginTls) && step.reply == b"S");
    handshake.encrypted();
    let step = log_in(&mut handshake, "ann", "pencil", b"");
    let Next::Accepted(login) = step.next else {
        panic!()
    };
    assert_eq!(login.mechanism, "SCRAM-SHA-256-PLUS");
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_the_same() {
    let wrong = log_in(&mut plain(), "ann", "pen", b"");
    let unknown = log_in(&mut plain(), "eve", "pencil", b"");
    assert_eq!(sqlstate(&wrong), "28P01");
    let text = |step: &Step<u8>| String::from_utf8(step.reply.clone()).unwrap();
    assert_eq!(text(&wrong).replace("ann", "eve"), text(&unknown));
    let Next::Refused { user, .. } = unknown.next else {
        panic!()
    };
    assert_eq!(user.as_deref(), Some("eve"));
}

#[test]
fn a_login_without_tls_is_refused_where_tls_is_needed() {
    let mut handshake = Handshake::new(options(Encryption::Offered, PlainText::Refused));
    assert_eq!(sqlstate(&handshake.receive(&startup("ann"), ann)), "28000");
}

#[test]
fn each_request_for_encryption_comes_once_and_never_inside_tls() {
    let mut handshake = plain();
    assert_eq!(handshake.receive(SSL_REQUEST, ann).reply, b"N");
    assert_eq!(sqlstate(&handshake.receive(SSL_REQUEST, ann)), "08P01");
    let mut handshake = plain();
    assert_eq!(handshake.receive(GSSENC_REQUEST, ann).reply, b"N");
    assert_eq!(sqlstate(&handshake.receive(GSSENC_REQUEST, ann)), "08P01");
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut handshake = Handshake::new(options(Encryption::Begun, PlainText::Refused));
        assert_eq!(sqlstate(&handshake.receive(request, ann)), "08P01");
    }
}

#[test]
fn bytes_before_tls_end_the_connection() {
    let open = || Handshake::new(options(Encryption::Offered, PlainText::Refused));
    let together = [SSL_REQUEST, &startup("ann")].concat();
    assert_eq!(sqlstate(&open().receive(&together, ann)), "08P01");
    let mut handshake = open();
    handshake.receive(SSL_REQUEST, ann);
    assert_eq!(sqlstate(&handshake.receive(b"x", ann)), "08P01");
}

#[test]
fn a_cancel_request_is_answered_by_hanging_up() {
    let step = plain().receive(CANCEL_REQUEST, ann);
    assert!(matches!(step.next, Next::Cancelled(_)) && step.reply.is_empty());
}

#[test]
fn a_newer_protocol_is_talked_down() {
    let mut handshake = plain();
    let newer = packet(0x0003_0002, b"user\0ann\0_pq_.x\0y\0\0");
    let step = handshake.receive(&newer, ann);
    assert!(
        step.reply
            .starts_with(b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0R")
    );
}

#[test]
fn lengths_are_bounded_before_anything_is_waited_for() {
    for length in [0_u32, 7, 10_001, u32::MAX] {
        assert_eq!(
            sqlstate(&plain().receive(&length.to_be_bytes(), ann)),
            "08P01"
        );
    }
    for header in [
        &b"p\0\0\x27\x11"[..],
        b"p\xFF\xFF\xFF\xFF",
        b"p\0\0\0\x03",
        b"Q\0\0\0\x05",
    ] {
        let mut handshake = plain();
        handshake.receive(&startup("ann"), ann);
        assert_eq!(sqlstate(&handshake.receive(header, ann)), "08P01");
    }
}

#[test]
fn a_password_in_clear_is_no_answer() {
    let mut handshake = plain();
    handshake.receive(&startup("ann"), ann);
    assert_eq!(
        sqlstate(&handshake.receive(&message(b"pencil\0"), ann)),
        "08P01"
    );
    // Nothing is read any more.
    let step = handshake.receive(&message(b"pencil\0"), ann);
    assert!(matches!(step.next, Next::Read) && step.reply.is_empty());
    assert_eq!(handshake.held_bytes(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever comes, in whatever pieces, ends or waits, and holds no more than one message.
    #[test]
    fn any_bytes_are_answered_or_refused(
        begins in 0..4_usize,
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
    ) {
        let mut handshake = plain();
        let first = b"n,,n=,r=abc";
        for message in [startup("ann"), initial("SCRAM-SHA-256", first), message(b"c=biws,r=abc")]
            .iter()
            .take(begins)
        {
            handshake.receive(message, ann);
        }
        for piece in pieces {
            let step = handshake.receive(&piece, ann);
            prop_assert!(!matches!(step.next, Next::Accepted(_)));
            prop_assert!(handshake.held_bytes() <= BUFFER_BYTES_MAX);
        }
    }
}
