//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677): a value without I/O.
//!
//! ```text
//! client  n,,n=,r=NONCE                     (p=tls-server-end-point,, instead of n,, with -PLUS)
//! ours    r=NONCE+MORE,s=SALT,i=ITERATIONS
//! client  c=BINDING,r=NONCE+MORE,p=PROOF
//! ours    v=SIGNATURE
//! ```
//!
//! Follows PostgreSQL's `auth-scram.c`: the user is the startup packet's, what `n=` says does not count; a client that
//! says `y` (it could bind, but saw no offer) is refused when there was one, since then somebody cut it out on the way;
//! what the client repeats (`c=`, `r=`) must be exactly what was said before; an extension that is mandatory is refused,
//! others are skipped. Every byte is checked here: nothing relies on where a client of a certain make puts its fields.
//!
//! A user that does not exist goes through the same exchange with the same arithmetic, with a salt that stays the same
//! for the name; only the last comparison tells, and it tells nobody why.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::verifier::{KEY_BYTES, SALT_BYTES, ScramIterations, ScramVerifier};
use super::verifier::{hmac_sha256, random, sha256};

/// The mechanism without channel binding.
pub(super) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with it.
pub(super) const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The longest SCRAM message that is read, as in PostgreSQL.
pub(super) const MESSAGE_BYTES_MAX: usize = 1024;
/// Random bytes in our part of the nonce.
const NONCE_BYTES: usize = 18;
/// The only kind of channel binding.
const END_POINT: &[u8] = b"tls-server-end-point";

/// What stands behind salts of users that do not exist; the same over restarts, or the salts would tell.
#[derive(Clone)]
pub struct MockSecret(Zeroizing<[u8; KEY_BYTES]>);

impl MockSecret {
    /// Takes 32 random bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new one.
    pub fn random() -> Self {
        Self::new(random())
    }

    /// The verifier of a user that does not exist. `iterations` are those that new users get.
    pub(super) fn verifier(&self, user: &str, iterations: ScramIterations) -> ScramVerifier {
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&hmac_sha256(self.0.as_slice(), user.as_bytes())[..SALT_BYTES]);
        ScramVerifier::unknown_user(salt, iterations)
    }
}

impl std::fmt::Debug for MockSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MockSecret(***)")
    }
}

