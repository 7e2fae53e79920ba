//! A storage that is read and written no faster than it may be.
//!
//! Whoever writes or reads waits; nothing is queued. What is listed, asked and deleted is not counted.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::error::Result;
use crate::limits::Pacer;
use crate::path::ObjectPath;
use crate::storage::{ObjectMeta, ObjectReader, ObjectWriter, PutMode, Space, Storage};

/// Bytes that pass without another look at the clock.
const STEP: usize = 64 << 10;

/// Another storage, slowed down.
#[derive(Debug)]
pub(crate) struct PacedStorage {
    inner: Arc<dyn Storage>,
    write: Option<Arc<Pacer>>,
    read: Option<Arc<Pacer>>,
}

impl PacedStorage {
    pub(crate) fn new(inner: Arc<dyn Storage>, write: Option<Pacer>, read: Option<Pacer>) -> Self {
        Self {
            inner,
            write: write.map(Arc::new),
            read: read.map(Arc::new),
        }
    }
}

fn pass(pacer: Option<&Arc<Pacer>>, bytes: usize) {
    if let Some(pacer) = pacer {
        std::thread::sleep(pacer.take(bytes as u64, Instant::now()));
    }
}

impl Storage for PacedStorage {
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(PacedWriter {
            inner: self.inner.create(path)?,
            pacer: self.write.clone(),
        }))
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        pass(self.write.as_ref(), bytes.len());
        self.inner.put(path, bytes, mode)
    }

    fn put_transient(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        pass(self.write.as_ref(), bytes.len());
        self.inner.put_transient(path, bytes, mode)
    }

    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>> {
        Ok(Box::new(PacedReader {
            inner: self.inner.open(path)?,
            pacer: self.read.clone(),
        }))
    }

    fn get(&self, path: &ObjectPath, bytes_max: u64) -> Result<Vec<u8>> {
        let bytes = self.inner.get(path, bytes_max)?;
        pass(self.read.as_ref(), bytes.len());
        Ok(bytes)
    }

    fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.inner.head(path)
    }

    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<()> {
        self.inner.list(prefix, visit)
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
        self.inner.describe()
    }
}

struct PacedWriter {
    inner: Box<dyn ObjectWriter>,
    pacer: Option<Arc<Pacer>>,
}

impl Write for PacedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = &bytes[..bytes.len().min(STEP)];
        pass(self.pacer.as_ref(), some.len());
        self.inner.write(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl ObjectWriter for PacedWriter {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn finish(self: Box<Self>) -> Result<ObjectMeta> {
        self.inner.finish()
    }
}

struct PacedReader {
    inner: Box<dyn ObjectReader>,
    pacer: Option<Arc<Pacer>>,
}

impl ObjectReader for PacedReader {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        pass(self.pacer.as_ref(), buf.len());
        self.inner.read_exact_at(buf, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStorage;

    fn paced(rate: u64) -> PacedStorage {
        let pacer = || Some(Pacer::new(rate, Instant::now()));
        PacedStorage::new(Arc::new(MemoryStorage::new()), pacer(), pacer())
    }

    #[test]
    fn a_paced_storage_keeps_the_contract() {
        crate::conformance::check(&paced(1 << 40));
    }

    #[test]
    fn writing_takes_as_long_as_the_rate_says() {
        let storage = paced(1 << 20);
        let begun = Instant::now();
        let path = ObjectPath::parse("object").unwrap();
        let mut writer = storage.create(&path).unwrap();
        writer.write_all(&vec![7; 3 << 19]).unwrap();
        writer.finish().unwrap();
        // One mebibyte passes at once, half a second is owed.
        assert!(begun.elapsed().as_millis() >= 490, "{:?}", begun.elapsed());
    }
}
