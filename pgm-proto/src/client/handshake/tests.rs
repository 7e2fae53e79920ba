//! Scripts of frames, without a socket.

use proptest::prelude::*;

use super::*;
use crate::client::login::Transport;
use crate::scram::Binding;
use crate::{ChannelBinding, Encryption, Secret};

fn credentials() -> Credentials {
    Credentials {
        user: "pgm".to_owned(),
        password: Some(Secret::new("pencil")),
        policy: ChannelBinding::Prefer,
        binding: Binding::Unavailable,
        encryption: Encryption::None,
        transport: Transport::Network,
    }
}

fn request(code: u32, rest: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), rest].concat()
}

fn run(credentials: Credentials, script: &[(u8, &[u8])]) -> Result<Reaction, Failure> {
    let mut handshake = Handshake::new(credentials);
    let mut last = Ok(Reaction::Wait);
    for (tag, body) in script {
        last = Ok(handshake.handle(Frame { tag: *tag, body })?);
    }
    last
}

const OK: &[u8] = &[0, 0, 0, 0];

#[test]
fn a_trusting_server_is_ready_after_its_parameters() {
    let script: &[(u8, &[u8])] = &[
        (b'R', OK),
        (b'S', b"server_version\x0017.2\0"),
        (b'N', b"SNOTICE\0Mhello\0\0"),
        (b'K', &[0; 8]),
        (b'Z', b"I"),
    ];
    let Ok(Reaction::Ready(parameters)) = run(credentials(), script) else {
        panic!("not ready")
    };
    assert_eq!(parameters["server_version"], "17.2");
}

#[test]
fn md5_and_cleartext_are_answered() {
    let salted = request(5, &[0x2a, 0x3d, 0x8f, 0xe0]);
    let Ok(Reaction::Send(answer)) = run(credentials(), &[(b'R', &salted)]) else {
        panic!()
    };
    assert!(answer.starts_with(b"p\0\0\0\x28md5") && answer.len() == 41);
    let Ok(Reaction::Send(answer)) = run(credentials(), &[(b'R', &request(3, b""))]) else {
        panic!()
    };
    assert_eq!(&answer[..], b"p\0\0\0\x0bpencil\0");
}

#[test]
fn nothing_but_a_bound_exchange_satisfies_channel_binding_require() {
    let offer = request(10, b"SCRAM-SHA-256\0\0");
    for request in [
        OK.to_vec(),
        request(3, b""),
        request(5, &[1, 2, 3, 4]),
        offer,
    ] {
        let required = Credentials {
            policy: ChannelBinding::Require,
            ..credentials()
        };
        let outcome = run(required, &[(b'R', &request)]);
        let refused = AuthenticationError::ChannelBinding { problem: "" };
        let Err(Failure::Authentication(error)) = outcome else {
            panic!("{request:?} was accepted")
        };
        assert_eq!(
            std::mem::discriminant(&error),
            std::mem::discriminant(&refused),
            "{error}"
        );
    }
}

#[test]
fn a_server_that_skips_its_own_proof_is_refused() {
    let offer = request(10, b"SCRAM-SHA-256\0\0");
    let outcome = run(credentials(), &[(b'R', &offer), (b'R', OK)]);
    assert!(matches!(
        outcome,
        Err(Failure::Authentication(
            AuthenticationError::ServerSignature
        ))
    ));
}

#[test]
fn a_password_is_asked_for_only_when_there_is_one() {
    let without = Credentials {
        password: None,
        ..credentials()
    };
    let outcome = run(without, &[(b'R', &request(3, b""))]);
    assert!(matches!(
        outcome,
        Err(Failure::Authentication(AuthenticationError::NoPassword))
    ));
}

#[test]
fn unsupported_methods_are_named() {
    for (code, name) in [(2, "Kerberos 5"), (7, "GSSAPI"), (9, "SSPI")] {
        let Err(Failure::Authentication(error)) =
            run(credentials(), &[(b'R', &request(code, b""))])
        else {
            panic!("{name} was accepted")
        };
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn the_servers_error_is_kept() {
    let outcome = run(credentials(), &[(b'E', b"SFATAL\0VFATAL\0C28P01\0Mno\0\0")]);
    let Err(Failure::Refused(error)) = outcome else {
        panic!()
    };
    assert_eq!(error.sqlstate, "28P01");
}

#[test]
fn commands_and_data_have_no_place_in_a_handshake() {
    for script in [
        &[(b'Z', &b"I"[..])][..],
        &[(b'S', b"a\0b\0")],
        &[(b'd', b"data")],
        &[(b'R', OK), (b'R', OK)],
        &[(b'R', OK), (b'D', b"\0\0")],
    ] {
        assert!(
            matches!(run(credentials(), script), Err(Failure::Protocol(_))),
            "{script:?}"
        );
    }
}

#[test]
fn a_server_that_never_gets_ready_is_given_up() {
    let mut script = vec![(b'R', OK)];
    script.resize(600, (b'S', &b"name\0value\0"[..]));
    assert!(matches!(
        run(credentials(), &script),
        Err(Failure::Protocol(_))
    ));
}

proptest! {
    #[test]
    fn no_script_panics(
        script in proptest::collection::vec(
            (prop_oneof![Just(b'R'), Just(b'S'), Just(b'E'), Just(b'N'), Just(b'v'), Just(b'K'), Just(b'Z'), any::<u8>()],
             prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..24),
                (0_u32..14, proptest::collection::vec(any::<u8>(), 0..24)).prop_map(|(code, rest)| request(code, &rest)),
             ]),
            1..8,
        )
    ) {
        let mut handshake = Handshake::new(credentials());
        for (tag, body) in &script {
            if handshake.handle(Frame { tag: *tag, body }).is_err() {
                break;
            }
        }
    }
}
