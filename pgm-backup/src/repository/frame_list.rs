//! `resume/NNNN`: what is in a finished pack of a backup that is not finished.
//!
//! With it a later backup finds that it need not store a frame again. The object is a pack whose frames, put together, are
//!
//! ```text
//!  0         4         8                    16
//!  +---------+---------+--------------------+      number: NNNN of the pack that is listed
//!  | format  | number  |   pack bytes       |      then 32 bytes for each of its frames, in order:
//!  +---------+---------+--------------------+
//!  |   offset          |   raw    | CRC-32C |
//!  +---------+---------+----------+---------+
//!  |   first 16 bytes of BLAKE3 of the raw  |
//!  +----------------------------------------+
//! ```
//!
//! Whether two frames are the same is decided by 128 bits of BLAKE3, the length and the CRC-32C. A cryptographic hash,
//! because the bytes come from people who must not be able to make one version of a table stand for another; and this one,
//! because it takes a tenth of what the fastest zstd takes.

use pgm_storage::{
    FRAME_RAW_MAX, FrameDecoder, FrameLocation, ObjectReader, ObjectWriter, PackReader, PackWriter,
    StorageError,
};

use super::layout;
use crate::error::Result;

const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 16;
const ENTRY_BYTES: usize = 32;
/// What is in a pack behind its frames, beside 20 bytes for each: head of the index and footer.
const INDEX_BYTES: u64 = 8 + 32;
/// The most frames in a pack that has a list; a bound for the list (2 MiB).
pub(crate) const LISTED_FRAMES_MAX: usize = 1 << 16;

/// What tells the raw bytes of a frame from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FrameKey {
    pub(crate) hash: [u8; 16],
    pub(crate) raw_bytes: u32,
    pub(crate) crc: u32,
}

/// A frame, and where it is in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListedFrame {
    pub(crate) key: FrameKey,
    pub(crate) offset: u64,
}

/// The frames of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameList {
    pub(crate) pack: u32,
    pub(crate) pack_bytes: u64,
    pub(crate) frames: Vec<ListedFrame>,
}

impl FrameKey {
    pub(crate) fn of(raw: &[u8]) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(raw).as_bytes()[..16]);
        Self {
            hash,
            raw_bytes: raw.len() as u32,
            crc: pgm_storage::crc32c(raw),
        }
    }
}

impl FrameList {
    pub(crate) fn write(&self, object: Box<dyn ObjectWriter>) -> Result<()> {
        let mut raw = Vec::with_capacity(HEAD_BYTES + ENTRY_BYTES * self.frames.len());
        raw.extend_from_slice(&FORMAT.to_le_bytes());
        raw.extend_from_slice(&self.pack.to_le_bytes());
        raw.extend_from_slice(&self.pack_bytes.to_le_bytes());
        for ListedFrame { key, offset } in &self.frames {
            raw.extend_from_slice(&offset.to_le_bytes());
            raw.extend_from_slice(&key.raw_bytes.to_le_bytes());
            raw.extend_from_slice(&key.crc.to_le_bytes());
            raw.extend_from_slice(&key.hash);
        }
        // Hashes do not become fewer by compression.
        let compression = pgm_storage::Compression::NONE;
        let mut pack = PackWriter::with_kind(object, compression, layout::FRAME_LIST_PACK)?;
        for frame in raw.chunks(FRAME_RAW_MAX) {
            pack.append(frame)?;
        }
        pack.finish()?;
        Ok(())
    }

    /// The checksum of the index of the pack that is listed; `None` when its frames do not fill it.
    pub(crate) fn index_crc(&self) -> Option<u32> {
        let count = self.frames.len() as u64;
        let index_at = self.pack_bytes.checked_sub(INDEX_BYTES + 20 * count)?;
        let ends = self.frames.iter().skip(1).map(|frame| frame.offset);
        let frames = self.frames.iter().zip(ends.chain([index_at]));
        let frames = frames.map(|(frame, end)| {
            Some(FrameLocation {
                offset: frame.offset,
                stored_bytes: end.checked_sub(frame.offset)?.try_into().ok()?,
                raw_bytes: frame.key.raw_bytes,
                crc: frame.key.crc,
            })
        });
        Some(pgm_storage::index_crc(&frames.collect::<Option<Vec<_>>>()?))
    }

    /// Reads a list; damage of any kind is an error.
    pub(crate) fn read(object: Box<dyn ObjectReader>) -> Result<Self, StorageError> {
        let place = object.place();
        let damaged = |reason: &str| StorageError::Damaged {
            path: place.clone(),
            reason: reason.into(),
        };
        let pack = PackReader::open(object)?;
        let bytes = pack.summary().raw_bytes;
        if pack.kind() != layout::FRAME_LIST_PACK
            || bytes > (HEAD_BYTES + ENTRY_BYTES * LISTED_FRAMES_MAX) as u64
        {
            return Err(damaged("it is no list of frames"));
        }
        let mut decoder = FrameDecoder::new().map_err(|source| StorageError::Frame {
            path: place.clone(),
            source,
        })?;
        let (mut scratch, mut frame, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for location in pack.frames() {
            pack.read(location, &mut decoder, &mut scratch, &mut frame)?;
            raw.extend_from_slice(&frame);
        }
        Self::parse(&raw).ok_or_else(|| damaged("it does not add up"))
    }

    fn parse(raw: &[u8]) -> Option<Self> {
        let (head, entries) = raw.split_first_chunk::<HEAD_BYTES>()?;
        let (entries, []) = entries.as_chunks::<ENTRY_BYTES>() else {
            return None;
        };
        if u32_at(head, 0) != FORMAT {
            return None;
        }
        let frame = |entry: &[u8; ENTRY_BYTES]| {
            let mut hash = [0; 16];
            hash.copy_from_slice(&entry[16..]);
            let key = FrameKey {
                hash,
                raw_bytes: u32_at(entry, 8),
                crc: u32_at(entry, 12),
            };
            ListedFrame {
                key,
                offset: u64_at(entry, 0),
            }
        };
        Some(Self {
            pack: u32_at(head, 4),
            pack_bytes: u64_at(head, 8),
            frames: entries.iter().map(frame).collect(),
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use pgm_storage::{MemoryStorage, ObjectPath, PutMode, Storage};

    use super::*;

    #[test]
    fn a_list_comes_back_and_every_flipped_bit_is_noticed() {
        let storage = MemoryStorage::new();
        let path = ObjectPath::parse("a/resume/0003").unwrap();
        let frame = |number: u64| ListedFrame {
            key: FrameKey::of(&number.to_le_bytes()),
            offset: 16 + 100 * number,
        };
        let list = FrameList {
            pack: 3,
            pack_bytes: 12_345,
            frames: (0..40_000).map(frame).collect(),
        };
        list.write(storage.create(&path).unwrap()).unwrap();
        let read = |storage: &MemoryStorage| FrameList::read(storage.open(&path).unwrap());
        assert_eq!(read(&storage).unwrap(), list);
        let good = storage.get(&path, 1 << 22).unwrap();
        for at in (0..good.len()).step_by(997) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            storage.put(&path, &bad, PutMode::Replace).unwrap();
            assert!(read(&storage).is_err(), "byte {at}");
        }
        for length in [0, 15, 100, good.len() - 1] {
            let cut = &good[..length];
            storage.put(&path, cut, PutMode::Replace).unwrap();
            assert!(read(&storage).is_err(), "cut to {length}");
        }
    }
}
