//! WAL on its way out: known bytes, many messages in one write, from a buffer that is filled as seldom as possible.

use std::io;
use std::net::Shutdown;
use std::ops::Range;
use std::sync::mpsc::Receiver;

use pgm_proto::Lsn;

use super::message::{complete, message};
use super::output::Output;
use super::{AtEnd, Fault, Shared, WAL_PERIOD_BYTES, wal_byte};

/// So much WAL goes out in one write, if one message is not longer.
const BLOCK_BYTES: usize = 1 << 20;
/// Tag, length, `w`, three numbers.
const HEADER_BYTES: usize = 5 + 25;

/// What the client said within the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    StatusWithReply,
    CopyDone,
    Gone,
}

pub(super) struct Stream<'a> {
    output: &'a mut Output,
    shared: &'a Shared,
    said: &'a Receiver<Said>,
    /// The client has ended its half.
    client_done: bool,
    block: Block,
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        output: &'a mut Output,
        shared: &'a Shared,
        said: &'a Receiver<Said>,
    ) -> Self {
        Self {
            output,
            shared,
            said,
            client_done: false,
            block: Block::new(shared.script.message_bytes),
        }
    }

    /// Sends everything from `start` to `end`, unless the client ends the stream.
    pub(super) fn send_wal(&mut self, start: Lsn, end: Lsn) -> io::Result<()> {
        let mut position = start.bytes();
        if let Fault::SkipsAhead(bytes) = self.shared.script.fault {
            position += bytes;
        }
        while position < end.bytes() && !self.client_done {
            while let Ok(said) = self.said.try_recv() {
                self.react(&said, end)?;
            }
            let until = end
                .bytes()
                .min(position + self.block.wal_bytes_max() as u64);
            self.output.send(self.block.fill(position..until, end))?;
            position = until;
        }
        Ok(())
    }

    /// All WAL has been sent, or the client wants no more.
    pub(super) fn end(&mut self, end: Lsn, is_current: bool) -> io::Result<()> {
        if is_current && !self.client_done {
            match self.shared.script.at_end {
                AtEnd::Wait => {}
                AtEnd::Close => return Err(io::ErrorKind::BrokenPipe.into()),
                AtEnd::ShutDown => {
                    self.output.send(&complete("COPY 0"))?;
                    self.output.close(Shutdown::Write)?;
                }
            }
        }
        if !is_current {
            self.output.send(&message(b'c', b""))?;
        }
        while !self.client_done {
            let said = self.said.recv().unwrap_or(Said::Gone);
            self.react(&said, end)?;
        }
        if is_current {
            self.output.send(&message(b'c', b""))?;
        }
        Ok(())
    }

    fn react(&mut self, said: &Said, end: Lsn) -> io::Result<()> {
        match said {
            Said::Gone => Err(io::ErrorKind::UnexpectedEof.into()),
            Said::CopyDone => {
                self.client_done = true;
                Ok(())
            }
            Said::StatusWithReply => {
                let mut keepalive = vec![b'k'];
                keepalive.extend(end.bytes().to_be_bytes());
                keepalive.extend([0; 9]);
                self.output.send(&message(b'd', &keepalive))
            }
        }
    }
}

/// Messages in a row, ready to be sent.
struct Block {
    message_bytes: usize,
    /// The scripted WAL, long enough for one message from any position.
    pattern: Vec<u8>,
    bytes: Vec<u8>,
    /// What is in `bytes`.
    filled: Range<u64>,
}

impl Block {
    fn new(message_bytes: usize) -> Self {
        let pattern_bytes = (message_bytes + WAL_PERIOD_BYTES) as u64;
        Self {
            message_bytes,
            pattern: (0..pattern_bytes).map(wal_byte).collect(),
            bytes: Vec::new(),
            filled: 0..0,
        }
    }

    fn wal_bytes_max(&self) -> usize {
        self.message_bytes * (BLOCK_BYTES / self.message_bytes).max(1)
    }

    /// The messages for this range of WAL.
    fn fill(&mut self, range: Range<u64>, server_end: Lsn) -> &[u8] {
        let period = WAL_PERIOD_BYTES as u64;
        let same_bytes = self.filled.start % period == range.start % period
            && self.filled.end - self.filled.start == range.end - range.start;
        if !same_bytes {
            self.bytes.clear();
        }
        let mut place = 0;
        let mut position = range.start;
        while position < range.end {
            let wal_bytes = (range.end - position).min(self.message_bytes as u64) as usize;
            let header = header(position, server_end, wal_bytes);
            if same_bytes {
                self.bytes[place..place + HEADER_BYTES].copy_from_slice(&header);
            } else {
                let phase = (position % period) as usize;
                self.bytes.extend_from_slice(&header);
                self.bytes
                    .extend_from_slice(&self.pattern[phase..phase + wal_bytes]);
            }
            place += HEADER_BYTES + wal_bytes;
            position += wal_bytes as u64;
        }
        self.filled = range;
        &self.bytes
    }
}

fn header(position: u64, server_end: Lsn, wal_bytes: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let length = u32::try_from(HEADER_BYTES - 1 + wal_bytes).unwrap();
    header[0] = b'd';
    header[1..5].copy_from_slice(&length.to_be_bytes());
    header[5] = b'w';
    header[6..14].copy_from_slice(&position.to_be_bytes());
    header[14..22].copy_from_slice(&server_end.bytes().to_be_bytes());
    header
}
