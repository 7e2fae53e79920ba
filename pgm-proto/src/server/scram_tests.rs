//! SCRAM, the server's side: the RFC's own words, our own client, clients that cheat.

use super::*;
use crate::Secret;
use crate::scram::{Binding, Exchange as Client};

fn verifier() -> ScramVerifier {
    ScramVerifier::from_password(&Secret::new("pencil"), ScramIterations::default())
}

fn begin(mechanism: &str, offer: &Offer, first: &[u8]) -> Result<Exchange, Failure> {
    Exchange::begin(mechanism, offer, first, verifier())
}

fn bound() -> Offer {
    Offer::EndPoint(vec![7; 32])
}

/// A login of our client with `password`; what it makes of our signature.
fn log_in(password: &str, offer: &Offer, binding: &Binding) -> Result<(), Failure> {
    let encryption = match offer {
        Offer::Unbound => crate::Encryption::None,
        Offer::EndPoint(_) => crate::Encryption::Tls,
    };
    let mut client = Client::begin(&offer.mechanisms(), password, encryption, binding).unwrap();
    let server = begin(client.mechanism(), offer, client.message())?;
    client.challenge(server.challenge().as_bytes()).unwrap();
    let signature = server.finish(client.message())?;
    client.finish(signature.as_bytes()).unwrap();
    Ok(())
}

#[test]
fn clients_log_in_with_the_password_and_only_with_it() {
    let plain = (Offer::Unbound, Binding::Unavailable);
    let unbound = (bound(), Binding::Unavailable);
    let bound = (bound(), Binding::EndPoint(vec![7; 32]));
    for (offer, binding) in [plain, unbound, bound] {
        assert_eq!(log_in("pencil", &offer, &binding), Ok(()));
        assert_eq!(log_in("pencil ", &offer, &binding), Err(Failure::Proof));
        assert_eq!(log_in("", &offer, &binding), Err(Failure::Proof));
    }
}

#[test]
fn a_login_bound_to_another_certificate_is_refused() {
    let elsewhere = Binding::EndPoint(vec![8; 32]);
    assert!(matches!(
        log_in("pencil", &bound(), &elsewhere),
        Err(Failure::Binding(_))
    ));
}

#[test]
fn an_offer_that_was_cut_out_on_the_way_is_noticed() {
    let first = b"y,,n=,r=abc";
    assert!(matches!(
        begin(SCRAM_SHA_256, &bound(), first),
        Err(Failure::Binding(_))
    ));
    assert!(begin(SCRAM_SHA_256, &Offer::Unbound, first).is_ok());
}

#[test]
fn mechanism_and_header_must_agree() {
    for (mechanism, offer, first) in [
        (SCRAM_SHA_256, bound(), "p=tls-server-end-point,,n=,r=abc"),
        (SCRAM_SHA_256_PLUS, bound(), "n,,n=,r=abc"),
        (SCRAM_SHA_256_PLUS, bound(), "y,,n=,r=abc"),
        (SCRAM_SHA_256_PLUS, bound(), "p=tls-unique,,n=,r=abc"),
        (
            SCRAM_SHA_256_PLUS,
            Offer::Unbound,
            "p=tls-server-end-point,,n=,r=abc",
        ),
        ("SCRAM-SHA-1", bound(), "n,,n=,r=abc"),
    ] {
        assert!(
            begin(mechanism, &offer, first.as_bytes()).is_err(),
            "{first}"
        );
    }
}

#[test]
fn first_messages_that_are_none_are_refused() {
    let long = format!("n,,n=,r={}", "a".repeat(MESSAGE_BYTES_MAX));
    for first in [
        "",
        "n",
        "n,",
        "n,,",
        "x,,n=,r=abc",
        "nn,,n=,r=abc",
        "n,a=root,n=,r=abc",
        "n,x,n=,r=abc",
        "n,,m=ext,n=,r=abc",
        "n,,r=abc",
        "n,,n=",
        "n,,n=,r=",
        "n,,n=,r=a b",
        "n,,n=,r=a\u{7F}",
        "n,,n=,r=\u{E9}",
        "n,,n=,r=abc,",
        "n,,n=,r=abc,1=x",
        "n,,n=,r=abc\0",
        long.as_str(),
    ] {
        let begun = begin(SCRAM_SHA_256, &Offer::Unbound, first.as_bytes());
        assert!(begun.is_err(), "{first}");
    }
    let extended = begin(SCRAM_SHA_256, &Offer::Unbound, b"n,,n=x,r=abc,z=1,y=");
    assert!(extended.is_ok());
}

#[test]
fn what_the_client_repeats_must_be_what_was_said() {
    type Change = fn(&str) -> String;
    let changes: [(Change, &str); 9] = [
        (|text| text.replace("c=biws", "c=eSws"), "binding"),
        (|text| text.replace("c=biws", "c=biwsAAAA"), "binding data"),
        (|text| text.replace("c=biws,", ""), "no binding"),
        (|text| text.replacen("r=", "r=x", 1), "nonce"),
        (
            |text| text.replacen(text.split(',').nth(1).unwrap(), "r=rOprNGfwEbeRWgbNEkqO", 1),
            "the client's part of the nonce alone",
        ),
        (|text| text.replace(",p=", ",z=1,p="), "something unsigned"),
        (|text| format!("{text},z=1"), "something after the proof"),
        (|text| text[..text.len() - 4].to_owned(), "a short proof"),
        (|text| format!("{text}AAAA"), "a long proof"),
    ];
    for (change, what) in changes {
        let offered = Offer::Unbound.mechanisms();
        let mut client = Client::begin(
            &offered,
            "pencil",
            crate::Encryption::None,
            &Binding::Unavailable,
        )
        .unwrap();
        let server = begin(SCRAM_SHA_256, &Offer::Unbound, client.message()).unwrap();
        client.challenge(server.challenge().as_bytes()).unwrap();
        let honest = String::from_utf8(client.message().to_vec()).unwrap();
        let changed = change(&honest);
        assert_ne!(changed, honest);
        assert!(server.finish(changed.as_bytes()).is_err(), "{what}");
    }
}

#[test]
fn nonces_are_new_printable_and_begin_with_the_clients() {
    let challenge = || {
        let begun = begin(SCRAM_SHA_256, &Offer::Unbound, b"n,,n=,r=abc").unwrap();
        begun.challenge().to_owned()
    };
    let (one, two) = (challenge(), challenge());
    assert_ne!(one, two);
    let nonce = one
        .strip_prefix("r=abc")
        .unwrap()
        .split(',')
        .next()
        .unwrap();
    assert_eq!(nonce.len(), 24);
    assert!(nonce.bytes().all(|byte| byte.is_ascii_graphic()));
}

#[test]
fn a_user_that_does_not_exist_keeps_its_salt() {
    let secret = MockSecret::random();
    let salt = |user| {
        let verifier = secret.verifier(user, ScramIterations::default());
        verifier.salt().to_vec()
    };
    assert_eq!(salt("nobody"), salt("nobody"));
    assert_ne!(salt("nobody"), salt("somebody"));
    let elsewhere = MockSecret::random().verifier("nobody", ScramIterations::default());
    assert_ne!(salt("nobody"), elsewhere.salt());
    assert_eq!(format!("{secret:?}"), "MockSecret(***)");
}
