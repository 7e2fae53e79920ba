//! Where LZ4 frames end: follows the bytes on their way to the decoder, which takes an end between two blocks for the end of
//! the file.
//!
//! ```text
//! magic 4 | FLG 1 | BD 1 | size 8, if FLG.3 | dictionary 4, if FLG.0 | HC 1
//! block: length 4 (its highest bit: stored) | data | checksum 4, if FLG.4          repeated
//! length 0: no more blocks | checksum of the content 4, if FLG.2
//! ```

use std::io::{self, BufRead, Read};

const LEGACY_MAGIC: u32 = 0x184C_2102;
const SKIPPABLE_MAGIC: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;

/// Gives the bytes of `inner` and knows whether they ended with a whole frame.
pub(super) struct Lz4Frames<R> {
    inner: R,
    state: State,
    /// The first bytes of a field that is not complete.
    field: [u8; 4],
    filled: usize,
    block_checksum: u64,
    content_checksum: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Magic,
    Flags,
    BlockLength,
    SkippableLength,
    /// So many bytes, then what follows.
    Skip(u64, Next),
    /// A format without an end mark: blocks until there are none.
    Legacy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Magic,
    BlockLength,
}

impl<R> Lz4Frames<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            state: State::Magic,
            field: [0; 4],
            filled: 0,
            block_checksum: 0,
            content_checksum: 0,
        }
    }

    /// Whether everything that was read is whole frames.
    pub(super) fn is_between_frames(&self) -> bool {
        match self.state {
            State::Magic => self.filled == 0,
            State::Legacy => true,
            _ => false,
        }
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match self.state {
                State::Legacy => return,
                State::Skip(left, next) => {
                    let taken = left.min(bytes.len() as u64);
                    self.skip(left - taken, next);
                    taken as usize
                }
                State::Flags => self.collect(bytes, 2),
                State::Magic | State::BlockLength | State::SkippableLength => {
                    self.collect(bytes, 4)
                }
            };
            bytes = &bytes[taken..];
        }
    }

    fn skip(&mut self, left: u64, next: Next) {
        self.state = match (left, next) {
            (0, Next::Magic) => State::Magic,
            (0, Next::BlockLength) => State::BlockLength,
            (left, next) => State::Skip(left, next),
        };
    }

    /// Adds to a field of `length` bytes, and goes on when it is complete.
    fn collect(&mut self, bytes: &[u8], length: usize) -> usize {
        let taken = bytes.len().min(length - self.filled);
        self.field[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled == length {
            self.filled = 0;
            self.complete();
        }
        taken
    }

    fn complete(&mut self) {
        let number = u32::from_le_bytes(self.field);
        match self.state {
            State::Magic if number == LEGACY_MAGIC => self.state = State::Legacy,
            State::Magic if SKIPPABLE_MAGIC.contains(&number) => {
                self.state = State::SkippableLength;
            }
            State::Magic => self.state = State::Flags,
            State::Flags => {
                let flag = |bit: u8| u64::from(self.field[0] >> bit & 1);
                let (size, dictionary) = (8 * flag(3), 4 * flag(0));
                self.block_checksum = 4 * flag(4);
                self.content_checksum = 4 * flag(2);
                self.skip(size + dictionary + 1, Next::BlockLength);
            }
            State::BlockLength if number == 0 => self.skip(self.content_checksum, Next::Magic),
            State::BlockLength => {
                let data = u64::from(number & 0x7FFF_FFFF);
                self.skip(data + self.block_checksum, Next::BlockLength);
            }
            State::SkippableLength => self.skip(number.into(), Next::Magic),
            State::Skip(..) | State::Legacy => {}
        }
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.follow(&buf[..read]);
        Ok(read)
    }
}

impl<R: BufRead> Lz4Frames<R> {
    /// Whether there is nothing left to read.
    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.inner.fill_buf()?.is_empty())
    }
}
