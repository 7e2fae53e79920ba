//! Writing a sealed object: chunks are encrypted where they were copied to, and go on about a mebibyte at a time.

use std::io::{self, Write};

use crate::error::{Result, StorageError};
use crate::seal::{
    CHUNK_BYTES, ChunkCipher, Place, SEAL_HEADER_BYTES, SEALED_CHUNK_BYTES, SealError, SealHeader,
    SealedSize,
};
use crate::storage::{ObjectMeta, ObjectWriter};

/// The most that is kept before it goes on: sixteen chunks, behind the header at first.
const BATCH_BYTES: usize = SEAL_HEADER_BYTES + 16 * SEALED_CHUNK_BYTES;

/// Seals what is written into it. Without `finish` there is no object.
pub(super) struct SealedWriter {
    inner: Box<dyn ObjectWriter>,
    chunks: Chunks,
    raw_bytes: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Takes more.
    Open,
    /// Something could not be written: what follows would not be where it belongs.
    Failed,
}

/// Sealed bytes, and behind them the chunk that is being filled; full only until more comes, since it may be the last.
struct Chunks {
    cipher: ChunkCipher,
    bytes: Vec<u8>,
    /// Where the chunk that is being filled begins.
    chunk_at: usize,
    number: u32,
}

impl Chunks {
    fn new(header: &SealHeader, cipher: ChunkCipher, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(&header.to_bytes());
        Self {
            cipher,
            chunk_at: bytes.len(),
            bytes,
            number: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() - self.chunk_at == CHUNK_BYTES
    }

    /// Seals the chunk that was being filled, and begins the next one.
    fn seal(&mut self, place: Place) -> Result<(), SealError> {
        let tag = self
            .cipher
            .seal_apart(self.number, place, &mut self.bytes[self.chunk_at..])?;
        self.bytes.extend_from_slice(&tag);
        self.chunk_at = self.bytes.len();
        if place == Place::Inner {
            self.number = self.number.checked_add(1).ok_or(SealError::TooLarge)?;
        }
        Ok(())
    }

    /// Copies what fits into the chunk and gives the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let free = CHUNK_BYTES - (self.bytes.len() - self.chunk_at);
        let (taken, rest) = bytes.split_at(free.min(bytes.len()));
        self.bytes.extend_from_slice(taken);
        rest
    }
}

/// Seals an object that is in memory.
pub(super) fn seal_whole(
    header: &SealHeader,
    cipher: ChunkCipher,
    raw: &[u8],
) -> Result<Vec<u8>, SealError> {
    let sealed_bytes = SealedSize::sealed(raw.len() as u64);
    let capacity = usize::try_from(sealed_bytes).map_err(|_| SealError::TooLarge)?;
    let mut chunks = Chunks::new(header, cipher, capacity);
    let mut rest = chunks.fill(raw);
    while !rest.is_empty() {
        chunks.seal(Place::Inner)?;
        rest = chunks.fill(rest);
    }
    chunks.seal(Place::Last)?;
    Ok(chunks.bytes)
}

impl SealedWriter {
    pub(super) fn new(
        inner: Box<dyn ObjectWriter>,
        header: &SealHeader,
        cipher: ChunkCipher,
    ) -> Self {
        Self {
            inner,
            // Grows as it is filled: most objects are small.
            chunks: Chunks::new(header, cipher, 0),
            raw_bytes: 0,
            state: State::Open,
        }
    }

    fn must_be_open(&self) -> io::Result<()> {
        match self.state {
            State::Open => Ok(()),
            State::Failed => Err(io::Error::other("an earlier part could not be written")),
        }
    }

    fn refused(&self, error: SealError) -> StorageError {
        super::refused(self.inner.place(), error)
    }

    fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.chunks.is_full() {
                let sealed = self.chunks.seal(Place::Inner);
                sealed.map_err(|error| self.refused(error))?;
                if self.chunks.bytes.len() + SEALED_CHUNK_BYTES > BATCH_BYTES {
                    self.hand_on()?;
                }
            }
            bytes = self.chunks.fill(bytes);
        }
        Ok(())
    }

    /// Hands on what is sealed; all of it is.
    fn hand_on(&mut self) -> io::Result<()> {
        self.inner.write_all(&self.chunks.bytes)?;
        self.chunks.bytes.clear();
        self.chunks.chunk_at = 0;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let written = self.must_be_open().and_then(|()| {
            let sealed = self.chunks.seal(Place::Last);
            sealed.map_err(|error| self.refused(error))?;
            self.hand_on()
        });
        written.map_err(|error| StorageError::from_io("write", self.inner.place(), error))
    }
}

impl Write for SealedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.must_be_open()?;
        self.state = State::Failed;
        self.take(bytes)?;
        self.raw_bytes += bytes.len() as u64;
        self.state = State::Open;
        Ok(bytes.len())
    }

    /// Flushes what is below; up to a mebibyte stays here.
    fn flush(&mut self) -> io::Result<()> {
        self.must_be_open()?;
        self.state = State::Failed;
        self.inner.flush()?;
        self.state = State::Open;
        Ok(())
    }
}

impl ObjectWriter for SealedWriter {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn finish(mut self: Box<Self>) -> Result<ObjectMeta> {
        self.end()?;
        let mut meta = self.inner.finish()?;
        meta.size = self.raw_bytes;
        Ok(meta)
    }
}
