//! How the content of files fills frames.
//!
//! A frame holds a run of one file or several files. Of files that are sent whole only one that is larger than a frame is cut, at
//! multiples of a frame's size. Files that begin frames, one in four by their names, see to it that after a file that has grown
//! or is gone the same frames come again as in the backup before: that is what a backup that goes on from an interrupted one
//! lives on. Pages that are sent alone lie as close as possible, and are never cut.

use std::ops::Range;

use pgm_storage::FRAME_RAW_MAX;

use super::page::PAGE_BYTES;
use super::pipeline::{FrameBuffer, PIECES_MAX, Piece};

/// A frame with so many bytes or files ends before a file that begins frames.
const FRAME_FULL_ENOUGH: usize = FRAME_RAW_MAX / 2;
const PIECES_ENOUGH: usize = PIECES_MAX / 4 * 3;

/// Content of a file that is coming.
#[derive(Debug)]
pub(super) struct Content {
    file: u64,
    kind: Kind,
    /// Where the next byte belongs in the file, and where the run ends that it is in.
    next: Range<u64>,
}

#[derive(Debug)]
enum Kind {
    Whole {
        size: u64,
        begins_frames: bool,
    },
    /// The runs that come after this one, the last one first.
    Pages {
        later: Vec<Range<u64>>,
    },
}

impl Content {
    /// A whole file with this path.
    pub(super) fn whole(file: u64, path: &[u8], size: u64) -> Self {
        // One file in four; a plain sum over the name, the same in every process.
        let sum = path
            .iter()
            .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
        Self {
            file,
            kind: Kind::Whole {
                size,
                begins_frames: sum >= 192,
            },
            next: 0..size,
        }
    }

    /// Runs of whole pages of a file.
    pub(super) fn pages(file: u64, mut runs: Vec<Range<u64>>) -> Self {
        runs.reverse();
        let next = runs.pop().unwrap_or_default();
        Self {
            file,
            kind: Kind::Pages { later: runs },
            next,
        }
    }

    /// Whether all of it has come.
    pub(super) fn is_complete(&self) -> bool {
        self.next.is_empty()
    }

    /// Puts as much of `bytes` into the frame as belongs there; nothing if the frame is to end before. An empty frame always
    /// takes something.
    pub(super) fn put(&mut self, frame: &mut FrameBuffer, bytes: &[u8]) -> usize {
        if frame.pieces.is_empty() {
            frame.bytes.clear();
        }
        let (_, taken) = self.claim(frame, bytes.len());
        frame.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Gives the next bytes of the file a place in the frame, at most so many: where they begin in the file, and how many
    /// they are. The bytes are for the caller to put there.
    pub(super) fn claim(&mut self, frame: &mut FrameBuffer, most: usize) -> (u64, usize) {
        let begin = self.next.start;
        let continues = frame.pieces.last().is_some_and(|piece| {
            piece.file == self.file
                && piece.file_offset + u64::from(piece.length) == self.next.start
        });
        let room = (self.room(frame, continues) as u64).min(self.next.end - self.next.start);
        let taken = (room as usize).min(most);
        if taken == 0 {
            return (begin, 0);
        }
        let start = frame.length() as u32;
        match frame.pieces.last_mut().filter(|_| continues) {
            Some(piece) => piece.length += taken as u32,
            None => frame.pieces.push(Piece {
                file: self.file,
                file_offset: self.next.start,
                start,
                length: taken as u32,
            }),
        }
        self.next.start += taken as u64;
        if let Kind::Pages { later } = &mut self.kind
            && self.next.is_empty()
        {
            self.next = later.pop().unwrap_or_default();
        }
        (begin, taken)
    }

    /// How many more bytes of the file go into the frame.
    fn room(&self, frame: &FrameBuffer, continues: bool) -> usize {
        let room = FRAME_RAW_MAX - frame.length();
        match self.kind {
            Kind::Whole { .. } if continues || frame.pieces.is_empty() => room,
            Kind::Whole {
                size,
                begins_frames,
            } => {
                let full =
                    frame.length() >= FRAME_FULL_ENOUGH || frame.pieces.len() >= PIECES_ENOUGH;
                let ends = size > room as u64
                    || frame.pieces.len() >= PIECES_MAX
                    || (full && begins_frames);
                if ends { 0 } else { room }
            }
            Kind::Pages { .. } if !continues && frame.pieces.len() >= PIECES_MAX => 0,
            Kind::Pages { .. } => {
                // The rest of the page that has begun, and whole ones.
                let begun = (self.next.start % PAGE_BYTES as u64) as usize;
                let rest = (PAGE_BYTES - begun) % PAGE_BYTES;
                rest + room.saturating_sub(rest) / PAGE_BYTES * PAGE_BYTES
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lie_close_together_and_none_is_cut() {
        let page = PAGE_BYTES as u64;
        let mut frame = FrameBuffer::new();
        let mut small = Content::whole(1, b"a", 100);
        assert_eq!(small.put(&mut frame, &[1; 100]), 100);
        let mut content = Content::pages(2, vec![3 * page..5 * page, 9 * page..400 * page]);
        let (mut frames, mut left) = (Vec::new(), 393 * PAGE_BYTES);
        while !content.is_complete() {
            // Pieces as a network gives them.
            match content.put(&mut frame, &vec![2; left.min(5000)]) {
                0 => frames.push(std::mem::replace(&mut frame, FrameBuffer::new())),
                taken => left -= taken,
            }
        }
        frames.push(frame);
        assert_eq!(left, 0);
        let pieces: Vec<_> = frames[0]
            .pieces
            .iter()
            .map(|piece| (piece.file, piece.file_offset, piece.start, piece.length))
            .collect();
        let first = 2 * PAGE_BYTES as u32;
        assert_eq!(
            pieces,
            [
                (1, 0, 0, 100),
                (2, 3 * page, 100, first),
                (2, 9 * page, 100 + first, 125 * PAGE_BYTES as u32),
            ]
        );
        assert_eq!(frames.len(), 4);
        let mut end = 134 * page;
        for frame in &frames[1..] {
            let [piece] = frame.pieces[..] else {
                panic!("{frame:?}");
            };
            assert_eq!(piece.file_offset, end);
            end += u64::from(piece.length);
            assert!(frame.bytes.len() <= FRAME_RAW_MAX && end.is_multiple_of(page));
        }
        assert_eq!(end, 400 * page);
    }
}
