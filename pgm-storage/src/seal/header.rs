//! The header of a sealed object: what it takes to open it, but the key.
//!
//! The first 16 bytes never change and are authenticated with every chunk. The rest is about the master key, so that a
//! new master key needs a new header only; it is authenticated by the wrap. The checksum at the end tells an accident
//! from another key.

use zeroize::Zeroizing;

use super::cipher::{ChunkCipher, TAG_BYTES, WRAP_NONCE_BYTES, randomise, unwrap, wrap};
use super::error::SealError;
use super::key::{KeyId, MASTER_KEY_BYTES, MasterKey};

/// The size of a sealed object's header.
pub const SEAL_HEADER_BYTES: usize = 96;

pub(super) const MAGIC: &[u8] = b"PGMS";
pub(super) const PREFIX_BYTES: usize = 7;
pub(super) const WRAPPED_BYTES: usize = MASTER_KEY_BYTES + TAG_BYTES;

const VERSION: u8 = 1;
const AES_256_GCM: u8 = 1;
/// Chunks of 64 KiB: small enough to be held, large enough that the tag costs nothing.
pub(crate) const CHUNK_POWER: u8 = 16;
/// What a reader accepts: a header never makes it allocate more than 16 MiB.
const CHUNK_POWERS: std::ops::RangeInclusive<u8> = 10..=24;

/// Bytes that never change.
const FIXED_BYTES: usize = 16;
const PREFIX_AT: usize = 8;
const KEY_ID_AT: usize = FIXED_BYTES;
const WRAP_NONCE_AT: usize = KEY_ID_AT + KeyId::BYTES;
const WRAPPED_AT: usize = WRAP_NONCE_AT + WRAP_NONCE_BYTES;
const CHECKSUM_AT: usize = WRAPPED_AT + WRAPPED_BYTES;

/// A header that was read or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealHeader {
    bytes: [u8; SEAL_HEADER_BYTES],
}

/// The random parts of an object.
pub(super) struct Material {
    pub(super) data_key: Zeroizing<[u8; MASTER_KEY_BYTES]>,
    pub(super) prefix: [u8; PREFIX_BYTES],
    pub(super) wrap_nonce: [u8; WRAP_NONCE_BYTES],
}

impl Material {
    pub(super) fn random() -> Result<Self, SealError> {
        let mut material = Self {
            data_key: Zeroizing::new([0; MASTER_KEY_BYTES]),
            prefix: [0; PREFIX_BYTES],
            wrap_nonce: [0; WRAP_NONCE_BYTES],
        };
        randomise(material.data_key.as_mut())?;
        randomise(&mut material.prefix)?;
        randomise(&mut material.wrap_nonce)?;
        Ok(material)
    }
}

impl SealHeader {
    /// The header of a new object in chunks of the usual size, and the cipher of its chunks.
    pub(crate) fn begin(key: &MasterKey, context: &[u8]) -> Result<(Self, ChunkCipher), SealError> {
        let material = Material::random()?;
        let header = Self::make(key, context, &material, CHUNK_POWER)?;
        let cipher = header.cipher(&material.data_key, context)?;
        Ok((header, cipher))
    }

    /// Makes a header for chunks of two to the power of `chunk_power` bytes.
    pub(super) fn make(
        key: &MasterKey,
        context: &[u8],
        material: &Material,
        chunk_power: u8,
    ) -> Result<Self, SealError> {
        let mut bytes = [0; SEAL_HEADER_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[4] = VERSION;
        bytes[5] = AES_256_GCM;
        bytes[6] = chunk_power;
        bytes[PREFIX_AT..PREFIX_AT + PREFIX_BYTES].copy_from_slice(&material.prefix);
        bytes[KEY_ID_AT..WRAP_NONCE_AT].copy_from_slice(key.id().as_bytes());
        bytes[WRAP_NONCE_AT..WRAPPED_AT].copy_from_slice(&material.wrap_nonce);
        let aad = aad(&bytes[..WRAP_NONCE_AT], context);
        let wrapped = wrap(key.bytes(), material.wrap_nonce, &aad, &material.data_key)?;
        bytes[WRAPPED_AT..CHECKSUM_AT].copy_from_slice(&wrapped);
        let checksum = crate::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        Ok(Self { bytes })
    }

    /// Reads a header and checks everything that takes no key.
    pub fn parse(bytes: &[u8; SEAL_HEADER_BYTES]) -> Result<Self, SealError> {
        if !bytes.starts_with(MAGIC) {
            return Err(SealError::NotSealed);
        }
        let checksum = crate::crc32c(&bytes[..CHECKSUM_AT]).to_le_bytes();
        if bytes[CHECKSUM_AT..] != checksum {
            return Err(SealError::DamagedHeader);
        }
        let unsupported = |what, found| Err(SealError::Unsupported { what, found });
        match bytes {
            [_, _, _, _, version, ..] if *version != VERSION => {
                unsupported("format version", *version)
            }
            [_, _, _, _, _, cipher, ..] if *cipher != AES_256_GCM => unsupported("cipher", *cipher),
            [_, _, _, _, _, _, power, ..] if !CHUNK_POWERS.contains(power) => {
                unsupported("chunk size 2^", *power)
            }
            _ if bytes[7] != 0 || bytes[FIXED_BYTES - 1] != 0 => Err(SealError::DamagedHeader),
            _ => Ok(Self { bytes: *bytes }),
        }
    }

    /// The key that it takes: a master key, or a data key of a repository.
    pub fn key_id(&self) -> KeyId {
        KeyId::from_bytes(self.array(KEY_ID_AT))
    }

    /// The header as it is stored.
    pub fn to_bytes(&self) -> [u8; SEAL_HEADER_BYTES] {
        self.bytes
    }

    /// The raw bytes of every chunk but the last.
    pub(crate) fn chunk_bytes(&self) -> usize {
        1 << self.bytes[6]
    }

    /// Unwraps the data key.
    pub(crate) fn open(&self, key: &MasterKey, context: &[u8]) -> Result<ChunkCipher, SealError> {
        if key.id() != self.key_id() {
            return Err(SealError::WrongKey {
                needed: self.key_id(),
                given: key.id(),
            });
        }
        let wrapped_aad = aad(&self.bytes[..WRAP_NONCE_AT], context);
        let data_key = unwrap(
            key.bytes(),
            self.array(WRAP_NONCE_AT),
            &wrapped_aad,
            &self.array(WRAPPED_AT),
        )?;
        let data_key = data_key.ok_or(SealError::TamperedHeader)?;
        self.cipher(&data_key, context)
    }

    /// The cipher of the chunks.
    pub(super) fn cipher(
        &self,
        data_key: &[u8; MASTER_KEY_BYTES],
        context: &[u8],
    ) -> Result<ChunkCipher, SealError> {
        let aad = aad(&self.bytes[..FIXED_BYTES], context);
        ChunkCipher::new(data_key, self.array(PREFIX_AT), aad)
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }
}

/// The head of the header, of a length that never varies, then the context: no two pairs give the same bytes.
fn aad(head: &[u8], context: &[u8]) -> Vec<u8> {
    [head, context].concat()
}
