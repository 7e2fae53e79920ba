//! A storage whose n-th operation fails.
//!
//! Run something once to count its operations, then once for each of them with that one failing: whatever it promised
//! must hold every time.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pgm_storage::{
    ObjectMeta, ObjectPath, ObjectReader, ObjectWriter, PutMode, Result, Space, Storage,
    StorageError,
};

/// How long a storage stays broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Only the one operation fails.
    Once,
    /// That operation and all later ones fail.
    FromThenOn,
}

/// Counts the operations on a storage and makes one of them fail.
#[derive(Debug, Clone)]
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    fault: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    done: AtomicU64,
    failing: u64,
    broken: Broken,
    kind: io::ErrorKind,
}

impl FaultyStorage {
    /// A storage that only counts.
    pub fn counting(inner: Arc<dyn Storage>) -> Self {
        Self::failing(inner, u64::MAX, Broken::Once, io::ErrorKind::Other)
    }

    /// A storage whose operation number `failing` (the first is 0) fails with an error of this kind.
    pub fn failing(
        inner: Arc<dyn Storage>,
        failing: u64,
        broken: Broken,
        kind: io::ErrorKind,
    ) -> Self {
        Self {
            inner,
            fault: Arc::new(Plan {
                done: AtomicU64::new(0),
                failing,
                broken,
                kind,
            }),
        }
    }

    /// How many operations there were: calls of the storage, and reads and writes of its objects.
    pub fn operations(&self) -> u64 {
        self.fault.done.load(Ordering::SeqCst)
    }

    /// Whether an operation has failed.
    pub fn has_failed(&self) -> bool {
        self.operations() > self.fault.failing
    }
}

impl Plan {
    fn pass(&self, operation: &'static str, path: &str) -> Result<()> {
        let number = self.done.fetch_add(1, Ordering::SeqCst);
        let fails = match self.broken {
            Broken::Once => number == self.failing,
            Broken::FromThenOn => number >= self.failing,
        };
        if fails {
            return Err(StorageError::from_io(
                operation,
                path,
                io::Error::new(self.kind, "injected"),
            ));
        }
        Ok(())
    }
}

impl Storage for FaultyStorage {
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        self.fault.pass("create", path.as_str())?;
        let inner = self.inner.create(path)?;
        Ok(Box::new(FaultyWriter {
            inner,
            fault: Arc::clone(&self.fault),
        }))
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        self.fault.pass("write", path.as_str())?;
        self.inner.put(path, bytes, mode)
    }

    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>> {
        self.fault.pass("open", path.as_str())?;
        let inner = self.inner.open(path)?;
        Ok(Box::new(FaultyReader {
            inner,
            fault: Arc::clone(&self.fault),
        }))
    }

    fn get(&self, path: &ObjectPath, bytes_max: u64) -> Result<Vec<u8>> {
        self.fault.pass("read", path.as_str())?;
        self.inner.get(path, bytes_max)
    }

    fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.fault.pass("examine", path.as_str())?;
        self.inner.head(path)
    }

    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<()> {
        self.fault.pass("list", prefix.as_str())?;
        self.inner.list(prefix, visit)
    }

    fn folders(&self, prefix: &ObjectPath) -> Result<Vec<String>> {
        self.fault.pass("list", prefix.as_str())?;
        self.inner.folders(prefix)
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.fault.pass("delete", path.as_str())?;
        self.inner.delete(path)
    }

    fn sweep(&self, prefix: &ObjectPath) -> Result<u64> {
        self.fault.pass("sweep", prefix.as_str())?;
        self.inner.sweep(prefix)
    }

    fn space(&self) -> Result<Option<Space>> {
        self.inner.space()
    }

    fn describe(&self) -> String {
        format!("faulty {}", self.inner.describe())
    }
}

struct FaultyWriter {
    inner: Box<dyn ObjectWriter>,
    fault: Arc<Plan>,
}

impl Write for FaultyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.fault.pass("write", &self.inner.place())?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl ObjectWriter for FaultyWriter {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn finish(self: Box<Self>) -> Result<ObjectMeta> {
        self.fault.pass("sync", &self.inner.place())?;
        self.inner.finish()
    }
}

struct FaultyReader {
    inner: Box<dyn ObjectReader>,
    fault: Arc<Plan>,
}

impl ObjectReader for FaultyReader {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.fault.pass("read", &self.inner.place())?;
        self.inner.read_exact_at(buf, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgm_storage::MemoryStorage;

    #[test]
    fn exactly_the_chosen_operation_fails() {
        let path = ObjectPath::parse("a/b").unwrap();
        let run = |storage: &FaultyStorage| -> Result<()> {
            let mut writer = storage.create(&path)?;
            writer
                .write_all(b"x")
                .map_err(|error| StorageError::from_io("write", "a/b", error))?;
            writer.finish()?;
            storage.delete(&path)
        };
        let counted = FaultyStorage::counting(Arc::new(MemoryStorage::new()));
        run(&counted).unwrap();
        assert_eq!(counted.operations(), 4);
        for n in 0..4 {
            let inner: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
            let faulty = FaultyStorage::failing(inner, n, Broken::Once, io::ErrorKind::StorageFull);
            assert!(
                matches!(run(&faulty), Err(StorageError::NoSpace { .. })),
                "operation {n}"
            );
            assert!(faulty.has_failed());
        }
    }
}
