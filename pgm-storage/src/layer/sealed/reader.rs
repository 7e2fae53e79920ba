//! Reading a sealed object at any place: only the chunks that are needed, each proved genuine before a byte of it is
//! given.
//!
//! The last chunk is read and proved when the object is opened: its nonce says that it is the last one, so an object
//! that was cut, at whatever byte, cannot be opened. It is kept, since the end of a pack is asked for first; and so is
//! the chunk in which the latest read ended, where the next one often goes on. Memory is two chunks, and a mebibyte
//! while something larger is read.

use std::sync::{Mutex, PoisonError};

use crate::error::{Result, StorageError};
use crate::seal::{
    CHUNK_BYTES, ChunkCipher, Place, SEAL_HEADER_BYTES, SEALED_CHUNK_BYTES, SealError, SealedSize,
    TAG_BYTES,
};
use crate::storage::ObjectReader;

/// The most chunks that are asked for at once: a frame of a mebibyte and its header lie in so many, wherever they begin.
const BATCH_CHUNKS: u32 = 18;

/// An opened sealed object.
pub(super) struct SealedReader {
    inner: Box<dyn ObjectReader>,
    cipher: ChunkCipher,
    size: SealedSize,
    /// The raw bytes of the last chunk.
    last: Vec<u8>,
    /// What one read leaves to the next; absent while one goes on.
    desk: Mutex<Option<Box<Desk>>>,
}

/// Where chunks are opened.
#[derive(Default)]
struct Desk {
    sealed: Vec<u8>,
    /// The number and the raw bytes of a chunk that was opened before.
    chunk: Option<(u32, Vec<u8>)>,
}

impl SealedReader {
    /// Opens a sealed object; `open` gives the cipher that a header takes.
    pub(super) fn open(
        inner: Box<dyn ObjectReader>,
        open: impl FnOnce(&[u8; SEAL_HEADER_BYTES]) -> Result<ChunkCipher, SealError>,
    ) -> Result<Self> {
        let refused = |error| super::refused(inner.place(), error);
        let mut header = [0; SEAL_HEADER_BYTES];
        let Some(size) = SealedSize::of(inner.size()) else {
            let there = header.len().min(usize::try_from(inner.size()).unwrap_or(0));
            inner.read_exact_at(&mut header[..there], 0)?;
            return Err(refused(cut_or_foreign(&header)));
        };
        // First, because the end is what a far store has sent already.
        let mut last = vec![0; SEALED_CHUNK_BYTES.min(size.last_bytes() + TAG_BYTES)];
        inner.read_exact_at(&mut last, SealedSize::offset(size.last))?;
        inner.read_exact_at(&mut header, 0)?;
        let cipher = open(&header).map_err(refused)?;
        let opened = open_last(&cipher, size, &mut last);
        last.truncate(opened.map_err(refused)?);
        Ok(Self {
            inner,
            cipher,
            size,
            last,
            desk: Mutex::default(),
        })
    }

    fn fill(&self, desk: &mut Desk, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        while !buf.is_empty() {
            // Within the object, as the caller has checked, which has no more than 2^32 chunks.
            let number = (offset / CHUNK_BYTES as u64) as u32;
            let within = (offset % CHUNK_BYTES as u64) as usize;
            let given = match self.at_hand(desk, number) {
                Some(chunk) => copy(&chunk[within..], buf),
                None => self.fetch(desk, buf, number, within)?,
            };
            buf = &mut buf[given..];
            offset += given as u64;
        }
        Ok(())
    }

    /// A chunk that was opened before.
    fn at_hand<'a>(&'a self, desk: &'a Desk, number: u32) -> Option<&'a [u8]> {
        if number == self.size.last {
            return Some(&self.last);
        }
        match &desk.chunk {
            Some((kept, bytes)) if *kept == number => Some(bytes),
            _ => None,
        }
    }

