//! A storage in which everything is sealed, for whoever uses it like any other.
//!
//! Each object rests as one sealed object ([`crate::seal`]): its own key is wrapped by the active data key of the ring,
//! and what it *is*, the repository's id and its path, is bound into every chunk. So an object that was changed, cut,
//! renamed, exchanged with another one, or brought from another repository is refused, and so is a plain one. Sizes are
//! those of the raw bytes everywhere.
//!
//! What the ring itself rests in stays plain: [`SealedOptions::plain`]. An object of no bytes is put as one of no bytes,
//! since that takes no room on a full disk: it says nothing, and those who read records and packs refuse it. An object
//! below whose size no sealed one can have is listed with 0 bytes and refused when it is read.
//!
//! Not seen here: that an object was deleted, or that one was put back that had been at the same place before.

mod reader;
mod writer;

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use self::reader::{SealedReader, open_whole};
use self::writer::{SealedWriter, seal_whole};
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::seal::{
    CHUNK_BYTES, ChunkCipher, KeyId, KeyRing, SEAL_HEADER_BYTES, SealError, SealHeader, SealedSize,
};
use crate::storage::{ObjectMeta, ObjectReader, ObjectWriter, PutMode, Space, Storage};

/// Another storage, sealed; clones are the same one.
#[derive(Clone)]
pub struct SealedStorage {
    inner: Arc<dyn Storage>,
    sealing: Arc<Sealing>,
}

/// How a storage is sealed.
pub struct SealedOptions {
    /// The data keys.
    pub ring: KeyRing,
    /// Whose objects they are: no object of another repository is taken.
    pub repository: String,
    /// Objects, and folders of objects, that are passed on as they are.
    pub plain: Vec<ObjectPath>,
    /// Reads the ring again when an object names a key that is not in it: somebody may have added one since.
    pub reload: Box<dyn Fn() -> Option<KeyRing> + Send + Sync>,
}

/// What all readers and writers share.
struct Sealing {
    ring: RwLock<KeyRing>,
    repository: String,
    plain: Vec<ObjectPath>,
    reload: Box<dyn Fn() -> Option<KeyRing> + Send + Sync>,
}

impl SealedStorage {
    /// Seals `inner`.
    pub fn new(inner: Arc<dyn Storage>, options: SealedOptions) -> Self {
        let sealing = Sealing {
            ring: RwLock::new(options.ring),
            repository: options.repository,
            plain: options.plain,
            reload: options.reload,
        };
        Self {
            inner,
            sealing: Arc::new(sealing),
        }
    }

    /// The storage below, in which the sealed objects are.
    pub fn inner(&self) -> &Arc<dyn Storage> {
        &self.inner
    }

    /// The data keys.
    pub fn ring(&self) -> KeyRing {
        let ring = self.sealing.ring.read();
        ring.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes another ring from now on.
    pub fn set_ring(&self, ring: KeyRing) {
        self.sealing.set_ring(ring);
    }

    fn is_plain(&self, path: &ObjectPath) -> bool {
        let mut plain = self.sealing.plain.iter();
        plain.any(|plain| path.below(plain).is_some())
    }

    /// What is stored below for a whole small object.
    fn stored<'a>(&self, path: &ObjectPath, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        if bytes.is_empty() || self.is_plain(path) {
            return Ok(Cow::Borrowed(bytes));
        }
        let (header, cipher) = self.sealing.begin(path)?;
        let sealed = seal_whole(&header, cipher, bytes);
        Ok(Cow::Owned(
            sealed.map_err(|error| refused(path.to_string(), error))?,
        ))
    }

    /// The same object with its raw size.
    fn raw(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if !self.is_plain(&meta.path) {
            meta.size = SealedSize::of(meta.size).map_or(0, |size| size.raw);
        }
        meta
    }
}

