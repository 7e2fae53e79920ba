//! The engine in memory: for tests and for callers that want to look before they write.
//!
//! It keeps the contract of [`Storage`] except that a power cut, like the end of the process, takes everything. Clones
//! share their objects.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::storage::{ObjectMeta, ObjectReader, ObjectWriter, PutMode, Space, Storage};

/// A storage in this process's memory.
#[derive(Clone, Default)]
pub struct MemoryStorage(Arc<Mutex<Objects>>);

type Objects = BTreeMap<ObjectPath, Object>;

#[derive(Clone)]
struct Object {
    bytes: Arc<[u8]>,
    modified: SystemTime,
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        // A holder never panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, path: &ObjectPath) -> Result<Object> {
        let objects = self.objects();
        match objects.get(path) {
            Some(object) => Ok(object.clone()),
            None if is_folder(&objects, path) => Err(misplaced(path, "a folder", "an object")),
            None => Err(StorageError::NotFound {
                path: path.to_string(),
            }),
        }
    }

    fn insert(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<ObjectMeta> {
        let mut objects = self.objects();
        check_place(&objects, path)?;
        if mode == PutMode::Create && objects.contains_key(path) {
            return Err(StorageError::AlreadyExists {
                path: path.to_string(),
            });
        }
        let object = Object {
            bytes: bytes.into(),
            modified: SystemTime::now(),
        };
        let meta = meta(path, &object);
        objects.insert(path.clone(), object);
        Ok(meta)
    }
}

/// Refuses a path that is a folder, or below an object.
fn check_place(objects: &Objects, path: &ObjectPath) -> Result<()> {
    if is_folder(objects, path) {
        return Err(misplaced(path, "a folder", "an object"));
    }
    let mut above = path.parent();
    while let Some(folder) = above {
        if objects.contains_key(&folder) {
            return Err(misplaced(&folder, "an object", "a folder"));
        }
        above = folder.parent();
    }
    Ok(())
}

fn is_folder(objects: &Objects, path: &ObjectPath) -> bool {
    path.is_root() || below(objects, path).next().is_some()
}

/// The objects below a folder, in order.
fn below<'a>(
    objects: &'a Objects,
    folder: &'a ObjectPath,
) -> impl Iterator<Item = (&'a ObjectPath, &'a Object)> {
    // Between `folder` and what is below it sort names such as `folder-2`, so those are skipped, and what follows the
    // last possible one ends the search.
    objects
        .range((Bound::Excluded(folder), Bound::Unbounded))
        .take_while(|(path, _)| path.as_str().starts_with(folder.as_str()))
        .filter(|(path, _)| path.below(folder).is_some())
}

fn meta(path: &ObjectPath, object: &Object) -> ObjectMeta {
    ObjectMeta {
        path: path.clone(),
        size: object.bytes.len() as u64,
        modified: object.modified,
    }
}

fn misplaced(path: &ObjectPath, found: &'static str, wanted: &'static str) -> StorageError {
    let path = if path.is_root() {
        "the root".to_owned()
    } else {
        path.to_string()
    };
    StorageError::Misplaced {
        path,
        found,
        wanted,
    }
}

impl Storage for MemoryStorage {
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        let objects = self.objects();
        check_place(&objects, path)?;
        if objects.contains_key(path) {
            return Err(StorageError::AlreadyExists {
                path: path.to_string(),
            });
        }
        Ok(Box::new(MemoryWriter {
            storage: self.clone(),
            path: path.clone(),
            bytes: Vec::new(),
        }))
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        self.insert(path, bytes, mode).map(drop)
    }

    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>> {
        let bytes = self.object(path)?.bytes;
        Ok(Box::new(MemoryReader {
            path: path.clone(),
            bytes,
        }))
    }

    fn get(&self, path: &ObjectPath, bytes_max: u64) -> Result<Vec<u8>> {
        let bytes = self.object(path)?.bytes;
        let size = bytes.len() as u64;
        if size > bytes_max {
            return Err(StorageError::TooLarge {
                path: path.to_string(),
                size,
                bytes_max,
            });
        }
        Ok(bytes.to_vec())
    }

    fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.object(path).map(|object| meta(path, &object))
    }

    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<()> {
        // Collected first, so that `visit` may use the storage.
        let found: Vec<ObjectMeta> = below(&self.objects(), prefix)
            .map(|(path, object)| meta(path, object))
            .collect();
        let _ = found.into_iter().try_for_each(visit);
        Ok(())
    }

    fn folders(&self, prefix: &ObjectPath) -> Result<Vec<String>> {
        let objects = self.objects();
        let mut folders: Vec<String> = below(&objects, prefix)
            .filter_map(|(path, _)| path.below(prefix)?.split_once('/'))
            .map(|(folder, _)| folder.to_owned())
            .collect();
        folders.sort_unstable();
        folders.dedup();
        Ok(folders)
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        let mut objects = self.objects();
        if objects.remove(path).is_none() && is_folder(&objects, path) {
            return Err(misplaced(path, "a folder", "an object"));
        }
        Ok(())
    }

    fn sweep(&self, _prefix: &ObjectPath) -> Result<u64> {
        Ok(0)
    }

    fn space(&self) -> Result<Option<Space>> {
        Ok(None)
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("objects", &self.objects().len())
            .finish()
    }
}

struct MemoryWriter {
    storage: MemoryStorage,
    path: ObjectPath,
    bytes: Vec<u8>,
}

impl io::Write for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter for MemoryWriter {
    fn place(&self) -> String {
        self.path.to_string()
    }

    fn finish(self: Box<Self>) -> Result<ObjectMeta> {
        self.storage
            .insert(&self.path, &self.bytes, PutMode::Create)
    }
}

struct MemoryReader {
    path: ObjectPath,
    bytes: Arc<[u8]>,
}

impl ObjectReader for MemoryReader {
    fn place(&self) -> String {
        self.path.to_string()
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let wanted = usize::try_from(offset)
            .ok()
            .and_then(|from| self.bytes.get(from..from.checked_add(buf.len())?));
        let Some(wanted) = wanted else {
            let reason = format!(
                "it ends at {} before {} bytes from {offset} could be read",
                self.bytes.len(),
                buf.len()
            );
            return Err(StorageError::Damaged {
                path: self.place(),
                reason,
            });
        };
        buf.copy_from_slice(wanted);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_engine_keeps_the_contract() {
        crate::conformance::check(&MemoryStorage::new());
    }
}
