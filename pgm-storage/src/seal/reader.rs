//! Reads a sealed object, one chunk in memory.

use std::io::{self, Read};

use zeroize::Zeroizing;

use super::cipher::{ChunkCipher, Place, TAG_BYTES};
use super::error::SealError;
use super::header::{SEAL_HEADER_BYTES, SealHeader};
use super::key::MasterKey;

/// Opens what is read through it. Bytes that it gives are genuine; that they are all is known once it has given 0.
pub struct SealReader<R: Read> {
    inner: R,
    header: SealHeader,
    cipher: ChunkCipher,
    /// The chunk, and behind it the first byte of the next, which tells whether there is one.
    buffer: Zeroizing<Vec<u8>>,
    /// How much of `buffer` has been read.
    filled: usize,
    /// The raw bytes in `buffer` that were not yet given.
    given: usize,
    ready: usize,
    number: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There are more chunks.
    More,
    /// The last chunk was opened.
    Whole,
    /// Something is wrong: nothing more is given.
    Failed,
}

impl<R: Read> SealReader<R> {
    /// Reads the header and unwraps the data key. `context` is what the writer said.
    pub fn open(mut inner: R, key: &MasterKey, context: &[u8]) -> Result<Self, SealError> {
        let mut bytes = [0; SEAL_HEADER_BYTES];
        let read = read_full(&mut inner, &mut bytes)?;
        if read < SEAL_HEADER_BYTES {
            return Err(if super::is_sealed(&bytes) {
                SealError::Truncated { raw_bytes: 0 }
            } else {
                SealError::NotSealed
            });
        }
        let header = SealHeader::parse(&bytes)?;
        let cipher = header.open(key, context)?;
        let buffer = Zeroizing::new(vec![0; header.chunk_bytes() + TAG_BYTES + 1]);
        Ok(Self {
            inner,
            header,
            cipher,
            buffer,
            filled: 0,
            given: 0,
            ready: 0,
            number: 0,
            state: State::More,
        })
    }

    /// The header.
    pub fn header(&self) -> &SealHeader {
        &self.header
    }

    /// Reads and opens the next chunk.
    fn advance(&mut self) -> Result<(), SealError> {
        let sealed_bytes = self.buffer.len() - 1;
        // The byte that showed that there is another chunk is its first.
        let carried = usize::from(self.number > 0);
        if carried == 1 {
            self.buffer[0] = self.buffer[sealed_bytes];
        }
        self.filled = carried + read_full(&mut self.inner, &mut self.buffer[carried..])?;
        let (place, length) = if self.filled > sealed_bytes {
            (Place::Inner, sealed_bytes)
        } else {
            (Place::Last, self.filled)
        };
        let offset = u64::from(self.number) * self.header.chunk_bytes() as u64;
        let cut_off = SealError::Truncated { raw_bytes: offset };
        // An object ends with an empty chunk only when it is empty.
        if length < TAG_BYTES || (length == TAG_BYTES && self.number > 0) {
            return Err(cut_off);
        }
        // Kept only where a cut just behind a chunk is to be told from damage.
        let copy = (place == Place::Last && length == sealed_bytes)
            .then(|| Zeroizing::new(self.buffer[..length].to_vec()));
        let chunk = &mut self.buffer[..length];
        let Some(raw) = self.cipher.open(self.number, place, chunk) else {
            let whole = copy.and_then(|mut copy| {
                let opened = self.cipher.open(self.number, Place::Inner, &mut copy);
                opened.map(|raw| raw.len() as u64)
            });
            return Err(match whole {
                Some(bytes) => SealError::Truncated {
                    raw_bytes: offset + bytes,
                },
                None => SealError::Tampered { offset },
            });
        };
        (self.given, self.ready) = (0, raw.len());
        match place {
            Place::Last => self.state = State::Whole,
            Place::Inner => self.number = self.number.checked_add(1).ok_or(SealError::TooLarge)?,
        }
        Ok(())
    }
}

impl<R: Read> Read for SealReader<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        while self.given == self.ready {
            match self.state {
                State::More => {}
                State::Whole => return Ok(0),
                State::Failed => return Err(io::Error::other("the sealed data is not genuine")),
            }
            if let Err(error) = self.advance() {
                self.state = State::Failed;
                return Err(error.into());
            }
        }
        let taken = bytes.len().min(self.ready - self.given);
        bytes[..taken].copy_from_slice(&self.buffer[self.given..self.given + taken]);
        self.given += taken;
        Ok(taken)
    }
}

impl<R: Read> std::fmt::Debug for SealReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealReader")
            .field("chunk", &self.number)
            .finish_non_exhaustive()
    }
}

/// Fills `bytes` as far as there is something; fewer mean the end.
fn read_full(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
