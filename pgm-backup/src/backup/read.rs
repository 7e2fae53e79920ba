//! Reading files of the server's host into frames.
//!
//! The feeder plans which runs of which files make up a frame, and the worker reads them straight into the buffer that it
//! compresses: so reading is done by several threads, and there is one copy. A file that has become shorter is filled up with
//! zeros, as the server does: replay brings what is missing (`sendFile` in `basebackup.c`).
//!
//! Where the server has page checksums, pages that were written before the backup began are checked. One that is wrong is read again, because the
//! server may be writing it; one that stays wrong is noted, and stored as it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgm_proto::Lsn;

use super::page::{PAGE_BYTES, is_sound};
use super::pipeline::FrameBuffer;
use crate::error::{Error, Result};
use crate::manifest::FilePath;

/// How often a page is read again before it counts as damaged, and how long the server is left alone before.
const READ_AGAIN: usize = 10;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(2);
/// So many damaged pages are named.
const NAMED_MAX: usize = 100;

/// Bytes of a frame that its worker puts in place.
#[derive(Debug)]
pub(super) enum Planned {
    /// They are here already.
    Bytes(Vec<u8>),
    /// They are in a file.
    Run {
        file: Arc<SourceFile>,
        offset: u64,
        length: usize,
    },
}

/// An open file of the server.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) file: File,
    pub(super) path: FilePath,
    /// Which pages it should have, if they are checked.
    pub(super) pages: Option<CheckedPages>,
    /// One of as many as there are open files.
    pub(super) _open: Arc<()>,
}

/// The pages of a file of a relation.
#[derive(Debug)]
pub(super) struct CheckedPages {
    /// The number of the first one within the relation.
    pub(super) first_block: u32,
    pub(super) checks: Arc<PageChecks>,
}

/// What checking pages has found.
#[derive(Debug)]
pub(super) struct PageChecks {
    /// Pages that have changed since then are not checked.
    since: Lsn,
    damaged: Mutex<Damaged>,
}

#[derive(Debug, Default)]
struct Damaged {
    pages: u64,
    named: Vec<String>,
}

/// Puts in place what is planned for a frame.
pub(super) fn fill(frame: &mut FrameBuffer) -> Result<()> {
    if frame.planned.is_empty() {
        return Ok(());
    }
    let length = frame.length();
    // What is left of another frame is overwritten.
    frame.bytes.resize(length, 0);
    let mut rest = frame.bytes.as_mut_slice();
    for planned in frame.planned.drain(..) {
        let split = std::mem::take(&mut rest).split_at_mut_checked(planned.length());
        let Some((now, later)) = split else {
            return Err(not_as_planned());
        };
        match planned {
            Planned::Bytes(bytes) => now.copy_from_slice(&bytes),
            Planned::Run { file, offset, .. } => file.read(offset, now)?,
        }
        rest = later;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(not_as_planned())
    }
}

fn not_as_planned() -> Error {
    Error::BadStream {
        reason: "a frame is not as long as what was planned for it".into(),
    }
}

impl Planned {
    fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Run { length, .. } => *length,
        }
    }
}

impl SourceFile {
    /// Reads the bytes from `offset` on, and checks their pages.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let there = self.read_once(offset, bytes)?;
        let Some(pages) = &self.pages else {
            return Ok(());
        };
        let first = pages.first_block + (offset / PAGE_BYTES as u64) as u32;
        let (there, _) = bytes[..there].as_chunks_mut::<PAGE_BYTES>();
        for (block, page) in (first..).zip(there) {
            if !is_sound(page, block, pages.checks.since) {
                self.read_again(block, page, pages)?;
            }
        }
        Ok(())
    }

    fn read_again(
        &self,
        block: u32,
        page: &mut [u8; PAGE_BYTES],
        pages: &CheckedPages,
    ) -> Result<()> {
        let in_file = block - pages.first_block;
        for _ in 0..READ_AGAIN {
            std::thread::sleep(READ_AGAIN_AFTER);
            let there = self.read_once(u64::from(in_file) * PAGE_BYTES as u64, page)?;
            if there < PAGE_BYTES || is_sound(page, block, pages.checks.since) {
                return Ok(());
            }
        }
        pages.checks.note(&self.path, in_file);
        Ok(())
    }

    /// Reads as much as there is, and zeros behind it; gives how much that is.
    fn read_once(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let mut there = 0;
        while there < bytes.len() {
            match self
                .file
                .read_at(&mut bytes[there..], offset + there as u64)
            {
                Ok(0) => break,
                Ok(more) => there += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::ServerFile {
                        operation: "read",
                        path: self.path.to_string(),
                        source,
                    });
                }
            }
        }
        bytes[there..].fill(0);
        Ok(there)
    }
}

