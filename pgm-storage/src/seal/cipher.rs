//! The two uses of AES-256-GCM: wrapping a data key, and the chunks of STREAM.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::error::SealError;
use super::header::{PREFIX_BYTES, WRAPPED_BYTES};
use super::key::MASTER_KEY_BYTES;

/// What GCM adds to every chunk.
pub(crate) const TAG_BYTES: usize = 16;
/// The bytes of the wrap's nonce.
pub(super) const WRAP_NONCE_BYTES: usize = NONCE_LEN;

/// Whether a chunk is the last of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Inner,
    Last,
}

/// The cipher of one object's chunks.
pub(crate) struct ChunkCipher {
    key: LessSafeKey,
    prefix: [u8; PREFIX_BYTES],
    /// The header's unchanging part and the context.
    aad: Vec<u8>,
}

impl ChunkCipher {
    pub(super) fn new(
        data_key: &[u8; MASTER_KEY_BYTES],
        prefix: [u8; PREFIX_BYTES],
        aad: Vec<u8>,
    ) -> Result<Self, SealError> {
        let key = key(data_key)?;
        Ok(Self { key, prefix, aad })
    }

    /// Encrypts `chunk` where it is and appends its tag.
    pub(super) fn seal(
        &self,
        number: u32,
        place: Place,
        chunk: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let nonce = self.nonce(number, place);
        self.key
            .seal_in_place_append_tag(nonce, Aad::from(&self.aad), chunk)
            .map_err(|_| SealError::Cipher { action: "encrypt" })
    }

    /// Encrypts `chunk` where it is and gives its tag.
    pub(crate) fn seal_apart(
        &self,
        number: u32,
        place: Place,
        chunk: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], SealError> {
        let nonce = self.nonce(number, place);
        let refused = SealError::Cipher { action: "encrypt" };
        match self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&self.aad), chunk)
        {
            Ok(tag) => tag.as_ref().try_into().map_err(|_| refused),
            Err(_) => Err(refused),
        }
    }

    /// Decrypts `chunk` where it is and gives the raw bytes; `None`, and the bytes are worthless, when it is not genuine.
    pub(crate) fn open<'a>(
        &self,
        number: u32,
        place: Place,
        chunk: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let nonce = self.nonce(number, place);
        self.key
            .open_in_place(nonce, Aad::from(&self.aad), chunk)
            .ok()
    }

    /// Decrypts `chunk` into `raw`, which is as long but for the tag; `false`, and `raw` is all zeros, when it is not genuine.
    #[must_use]
    pub(crate) fn open_into(
        &self,
        number: u32,
        place: Place,
        chunk: &[u8],
        raw: &mut [u8],
    ) -> bool {
        let Some((sealed, tag)) = chunk.split_last_chunk::<TAG_BYTES>() else {
            return false;
        };
        let nonce = self.nonce(number, place);
        let opened = self
            .key
            .open_separate_gather(nonce, Aad::from(&self.aad), sealed, tag, raw);
        if opened.is_err() {
            raw.fill(0);
        }
        opened.is_ok()
    }

    fn nonce(&self, number: u32, place: Place) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..PREFIX_BYTES].copy_from_slice(&self.prefix);
        nonce[PREFIX_BYTES..NONCE_LEN - 1].copy_from_slice(&number.to_be_bytes());
        nonce[NONCE_LEN - 1] = u8::from(place == Place::Last);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Encrypts a data key with a master key.
pub(super) fn wrap(
    master: &[u8; MASTER_KEY_BYTES],
    nonce: [u8; WRAP_NONCE_BYTES],
    aad: &[u8],
    data_key: &[u8; MASTER_KEY_BYTES],
) -> Result<[u8; WRAPPED_BYTES], SealError> {
    let mut wrapped = [0; WRAPPED_BYTES];
    let (body, tag) = wrapped.split_at_mut(MASTER_KEY_BYTES);
    body.copy_from_slice(data_key);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let made = key(master)?
        .seal_in_place_separate_tag(nonce, Aad::from(aad), body)
        .map_err(|_| SealError::Cipher {
            action: "wrap a data key",
        })?;
    tag.copy_from_slice(made.as_ref());
    Ok(wrapped)
}

/// Decrypts a data key; `None` when it is not genuine.
pub(super) fn unwrap(
    master: &[u8; MASTER_KEY_BYTES],
    nonce: [u8; WRAP_NONCE_BYTES],
    aad: &[u8],
    wrapped: &[u8; WRAPPED_BYTES],
) -> Result<Option<Zeroizing<[u8; MASTER_KEY_BYTES]>>, SealError> {
    let mut buffer = Zeroizing::new(*wrapped);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let opened = key(master)?.open_in_place(nonce, Aad::from(aad), buffer.as_mut());
    Ok(opened
        .ok()
        .and_then(|raw| raw.first_chunk().copied())
        .map(Zeroizing::new))
}

/// Fills `bytes` with random numbers.
pub(super) fn randomise(bytes: &mut [u8]) -> Result<(), SealError> {
    getrandom::fill(bytes).map_err(|_| SealError::Cipher {
        action: "get random numbers from the system",
    })
}

fn key(bytes: &[u8; MASTER_KEY_BYTES]) -> Result<LessSafeKey, SealError> {
    let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| SealError::Cipher {
        action: "set the key up",
    })?;
    Ok(LessSafeKey::new(key))
}
