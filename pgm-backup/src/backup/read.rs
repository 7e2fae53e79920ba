//! Reading files of the server into frames.
//!
//! The feeder plans which runs of which files make up a frame, and the worker reads them straight into the buffer that it
//! compresses: so reading is done by several threads, and there is one copy. Runs that the server reads are asked for all at once. A file that
//! has become shorter, or is gone, is filled up with zeros, as the server does: replay brings what is missing (`sendFile` in `basebackup.c`).
//!
//! Where the server has page checksums, pages that were written before the backup began are checked. One that is wrong is read again, because the
//! server may be writing it; one that stays wrong is noted, and stored as it is.

use std::fmt::Debug;
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
/// So much is read at a time where it is read on this host: what is checked then is still in the processor's cache.
const READ_BYTES: usize = 128 << 10;

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

/// A file of the server.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) path: FilePath,
    pub(super) place: Where,
    /// Which pages it should have, if they are checked.
    pub(super) pages: Option<CheckedPages>,
}

/// Where a file is read.
#[derive(Debug)]
pub(super) enum Where {
    /// On this host: it is open.
    Here {
        file: File,
        /// One of as many as there are open files.
        _open: Arc<()>,
    },
    /// On the server's.
    There(Arc<dyn ReadThere>),
}

/// Somebody who reads files on the server's host.
pub(super) trait ReadThere: Debug + Send + Sync {
    /// Reads all of the runs, and zeros where there is nothing.
    fn read(&self, runs: &mut [&mut Run<'_>]) -> Result<()>;
}

/// A run of a file's bytes that is being read.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) file: &'a SourceFile,
    pub(super) offset: u64,
    pub(super) bytes: &'a mut [u8],
    /// How many of the bytes there are; the rest are zeros.
    pub(super) there: usize,
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
    let mut runs = Vec::with_capacity(frame.planned.len());
    for planned in &frame.planned {
        let split = std::mem::take(&mut rest).split_at_mut_checked(planned.length());
        let Some((now, later)) = split else {
            return Err(not_as_planned());
        };
        match planned {
            Planned::Bytes(bytes) => now.copy_from_slice(bytes),
            Planned::Run { file, offset, .. } => file.runs(*offset, now, &mut runs),
        }
        rest = later;
    }
    if !rest.is_empty() {
        return Err(not_as_planned());
    }
    read(&mut runs)?;
    drop(runs);
    frame.planned.clear();
    Ok(())
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
    /// Reads so many bytes from `offset` on, and checks their pages.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut runs = Vec::new();
        self.runs(offset, &mut bytes, &mut runs);
        read(&mut runs)?;
        drop(runs);
        Ok(bytes)
    }

    fn is_there(&self) -> bool {
        matches!(self.place, Where::There(_))
    }

    /// The runs that fill `bytes` from `offset` on.
    fn runs<'a>(&'a self, offset: u64, bytes: &'a mut [u8], runs: &mut Vec<Run<'a>>) {
        let most = match &self.place {
            Where::Here { .. } => READ_BYTES,
            Where::There(_) => bytes.len().max(1),
        };
        let offsets = (offset..).step_by(most);
        runs.extend(
            bytes
                .chunks_mut(most)
                .zip(offsets)
                .map(|(bytes, offset)| Run::new(self, offset, bytes)),
        );
    }
}

impl<'a> Run<'a> {
    fn new(file: &'a SourceFile, offset: u64, bytes: &'a mut [u8]) -> Self {
        Self {
            file,
            offset,
            bytes,
            there: 0,
        }
    }

    /// Its pages that are not sound, each as a run of its own.
    fn unsound(&mut self) -> impl Iterator<Item = Run<'_>> {
        let (file, offset) = (self.file, self.offset);
        let checked = file.pages.as_ref().map_or(0, |_| self.there);
        let (pages, _) = self.bytes[..checked].as_chunks_mut::<PAGE_BYTES>();
        let pages = pages.iter_mut().enumerate().map(move |(at, page)| {
            let offset = offset + (at * PAGE_BYTES) as u64;
            Run {
                there: PAGE_BYTES,
                ..Run::new(file, offset, page)
            }
        });
        pages.filter(|page| !page.is_sound())
    }

    /// Of a run of one page: whether nothing is wrong with it, or there is no such page any more.
    fn is_sound(&self) -> bool {
        let (Some(pages), Ok(page)) = (&self.file.pages, self.bytes[..self.there].try_into())
        else {
            return true;
        };
        is_sound(page, pages.first_block + self.block(), pages.checks.since)
    }

    /// The number of its first page within the file.
    fn block(&self) -> u32 {
        (self.offset / PAGE_BYTES as u64) as u32
    }
}