/// Why an exchange ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// A message is not SCRAM.
    Malformed(&'static str),
    /// There is no such mechanism, or it was not offered.
    Mechanism,
    /// Channel binding is not as the mechanism says, or somebody tampered with its offer.
    Binding(&'static str),
    /// The client asks for something that there is not.
    Unsupported(&'static str),
    /// Wrong password, or no such user.
    Proof,
}

/// What the connection can be bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Offer {
    /// Nothing: there is no TLS, or its certificate has no hash of its own.
    Unbound,
    /// The certificate of this hash.
    EndPoint(Vec<u8>),
}

impl Offer {
    /// The mechanisms that the client may choose from.
    pub(super) fn mechanisms(&self) -> Vec<String> {
        match self {
            Self::Unbound => vec![SCRAM_SHA_256.to_owned()],
            Self::EndPoint(_) => vec![SCRAM_SHA_256_PLUS.to_owned(), SCRAM_SHA_256.to_owned()],
        }
    }
}

/// An exchange after the client's first message.
pub(super) struct Exchange {
    verifier: ScramVerifier,
    /// What `c=` must say, in base64.
    binding: String,
    client_first_bare: Vec<u8>,
    nonce: Vec<u8>,
    server_first: String,
}

impl Exchange {
    /// Takes the client's first message. The nonce is new; [`challenge`](Self::challenge) is the answer.
    pub(super) fn begin(
        mechanism: &str,
        offer: &Offer,
        client_first: &[u8],
        verifier: ScramVerifier,
    ) -> Result<Self, Failure> {
        let first = ClientFirst::parse(client_first)?;
        let binding = expected_binding(mechanism, offer, &first)?;
        let mut nonce = first.nonce.to_vec();
        nonce.extend_from_slice(BASE64.encode(random::<NONCE_BYTES>()).as_bytes());
        let server_first = format!(
            "r={},s={},i={}",
            String::from_utf8_lossy(&nonce), // printable ASCII
            BASE64.encode(verifier.salt()),
            verifier.iterations()
        );
        Ok(Self {
            binding: BASE64.encode(binding),
            client_first_bare: first.bare.to_vec(),
            nonce,
            server_first,
            verifier,
        })
    }

    /// Our first message.
    pub(super) fn challenge(&self) -> &str {
        &self.server_first
    }

    /// Takes the client's proof; our signature when it holds.
    pub(super) fn finish(self, client_final: &[u8]) -> Result<String, Failure> {
        let last = ClientFinal::parse(client_final)?;
        if last.binding != self.binding.as_bytes() {
            return Err(Failure::Binding("SCRAM channel binding check failed"));
        }
        if last.nonce != self.nonce {
            return Err(Failure::Malformed("nonce does not match"));
        }
        let mut said = self.client_first_bare;
        said.push(b',');
        said.extend_from_slice(self.server_first.as_bytes());
        said.push(b',');
        said.extend_from_slice(last.without_proof);

        let signature = hmac_sha256(self.verifier.stored_key(), &said);
        let mut client_key = Zeroizing::new([0; KEY_BYTES]);
        for ((key, proof), signature) in client_key.iter_mut().zip(last.proof).zip(signature) {
            *key = proof ^ signature;
        }
        let stored_key = sha256(client_key.as_slice());
        let ours = hmac_sha256(self.verifier.server_key(), &said);
        verify_slices_are_equal(&stored_key, self.verifier.stored_key())
            .map_err(|_| Failure::Proof)?;
        Ok(format!("v={}", BASE64.encode(ours)))
    }
}

/// What `c=` must say before it is encoded: the header as the client sent it, and the hash that it binds to.
fn expected_binding(
    mechanism: &str,
    offer: &Offer,
    first: &ClientFirst<'_>,
) -> Result<Vec<u8>, Failure> {
    match (mechanism, offer, &first.flag) {
        (SCRAM_SHA_256_PLUS, Offer::EndPoint(hash), Flag::Bound(kind)) => {
            if *kind != END_POINT {
                return Err(Failure::Unsupported(
                    "unsupported SCRAM channel-binding type",
                ));
            }
            let mut binding = first.header.to_vec();
            binding.extend_from_slice(hash);
            Ok(binding)
        }
        (SCRAM_SHA_256_PLUS, Offer::EndPoint(_), _) => Err(Failure::Binding(
            "SCRAM-SHA-256-PLUS without channel binding data",
        )),
        (SCRAM_SHA_256, _, Flag::Bound(_)) => {
            Err(Failure::Binding("SCRAM-SHA-256 with channel binding data"))
        }
        (SCRAM_SHA_256, Offer::EndPoint(_), Flag::SawNoOffer) => {
            Err(Failure::Binding("SCRAM channel binding negotiation error"))
        }
        (SCRAM_SHA_256, _, _) => Ok(first.header.to_vec()),
        _ => Err(Failure::Mechanism),
    }
}

/// The client's word on channel binding.
#[derive(Debug, PartialEq, Eq)]
enum Flag<'a> {
    /// `n`: it cannot, or does not want to.
    Unwanted,
    /// `y`: it could, but saw no offer.
    SawNoOffer,
    /// `p=`: it does, and how.
    Bound(&'a [u8]),
}

/// `n,,n=user,r=nonce`
#[derive(Debug, PartialEq, Eq)]
struct ClientFirst<'a> {
    flag: Flag<'a>,
    /// Up to and with the second comma.
    header: &'a [u8],
    /// What follows it.
    bare: &'a [u8],
    nonce: &'a [u8],
}

