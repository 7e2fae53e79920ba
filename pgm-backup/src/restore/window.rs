//! What is put in place at a time, and in which order.
//!
//! Pieces are sorted by pack and offset, so that each frame is read and decoded once and each pack from its beginning to its
//! end. Where a file is to be written in spans (`spans`), the patches come first and wait in memory; so a window ends when
//! they have become many, too.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::destination::Destination;
use super::error::RestoreError;
use super::spans;
use crate::manifest::Extent;

/// Pieces that are sorted at a time: 64 GiB of large files, or as many small files.
const WINDOW_PIECES: usize = 1 << 16;
/// Bytes of patches that wait at a time.
const PATCH_BYTES_MAX: u64 = 48 << 20;
/// How often somebody who waits for patches looks whether everything has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A run of bytes of a file and its place in a frame.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) destination: Arc<Destination>,
    pub(super) extent: Extent,
}

/// A run of bytes of a file that is one frame's but for patches.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) destination: Arc<Destination>,
    /// In the order of the file; the first and the last one are in the frame.
    pub(super) extents: Vec<Extent>,
    /// The bytes of those that are in other frames.
    patches: Vec<OnceLock<Box<[u8]>>>,
}

/// A piece of a span that is in another frame.
#[derive(Debug)]
pub(super) struct Patch {
    span: Arc<Span>,
    number: usize,
    pub(super) extent: Extent,
}

/// What is done with bytes of a frame.
#[derive(Debug)]
pub(super) enum Part {
    /// They are written.
    Piece(Piece),
    /// They wait until the span is written.
    Patch(Patch),
    /// They are written, with the patches.
    Span(Arc<Span>),
}

/// A frame and what is to be cut out of it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) pack: u32,
    pub(super) frame_offset: u64,
    pub(super) parts: Vec<Part>,
    /// Of one whose bytes others wait for.
    awaited: Option<Ticket>,
    /// It is read in the repository of the plan: another one has been asked.
    stays: bool,
}

/// The window, as it fills.
#[derive(Debug, Default)]
pub(super) struct Window {
    parts: Vec<Part>,
    patches: Vec<Part>,
    patch_bytes: u64,
    gate: Arc<Gate>,
}

/// Counts jobs that are not done.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<usize>,
    changed: Condvar,
}

/// A job that is not done: it is when this is dropped.
#[derive(Debug)]
struct Ticket(Arc<Gate>);

impl Window {
    /// Takes extents of a file until it is full; gives how many.
    pub(super) fn take(&mut self, destination: &Arc<Destination>, extents: &[Extent]) -> usize {
        let piece = |extent: &Extent| {
            Part::Piece(Piece {
                destination: destination.clone(),
                extent: *extent,
            })
        };
        let mut taken = 0;
        for span in spans::find(extents) {
            self.parts
                .extend(extents[taken..*span.start()].iter().map(piece));
            taken = span.end() + 1;
            self.take_span(Span::new(destination.clone(), &extents[span]));
            if self.is_full() {
                return taken;
            }
        }
        self.parts.extend(extents[taken..].iter().map(piece));
        extents.len()
    }

    /// Takes one piece.
    pub(super) fn push(&mut self, piece: Piece) {
        self.parts.push(Part::Piece(piece));
    }

    fn take_span(&mut self, span: Span) {
        let span = Arc::new(span);
        for (number, extent) in span.others().enumerate() {
            self.patch_bytes += u64::from(extent.length);
            self.patches.push(Part::Patch(Patch {
                span: span.clone(),
                number,
                extent: *extent,
            }));
        }
        self.parts.push(Part::Span(span));
    }

    /// Whether there is enough in it.
    pub(super) fn is_full(&self) -> bool {
        self.patch_bytes >= PATCH_BYTES_MAX
            || self.parts.len() + self.patches.len() >= WINDOW_PIECES
    }

    /// Gives everything to `send`, and empties it.
    pub(super) fn hand_out(
        &mut self,
        check: &dyn Fn() -> Result<(), RestoreError>,
        send: &mut dyn FnMut(Job) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        self.patch_bytes = 0;
        for mut job in jobs(&mut self.patches) {
            job.awaited = Some(Ticket::new(&self.gate));
            send(job)?;
        }
        // There is something to do while patches are on their way.
        let (spans, others): (Vec<Job>, Vec<Job>) =
            jobs(&mut self.parts).into_iter().partition(Job::has_span);
        others.into_iter().try_for_each(&mut *send)?;
        if !spans.is_empty() {
            self.gate.wait(check)?;
        }
        spans.into_iter().try_for_each(send)
    }
}

