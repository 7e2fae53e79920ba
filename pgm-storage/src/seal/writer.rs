//! Writes a sealed object, one chunk in memory.

use std::io::{self, Write};

use zeroize::Zeroizing;

use super::cipher::{ChunkCipher, Place, TAG_BYTES};
use super::error::SealError;
use super::header::{CHUNK_POWER, Material, SealHeader};
use super::key::MasterKey;

/// Seals what is written into it. Without [`SealWriter::finish`] the object stays without its last chunk, and every reader
/// calls it cut off.
pub struct SealWriter<W: Write> {
    inner: W,
    cipher: ChunkCipher,
    /// Raw bytes of the chunk that is being filled; full only until more bytes come, since it may be the last.
    chunk: Zeroizing<Vec<u8>>,
    chunk_bytes: usize,
    number: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Takes more.
    Open,
    /// A chunk could not be written: what follows would not be where it belongs.
    Failed,
}

impl<W: Write> SealWriter<W> {
    /// Begins an object: a data key of its own, wrapped by `key`. `context` says what the object is; the reader must say
    /// the same.
    pub fn new(inner: W, key: &MasterKey, context: &[u8]) -> Result<Self, SealError> {
        Self::with_material(inner, key, context, &Material::random()?, CHUNK_POWER)
    }

    pub(super) fn with_material(
        mut inner: W,
        key: &MasterKey,
        context: &[u8],
        material: &Material,
        chunk_power: u8,
    ) -> Result<Self, SealError> {
        let header = SealHeader::make(key, context, material, chunk_power)?;
        let cipher = header.cipher(&material.data_key, context)?;
        inner.write_all(&header.to_bytes())?;
        let chunk_bytes = header.chunk_bytes();
        Ok(Self {
            inner,
            cipher,
            chunk: Zeroizing::new(Vec::with_capacity(chunk_bytes + TAG_BYTES)),
            chunk_bytes,
            number: 0,
            state: State::Open,
        })
    }

    /// Writes the last chunk, which proves that the object is whole, and gives back what is written to.
    pub fn finish(mut self) -> Result<W, SealError> {
        self.put(Place::Last)?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn must_be_open(&self) -> io::Result<()> {
        match self.state {
            State::Open => Ok(()),
            State::Failed => Err(io::Error::other("an earlier chunk could not be written")),
        }
    }

    fn put(&mut self, place: Place) -> Result<(), SealError> {
        self.must_be_open()?;
        self.state = State::Failed;
        self.cipher.seal(self.number, place, &mut self.chunk)?;
        self.inner.write_all(&self.chunk)?;
        self.chunk.clear();
        if place == Place::Inner {
            self.number = self.number.checked_add(1).ok_or(SealError::TooLarge)?;
        }
        self.state = State::Open;
        Ok(())
    }
}

impl<W: Write> Write for SealWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.must_be_open()?;
        if self.chunk.len() == self.chunk_bytes {
            self.put(Place::Inner)?;
        }
        let taken = bytes.len().min(self.chunk_bytes - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Flushes what is below; a chunk that is not full stays here.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> std::fmt::Debug for SealWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealWriter")
            .field("chunk", &self.number)
            .finish_non_exhaustive()
    }
}
