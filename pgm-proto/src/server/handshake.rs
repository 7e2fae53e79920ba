//! From the first byte of a connection to the login: a value without I/O and without a clock.
//!
//! ```text
//! Opening --SSLRequest--> AwaitingTls --encrypted()--> Opening
//!    └--startup packet--> ExpectMechanism --> ExpectProof --> Over
//! ```
//!
//! One SSLRequest and one GSSENCRequest (always declined) may come before the startup packet, none once there is TLS.
//! Bytes that were sent before TLS are never read as if they had come through it: they end the connection. Every length
//! is bounded before its body is waited for, so a connection never costs more than [`BUFFER_BYTES_MAX`] before its login.
//!
//! The caller keeps the time, limits the number of connections, and does what [`Next`] says. Whatever is wrong with a
//! login is told to the client in one of few texts; a wrong password and a user that does not exist are the same to it,
//! in words and in work.

use std::collections::BTreeMap;

use pgwire::messages::startup::Authentication;

use super::cancel::CancelKey;
use super::reply::{Refusal, authentication, negotiate};
use super::scram::{Exchange, Failure, MockSecret, Offer};
use super::startup::{self, LENGTH_MAX, Packet, Startup};
use super::verifier::{ScramIterations, ScramVerifier};
use crate::tls::end_point_binding;

/// More bytes than the longest message of a client that has not logged in, tag included.
pub const BUFFER_BYTES_MAX: usize = LENGTH_MAX + 1;

/// The tag of every answer that a client gives while it logs in.
const PASSWORD_MESSAGE: u8 = b'p';
/// Its tag and its length.
const HEADER_BYTES: usize = 5;

/// Whether a client may log in without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainText {
    /// It may not.
    Refused,
    /// It may.
    Allowed,
}

/// What of encryption a connection has, or can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// None, and none is to be had.
    Unavailable,
    /// None yet; TLS is begun when the client asks.
    Offered,
    /// TLS, from the first byte on.
    Begun,
}

/// What a handshake needs to know.
#[derive(Debug, Clone)]
pub struct HandshakeOptions {
    /// Whether there is TLS.
    pub encryption: Encryption,
    /// Whether there has to be.
    pub plain_text: PlainText,
    /// The server's certificate (DER), when there is TLS.
    pub certificate: Option<Vec<u8>>,
    /// What stands behind users that do not exist.
    pub mock_secret: MockSecret,
    /// The iterations that they seem to have: those that new users get.
    pub iterations: ScramIterations,
}

/// What comes out of some bytes.
#[derive(Debug)]
pub struct Step<I> {
    /// To be sent, before anything else. May be empty.
    pub reply: Vec<u8>,
    /// To be done then.
    pub next: Next<I>,
}

/// What to do next.
#[derive(Debug)]
pub enum Next<I> {
    /// Read, and hand it to [`Handshake::receive`].
    Read,
    /// Do the server's side of a TLS handshake, then call [`Handshake::encrypted`].
    BeginTls,
    /// The client has proved who it is. The caller says so, or why not, with [`welcome`](super::welcome) or
    /// [`Refusal::fatal`].
    Accepted(Login<I>),
    /// Hang up. The reply says why to the client.
    Refused {
        /// Whom the client called itself, where it came so far.
        user: Option<String>,
        /// Why.
        refusal: Refusal,
    },
    /// Hang up without a word: the client wants what runs for the session with this key to be cancelled.
    Cancelled(CancelKey),
}

/// A client that has logged in.
#[derive(Debug)]
pub struct Login<I> {
    /// Its name.
    pub user: String,
    /// What was kept with its verifier.
    pub identity: I,
    /// The other parameters of its startup packet.
    pub parameters: BTreeMap<String, String>,
    /// How it proved that: `SCRAM-SHA-256`, or `SCRAM-SHA-256-PLUS`, bound to the TLS connection.
    pub mechanism: &'static str,
    /// What the client sent already after its proof.
    pub unread: Vec<u8>,
}

/// A connection before its login.
pub struct Handshake<I> {
    options: HandshakeOptions,
    offer: Offer,
    tls_asked: Asked,
    gss_asked: Asked,
    buffer: Vec<u8>,
    state: State<I>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    NotYet,
    Once,
}

enum State<I> {
    Opening,
    AwaitingTls,
    ExpectMechanism(Startup),
    ExpectProof {
        startup: Startup,
        exchange: Box<Exchange>,
        identity: Option<I>,
        mechanism: &'static str,
    },
    Over,
}

/// What a message leads to, when not to the end.
type Outcome<I> = Result<Option<Next<I>>, Refusal>;

impl<I> Handshake<I> {
    /// A connection of which nothing has been read.
    pub fn new(options: HandshakeOptions) -> Self {
        let mut handshake = Self {
            offer: Offer::Unbound,
            tls_asked: Asked::NotYet,
            gss_asked: Asked::NotYet,
            buffer: Vec::new(),
            state: State::Opening,
            options,
        };
        handshake.offer = handshake.offer();
        handshake
    }