/// Sorts `parts` by their places, and makes a job for each frame of them.
fn jobs(parts: &mut Vec<Part>) -> Vec<Job> {
    parts.sort_by_key(|part| {
        let extent = part.extent();
        (extent.pack, extent.frame_offset, extent.start)
    });
    let mut jobs: Vec<Job> = Vec::new();
    let mut end = 0;
    for part in parts.drain(..) {
        let &Extent {
            pack,
            frame_offset,
            start,
            ..
        } = part.extent();
        let part_end = start as usize + part.length();
        let last = jobs
            .last_mut()
            .filter(|last| (last.pack, last.frame_offset) == (pack, frame_offset));
        match last {
            // Where a span was patched, the bytes are no longer the frame's: whatever else needs them reads it again.
            Some(last) if end <= start as usize || !(last.has_span() || part.is_span()) => {
                last.parts.push(part);
                end = end.max(part_end);
            }
            _ => {
                jobs.push(Job {
                    pack,
                    frame_offset,
                    parts: vec![part],
                    awaited: None,
                    stays: false,
                });
                end = part_end;
            }
        }
    }
    jobs
}

impl Job {
    /// The only piece of a frame that is read for it.
    pub(super) fn of(piece: Piece) -> Self {
        Self {
            pack: piece.extent.pack,
            frame_offset: piece.extent.frame_offset,
            parts: vec![Part::Piece(piece)],
            awaited: None,
            stays: false,
        }
    }

    /// Pieces of one frame; `None` if they are of several, or there are none.
    pub(super) fn of_all(pieces: Vec<Piece>) -> Option<Self> {
        let frame = |piece: &Piece| (piece.extent.pack, piece.extent.frame_offset);
        let (pack, frame_offset) = frame(pieces.first()?);
        let together = pieces
            .iter()
            .all(|piece| frame(piece) == (pack, frame_offset));
        together.then(|| Self {
            pack,
            frame_offset,
            parts: pieces.into_iter().map(Part::Piece).collect(),
            awaited: None,
            stays: false,
        })
    }

    /// Its pieces, if it consists of nothing else.
    pub(super) fn pieces(&self) -> Option<Vec<&Piece>> {
        let parts = self.parts.iter();
        let pieces = parts.map(|part| match part {
            Part::Piece(piece) => Some(piece),
            Part::Patch(_) | Part::Span(_) => None,
        });
        pieces.collect()
    }

    /// Whether another repository may be asked for it.
    pub(super) fn may_be_lent(&self) -> bool {
        let piece = |part: &Part| matches!(part, Part::Piece(_));
        !self.stays && self.awaited.is_none() && self.parts.iter().all(piece)
    }

    /// Another one has been asked.
    pub(super) fn stays(&mut self) {
        self.stays = true;
    }

    /// What is missing when the frame cannot be had. Patches of a span that are here already are fetched again with it.
    pub(super) fn into_pieces(self) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            match part {
                Part::Piece(piece) => pieces.push(piece),
                Part::Patch(patch) => pieces.push(Piece {
                    destination: patch.span.destination.clone(),
                    extent: patch.extent,
                }),
                Part::Span(span) => pieces.extend(span.pieces()),
            }
        }
        pieces
    }

    fn has_span(&self) -> bool {
        self.parts.iter().any(Part::is_span)
    }
}

impl Part {
    fn extent(&self) -> &Extent {
        match self {
            Self::Piece(piece) => &piece.extent,
            Self::Span(span) => &span.extents[0],
            Self::Patch(patch) => &patch.extent,
        }
    }

    /// Bytes of the frame that it covers.
    fn length(&self) -> usize {
        match self {
            Self::Span(span) => span.length(),
            Self::Piece(_) | Self::Patch(_) => self.extent().length as usize,
        }
    }

    fn is_span(&self) -> bool {
        matches!(self, Self::Span(_))
    }
}

impl Patch {
    /// Keeps its bytes until the span is written.
    pub(super) fn keep(&self, bytes: &[u8]) {
        if let Some(place) = self.span.patches.get(self.number) {
            let _ = place.set(bytes.into());
        }
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.span.destination
    }
}

impl Span {
    fn new(destination: Arc<Destination>, extents: &[Extent]) -> Self {
        let mut span = Self {
            destination,
            extents: extents.to_vec(),
            patches: Vec::new(),
        };
        span.patches = span.others().map(|_| OnceLock::new()).collect();
        span
    }

    /// The extents that are in other frames.
    fn others(&self) -> impl Iterator<Item = &Extent> {
        let extents = self.extents.iter();
        extents.filter(|extent| !spans::same_frame(&self.extents[0], extent))
    }

    /// Where it begins in its frame.
    pub(super) fn start(&self) -> usize {
        self.extents[0].start as usize
    }

