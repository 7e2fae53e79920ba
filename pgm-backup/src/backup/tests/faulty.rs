//! A storage in memory that fails from its n-th operation on, or has no room for another byte.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgm_storage::{
    MemoryStorage, ObjectMeta, ObjectPath, ObjectReader, ObjectWriter, PutMode, Result, Space,
    Storage, StorageError,
};

#[derive(Debug)]
pub(crate) struct Faulty {
    inner: MemoryStorage,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Budget {
    left: AtomicU64,
    full: AtomicBool,
}

impl Budget {
    fn store(&self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() || !self.full.load(Ordering::SeqCst) {
            return Ok(());
        }
        let failure = io::Error::from(io::ErrorKind::StorageFull);
        Err(StorageError::from_io("write", "full storage", failure))
    }

    fn spend(&self) -> Result<()> {
        let spent = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
                u64::MAX => Some(left),
                _ => left.checked_sub(1),
            });
        let failure = || io::Error::from(io::ErrorKind::StorageFull);
        spent
            .map(drop)
            .map_err(|_| StorageError::from_io("write", "faulty storage", failure()))
    }
}

impl Faulty {
    /// Works for `operations` operations, then fails for ever; `u64::MAX` never fails.
    pub(crate) fn new(operations: u64) -> Self {
        Self {
            inner: MemoryStorage::new(),
            budget: Arc::new(Budget {
                left: operations.into(),
                full: AtomicBool::new(false),
            }),
        }
    }

    /// Works again.
    pub(crate) fn repair(&self) {
        self.budget.left.store(u64::MAX, Ordering::SeqCst);
    }

    /// Fails from the twentieth operation on.
    pub(crate) fn fill(&self) {
        self.fail_after(20);
    }

    /// Fails after this many more operations.
    pub(crate) fn fail_after(&self, operations: u64) {
        self.budget.left.store(operations, Ordering::SeqCst);
    }

    /// Takes no more bytes; everything else works.
    pub(crate) fn set_full(&self) {
        self.budget.full.store(true, Ordering::SeqCst);
    }
}

impl Storage for Faulty {
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        self.budget.spend()?;
        let inner = self.inner.create(path)?;
        Ok(Box::new(FaultyWriter {
            inner,
            budget: Arc::clone(&self.budget),
        }))
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        self.budget.spend()?;
        self.budget.store(bytes)?;
        self.inner.put(path, bytes, mode)
    }

    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>> {
        self.budget.spend()?;
        self.inner.open(path)
    }

    fn get(&self, path: &ObjectPath, bytes_max: u64) -> Result<Vec<u8>> {
        self.budget.spend()?;
        self.inner.get(path, bytes_max)
    }

    fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.budget.spend()?;
        self.inner.head(path)
    }

    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<()> {
        self.budget.spend()?;
        self.inner.list(prefix, visit)
    }

    fn folders(&self, prefix: &ObjectPath) -> Result<Vec<String>> {
        self.budget.spend()?;
        self.inner.folders(prefix)
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.budget.spend()?;
        self.inner.delete(path)
    }

    fn sweep(&self, prefix: &ObjectPath) -> Result<u64> {
        self.budget.spend()?;
        self.inner.sweep(prefix)
    }

    fn space(&self) -> Result<Option<Space>> {
        self.inner.space()
    }

    fn describe(&self) -> String {
        "faulty storage".into()
    }
}

struct FaultyWriter {
    inner: Box<dyn ObjectWriter>,
    budget: Arc<Budget>,
}

impl Write for FaultyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.budget.spend()?;
        self.budget.store(bytes)?;
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
        self.budget.spend()?;
        self.inner.finish()
    }
}
