//! One unfinished segment on disk: `….partial`, always of the segment's full size.
//!
//! The file is preallocated, so that a full disk shows before the first byte is taken, and never changes its size. One
//! that was there before is written over only where it holds the same bytes or none: see [`SegmentFile::write`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pgm_proto::Lsn;

use crate::durable::DurableLsn;
use crate::error::{ReceiveError, SpoolError};
use crate::segment::{SegmentName, SegmentSize, WalFileName};
use crate::spool::Spool;

/// What a disk writes at once: a sector is there as a whole or not at all after a power cut.
const SECTOR: usize = 512;
static ZEROS: [u8; 32 << 10] = [0; 32 << 10];
/// How much is compared in one step.
pub(super) const COMPARE_BYTES: usize = 64 << 10;

/// What was in the file before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Zeros: we made it.
    Fresh,
    /// Perhaps WAL from an earlier connection.
    Earlier,
    /// Bytes that mean nothing.
    Padding,
}

/// An open, unfinished segment.
#[derive(Debug)]
pub(super) struct SegmentFile {
    file: File,
    path: PathBuf,
    name: SegmentName,
    size: SegmentSize,
    content: Content,
}

impl SegmentFile {
    /// Opens or makes the file of segment `name`, of full size; its name is durable when this returns.
    pub(super) fn open(
        spool: &Spool,
        name: SegmentName,
        size: SegmentSize,
    ) -> Result<Self, SpoolError> {
        let path = spool.path(WalFileName::Partial(name));
        let mut options = OpenOptions::new();
        let opened = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = opened.map_err(|source| SpoolError::io("open", &path, source))?;
        let failure = |source| SpoolError::io("preallocate", &path, source);
        let before = file.metadata().map_err(failure)?.len();
        allocate(&file, before, size.bytes()).map_err(failure)?;
        crate::spool::sync_folder(spool.folder())?;
        let content = if before == 0 {
            Content::Fresh
        } else {
            Content::Earlier
        };
        Ok(Self {
            file,
            path,
            name,
            size,
            content,
        })
    }

    pub(super) fn name(&self) -> SegmentName {
        self.name
    }

    /// From now on writes over whatever is there: only padding is left.
    pub(super) fn overwrite(&mut self) {
        self.content = Content::Padding;
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes WAL at `offset`.
    ///
    /// Over earlier content only where that is the same: within each sector, up to the sector's last byte that is not
    /// zero. Zeros behind it are what preallocation left, or a write that a power cut undid. Anything else is another
    /// server's WAL, and stays.
    ///
    /// Zeros, which a server sends for all of a segment behind a switch, are there already: preallocated blocks read as
    /// zeros, and where [`Self::compare`] lets zeros pass there is nothing else.
    pub(super) fn write(
        &self,
        data: &[u8],
        offset: u64,
        scratch: &mut [u8],
    ) -> Result<(), ReceiveError> {
        if self.content == Content::Earlier {
            self.compare(data, offset, scratch)?;
        }
        if self.content != Content::Padding && is_zeros(data) {
            return Ok(());
        }
        #[cfg(test)]
        crate::fault::strike(crate::fault::Fault::Write)
            .map_err(|source| SpoolError::io("write", &self.path, source))?;
        let written = self.file.write_all_at(data, offset);
        Ok(written.map_err(|source| SpoolError::io("write", &self.path, source))?)
    }

    /// Syncs what was written, up to `written`.
    pub(super) fn sync(&self, written: Lsn) -> io::Result<DurableLsn> {
        DurableLsn::sync(&self.file, written)
    }

    /// Whether there are bytes other than zero at or after `offset`.
    pub(super) fn holds_bytes_from(
        &self,
        offset: u64,
        scratch: &mut [u8],
    ) -> Result<bool, SpoolError> {
        let mut at = offset;
        while at < self.size.bytes() {
            let part = part(scratch, self.size.bytes() - at);
            self.read(part, at)?;
            if part.iter().any(|byte| *byte != 0) {
                return Ok(true);
            }
            at += part.len() as u64;
        }
        Ok(false)
    }

    fn compare(&self, data: &[u8], offset: u64, scratch: &mut [u8]) -> Result<(), ReceiveError> {
        let end = offset + data.len() as u64;
        let mut at = offset - offset % SECTOR as u64;
        while at < end {
            let part = part(scratch, (end - at).next_multiple_of(SECTOR as u64));
            self.read(part, at)?;
            for (index, sector) in part.chunks(SECTOR).enumerate() {
                let sector_at = at + (index * SECTOR) as u64;
                if let Some(differs) = difference(sector, sector_at, data, offset) {
                    let lsn = self.name.start(self.size) + differs;
                    return Err(ReceiveError::SplitBrain {
                        path: self.path.clone(),
                        lsn,
                    });
                }
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    fn read(&self, into: &mut [u8], at: u64) -> Result<(), SpoolError> {
        let read = self.file.read_exact_at(into, at);
        read.map_err(|source| SpoolError::io("read", &self.path, source))
    }
}

/// As much of `scratch` as is needed for `bytes`.
fn part(scratch: &mut [u8], bytes: u64) -> &mut [u8] {
    let length = scratch
        .len()
        .min(usize::try_from(bytes).unwrap_or(usize::MAX));
    &mut scratch[..length]
}

/// The first offset at which `data` (which begins at `offset`) differs from what `sector` (at `sector_at`) holds.
fn difference(sector: &[u8], sector_at: u64, data: &[u8], offset: u64) -> Option<u64> {
    let held = sector.iter().rposition(|byte| *byte != 0)? as u64 + 1;
    let from = sector_at.max(offset);
    let to = (sector_at + held).min(offset + data.len() as u64);
    if from >= to {
        return None;
    }
    let held = &sector[(from - sector_at) as usize..(to - sector_at) as usize];
    let new = &data[(from - offset) as usize..(to - offset) as usize];
    let index = held.iter().zip(new).position(|(held, new)| held != new)?;
    Some(from + index as u64)
}

/// Gives the file its full size with real blocks behind it. The bytes it has stay.
fn allocate(file: &File, before: u64, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    #[cfg(test)]
    crate::fault::strike(crate::fault::Fault::Allocate)?;
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            write_zeros(file, before.min(bytes), bytes)?;
        }
        result => result?,
    }
    if before > bytes {
        file.set_len(bytes)?;
    }
    Ok(())
}

fn is_zeros(data: &[u8]) -> bool {
    let mut chunks = data.chunks(ZEROS.len());
    chunks.all(|chunk| chunk == &ZEROS[..chunk.len()])
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let length = ZEROS.len().min((to - at) as usize);
        file.write_all_at(&ZEROS[..length], at)?;
        at += length as u64;
    }
    Ok(())
}
