//! SCRAM: the exchange, channel binding, servers that cheat.

use super::*;

fn begin(
    offered: &[&str],
    encryption: Encryption,
    binding: &Binding,
) -> Result<Exchange, AuthenticationError> {
    let offered: Vec<_> = offered.iter().map(|name| (*name).to_owned()).collect();
    Exchange::begin(&offered, "pencil", encryption, binding)
}

fn first_message(exchange: &Exchange) -> String {
    String::from_utf8(exchange.message().to_vec()).unwrap()
}

const BOTH: &[&str] = &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];

#[test]
fn the_mechanism_is_bound_whenever_it_can_be() {
    let hash = Binding::EndPoint(vec![7; 32]);
    let bound = begin(BOTH, Encryption::Tls, &hash).unwrap();
    assert!(bound.is_bound());
    assert!(first_message(&bound).starts_with("p=tls-server-end-point,,n=,r="));

    let stripped = begin(&["SCRAM-SHA-256"], Encryption::Tls, &hash).unwrap();
    assert!(!stripped.is_bound());
    assert!(
        first_message(&stripped).starts_with("y,,"),
        "the server must notice a stripped offer"
    );

    let unwanted = begin(BOTH, Encryption::Tls, &Binding::Unavailable).unwrap();
    assert!(first_message(&unwanted).starts_with("n,,"));
}

#[test]
fn an_offer_to_bind_without_tls_is_refused() {
    assert!(begin(BOTH, Encryption::None, &Binding::Unavailable).is_err());
    let unsupported = begin(&["OAUTHBEARER"], Encryption::Tls, &Binding::Unavailable);
    assert!(matches!(
        unsupported,
        Err(AuthenticationError::Unsupported { .. })
    ));
}

#[test]
fn iterations_are_bounded_before_any_work() {
    for (count, allowed) in [
        ("4096", true),
        ("100000", true),
        ("4095", false),
        ("1", false),
        ("100001", false),
        ("4294967295", false),
        ("18446744073709551615", false),
    ] {
        let mut exchange = begin(BOTH, Encryption::Tls, &Binding::Unavailable).unwrap();
        let nonce = first_message(&exchange)
            .split_once("r=")
            .unwrap()
            .1
            .to_owned();
        let result =
            exchange.challenge(format!("r={nonce}x,s=QSXCR+Q6sek8bf92,i={count}").as_bytes());
        assert_eq!(result.is_ok(), allowed, "{count}: {result:?}");
    }
}

#[test]
fn a_challenge_for_another_exchange_and_a_forged_signature_are_refused() {
    let mut exchange = begin(BOTH, Encryption::Tls, &Binding::Unavailable).unwrap();
    assert!(
        exchange
            .challenge(b"r=other,s=QSXCR+Q6sek8bf92,i=4096")
            .is_err()
    );
    for garbage in [&b""[..], b"i=4096", b"\xff\xfe", b"r=,s=,i="] {
        let mut exchange = begin(BOTH, Encryption::Tls, &Binding::Unavailable).unwrap();
        assert!(exchange.challenge(garbage).is_err());
    }

    let mut exchange = begin(BOTH, Encryption::Tls, &Binding::Unavailable).unwrap();
    let nonce = first_message(&exchange)
        .split_once("r=")
        .unwrap()
        .1
        .to_owned();
    exchange
        .challenge(format!("r={nonce}x,s=QSXCR+Q6sek8bf92,i=4096").as_bytes())
        .unwrap();
    let forged = exchange.finish(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    assert_eq!(forged, Err(AuthenticationError::ServerSignature));
}