impl PageChecks {
    pub(super) fn new(since: Lsn) -> Self {
        Self {
            since,
            damaged: Mutex::default(),
        }
    }

    fn note(&self, path: &FilePath, block: u32) {
        tracing::warn!(%path, block, "a page of the server has a wrong checksum");
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        damaged.pages += 1;
        if damaged.named.len() < NAMED_MAX {
            let text = format!("the checksum of page {block} of {path} is wrong");
            damaged.named.push(text);
        }
    }

    /// What is wrong with the pages that were read, in the order of their names.
    pub(super) fn warnings(&self) -> Vec<String> {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let mut texts = damaged.named.clone();
        texts.sort();
        let more = damaged.pages - texts.len() as u64;
        if more > 0 {
            texts.push(format!("and of {more} more pages"));
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::page::sealed_page;
    use super::super::pipeline::Piece;
    use super::*;

    fn opened(bytes: &[u8], checks: Option<&Arc<PageChecks>>) -> SourceFile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, bytes).unwrap();
        SourceFile {
            file: File::open(path).unwrap(),
            path: FilePath::new("base/5/1").unwrap(),
            pages: checks.map(|checks| CheckedPages {
                first_block: 131_072,
                checks: Arc::clone(checks),
            }),
            _open: Arc::new(()),
        }
    }

    #[test]
    fn a_frame_is_filled_as_planned_over_what_was_in_it() {
        let file = Arc::new(opened(&[7; 100], None));
        let piece = |start, length| Piece {
            file: 1,
            file_offset: 0,
            start,
            length,
        };
        let mut frame = FrameBuffer::new();
        frame.bytes = vec![9; 300];
        frame.pieces = vec![piece(0, 3), piece(3, 60), piece(63, 1)];
        let run = |offset, length| Planned::Run {
            file: Arc::clone(&file),
            offset,
            length,
        };
        let planned = || vec![Planned::Bytes(vec![1, 2, 3]), run(50, 60), run(5, 1)];
        frame.planned = planned();
        fill(&mut frame).unwrap();
        // The file ends in the middle of it.
        let expected = [&[1, 2, 3][..], &[7; 50], &[0; 10], &[7]].concat();
        assert_eq!(frame.bytes, expected);
        assert!(frame.planned.is_empty());
        for length in [63, 65] {
            frame.pieces = vec![piece(0, length)];
            frame.planned = planned();
            assert!(fill(&mut frame).is_err(), "{length}");
        }
    }

    #[test]
    fn a_page_that_stays_wrong_is_named_and_one_that_was_being_written_is_read_again() {
        let (since, old) = (Lsn::new(0x500), Lsn::new(0x400));
        let checks = Arc::new(PageChecks::new(since));
        let page = |block: u32| sealed_page(old, 131_072 + block, 3);
        let mut bytes = [
            page(0),
            page(1),
            page(2),
            page(3),
            vec![0; 8192],
            vec![5; 100],
        ]
        .concat();
        bytes[8192 + 4000] ^= 1;
        let file = opened(&bytes, Some(&checks));
        let mut read = vec![1; bytes.len() + 50];
        file.read(0, &mut read).unwrap();
        assert!(read[..bytes.len()] == bytes && read[bytes.len()..] == [0; 50]);
        assert_eq!(
            checks.warnings(),
            ["the checksum of page 1 of base/5/1 is wrong"]
        );

        // What was read is half of one version; the file has a whole one by now.
        let mut torn: [u8; PAGE_BYTES] = page(2).try_into().unwrap();
        torn[8000] ^= 1;
        let pages = file.pages.as_ref().unwrap();
        file.read_again(131_074, &mut torn, pages).unwrap();
        assert!(torn[..] == page(2));
        // It is gone by now.
        file.read_again(131_090, &mut torn, pages).unwrap();
        assert_eq!(checks.warnings().len(), 1);
    }

    #[test]
    fn of_many_damaged_pages_some_are_named_and_all_counted() {
        let checks = PageChecks::new(Lsn::new(1));
        let path = FilePath::new("base/5/1").unwrap();
        for block in 0..103 {
            checks.note(&path, block);
        }
        let warnings = checks.warnings();
        assert_eq!(warnings.len(), 101);
        assert_eq!(warnings[100], "and of 3 more pages");
    }
}
