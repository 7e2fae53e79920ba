//! Proving who we are, and learning who the server is: a value without I/O.
//!
//! ```text
//! ExpectRequest --trust--> Done        password, md5 --> ExpectOk --> Done
//!       └--SASL--> ExpectChallenge --> ExpectOutcome --> ExpectOk --> Done
//! ```
//!
//! The server must finish what it begins: a success in the middle of SCRAM is refused, since the server has not
//! proved anything yet. With `channel_binding=require` only SCRAM-SHA-256-PLUS counts, not even `trust`.

use bytes::{Bytes, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::startup::{Authentication, Password, SASLInitialResponse, SASLResponse};
use postgres_protocol::authentication::md5_hash;

use crate::scram::{Binding, Exchange};
use crate::{AuthenticationError, ChannelBinding, Encryption, Secret};

/// What we have to log in with.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    pub(crate) policy: ChannelBinding,
    pub(crate) binding: Binding,
    pub(crate) encryption: Encryption,
    pub(crate) transport: Transport,
}

/// Over what the session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A network, on which others may listen.
    Network,
    /// A unix socket.
    Local,
}

pub(crate) struct Login {
    credentials: Credentials,
    state: State,
}

enum State {
    ExpectRequest,
    ExpectChallenge(Exchange),
    ExpectOutcome(Exchange),
    ExpectOk(Proof),
    Done,
}

#[derive(PartialEq, Eq)]
enum Proof {
    /// The server accepted a password; it has proved nothing.
    OneSided,
    /// The server proved that it knows the password.
    Mutual,
    /// And that it is the end of the TLS connection.
    Bound,
}

impl Login {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            state: State::ExpectRequest,
        }
    }

    /// Whether the server has accepted us.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the server's next authentication message; the answer, if any, is to be sent.
    pub(crate) fn handle(
        &mut self,
        message: Authentication,
    ) -> Result<Option<BytesMut>, AuthenticationError> {
        let state = std::mem::replace(&mut self.state, State::ExpectRequest);
        let (next, answer) = match (state, message) {
            (State::ExpectRequest, Authentication::Ok) => (self.accepted(&Proof::OneSided)?, None),
            (State::ExpectOk(proof), Authentication::Ok) => (self.accepted(&proof)?, None),
            (State::ExpectRequest, Authentication::CleartextPassword) => {
                self.refuse_unbound("the server asks for the password itself")?;
                self.warn_of_cleartext();
                let password = self.password()?.expose().to_owned();
                (
                    State::ExpectOk(Proof::OneSided),
                    Some(encode(&Password::new(password))?),
                )
            }
            (State::ExpectRequest, Authentication::MD5Password(salt)) => {
                self.refuse_unbound("the server asks for an MD5 hash")?;
                let salt = salt
                    .try_into()
                    .map_err(|_| unexpected("a salt of the wrong length"))?;
                let password = self.password()?.expose().as_bytes();
                let hash = md5_hash(self.credentials.user.as_bytes(), password, salt);
                (
                    State::ExpectOk(Proof::OneSided),
                    Some(encode(&Password::new(hash))?),
                )
            }
            (State::ExpectRequest, Authentication::SASL(offered)) => {
                let exchange = self.begin_scram(&offered)?;
                let first = Bytes::copy_from_slice(exchange.message());
                let first = SASLInitialResponse::new(exchange.mechanism().to_owned(), Some(first));
                let first = encode(&first)?;
                (State::ExpectChallenge(exchange), Some(first))
            }
            (State::ExpectChallenge(mut exchange), Authentication::SASLContinue(challenge)) => {
                exchange.challenge(&challenge)?;
                let proof = encode(&SASLResponse::new(Bytes::copy_from_slice(
                    exchange.message(),
                )))?;
                (State::ExpectOutcome(exchange), Some(proof))
            }
            (State::ExpectOutcome(mut exchange), Authentication::SASLFinal(outcome)) => {
                exchange.finish(&outcome)?;
                let proof = if exchange.is_bound() {
                    Proof::Bound
                } else {
                    Proof::Mutual
                };
                (State::ExpectOk(proof), None)
            }
            (State::ExpectChallenge(_) | State::ExpectOutcome(_), Authentication::Ok) => {
                return Err(AuthenticationError::ServerSignature);
            }
            (_, Authentication::KerberosV5) => return Err(unsupported("Kerberos 5")),
            _ => return Err(unexpected("a message out of order")),
        };
        self.state = next;
        Ok(answer)
    }

    fn accepted(&self, proof: &Proof) -> Result<State, AuthenticationError> {
        if *proof != Proof::Bound {
            self.refuse_unbound("the server let us in without it")?;
        }
        Ok(State::Done)
    }

    fn begin_scram(&self, offered: &[String]) -> Result<Exchange, AuthenticationError> {
        let Credentials {
            encryption,
            binding,
            ..
        } = &self.credentials;
        let password = self.password()?.expose();
        let exchange = Exchange::begin(offered, password, *encryption, binding)?;
        if !exchange.is_bound() {
            self.refuse_unbound(match (encryption, binding) {
                (Encryption::None, _) => "the connection is not encrypted",
                (_, Binding::Unavailable) => "the server's certificate has no hash to bind to",
                _ => "the server does not offer SCRAM-SHA-256-PLUS",
            })?;
        }
        Ok(exchange)
    }

    fn password(&self) -> Result<&Secret, AuthenticationError> {
        self.credentials
            .password
            .as_ref()
            .ok_or(AuthenticationError::NoPassword)
    }

    fn refuse_unbound(&self, problem: &'static str) -> Result<(), AuthenticationError> {
        match self.credentials.policy {
            ChannelBinding::Require => Err(AuthenticationError::ChannelBinding { problem }),
            ChannelBinding::Disable | ChannelBinding::Prefer => Ok(()),
        }
    }

    fn warn_of_cleartext(&self) {
        let Credentials {
            encryption,
            transport,
            user,
            ..
        } = &self.credentials;
        if (*encryption, *transport) == (Encryption::None, Transport::Network) {
            tracing::warn!(
                user,
                "the server asks for the password in clear over an unencrypted connection"
            );
        }
    }
}

fn encode(message: &impl Message) -> Result<BytesMut, AuthenticationError> {
    let mut bytes = BytesMut::new();
    message
        .encode(&mut bytes)
        .map_err(|_| unexpected("so much that the answer is too long"))?;
    Ok(bytes)
}

fn unexpected(what: &str) -> AuthenticationError {
    AuthenticationError::Scram(format!("the server sent {what}"))
}

fn unsupported(method: &str) -> AuthenticationError {
    AuthenticationError::Unsupported {
        method: method.to_owned(),
    }
}
