//! Writing a manifest.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pgm_storage::{Compression, FRAME_RAW_MAX, ObjectMeta, ObjectWriter, PackWriter};

use super::entry::{FrameLine, ManifestEntry, ManifestHeader, ManifestTotals, PackRecord};
use super::{LINE_BYTES_MAX, MANIFEST_FORMAT};
use crate::catalog::ObjectChecksum;
use crate::error::{Error, Result};
use crate::repository::layout;

/// Streams a manifest into a new object. Dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct ManifestWriter {
    pack: PackWriter,
    checksum: Arc<AtomicU32>,
    /// Lines that are not in a frame yet.
    lines: Vec<u8>,
    totals: ManifestTotals,
}

impl ManifestWriter {
    /// Begins a manifest in `object`; its format version is set here.
    pub fn new(
        object: Box<dyn ObjectWriter>,
        header: &ManifestHeader,
        compression: Compression,
    ) -> Result<Self> {
        let (object, checksum) = Checksummed::around(object);
        let pack = PackWriter::with_kind(object, compression, layout::MANIFEST_PACK)?;
        let lines = Vec::with_capacity(FRAME_RAW_MAX);
        let mut writer = Self {
            pack,
            checksum,
            lines,
            totals: ManifestTotals::default(),
        };
        let header = ManifestHeader {
            format: MANIFEST_FORMAT,
            ..header.clone()
        };
        writer.line(&FrameLine::Header(&header))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Appends one entry.
    pub fn entry(&mut self, entry: &ManifestEntry) -> Result<()> {
        self.line(entry)?;
        match entry {
            ManifestEntry::Directory(_) => self.totals.directories += 1,
            ManifestEntry::Tablespace(_) | ManifestEntry::Symlink(_) => self.totals.links += 1,
            ManifestEntry::File(file) => {
                self.totals.files += 1;
                self.totals.raw_bytes += file.size;
            }
        }
        Ok(())
    }

    /// Appends the table of packs and the end, and makes the manifest durable and visible.
    pub fn finish(mut self, packs: &[PackRecord]) -> Result<(ObjectChecksum, ManifestTotals)> {
        self.flush()?;
        let frames_before = self.pack.frames().len();
        for pack in packs {
            self.line(&FrameLine::Pack(pack))?;
        }
        self.flush()?;
        self.totals.table_frames = (self.pack.frames().len() - frames_before) as u32;
        self.totals.packs = packs.len() as u32;
        let totals = self.totals;
        self.line(&FrameLine::End(&totals))?;
        self.flush()?;
        let size = self.pack.finish()?.size;
        let crc32c = self.checksum.load(Ordering::Acquire);
        Ok((ObjectChecksum { size, crc32c }, totals))
    }

    fn line<T: serde::Serialize>(&mut self, line: &T) -> Result<()> {
        serde_json::to_writer(&mut self.lines, line)
            .expect("lines are plain structs of numbers, texts and lists");
        self.lines.push(b'\n');
        if self.lines.len() > LINE_BYTES_MAX {
            let reason = "a file is too large for a manifest: more than a terabyte".into();
            return Err(Error::BadStream { reason });
        }
        while self.lines.len() >= FRAME_RAW_MAX {
            self.pack.append(&self.lines[..FRAME_RAW_MAX])?;
            self.lines.drain(..FRAME_RAW_MAX);
        }
        Ok(())
    }

    /// Ends the current frame.
    fn flush(&mut self) -> Result<()> {
        if !self.lines.is_empty() {
            self.pack.append(&self.lines)?;
            self.lines.clear();
        }
        Ok(())
    }
}

/// An object writer that takes the CRC-32C of everything that passes.
pub(crate) struct Checksummed {
    object: Box<dyn ObjectWriter>,
    checksum: Arc<AtomicU32>,
}

impl Checksummed {
    /// A writer around `object`, and where its checksum can be read.
    pub(crate) fn around(object: Box<dyn ObjectWriter>) -> (Box<dyn ObjectWriter>, Arc<AtomicU32>) {
        let checksum = Arc::new(AtomicU32::new(0));
        let writer = Self {
            object,
            checksum: Arc::clone(&checksum),
        };
        (Box::new(writer), checksum)
    }
}

impl Write for Checksummed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.object.write(bytes)?;
        let before = self.checksum.load(Ordering::Relaxed);
        let after = pgm_storage::crc32c_append(before, &bytes[..written]);
        self.checksum.store(after, Ordering::Release);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.object.flush()
    }
}

impl ObjectWriter for Checksummed {
    fn place(&self) -> String {
        self.object.place()
    }

    fn finish(self: Box<Self>) -> pgm_storage::Result<ObjectMeta> {
        self.object.finish()
    }
}
