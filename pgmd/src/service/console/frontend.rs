//! What clients send: PostgreSQL's frontend messages, read with bounds and never believed.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::table::Format;

/// As long as a management request.
const LENGTH_MAX: u32 = 1 << 20;
/// How much is allocated ahead of the bytes that have arrived.
const READ_STEP_BYTES: usize = 64 << 10;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frontend {
    Query(String),
    Parse {
        name: String,
        query: String,
    },
    Bind(Bind),
    /// Of a statement or of a portal.
    Describe(Object),
    Execute {
        portal: String,
    },
    Close(Object),
    Sync,
    Flush,
    Terminate,
    /// What belongs to a copy that has ended already.
    Copy,
}

/// What Bind says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    /// How many parameters it brings.
    pub(super) parameters: u16,
    /// How results are to be sent.
    pub(super) formats: Vec<Format>,
}

/// A statement or a portal, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    Statement(String),
    Portal(String),
}

/// Why a message cannot be followed; the conversation is over.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client is gone.
    Gone,
    /// It is no message.
    Garbage(String),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// The next message.
pub(super) async fn read(reader: &mut (impl AsyncRead + Unpin)) -> Result<Frontend, Broken> {
    let tag = reader.read_u8().await?;
    let length = reader.read_u32().await?;
    if !(4..=LENGTH_MAX).contains(&length) {
        return Err(Broken::Garbage(format!(
            "a message cannot have a length of {length} here"
        )));
    }
    let length = length as usize - 4;
    let mut body = Vec::new();
    while body.len() < length {
        let from = body.len();
        body.resize(length.min(from + READ_STEP_BYTES), 0);
        reader.read_exact(&mut body[from..]).await?;
    }
    parse(tag, &body)
        .ok_or_else(|| Broken::Garbage(format!("invalid frontend message of type {tag}")))
}

/// Reads a message's body; `None` when it is not what its tag says.
pub(super) fn parse(tag: u8, body: &[u8]) -> Option<Frontend> {
    let mut body = Body(body);
    Some(match tag {
        b'Q' => Frontend::Query(body.text()?),
        b'P' => Frontend::Parse {
            name: body.text()?,
            query: body.text()?,
        },
        b'B' => Frontend::Bind(bind(&mut body)?),
        b'D' => Frontend::Describe(body.object()?),
        b'C' => Frontend::Close(body.object()?),
        b'E' => Frontend::Execute {
            portal: body.text()?,
        },
        b'S' => Frontend::Sync,
        b'H' => Frontend::Flush,
        b'X' => Frontend::Terminate,
        b'd' | b'c' | b'f' => Frontend::Copy,
        _ => return None,
    })
}

fn bind(body: &mut Body<'_>) -> Option<Bind> {
    let (portal, statement) = (body.text()?, body.text()?);
    for _ in 0..body.number()? {
        body.number()?;
    }
    let parameters = body.number()?;
    for _ in 0..parameters {
        let length = body.take(4)?;
        let length = i32::from_be_bytes(length.try_into().ok()?);
        if let Ok(length) = usize::try_from(length) {
            body.take(length)?;
        }
    }
    let mut formats = Vec::new();
    for _ in 0..body.number()? {
        formats.push(match body.number()? {
            0 => Format::Text,
            1 => Format::Binary,
            _ => return None,
        });
    }
    Some(Bind {
        portal,
        statement,
        parameters,
        formats,
    })
}

/// What is left of a body.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A text that ends with a zero; what is no UTF-8 in it is replaced.
    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    fn object(&mut self) -> Option<Object> {
        match self.take(1)? {
            b"S" => self.text().map(Object::Statement),
            b"P" => self.text().map(Object::Portal),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(tag: u8, body: Vec<u8>) {
            parse(tag, &body);
        }

        #[test]
        fn any_stream_ends(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut reader = &bytes[..];
                while read(&mut reader).await.is_ok() {}
            });
        }
    }

    #[test]
    fn a_bind_of_a_driver_is_read() {
        let body = b"\0s\0\0\x01\0\0\0\x01\0\0\0\x021!\0\x01\0\x01";
        let expected = Bind {
            portal: String::new(),
            statement: "s".to_owned(),
            parameters: 1,
            formats: vec![Format::Binary],
        };
        assert_eq!(parse(b'B', body), Some(Frontend::Bind(expected)));
    }
}
