//! What a server says: PostgreSQL's messages, ready to be sent.

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey,
};

use super::cancel::CancelKey;

/// Protocol 3.0, as NegotiateProtocolVersion says it.
const PROTOCOL_3_0: i32 = 3 << 16;

/// An error as PostgreSQL's clients show it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What kind of error it is, five characters.
    pub sqlstate: &'static str,
    /// What is wrong.
    pub text: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Refusal {
    /// An error without a hint.
    pub fn new(sqlstate: &'static str, text: impl Into<String>) -> Self {
        Self {
            sqlstate,
            text: text.into(),
            hint: None,
        }
    }

    /// The same error with what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An ErrorResponse after which the server hangs up.
    pub fn fatal(&self) -> Vec<u8> {
        self.response("FATAL")
    }

    /// An ErrorResponse after which the session goes on: a ReadyForQuery has to follow.
    pub fn error(&self) -> Vec<u8> {
        self.response("ERROR")
    }

    fn response(&self, severity: &str) -> Vec<u8> {
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', self.sqlstate.to_owned()),
            (b'M', without_zeros(&self.text)),
        ];
        fields.extend(self.hint.as_deref().map(|hint| (b'H', without_zeros(hint))));
        encode(&ErrorResponse::new(fields))
    }
}

/// A zero byte would end the text, and the rest would be read as other fields.
fn without_zeros(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// What follows a successful login: the `parameters`, the key that cancels what runs, and ReadyForQuery.
pub fn welcome(parameters: &[(&str, &str)], key: CancelKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in parameters {
        let status = ParameterStatus::new((*name).to_owned(), (*value).to_owned());
        bytes.extend(encode(&status));
    }
    let (pid, secret) = key.parts();
    bytes.extend(encode(&BackendKeyData::new(pid, SecretKey::I32(secret))));
    bytes.extend(ready());
    bytes
}

/// ReadyForQuery, outside of a transaction.
pub fn ready() -> Vec<u8> {
    encode(&ReadyForQuery::new(TransactionStatus::Idle))
}

pub(super) fn authentication(message: &Authentication) -> Vec<u8> {
    encode(message)
}

/// Protocol 3.0 it is, without those options.
pub(super) fn negotiate(unknown_options: Vec<String>) -> Vec<u8> {
    encode(&NegotiateProtocolVersion::new(
        PROTOCOL_3_0,
        unknown_options,
    ))
}

fn encode(message: &impl Message) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    // Fails only beyond i32::MAX bytes; texts here are bounded far below.
    let _ = message.encode(&mut bytes);
    bytes.into()
}