impl Sealing {
    fn set_ring(&self, ring: KeyRing) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
    }

    /// What is bound into an object: no two objects have the same.
    fn context(&self, path: &ObjectPath) -> Vec<u8> {
        let parts: [&[u8]; 5] = [
            b"pgm object",
            &[0],
            self.repository.as_bytes(),
            &[0],
            path.as_str().as_bytes(),
        ];
        parts.concat()
    }

    /// The header of a new object, and the cipher of its chunks.
    fn begin(&self, path: &ObjectPath) -> Result<(SealHeader, ChunkCipher)> {
        let context = self.context(path);
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let begun = SealHeader::begin(ring.active().key(), &context);
        begun.map_err(|error| refused(path.to_string(), error))
    }

    /// The cipher of the chunks of an object with this header.
    fn open(
        &self,
        path: &ObjectPath,
        header: &[u8; SEAL_HEADER_BYTES],
    ) -> Result<ChunkCipher, SealError> {
        let header = SealHeader::parse(header)?;
        if header.chunk_bytes() != CHUNK_BYTES {
            return Err(SealError::Unsupported {
                what: "chunk size 2^",
                found: header.to_bytes()[6],
            });
        }
        let context = self.context(path);
        match self.open_with(&header, &context) {
            Err(SealError::UnknownKey { needed }) if self.reload_for(needed) => {
                self.open_with(&header, &context)
            }
            opened => opened,
        }
    }

    fn open_with(&self, header: &SealHeader, context: &[u8]) -> Result<ChunkCipher, SealError> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let needed = header.key_id();
        let key = ring.find(needed).ok_or(SealError::UnknownKey { needed })?;
        header.open(key.key(), context)
    }

    /// Reads the ring again; whether it has the key now.
    fn reload_for(&self, needed: KeyId) -> bool {
        let Some(ring) = (self.reload)() else {
            return false;
        };
        let found = ring.find(needed).is_some();
        if found {
            self.set_ring(ring);
        }
        found
    }
}

/// What an error of the seal says of the object at `place`.
fn refused(place: String, error: SealError) -> StorageError {
    match error {
        SealError::NotSealed | SealError::UnknownKey { .. } | SealError::TamperedHeader => {
            StorageError::Foreign {
                path: place,
                source: error,
            }
        }
        SealError::Io(error) => StorageError::from_io("seal", place, error),
        SealError::Cipher { .. } | SealError::TooLarge => StorageError::Io {
            operation: "sealing",
            path: place,
            source: std::io::Error::other(error),
        },
        error => StorageError::Damaged {
            path: place,
            reason: error.to_string(),
        },
    }
}

impl Storage for SealedStorage {
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        let inner = self.inner.create(path)?;
        if self.is_plain(path) {
            return Ok(inner);
        }
        let (header, cipher) = self.sealing.begin(path)?;
        Ok(Box::new(SealedWriter::new(inner, &header, cipher)))
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        self.inner.put(path, &self.stored(path, bytes)?, mode)
    }

    fn put_transient(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        let stored = self.stored(path, bytes)?;
        self.inner.put_transient(path, &stored, mode)
    }

    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>> {
        let inner = self.inner.open(path)?;
        if inner.size() == 0 || self.is_plain(path) {
            return Ok(inner);
        }
        Ok(Box::new(SealedReader::open(inner, |header| {
            self.sealing.open(path, header)
        })?))
    }

    fn get(&self, path: &ObjectPath, bytes_max: u64) -> Result<Vec<u8>> {
        if self.is_plain(path) {
            return self.inner.get(path, bytes_max);
        }
        let sealed = self.inner.get(path, SealedSize::sealed(bytes_max));
        let sealed = sealed.map_err(|error| match error {
            StorageError::TooLarge { path, size, .. } => StorageError::TooLarge {
                path,
                size: SealedSize::of(size).map_or(size, |size| size.raw),
                bytes_max,
            },
            error => error,
        })?;
        if sealed.is_empty() {
            return Ok(sealed);
        }
        open_whole(sealed, |header| self.sealing.open(path, header))
            .map_err(|error| refused(path.to_string(), error))
    }

    fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.inner.head(path).map(|meta| self.raw(meta))
    }

    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<()> {
        self.inner.list(prefix, &mut |meta| visit(self.raw(meta)))
    }

    fn folders(&self, prefix: &ObjectPath) -> Result<Vec<String>> {
        self.inner.folders(prefix)
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.inner.delete(path)
    }

    fn delete_transient(&self, path: &ObjectPath) -> Result<()> {
        self.inner.delete_transient(path)
    }

    fn sweep(&self, prefix: &ObjectPath) -> Result<u64> {
        self.inner.sweep(prefix)
    }

    fn space(&self) -> Result<Option<Space>> {
        self.inner.space()
    }

    fn describe(&self) -> String {
        format!("{}, sealed", self.inner.describe())
    }
}

impl fmt::Debug for SealedStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedStorage")
            .field("inner", &self.inner)
            .field("repository", &self.sealing.repository)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
