//! The frame around every management message.
//!
//! ```text
//! +--------+-----------------+----------------------+
//! | id: u8 | length: u32, BE | payload: RON, UTF-8  |
//! +--------+-----------------+----------------------+
//! ```
//!
//! `length` counts the payload alone and is checked against the bound of its message before a byte is allocated:
//! [`REQUEST_BYTES_MAX`] towards the daemon, [`RESPONSE_BYTES_MAX`] from it. Ids begin at 0x80, so the first byte never
//! collides with a frontend tag of PostgreSQL (ASCII letters) nor with the first byte of its startup packet (zero): one
//! port can serve both. This module frames; what a payload means is said by the types that it carries.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of `id` and `length`.
pub const HEADER_BYTES: usize = 5;
/// The largest payload of a request.
pub const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// The largest payload of a response, an event or an error.
pub const RESPONSE_BYTES_MAX: u32 = 16 << 20;
/// How much is allocated ahead of the bytes that have arrived.
const READ_STEP_BYTES: usize = 64 << 10;

/// What a frame carries: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageId {
    /// A [`crate::Request`], from the client.
    Request,
    /// A [`crate::Response`], the end of a successful exchange.
    Response,
    /// An [`crate::Event`] on the way to the answer.
    Event,
    /// An [`crate::Error`], the end of a failed exchange.
    Error,
}

impl MessageId {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Request => 0x80,
            Self::Response => 0x81,
            Self::Event => 0x82,
            Self::Error => 0x83,
        }
    }

    /// The message with this byte, `None` for a byte that is no management message.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x80 => Some(Self::Request),
            0x81 => Some(Self::Response),
            0x82 => Some(Self::Event),
            0x83 => Some(Self::Error),
            _ => None,
        }
    }

    /// The largest payload that this message may have.
    pub const fn bytes_max(self) -> u32 {
        match self {
            Self::Request => REQUEST_BYTES_MAX,
            Self::Response | Self::Event | Self::Error => RESPONSE_BYTES_MAX,
        }
    }
}

/// What is wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The first byte is no management message; the stream cannot be followed any further.
    #[error("0x{0:02X} does not begin a management message")]
    UnknownId(u8),
    /// The length is over the bound; the stream cannot be followed any further.
    #[error("a management message of {length} bytes is over the limit of {bytes_max}")]
    TooLong {
        /// Bytes that the header announces.
        length: u32,
        /// The bound for this message.
        bytes_max: u32,
    },
    /// The payload is not the RON of the type that the id promises.
    #[error("the payload of a management message cannot be read: {0}")]
    Payload(String),
    /// The peer closed the connection inside a message.
    #[error("the connection ended inside a management message")]
    Truncated,
    /// The peer closed the connection between two messages.
    #[error("the connection was closed")]
    Closed,
    /// Reading or writing failed.
    #[error("the management connection failed: {0}")]
    Io(#[from] io::Error),
}

/// The checked header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame carries.
    pub id: MessageId,
    /// Bytes of the payload, within the bound of `id`.
    pub length: u32,
}

impl Header {
    /// Reads a header; the length is within its bound afterwards.
    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [id, length @ ..] = bytes;
        let id = MessageId::from_byte(id).ok_or(FrameError::UnknownId(id))?;
        let length = u32::from_be_bytes(length);
        let bytes_max = id.bytes_max();
        if length > bytes_max {
            return Err(FrameError::TooLong { length, bytes_max });
        }
        Ok(Self { id, length })
    }
}

/// One message: its id and its payload, not yet read as a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub id: MessageId,
    /// RON text.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The frame that carries `message`.
    pub fn new<T: Serialize>(id: MessageId, message: &T) -> Result<Self, FrameError> {
        let text =
            ron::to_string(message).map_err(|error| FrameError::Payload(error.to_string()))?;
        let bytes_max = id.bytes_max();
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if length > bytes_max {
            return Err(FrameError::TooLong { length, bytes_max });
        }
        Ok(Self {
            id,
            payload: text.into_bytes(),
        })
    }

    /// The payload as a `T`.
    pub fn message<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        ron::de::from_bytes(&self.payload).map_err(|error| FrameError::Payload(error.to_string()))
    }

    /// The bytes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.payload.len());
        bytes.push(self.id.byte());
        // The payload was held to its bound, far below 4 GiB, when the frame was made.
        bytes.extend_from_slice(&(self.payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Writes the frame with one call.
    pub fn write_to(&self, writer: &mut impl Write) -> Result<(), FrameError> {
        writer.write_all(&self.to_bytes())?;
        writer.flush()?;
        Ok(())
    }

    /// Reads the next frame. Memory follows the bytes that arrive, not the length that is announced.
    pub fn read_from(reader: &mut impl Read) -> Result<Self, FrameError> {
        let mut header = [0; HEADER_BYTES];
        let mut filled = 0;
        while filled < HEADER_BYTES {
            match reader.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Err(FrameError::Closed),
                Ok(0) => return Err(FrameError::Truncated),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Header { id, length } = Header::parse(header)?;
        let length = length as usize;
        let mut payload = Vec::new();
        while payload.len() < length {
            let from = payload.len();
            payload.resize(length.min(from + READ_STEP_BYTES), 0);
            reader
                .read_exact(&mut payload[from..])
                .map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => FrameError::Truncated,
                    _ => FrameError::Io(error),
                })?;
        }
        Ok(Self { id, payload })
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