impl<'a> ClientFirst<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, Failure> {
        let message = bounded(message)?;
        let (flag, rest) = split(message)?;
        let (identity, bare) = split(rest)?;
        let flag = match flag {
            b"n" => Flag::Unwanted,
            b"y" => Flag::SawNoOffer,
            _ => Flag::Bound(attribute(flag, b'p')?),
        };
        if !identity.is_empty() {
            attribute(identity, b'a')?;
            return Err(Failure::Unsupported(
                "client uses authorization identity, but it is not supported",
            ));
        }
        let mut fields = bare.split(|byte| *byte == b',');
        let mut next = || fields.next().ok_or(Failure::Malformed("it is cut off"));
        let user = next()?;
        if user.first() == Some(&b'm') {
            return Err(Failure::Unsupported(
                "client requires an unsupported SCRAM extension",
            ));
        }
        attribute(user, b'n')?;
        let nonce = attribute(next()?, b'r')?;
        if nonce.is_empty() || !nonce.iter().all(u8::is_ascii_graphic) {
            return Err(Failure::Malformed(
                "non-printable characters in SCRAM nonce",
            ));
        }
        fields.try_for_each(extension)?;
        Ok(Self {
            flag,
            header: &message[..message.len() - bare.len()],
            bare,
            nonce,
        })
    }
}

/// `c=binding,r=nonce,p=proof`
#[derive(Debug)]
struct ClientFinal<'a> {
    binding: &'a [u8],
    nonce: &'a [u8],
    without_proof: &'a [u8],
    proof: [u8; KEY_BYTES],
}

impl<'a> ClientFinal<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, Failure> {
        let message = bounded(message)?;
        let comma = message.iter().rposition(|byte| *byte == b',');
        let comma = comma.ok_or(Failure::Malformed("it has no proof"))?;
        let (without_proof, proof) = (&message[..comma], &message[comma + 1..]);
        let mut fields = without_proof.split(|byte| *byte == b',');
        let mut next = || fields.next().ok_or(Failure::Malformed("it is cut off"));
        let binding = attribute(next()?, b'c')?;
        let nonce = attribute(next()?, b'r')?;
        fields.try_for_each(extension)?;
        let proof = BASE64.decode(attribute(proof, b'p')?).ok();
        let proof = proof.and_then(|proof| proof.try_into().ok());
        Ok(Self {
            binding,
            nonce,
            without_proof,
            proof: proof.ok_or(Failure::Malformed("malformed proof"))?,
        })
    }
}

fn bounded(message: &[u8]) -> Result<&[u8], Failure> {
    match message {
        [] => Err(Failure::Malformed("it is empty")),
        _ if message.len() > MESSAGE_BYTES_MAX => Err(Failure::Malformed("it is too long")),
        _ if message.contains(&0) => Err(Failure::Malformed("its length does not match")),
        _ => Ok(message),
    }
}

/// Up to the first comma, and after it.
fn split(message: &[u8]) -> Result<(&[u8], &[u8]), Failure> {
    let comma = message.iter().position(|byte| *byte == b',');
    let comma = comma.ok_or(Failure::Malformed("comma expected"))?;
    Ok((&message[..comma], &message[comma + 1..]))
}

/// The value of the field `name=value`.
fn attribute(field: &[u8], name: u8) -> Result<&[u8], Failure> {
    match field {
        [first, b'=', value @ ..] if *first == name => Ok(value),
        _ => Err(Failure::Malformed("another attribute was expected")),
    }
}

/// A field that need not be understood.
fn extension(field: &[u8]) -> Result<(), Failure> {
    match field {
        [name, b'=', ..] if name.is_ascii_alphabetic() => Ok(()),
        _ => Err(Failure::Malformed("invalid attribute")),
    }
}

#[cfg(test)]
#[path = "scram_tests.rs"]
mod tests;
