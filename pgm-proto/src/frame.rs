//! Messages cut out of the byte stream: one fixed buffer, one tag byte and one length for each message.
//!
//! ```text
//! | tag: u8 | length: u32 big endian, counts itself but not the tag | body: length - 4 bytes |
//! ```
//!
//! [`FrameReader`] allocates its buffer once and never again: bodies are borrowed from it, and a body stays valid
//! until the reader is advanced or filled. A message that does not fit is refused by its length, before its body is
//! waited for. Unread bytes move to the front only when the space behind them becomes scarce; what moves is at
//! most the beginning of one message (PostgreSQL's walsender sends up to 128 KiB of WAL in one).
//!
//! The size comes from measurement: 256 KiB → 1 MiB cut the reads of a WAL stream to a third, more gained nothing.
//! What a body means is not known here.

use std::io::{self, Read};

/// The size of the receive buffer in bytes: the longest message a [`FrameReader`] can deliver, tag and length included.
pub const BUFFER_BYTES: usize = 1 << 20;

/// The longest message accepted before the server has authenticated us, as in libpq.
pub const HANDSHAKE_BYTES_MAX: usize = 30_000;

/// Tag and length.
const HEADER_BYTES: usize = 5;

/// With less free space than this behind the unread bytes, they move to the front before the next read.
const SPACE_BYTES_MIN: usize = BUFFER_BYTES / 4;

/// One message of the server, borrowed from the reader's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type of the message: `d` for CopyData, `E` for an error.
    pub tag: u8,
    /// The message without tag and length.
    pub body: &'a [u8],
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes; zero only when the buffer is full of messages that nobody took.
    Bytes(usize),
    /// The socket is drained for the moment.
    Drained,
    /// The peer has closed the connection.
    Closed,
}

/// The peer sent a length that no message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the reader accepts in this state.
    #[error("message `{}` of {length} bytes is longer than the limit of {length_max} bytes", tag.escape_ascii())]
    TooLong {
        /// The message's type.
        tag: u8,
        /// The length it claims.
        length: u32,
        /// The limit.
        length_max: usize,
    },
    /// Shorter than the length field itself.
    #[error("message `{}` claims a length of {length} bytes, below the minimum of 4", tag.escape_ascii())]
    TooShort {
        /// The message's type.
        tag: u8,
        /// The length it claims.
        length: u32,
    },
}

/// Reads messages through one buffer of [`BUFFER_BYTES`].
///
/// ```
/// use pgm_proto::frame::{Filled, Frame, FrameReader};
///
/// let mut reader = FrameReader::new();
/// let mut stream: &[u8] = b"Z\0\0\0\x05I";
/// assert_eq!(reader.fill(&mut stream).unwrap(), Filled::Bytes(6));
/// assert_eq!(reader.next().unwrap(), Some(Frame { tag: b'Z', body: b"I" }));
/// assert_eq!(reader.next().unwrap(), None);
/// ```
pub struct FrameReader {
    buffer: Box<[u8]>,
    /// Where the unread bytes begin: after the current message.
    start: usize,
    /// Where they end.
    end: usize,
    /// The current message: its tag and where its body begins; it ends at `start`.
    current: Option<(u8, usize)>,
    /// The longest message, counted as its length field counts.
    length_max: usize,
}

impl FrameReader {
    /// A reader for a connection that has not authenticated yet: messages up to [`HANDSHAKE_BYTES_MAX`].
    pub fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            current: None,
            length_max: HANDSHAKE_BYTES_MAX,
        }
    }

    /// Accepts messages as long as the buffer from now on: call it when the server has authenticated us.
    pub fn accept_long_messages(&mut self) {
        self.length_max = BUFFER_BYTES - 1;
    }

    /// The bytes that were read but not yet delivered as messages.
    pub fn unread_bytes(&self) -> usize {
        self.end - self.start
    }

    /// Those bytes.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads once into the free space; the current message is no longer valid after that.
    ///
    /// `source` should not block: its [`io::ErrorKind::WouldBlock`] is [`Filled::Drained`]. An interrupted read is repeated.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<Filled> {
        self.make_space();
        if self.end == self.buffer.len() {
            return Ok(Filled::Bytes(0));
        }
        loop {
            return match source.read(&mut self.buffer[self.end..]) {
                Ok(0) => Ok(Filled::Closed),
                Ok(count) => {
                    self.end += count;
                    Ok(Filled::Bytes(count))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Filled::Drained),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Whether [`advance`](Self::advance) has something to say: a complete message, or an error.
    pub fn has_message(&self) -> bool {
        !matches!(self.peek(), Ok(None))
    }

    /// Moves on to the next complete message; `false` when it has not arrived completely.
    pub fn advance(&mut self) -> Result<bool, FrameError> {
        self.current = None;
        let Some((tag, body_bytes)) = self.peek()? else {
            return Ok(false);
        };
        let body_start = self.start + HEADER_BYTES;
        self.current = Some((tag, body_start));
        self.start = body_start + body_bytes;
        Ok(true)
    }

    /// The message that [`advance`](Self::advance) moved to, until the next `advance` or `fill`.
    pub fn current(&self) -> Option<Frame<'_>> {
        let (tag, body_start) = self.current?;
        Some(Frame {
            tag,
            body: &self.buffer[body_start..self.start],
        })
    }

    /// The next complete message, or `None` when it has not arrived completely.
    #[allow(clippy::should_implement_trait)] // it borrows from the reader, which an iterator cannot
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        self.advance()?;
        Ok(self.current())
    }

    /// Tag and body length of the next message, when it has arrived completely.
    fn peek(&self) -> Result<Option<(u8, usize)>, FrameError> {
        let unread = &self.buffer[self.start..self.end];
        let Some((&[tag, a, b, c, d], rest)) = unread.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        let Some(body_bytes) = (length as usize).checked_sub(4) else {
            return Err(FrameError::TooShort { tag, length });
        };
        if length as usize > self.length_max {
            return Err(FrameError::TooLong {
                tag,
                length,
                length_max: self.length_max,
            });
        }
        Ok((rest.len() >= body_bytes).then_some((tag, body_bytes)))
    }

    /// Moves unread bytes to the front when the space behind them is scarce. Afterwards there is room for the rest of
    /// the next message, since a longer one than the buffer is refused.
    fn make_space(&mut self) {
        self.current = None;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.start > 0 && self.buffer.len() - self.end < SPACE_BYTES_MIN {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader")
            .field("unread_bytes", &self.unread_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