    /// Its bytes.
    pub(super) fn length(&self) -> usize {
        let extents = self.extents.iter();
        extents.map(|extent| extent.length as usize).sum()
    }

    /// Its extents, but for patches that are missing: whoever could not read them has set them aside.
    fn pieces(&self) -> impl Iterator<Item = Piece> {
        let runs = self.runs().into_iter().flatten();
        runs.map(|extent| Piece {
            destination: self.destination.clone(),
            extent: *extent,
        })
    }

    /// Neighbouring extents that can be written together: all of them, unless patches are missing.
    fn runs(&self) -> Vec<&[Extent]> {
        let (mut runs, mut begin, mut patches) = (Vec::new(), 0, self.patches.iter());
        for (number, extent) in self.extents.iter().enumerate() {
            if spans::same_frame(&self.extents[0], extent)
                || patches.next().is_some_and(|patch| patch.get().is_some())
            {
                continue;
            }
            runs.push(&self.extents[begin..number]);
            begin = number + 1;
        }
        runs.push(&self.extents[begin..]);
        runs
    }

    /// Lays the patches over `bytes`, those of the frame in its place; gives what is to be written then.
    pub(super) fn patched<'a>(
        &'a self,
        bytes: &'a mut [u8],
    ) -> impl Iterator<Item = (&'a [Extent], &'a [u8])> {
        let begin = self.extents[0].file_offset;
        for (extent, patch) in self.others().zip(&self.patches) {
            let at = (extent.file_offset - begin) as usize;
            let place = bytes.get_mut(at..at + extent.length as usize);
            if let (Some(place), Some(patch)) = (place, patch.get()) {
                place.copy_from_slice(patch);
            }
        }
        let bytes = &*bytes;
        self.runs().into_iter().filter_map(move |run| {
            let first = run.first()?;
            let at = (first.file_offset - begin) as usize;
            let length = run.iter().map(|extent| extent.length as usize).sum();
            Some((run, bytes.get(at..)?.get(..length)?))
        })
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all jobs are done that are awaited.
    fn wait(&self, check: &dyn Fn() -> Result<(), RestoreError>) -> Result<(), RestoreError> {
        let mut open = self.lock();
        while *open > 0 {
            check()?;
            let waited = self.changed.wait_timeout(open, LOOK_EVERY);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Ticket {
    fn new(gate: &Arc<Gate>) -> Self {
        *gate.lock() += 1;
        Self(gate.clone())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use pgm_storage::FRAME_RAW_MAX;
    use proptest::prelude::*;

    use super::super::destination::Creation;
    use super::*;
    use crate::manifest::{FileEntry, FilePath};

    const PAGE: usize = 8192;

    /// What page `number` of a frame has in it.
    fn page(frame: u64, number: usize) -> u32 {
        frame as u32 * 1000 + number as u32
    }

    /// A frame of one number a page.
    fn frame(number: u64) -> Vec<u8> {
        let mut bytes = vec![0; FRAME_RAW_MAX];
        for (at, place) in bytes.chunks_mut(PAGE).enumerate() {
            place[..4].copy_from_slice(&page(number, at).to_le_bytes());
        }
        bytes
    }

    /// A file whose runs of pages come from these frames: from where they are in the file, or from a place in the frame.
    fn file(runs: &[(u64, u32, Option<u32>)]) -> FileEntry {
        let mut extents = Vec::new();
        let mut at = 0_u64;
        for (frame_offset, pages, place) in runs {
            let start = place.map_or((at % FRAME_RAW_MAX as u64) as u32, |page| {
                page * PAGE as u32
            });
            let length = (pages * PAGE as u32).min(FRAME_RAW_MAX as u32 - start);
            extents.push(Extent {
                file_offset: at,
                pack: (*frame_offset % 2) as u32,
                frame_offset: *frame_offset,
                start,
                length,
            });
            at += u64::from(length);
        }
        FileEntry {
            path: FilePath::new(b"base/5/1").unwrap(),
            size: at,
            mode: 0o600,
            mtime: 0,
            crc32c: None,
            extents,
        }
    }

    /// The first number of each page of what the files become, and how many writes there were.
    fn placed(files: &[FileEntry]) -> (Vec<Vec<u32>>, usize) {
        placed_without(files, u64::MAX)
    }

    /// The same, when a frame cannot be read.
    fn placed_without(files: &[FileEntry], lost: u64) -> (Vec<Vec<u32>>, usize) {
        let mut window = Window::default();
        let mut out: Vec<Vec<u8>> = Vec::new();
        let mut numbers: HashMap<*const Destination, usize> = HashMap::new();
        for file in files {
            let destination = Arc::new(Destination::new(file, Creation::Done, None));
            numbers.insert(Arc::as_ptr(&destination), out.len());
            out.push(vec![0; file.size as usize]);
            assert_eq!(window.take(&destination, &file.extents), file.extents.len());
        }
        let mut writes = 0;
        let mut missing = Vec::new();
        let mut carry_out = |job: Job| {
            if job.frame_offset == lost {
                missing.extend(job.into_pieces());
                return Ok(());
            }
            let mut raw = frame(job.frame_offset);
            for part in &job.parts {
                let mut write = |destination, offset: u64, bytes: &[u8]| {
                    let file = &mut out[numbers[&Arc::as_ptr(destination)]];
                    file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
                    writes += 1;
                };
                match part {
                    Part::Patch(patch) => {
                        let start = patch.extent.start as usize;
                        patch.keep(&raw[start..][..patch.extent.length as usize]);
                    }
                    Part::Piece(Piece {
                        destination,
                        extent,
                    }) => {
                        let bytes = &raw[extent.start as usize..][..extent.length as usize];
                        write(destination, extent.file_offset, bytes);
                    }
                    Part::Span(span) => {
                        let bytes = &mut raw[span.start()..][..span.length()];
                        for (extents, bytes) in span.patched(bytes) {
                            write(&span.destination, extents[0].file_offset, bytes);
                        }
                    }
                }
            }
            Ok(())
        };
        window.hand_out(&|| Ok(()), &mut carry_out).unwrap();
        // What was set aside comes from somewhere else.
        for Piece {
            destination,
            extent,
        } in missing
        {
            let raw = frame(extent.frame_offset);
            let bytes = &raw[extent.start as usize..][..extent.length as usize];
            let file = &mut out[numbers[&Arc::as_ptr(&destination)]];
            let place = &mut file[extent.file_offset as usize..][..bytes.len()];
            assert!(place.iter().all(|byte| *byte == 0), "it was there already");
            place.copy_from_slice(bytes);
        }
        let number = |page: &[u8]| u32::from_le_bytes(page[..4].try_into().unwrap());
        let numbers = out
            .iter()
            .map(|file| file.chunks(PAGE).map(number).collect());
        (numbers.collect(), writes)
    }

    fn expected(file: &FileEntry) -> Vec<u32> {
        let pages = file.extents.iter().flat_map(|extent| {
            let first = extent.start as usize / PAGE;
            let count = extent.length as usize / PAGE;
            (first..first + count).map(|number| page(extent.frame_offset, number))
        });
        pages.collect()
    }

    #[test]
    fn a_frame_with_patches_is_written_once() {
        let one = file(&[
            (1, 50, None),
            (2, 1, Some(7)),
            (1, 20, None),
            (3, 2, Some(0)),
            (1, 55, None),
        ]);
        let (files, writes) = placed(std::slice::from_ref(&one));
        assert_eq!(files, [expected(&one)]);
        assert_eq!(writes, 1);
    }

    #[test]
    fn what_needs_the_bytes_of_a_frame_that_is_patched_gets_them_as_they_were() {
        // Two files that were alike: one has changed since, and the other one has not.
        let changed = file(&[(1, 50, None), (2, 1, Some(0)), (1, 77, None)]);
        let same = file(&[(1, 128, None)]);
        for files in [
            [changed.clone(), same.clone()],
            [same.clone(), changed.clone()],
            [changed.clone(), changed.clone()],
        ] {
            let wanted: Vec<_> = files.iter().map(expected).collect();
            assert_eq!(placed(&files).0, wanted);
        }
    }

    #[test]
    fn a_window_is_full_when_many_patches_wait() {
        let mut runs = Vec::new();
        for number in 0..(PATCH_BYTES_MAX as usize / PAGE + 1000) {
            runs.push((2 * (number / 64) as u64, 1, None));
            runs.push((1, 1, Some(number as u32 % 128)));
        }
        let file = file(&runs);
        let destination = Arc::new(Destination::new(&file, Creation::Done, None));
        let mut window = Window::default();
        let taken = window.take(&destination, &file.extents);
        assert!(window.is_full() && taken < file.extents.len(), "{taken}");
        assert!(window.patch_bytes < PATCH_BYTES_MAX + FRAME_RAW_MAX as u64);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_page_comes_to_its_place(
            runs in prop::collection::vec(
                prop::collection::vec((1_u64..4, 1_u32..30, prop::option::of(0_u32..100)), 1..20), 1..4,
            ),
        ) {
            let files: Vec<FileEntry> = runs.iter().map(|runs| file(runs)).collect();
            let wanted: Vec<_> = files.iter().map(expected).collect();
            for lost in [u64::MAX, 1, 2, 3] {
                prop_assert_eq!(&placed_without(&files, lost).0, &wanted);
            }
        }
    }
}
