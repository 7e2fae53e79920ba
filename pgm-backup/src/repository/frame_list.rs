//! `resume/NNNN`: what is in a finished pack of a backup that is not finished.
//!
//! With it a later backup finds that it need not store a frame again. The object is a pack whose frames, put together, are
//!
//! ```text
//!  0         4         8                    16
//!  +---------+---------+--------------------+      number: NNNN of the pack that is listed
//!  | format  | number  |   pack bytes       |
//!  +---------+---------+--------------------+
//!  |   key of the hash                      |      then 32 bytes for each of its frames, in order:
//!  +-------------------+----------+---------+
//!  |   offset          |   raw    | CRC-32C |
//!  +---------+---------+----------+---------+
//!  |   hash of the raw bytes                |
//!  +----------------------------------------+
//! ```
//!
//! Whether two frames are the same is decided by a hash of 128 bits, the length and the CRC-32C. The bytes come from people who must not be
//! able to make one version of a table stand for another. So the hash is one with a key that they do not know: GMAC (NIST SP 800-38D) of AES-128 with a random key
//! and a nonce of zeros. Two different frames have the same one with a chance of 2^-111 at most, whatever they are (1 MiB are 2^16 blocks, of 2^128
//! values each), as long as nobody sees hashes but who has the repository. With the processor's own instructions for it it takes a
//! quarter of what BLAKE3 takes. A backup that goes on from others takes over their key.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use pgm_storage::{
    FRAME_RAW_MAX, FrameDecoder, FrameLocation, ObjectReader, ObjectWriter, PackReader, PackWriter,
    StorageError,
};

use super::layout;
use crate::error::{Error, Result};

const FORMAT: u32 = 2;
const HEAD_BYTES: usize = 32;
const HASH_KEY_AT: usize = 16;
const ENTRY_BYTES: usize = 32;
/// What is in a pack behind its frames, beside 20 bytes for each: head of the index and footer.
const INDEX_BYTES: u64 = 8 + 32;
/// The most frames in a pack that has a list; a bound for the list (2 MiB).
pub(crate) const LISTED_FRAMES_MAX: usize = 1 << 16;

/// The key of the hash of frames.
pub(crate) type HashKey = [u8; 16];

/// Hashes frames with a key.
pub(crate) struct FrameHasher {
    key: HashKey,
    machine: LessSafeKey,
}

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
    pub(crate) hash_key: HashKey,
    pub(crate) frames: Vec<ListedFrame>,
}

impl FrameHasher {
    pub(crate) fn new(key: HashKey) -> Result<Self> {
        let machine = UnboundKey::new(&AES_128_GCM, &key).map_err(|_| refused())?;
        Ok(Self {
            key,
            machine: LessSafeKey::new(machine),
        })
    }

    /// One with a key of its own.
    pub(crate) fn random() -> Result<Self> {
        let mut key = HashKey::default();
        getrandom::fill(&mut key).map_err(|error| Error::System {
            operation: "reading random bytes",
            source: error.into(),
        })?;
        Self::new(key)
    }

    pub(crate) const fn key(&self) -> HashKey {
        self.key
    }

    pub(crate) fn frame(&self, raw: &[u8]) -> Result<FrameKey> {
        // Always the same one: equal frames shall have equal hashes, and nothing is encrypted.
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let sealed = self
            .machine
            .seal_in_place_separate_tag(nonce, Aad::from(raw), &mut []);
        let tag = sealed.map_err(|_| refused())?;
        Ok(FrameKey {
            hash: tag.as_ref().try_into().map_err(|_| refused())?,
            raw_bytes: raw.len() as u32,
            crc: pgm_storage::crc32c(raw),
        })
    }
}

impl fmt::Debug for FrameHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameHasher").finish_non_exhaustive()
    }
}

fn refused() -> Error {
    Error::System {
        operation: "hashing a frame",
        source: std::io::Error::other("the cryptographic library refused it"),
    }
}

impl FrameList {
    pub(crate) fn write(&self, object: Box<dyn ObjectWriter>) -> Result<()> {
        let mut raw = Vec::with_capacity(HEAD_BYTES + ENTRY_BYTES * self.frames.len());
        raw.extend_from_slice(&FORMAT.to_le_bytes());
        raw.extend_from_slice(&self.pack.to_le_bytes());
        raw.extend_from_slice(&self.pack_bytes.to_le_bytes());
        raw.extend_from_slice(&self.hash_key);
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
        let (_, hash_key) = head.split_at(HASH_KEY_AT);
        Some(Self {
            pack: u32_at(head, 4),
            pack_bytes: u64_at(head, 8),
            hash_key: hash_key.try_into().ok()?,
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
    fn hashes_are_those_of_the_standard_and_depend_on_bytes_and_key() {
        // GCM with a key and a nonce of zeros, over nothing: test case 1 of the specification of GCM.
        let zeros = FrameHasher::new([0; 16]).unwrap();
        let hash = zeros.frame(&[]).unwrap().hash;
        assert_eq!(
            u128::from_be_bytes(hash),
            0x58e2_fcce_fa7e_3061_367f_1d57_a4e7_455a
        );
        let mut raw = vec![3; FRAME_RAW_MAX];
        let before = zeros.frame(&raw).unwrap();
        assert_eq!(zeros.frame(&raw).unwrap(), before);
        let other = FrameHasher::new([1; 16]).unwrap();
        assert_ne!(other.frame(&raw).unwrap().hash, before.hash);
        raw[1_000_000] ^= 1;
        assert_ne!(zeros.frame(&raw).unwrap().hash, before.hash);
    }

    #[test]
    fn a_list_comes_back_and_every_flipped_bit_is_noticed() {
        let storage = MemoryStorage::new();
        let path = ObjectPath::parse("a/resume/0003").unwrap();
        let hasher = FrameHasher::random().unwrap();
        let frame = |number: u64| ListedFrame {
            key: hasher.frame(&number.to_le_bytes()).unwrap(),
            offset: 16 + 100 * number,
        };
        let list = FrameList {
            pack: 3,
            pack_bytes: 12_345,
            hash_key: hasher.key(),
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
