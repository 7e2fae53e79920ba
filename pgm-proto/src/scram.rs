//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, our side (RFC 5802, RFC 7677).
//!
//! ```text
//! ours    n,,n=,r=NONCE                     (p=tls-server-end-point,, instead of n,, with -PLUS)
//! server  r=NONCE+MORE,s=SALT,i=ITERATIONS
//! ours    c=BINDING,r=NONCE+MORE,p=PROOF
//! server  v=SIGNATURE                       proves that the server knows the password too
//! ```
//!
//! The arithmetic is postgres-protocol's; here are the choice of mechanism and the bounds.

use postgres_protocol::authentication::sasl;

use crate::{AuthenticationError, Encryption};

/// Fewer iterations make the password cheap to guess for whoever sees the exchange (RFC 7677's minimum).
pub(crate) const ITERATIONS_MIN: u32 = 4096;

/// More would let a server burn our CPU.
pub(crate) const ITERATIONS_MAX: u32 = 100_000;

/// How this connection can be bound to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Not, since it is not wanted or there is nothing to bind to.
    Unavailable,
    /// To the server's certificate, by this hash.
    EndPoint(Vec<u8>),
}

/// An exchange after our first message.
pub(crate) struct Exchange {
    scram: sasl::ScramSha256,
    mechanism: &'static str,
}

impl Exchange {
    /// Chooses among the mechanisms that the server offers.
    pub(crate) fn begin(
        offered: &[String],
        password: &str,
        encryption: Encryption,
        binding: &Binding,
    ) -> Result<Self, AuthenticationError> {
        let offers = |name: &str| offered.iter().any(|mechanism| mechanism == name);
        if offers(sasl::SCRAM_SHA_256_PLUS) && encryption == Encryption::None {
            return Err(AuthenticationError::Scram(
                "channel binding offered over a connection without TLS".to_owned(),
            ));
        }
        let (mechanism, binding) = match binding {
            Binding::EndPoint(hash) if offers(sasl::SCRAM_SHA_256_PLUS) => {
                let bound = sasl::ChannelBinding::tls_server_end_point(hash.clone());
                (sasl::SCRAM_SHA_256_PLUS, bound)
            }
            _ if !offers(sasl::SCRAM_SHA_256) => {
                return Err(AuthenticationError::Unsupported {
                    method: offered.join(", "),
                });
            }
            // Tells the server that we could have bound, so that it notices when its offer was cut out on the way.
            Binding::EndPoint(_) => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            Binding::Unavailable => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        Ok(Self {
            scram: sasl::ScramSha256::new(password.as_bytes(), binding),
            mechanism,
        })
    }

    /// The mechanism's name.
    pub(crate) fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    /// Whether the exchange is bound to the TLS connection.
    pub(crate) fn is_bound(&self) -> bool {
        self.mechanism == sasl::SCRAM_SHA_256_PLUS
    }

    /// Our next message.
    pub(crate) fn message(&self) -> &[u8] {
        self.scram.message()
    }

    /// Takes the server's challenge; then [`message`](Self::message) is our proof.
    pub(crate) fn challenge(&mut self, challenge: &[u8]) -> Result<(), AuthenticationError> {
        check_iterations(challenge)?;
        self.scram
            .update(challenge)
            .map_err(|error| AuthenticationError::Scram(error.to_string()))
    }

    /// Takes the server's last message and checks its signature.
    pub(crate) fn finish(&mut self, outcome: &[u8]) -> Result<(), AuthenticationError> {
        self.scram
            .finish(outcome)
            .map_err(|_| AuthenticationError::ServerSignature)
    }
}

/// Bounds the work before any of it is done. A count that cannot be read is left to the full parser.
fn check_iterations(challenge: &[u8]) -> Result<(), AuthenticationError> {
    let mut fields = challenge.split(|byte| *byte == b',');
    let count = fields.find_map(|field| field.strip_prefix(b"i="));
    let iterations = count.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match iterations {
        Some(iterations)
            if !(u64::from(ITERATIONS_MIN)..=u64::from(ITERATIONS_MAX)).contains(&iterations) =>
        {
            let (min, max) = (ITERATIONS_MIN, ITERATIONS_MAX);
            Err(AuthenticationError::Iterations {
                iterations,
                min,
                max,
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