    /// Takes what the client sent. `find` gives the verifier of a user that exists, and what is kept with it.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        find: impl Fn(&str) -> Option<(ScramVerifier, I)>,
    ) -> Step<I> {
        self.buffer.extend_from_slice(bytes);
        let mut reply = Vec::new();
        loop {
            let user = self.user();
            let outcome = match self.take_message() {
                Ok(Some(message)) => self.handle(&message, &mut reply, &find),
                Ok(None) => Ok(Some(Next::Read)),
                Err(refusal) => Err(refusal),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(next)) => return Step { reply, next },
                Err(refusal) => {
                    self.state = State::Over;
                    self.buffer = Vec::new();
                    reply.extend(refusal.fatal());
                    let next = Next::Refused { user, refusal };
                    return Step { reply, next };
                }
            }
        }
    }

    /// How many bytes are held: what has arrived of a message that is not complete.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The TLS handshake that [`Next::BeginTls`] asked for is done.
    pub fn encrypted(&mut self) {
        if matches!(self.state, State::AwaitingTls) {
            self.options.encryption = Encryption::Begun;
            self.offer = self.offer();
            self.state = State::Opening;
        }
    }

    fn offer(&self) -> Offer {
        let bound = match (self.options.encryption, &self.options.certificate) {
            (Encryption::Begun, Some(certificate)) => end_point_binding(certificate),
            _ => None,
        };
        bound.map_or(Offer::Unbound, Offer::EndPoint)
    }

    fn user(&self) -> Option<String> {
        match &self.state {
            State::ExpectMechanism(startup) | State::ExpectProof { startup, .. } => {
                Some(startup.user.clone())
            }
            State::Opening | State::AwaitingTls | State::Over => None,
        }
    }

    /// The next whole message out of the buffer, when there is one: a packet with its length, or a body.
    fn take_message(&mut self) -> Result<Option<Vec<u8>>, Refusal> {
        let (skipped, length) = match self.state {
            State::Opening => match startup::length(&self.buffer).map_err(refusal)? {
                Some(length) => (0, length),
                None => return Ok(None),
            },
            State::ExpectMechanism(_) | State::ExpectProof { .. } => {
                let Some([tag, length @ ..]) = self.buffer.first_chunk::<HEADER_BYTES>() else {
                    return Ok(None);
                };
                let length = u32::from_be_bytes(*length) as usize;
                if *tag != PASSWORD_MESSAGE {
                    let text = format!(
                        "expected SASL response, got message type {}",
                        u32::from(*tag)
                    );
                    return Err(Refusal::new("08P01", text));
                }
                if !(4..=LENGTH_MAX).contains(&length) {
                    return Err(Refusal::new("08P01", "invalid message length"));
                }
                (HEADER_BYTES, length + 1)
            }
            State::AwaitingTls if !self.buffer.is_empty() => return Err(unencrypted_data()),
            State::AwaitingTls => return Ok(None),
            State::Over => {
                self.buffer.clear();
                return Ok(None);
            }
        };
        if self.buffer.len() < length {
            return Ok(None);
        }
        let message = self.buffer[skipped..length].to_vec();
        self.buffer.drain(..length);
        Ok(Some(message))
    }

    fn handle(
        &mut self,
        message: &[u8],
        reply: &mut Vec<u8>,
        find: &impl Fn(&str) -> Option<(ScramVerifier, I)>,
    ) -> Outcome<I> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Opening => self.open(Packet::parse(message).map_err(refusal)?, reply),
            State::ExpectMechanism(startup) => {
                let user = startup.user.clone();
                let begun = self.begin(startup, message, find);
                begun
                    .map_err(|failure| self::failure(failure, &user))
                    .map(|(challenge, state)| {
                        reply.extend(authentication(&Authentication::SASLContinue(
                            challenge.into_bytes().into(),
                        )));
                        self.state = state;
                        None
                    })
            }
            State::ExpectProof {
                startup,
                exchange,
                identity,
                mechanism,
            } => {
                let finished = exchange.finish(message).and_then(|signature| {
                    let identity = identity.ok_or(Failure::Proof)?;
                    Ok((signature, identity))
                });
                let user = startup.user;
                let (signature, identity) =
                    finished.map_err(|failure| self::failure(failure, &user))?;
                let signature = Authentication::SASLFinal(signature.into_bytes().into());
                reply.extend(authentication(&signature));
                reply.extend(authentication(&Authentication::Ok));
                Ok(Some(Next::Accepted(Login {
                    user,
                    identity,
                    parameters: startup.parameters,
                    mechanism,
                    unread: std::mem::take(&mut self.buffer),
                })))
            }
            State::AwaitingTls | State::Over => Ok(Some(Next::Read)),
        }
    }

    /// A packet before the login.
    fn open(&mut self, packet: Packet, reply: &mut Vec<u8>) -> Outcome<I> {
        self.state = State::Opening;
        match packet {
            Packet::CancelRequest(key) => {
                self.state = State::Over;
                Ok(Some(Next::Cancelled(key)))
            }
            Packet::SslRequest | Packet::GssEncRequest
                if self.options.encryption == Encryption::Begun =>
            {
                let text = "unsupported frontend protocol: a request for encryption inside TLS";
                Err(Refusal::new("08P01", text))
            }
            Packet::SslRequest => {
                once(&mut self.tls_asked)?;
                if self.options.encryption == Encryption::Unavailable {
                    reply.push(b'N');
                    return Ok(None);
                }
                if !self.buffer.is_empty() {
                    return Err(unencrypted_data());
                }
                reply.push(b'S');
                self.state = State::AwaitingTls;
                Ok(Some(Next::BeginTls))
            }
            Packet::GssEncRequest => {
                once(&mut self.gss_asked)?;
                reply.push(b'N');
                Ok(None)
            }
            Packet::Startup(startup) => self.start(startup, reply),
        }
    }

    fn start(&mut self, mut startup: Startup, reply: &mut Vec<u8>) -> Outcome<I> {
        let encrypted = self.options.encryption == Encryption::Begun;
        if !encrypted && self.options.plain_text == PlainText::Refused {
            let refusal = Refusal::new("28000", "connections without TLS are refused");
            return Err(refusal.with_hint("connect with sslmode=require or better"));
        }
        let unknown: Vec<String> = startup
            .parameters
            .keys()
            .filter(|name| name.starts_with("_pq_."))
            .cloned()
            .collect();
        if startup.minor > 0 || !unknown.is_empty() {
            for name in &unknown {
                startup.parameters.remove(name);
            }
            reply.extend(negotiate(unknown));
        }
        let mechanisms = Authentication::SASL(self.offer.mechanisms());
        reply.extend(authentication(&mechanisms));
        self.state = State::ExpectMechanism(startup);
        Ok(None)
    }

    /// SASLInitialResponse: mechanism, zero, length, client-first-message.
    fn begin(
        &self,
        startup: Startup,
        message: &[u8],
        find: &impl Fn(&str) -> Option<(ScramVerifier, I)>,
    ) -> Result<(String, State<I>), Failure> {
        let cut_off = Failure::Malformed("it is cut off");
        let zero = message.iter().position(|byte| *byte == 0).ok_or(cut_off)?;
        let (name, rest) = (&message[..zero], &message[zero + 1..]);
        let (length, first) = rest.split_first_chunk().ok_or(cut_off)?;
        if u32::from_be_bytes(*length) as usize != first.len() {
            return Err(cut_off);
        }
        let mechanism = [
            super::scram::SCRAM_SHA_256,
            super::scram::SCRAM_SHA_256_PLUS,
        ]
        .into_iter()
        .find(|mechanism| mechanism.as_bytes() == name)
        .ok_or(Failure::Mechanism)?;
        // Made for everybody, so that its cost tells nothing.
        let mock = self
            .options
            .mock_secret
            .verifier(&startup.user, self.options.iterations);
        let (verifier, identity) = match find(&startup.user) {
            Some((verifier, identity)) => (verifier, Some(identity)),
            None => (mock, None),
        };
        let exchange = Exchange::begin(mechanism, &self.offer, first, verifier)?;
        let challenge = exchange.challenge().to_owned();
        let state = State::ExpectProof {
            startup,
            exchange: Box::new(exchange),
            identity,
            mechanism,
        };
        Ok((challenge, state))
    }
}

fn once(asked: &mut Asked) -> Result<(), Refusal> {
    match asked {
        Asked::NotYet => {
            *asked = Asked::Once;
            Ok(())
        }
        Asked::Once => Err(Refusal::new(
            "08P01",
            "unsupported frontend protocol: a second request for encryption",
        )),
    }
}

/// CVE-2021-23214: somebody on the way could have put it there.
fn unencrypted_data() -> Refusal {
    Refusal::new("08P01", "received unencrypted data after SSL request")
}

fn refusal((sqlstate, text): startup::Problem) -> Refusal {
    Refusal::new(sqlstate, text)
}

fn failure(failure: Failure, user: &str) -> Refusal {
    match failure {
        Failure::Malformed(what) => {
            Refusal::new("08P01", format!("malformed SCRAM message: {what}"))
        }
        Failure::Mechanism => {
            let text = "client selected an invalid SASL authentication mechanism";
            Refusal::new("08P01", text)
        }
        Failure::Binding(what) => Refusal::new("28000", what),
        Failure::Unsupported(what) => Refusal::new("0A000", what),
        Failure::Proof => {
            let text = format!("password authentication failed for user \"{user}\"");
            Refusal::new("28P01", text)
        }
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
