//! The object in which a manifest rests, checked as a whole, which can be read as often as anybody wants.
//!
//! Whoever needs a manifest twice must not depend on its repository at the second time, so a small one is kept in memory. Of a larger one
//! only the open object is.

use std::fmt;
use std::sync::Arc;

use pgm_storage::{ObjectPath, ObjectReader, Storage, StorageError};

use super::ManifestReader;
use crate::catalog::{BackupEntry, ObjectChecksum};
use crate::error::{Error, Result};

/// The largest piece that is read at once.
const READ_BYTES: usize = 1 << 20;
/// Manifests of at most so many bytes are kept: about a hundred thousand files.
const KEPT_BYTES_MAX: u64 = 8 << 20;

/// A manifest's object.
#[derive(Clone)]
pub(crate) struct ManifestObject {
    pub(super) path: ObjectPath,
    pub(super) object: Shared,
}

/// An object that several readers share.
#[derive(Clone)]
pub(super) struct Shared(Arc<dyn ObjectReader>);

/// All of an object.
struct Kept {
    place: String,
    bytes: Vec<u8>,
}

impl ManifestObject {
    /// Opens the object at `path` and checks every byte of it against `entry`.
    pub(crate) fn open(
        storage: &dyn Storage,
        path: &ObjectPath,
        entry: &BackupEntry,
    ) -> Result<Self> {
        let object = storage.open(path)?;
        let object: Arc<dyn ObjectReader> = if entry.manifest.size <= KEPT_BYTES_MAX {
            let mut bytes = Vec::new();
            check(path, &*object, &entry.manifest, &mut |piece| {
                bytes.extend_from_slice(piece);
            })?;
            Arc::new(Kept {
                place: object.place(),
                bytes,
            })
        } else {
            check_object(path, &*object, &entry.manifest)?;
            Arc::from(object)
        };
        Ok(Self {
            path: path.clone(),
            object: Shared(object),
        })
    }

    /// Begins to read it.
    pub(crate) fn read(&self, entry: &BackupEntry) -> Result<ManifestReader> {
        ManifestReader::begin(self, entry)
    }
}

impl fmt::Debug for ManifestObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestObject")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ObjectReader for Shared {
    fn place(&self) -> String {
        self.0.place()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), StorageError> {
        self.0.read_exact_at(buf, offset)
    }
}

impl ObjectReader for Kept {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), StorageError> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..)?.get(..buf.len()));
        let rest = rest.ok_or_else(|| StorageError::Damaged {
            path: self.place.clone(),
            reason: format!(
                "it ends before byte {}",
                offset.saturating_add(buf.len() as u64)
            ),
        })?;
        buf.copy_from_slice(rest);
        Ok(())
    }
}

/// Reads the whole object and compares it with what is expected of it.
pub(crate) fn check_object(
    path: &ObjectPath,
    object: &dyn ObjectReader,
    expected: &ObjectChecksum,
) -> Result<()> {
    check(path, object, expected, &mut |_| {})
}

fn check(
    path: &ObjectPath,
    object: &dyn ObjectReader,
    expected: &ObjectChecksum,
    visit: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    if object.size() != expected.size {
        let reason = format!(
            "it has {} bytes instead of {}",
            object.size(),
            expected.size
        );
        return Err(Error::damaged(path, reason));
    }
    let largest = expected.size.min(READ_BYTES as u64) as usize;
    let mut buffer = vec![0; largest];
    let (mut offset, mut crc) = (0, 0);
    while offset < expected.size {
        let left = usize::try_from(expected.size - offset).unwrap_or(READ_BYTES);
        let piece = &mut buffer[..left.min(READ_BYTES)];
        object.read_exact_at(piece, offset)?;
        crc = pgm_storage::crc32c_append(crc, piece);
        visit(piece);
        offset += piece.len() as u64;
    }
    if crc != expected.crc32c {
        return Err(Error::damaged(
            path,
            "its checksum is not the one in backup.ron",
        ));
    }
    Ok(())
}