/// Reads runs, and checks their pages.
fn read(runs: &mut [Run<'_>]) -> Result<()> {
    let mut wrong = Vec::new();
    if runs.iter().any(|run| run.file.is_there()) {
        read_once(runs)?;
        wrong.extend(runs.iter_mut().flat_map(Run::unsound));
    } else {
        for run in runs {
            read_once(std::slice::from_mut(run))?;
            wrong.extend(run.unsound());
        }
    }
    for _ in 0..READ_AGAIN {
        if wrong.is_empty() {
            return Ok(());
        }
        std::thread::sleep(READ_AGAIN_AFTER);
        read_once(&mut wrong)?;
        wrong.retain(|page| !page.is_sound());
    }
    for page in wrong {
        if let Some(pages) = &page.file.pages {
            pages.checks.note(&page.file.path, page.block());
        }
    }
    Ok(())
}

/// Reads as much as there is, and zeros behind it.
fn read_once(runs: &mut [Run<'_>]) -> Result<()> {
    let mut reader = None;
    let mut asked = Vec::new();
    for run in runs {
        match &run.file.place {
            Where::Here { file, .. } => {
                run.there = read_here(run.file, file, run.offset, run.bytes)?;
            }
            // Of one backup all have the same reader.
            Where::There(there) => {
                reader = Some(there);
                asked.push(run);
            }
        }
    }
    reader.map_or(Ok(()), |reader| reader.read(&mut asked))
}

/// Gives how much there is.
fn read_here(source: &SourceFile, file: &File, offset: u64, bytes: &mut [u8]) -> Result<usize> {
    let mut there = 0;
    while there < bytes.len() {
        match file.read_at(&mut bytes[there..], offset + there as u64) {
            Ok(0) => break,
            Ok(more) => there += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(Error::ServerFile {
                    operation: "read",
                    path: source.path.to_string(),
                    source: error,
                });
            }
        }
    }
    bytes[there..].fill(0);
    Ok(there)
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
            place: Where::Here {
                file: File::open(path).unwrap(),
                _open: Arc::new(()),
            },
            path: FilePath::new("base/5/1").unwrap(),
            pages: checks.map(|checks| CheckedPages {
                first_block: 131_072,
                checks: Arc::clone(checks),
            }),
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
        let read = file.read(0, bytes.len() + 50).unwrap();
        assert!(read[..bytes.len()] == bytes && read[bytes.len()..] == [0; 50]);
        assert_eq!(
            checks.warnings(),
            ["the checksum of page 1 of base/5/1 is wrong"]
        );
    }

    /// Has a file that the server is writing: from the second look on it is whole, and cut off from the third on.
    #[derive(Debug)]
    struct Changing {
        whole: Vec<u8>,
        torn: Vec<usize>,
        asked: Mutex<Vec<Vec<(u64, usize)>>>,
    }

    impl ReadThere for Changing {
        fn read(&self, runs: &mut [&mut Run<'_>]) -> Result<()> {
            let mut asked = self.asked.lock().unwrap();
            let mut file = self.whole.clone();
            match asked.len() {
                0 => self.torn.iter().for_each(|at| file[*at] ^= 1),
                1 => {}
                _ => file.truncate(2 * PAGE_BYTES),
            }
            asked.push(
                runs.iter()
                    .map(|run| (run.offset, run.bytes.len()))
                    .collect(),
            );
            for run in runs {
                let rest = file.get(run.offset as usize..).unwrap_or_default();
                run.there = rest.len().min(run.bytes.len());
                run.bytes[..run.there].copy_from_slice(&rest[..run.there]);
                run.bytes[run.there..].fill(0);
            }
            Ok(())
        }
    }

    #[test]
    fn the_server_is_asked_once_for_a_frame_and_again_for_the_pages_that_are_wrong() {
        let page = |block: u32| sealed_page(Lsn::new(0x400), block, 3);
        let mut whole: Vec<u8> = (0..6).flat_map(page).collect();
        // One that stays wrong until it is gone.
        whole[5 * PAGE_BYTES + 5000] ^= 1;
        let there = Arc::new(Changing {
            torn: vec![PAGE_BYTES + 5000, 4 * PAGE_BYTES + 5000],
            asked: Mutex::default(),
            whole: whole.clone(),
        });
        let checks = Arc::new(PageChecks::new(Lsn::new(0x500)));
        let file = Arc::new(SourceFile {
            path: FilePath::new("base/5/1").unwrap(),
            place: Where::There(Arc::clone(&there) as Arc<dyn ReadThere>),
            pages: Some(CheckedPages {
                first_block: 0,
                checks: Arc::clone(&checks),
            }),
        });
        let mut frame = FrameBuffer::new();
        let runs = [(0, 2), (3, 4)].map(|(first, count)| (first * 8192, count * PAGE_BYTES));
        let run = |(offset, length)| Planned::Run {
            file: Arc::clone(&file),
            offset,
            length,
        };
        frame.planned = runs.map(run).into();
        frame.pieces = vec![Piece {
            file: 1,
            file_offset: 0,
            start: 0,
            length: 6 * PAGE_BYTES as u32,
        }];
        fill(&mut frame).unwrap();
        let asked = there.asked.lock().unwrap();
        assert_eq!(asked[0], runs);
        assert_eq!(asked[1], [(8192, 8192), (4 * 8192, 8192), (5 * 8192, 8192)]);
        assert_eq!(asked[2..], [vec![(5 * 8192, 8192)]]);
        // What the file has become meanwhile does not matter to what was read of it.
        let expected = [
            &whole[..2 * PAGE_BYTES],
            &whole[3 * PAGE_BYTES..5 * PAGE_BYTES],
        ]
        .concat();
        assert!(frame.bytes[..4 * PAGE_BYTES] == expected);
        assert!(frame.bytes[4 * PAGE_BYTES..].iter().all(|byte| *byte == 0));
        assert!(checks.warnings().is_empty());
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