    /// Reads and opens chunks from `number` on, from the byte `within` of it, into `buf`; gives how much was filled. The
    /// last chunk of the object is not among them: that one is at hand.
    fn fetch(&self, desk: &mut Desk, buf: &mut [u8], number: u32, within: usize) -> Result<usize> {
        let wanted = (within + buf.len()).div_ceil(CHUNK_BYTES);
        let chunks = u32::try_from(wanted)
            .unwrap_or(u32::MAX)
            .min(BATCH_CHUNKS)
            .min(self.size.last - number);
        desk.sealed.resize(chunks as usize * SEALED_CHUNK_BYTES, 0);
        self.inner
            .read_exact_at(&mut desk.sealed, SealedSize::offset(number))?;
        let (mut given, mut within) = (0, within);
        for (number, sealed) in (number..).zip(desk.sealed.chunks_mut(SEALED_CHUNK_BYTES)) {
            let rest = &mut buf[given..];
            if within == 0 && rest.len() >= CHUNK_BYTES {
                let raw = &mut rest[..CHUNK_BYTES];
                if !self.cipher.open_into(number, Place::Inner, sealed, raw) {
                    return Err(self.tampered(number));
                }
                given += CHUNK_BYTES;
                continue;
            }
            let opened = self.cipher.open(number, Place::Inner, sealed);
            let raw = opened.ok_or_else(|| self.tampered(number))?;
            given += copy(&raw[within..], rest);
            within = 0;
            let (kept, bytes) = desk.chunk.get_or_insert_default();
            *kept = number;
            bytes.clear();
            bytes.extend_from_slice(raw);
        }
        Ok(given)
    }

    fn tampered(&self, number: u32) -> StorageError {
        let offset = u64::from(number) * CHUNK_BYTES as u64;
        super::refused(self.place(), SealError::Tampered { offset })
    }

    fn desk(&self) -> std::sync::MutexGuard<'_, Option<Box<Desk>>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ObjectReader for SealedReader {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn size(&self) -> u64 {
        self.size.raw
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size.raw) {
            let reason = format!(
                "it ends at {} before {} bytes from {offset} could be read",
                self.size.raw,
                buf.len()
            );
            return Err(StorageError::Damaged {
                path: self.place(),
                reason,
            });
        }
        // Another thread may read meanwhile; it gets a desk of its own.
        let mut desk = self.desk().take().unwrap_or_default();
        let filled = self.fill(&mut desk, buf, offset);
        *self.desk() = Some(desk);
        filled
    }
}

/// Opens a sealed object that is in memory, where it is.
pub(super) fn open_whole(
    mut object: Vec<u8>,
    open: impl FnOnce(&[u8; SEAL_HEADER_BYTES]) -> Result<ChunkCipher, SealError>,
) -> Result<Vec<u8>, SealError> {
    let Some((header, _)) = object.split_first_chunk() else {
        return Err(cut_or_foreign(&object));
    };
    let size = SealedSize::of(object.len() as u64).ok_or_else(|| cut_or_foreign(header))?;
    let cipher = open(header)?;
    let mut filled = 0;
    for number in 0..=size.last {
        let from = SEAL_HEADER_BYTES + number as usize * SEALED_CHUNK_BYTES;
        let until = object.len().min(from + SEALED_CHUNK_BYTES);
        let sealed = &mut object[from..until];
        let raw = if number == size.last {
            open_last(&cipher, size, sealed)?
        } else {
            let offset = filled as u64;
            let opened = cipher.open(number, Place::Inner, sealed);
            opened.ok_or(SealError::Tampered { offset })?.len()
        };
        object.copy_within(from..from + raw, filled);
        filled += raw;
    }
    object.truncate(filled);
    Ok(object)
}

/// Opens the last chunk where it is; gives its raw bytes, which come first then. Tells a cut just behind a chunk from
/// damage.
fn open_last(
    cipher: &ChunkCipher,
    size: SealedSize,
    sealed: &mut [u8],
) -> Result<usize, SealError> {
    let mut raw = vec![0; size.last_bytes()];
    let offset = u64::from(size.last) * CHUNK_BYTES as u64;
    if cipher.open_into(size.last, Place::Last, sealed, &mut raw) {
        sealed[..raw.len()].copy_from_slice(&raw);
        return Ok(raw.len());
    }
    Err(
        if cipher.open_into(size.last, Place::Inner, sealed, &mut raw) {
            SealError::Truncated {
                raw_bytes: size.raw,
            }
        } else {
            SealError::Tampered { offset }
        },
    )
}

/// What an object is that has a size that no sealed one has.
fn cut_or_foreign(start: &[u8]) -> SealError {
    if crate::seal::is_sealed(start) {
        SealError::Truncated { raw_bytes: 0 }
    } else {
        SealError::NotSealed
    }
}

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    to[..count].copy_from_slice(&from[..count]);
    count
}
