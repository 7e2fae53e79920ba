//! A file that one worker has open for writing, and how its bytes get to the disk.
//!
//! Large pieces of large files go around the page cache (`O_DIRECT`): a restore writes everything once, reads nothing of it
//! again and syncs it at the end, so a copy in memory costs processor time and pushes out what others have there. It takes
//! whole blocks at block boundaries in the file and in memory; everything else, and file systems that cannot, go through the
//! cache. Both ways may be mixed in one file: pieces do not overlap, and the kernel keeps whole blocks apart.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use pgm_storage::FRAME_RAW_MAX;
use rustix::fs::OFlags;

/// What places in files and in memory are multiples of: at least the block of every disk that is about.
const BLOCK_BYTES: usize = 4096;
/// Below this a piece does not pay for a request of its own to the disk.
const DIRECT_BYTES_MIN: usize = 128 << 10;
/// What is compared with what is there: a page of PostgreSQL.
const PAGE_BYTES: usize = 8 << 10;

/// A file that is open for writing.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    way: Way,
    /// What was there, of one that is compared.
    there: Vec<u8>,
}

/// How the next bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the cache; large pieces may turn to `Direct`.
    Cached,
    /// Around it.
    Direct,
    /// Through the cache, come what may.
    CachedOnly,
    /// Through the cache, and only what is not there yet.
    Differing,
}

impl OpenFile {
    /// A file whose room was taken before, so that no write makes it longer.
    pub(super) fn with_room(file: File) -> Self {
        Self::on(file, Way::Cached)
    }

    /// A file that grows with what is written.
    pub(super) fn growing(file: File) -> Self {
        Self::on(file, Way::CachedOnly)
    }

    /// A file that has its size and may have its content already.
    pub(super) fn compared(file: File) -> Self {
        Self::on(file, Way::Differing)
    }

    fn on(file: File, way: Way) -> Self {
        let there = Vec::new();
        Self { file, way, there }
    }

    /// Puts all of `bytes` at `offset`; gives how many of them were there already.
    pub(super) fn put(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if self.way == Way::Differing {
            return self.write_differing(bytes, offset);
        }
        self.write_at(bytes, offset).map(|()| 0)
    }

    fn write_differing(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.there.resize(bytes.len(), 0);
        self.file.read_exact_at(&mut self.there, offset)?;
        let mut kept = 0;
        // Where pages begin that differ and are not written yet.
        let mut differing: Option<usize> = None;
        for at in (0..bytes.len()).step_by(PAGE_BYTES) {
            let end = (at + PAGE_BYTES).min(bytes.len());
            if bytes[at..end] != self.there[at..end] {
                differing.get_or_insert(at);
                continue;
            }
            kept += end - at;
            if let Some(from) = differing.take() {
                self.file
                    .write_all_at(&bytes[from..at], offset + from as u64)?;
            }
        }
        if let Some(from) = differing {
            self.file
                .write_all_at(&bytes[from..], offset + from as u64)?;
        }
        Ok(kept)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.way != Way::CachedOnly && is_direct(bytes, offset) {
            match self.write_direct(bytes, offset) {
                // The file system cannot, or a part was written and the rest is not aligned: all of it once more.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.turn(Way::CachedOnly)?;
                }
                written => return written,
            }
        } else if self.way == Way::Direct {
            self.turn(Way::Cached)?;
        }
        self.file.write_all_at(bytes, offset)
    }

    fn write_direct(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.way != Way::Direct {
            self.turn(Way::Direct)?;
        }
        self.file.write_all_at(bytes, offset)
    }

    fn turn(&mut self, way: Way) -> io::Result<()> {
        let flags = match way {
            Way::Direct => OFlags::DIRECT,
            Way::Cached | Way::CachedOnly | Way::Differing => OFlags::empty(),
        };
        self.way = way;
        Ok(rustix::fs::fcntl_setfl(&self.file, flags)?)
    }
}

fn is_direct(bytes: &[u8], offset: u64) -> bool {
    bytes.len() >= DIRECT_BYTES_MIN
        && bytes.len().is_multiple_of(BLOCK_BYTES)
        && offset.is_multiple_of(BLOCK_BYTES as u64)
        && bytes.as_ptr().align_offset(BLOCK_BYTES) == 0
}

/// Room for the raw bytes of a frame, at a block boundary in memory.
#[derive(Debug)]
pub(super) struct FrameRoom {
    bytes: Vec<u8>,
    start: usize,
}

impl FrameRoom {
    pub(super) fn new() -> Self {
        let bytes = vec![0; FRAME_RAW_MAX + BLOCK_BYTES];
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self { bytes, start }
    }

    /// As many bytes as a frame can have.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..][..FRAME_RAW_MAX]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_pieces_in_any_order_make_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut room = FrameRoom::new();
        assert_eq!(room.bytes_mut().as_ptr().align_offset(BLOCK_BYTES), 0);
        for (at, byte) in room.bytes_mut().iter_mut().enumerate() {
            *byte = (at / 100) as u8;
        }
        let raw = &*room.bytes_mut();
        for make in [OpenFile::with_room, OpenFile::growing] {
            let mut file = make(File::create(&path).unwrap());
            // The last one is no whole block long.
            let ends = [512 << 10, 516 << 10, (516 << 10) + 100, FRAME_RAW_MAX];
            let mut pieces: Vec<(usize, usize)> = ends.windows(2).map(|w| (w[0], w[1])).collect();
            pieces.push((0, 512 << 10));
            for (start, end) in pieces {
                file.write_at(&raw[start..end], start as u64).unwrap();
            }
            assert!(std::fs::read(&path).unwrap() == raw);
        }
    }
}
