//! Makes valid WAL for tests: records, pages, segments, branches.

use std::path::Path;

use pgm_proto::{Lsn, TimelineId};

use super::header::{HEADER_BYTES, RESOURCE_MANAGER_TRANSACTION, RESOURCE_MANAGER_XLOG};
use super::page::{LONG_BYTES, PAGE_BYTES, SHORT_BYTES, WalVersion};
use crate::{SegmentName, SegmentSize, WalFileName};

pub(crate) const SIZE: SegmentSize = SegmentSize::MIN;
/// A resource manager that nobody looks into: `RM_LOGICALMSG_ID`.
pub(crate) const FILLER: u8 = 21;

pub(crate) fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

/// WAL of one timeline from the beginning of a segment on.
#[derive(Debug, Clone)]
pub(crate) struct Wal {
    pub(crate) version: WalVersion,
    pub(crate) timeline: TimelineId,
    pub(crate) bytes: Vec<u8>,
    start: Lsn,
    previous: Lsn,
}

impl Wal {
    /// WAL that begins with segment `number` of `timeline`.
    pub(crate) fn new(number: u64, timeline: TimelineId) -> Self {
        Self {
            version: WalVersion::V17,
            timeline,
            bytes: Vec::new(),
            start: Lsn::new(number * SIZE.bytes()),
            previous: Lsn::new((number * SIZE.bytes()).saturating_sub(64)),
        }
    }

    /// A branch that leaves this WAL where it ends.
    pub(crate) fn branch(&self, timeline: TimelineId) -> Self {
        Self {
            timeline,
            ..self.clone()
        }
    }

    pub(crate) fn end(&self) -> Lsn {
        self.start + self.bytes.len() as u64
    }

    /// Appends a record with this main data; gives where it begins.
    pub(crate) fn record(&mut self, manager: u8, info: u8, xid: u32, main: &[u8]) -> Lsn {
        let mut body = Vec::new();
        match u8::try_from(main.len()) {
            Ok(0) => {}
            Ok(len) => body.extend([255, len]),
            Err(_) => {
                body.push(254);
                body.extend((main.len() as u32).to_le_bytes());
            }
        }
        body.extend_from_slice(main);
        self.raw_record(manager, info, xid, &body)
    }

    /// Appends a record with these bytes behind its header.
    pub(crate) fn raw_record(&mut self, manager: u8, info: u8, xid: u32, body: &[u8]) -> Lsn {
        let mut header = Vec::new();
        header.extend(((HEADER_BYTES + body.len()) as u32).to_le_bytes());
        header.extend(xid.to_le_bytes());
        header.extend(self.previous.bytes().to_le_bytes());
        header.extend([info, manager, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(body), &header);
        header.extend(crc.to_le_bytes());
        header.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.open_page(0, 0);
        let lsn = self.end();
        self.previous = lsn;
        let mut rest = &header[..];
        while !rest.is_empty() {
            self.open_page(0x0001, rest.len() as u32);
            let room = PAGE_BYTES - self.bytes.len() % PAGE_BYTES;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.bytes.extend_from_slice(now);
            rest = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        lsn
    }

    /// Writes a page header if a page begins here.
    pub(crate) fn open_page(&mut self, flags: u16, remaining: u32) {
        if !self.bytes.len().is_multiple_of(PAGE_BYTES) {
            return;
        }
        let address = self.end();
        let long = SIZE.offset_of(address) == 0;
        let length = if long { LONG_BYTES } else { SHORT_BYTES };
        let mut header = Vec::with_capacity(length);
        header.extend(self.version.magic().to_le_bytes());
        header.extend((flags | u16::from(long) << 1).to_le_bytes());
        header.extend(self.timeline.number().to_le_bytes());
        header.extend(address.bytes().to_le_bytes());
        header.extend(remaining.to_le_bytes());
        header.extend([0; 4]);
        if long {
            header.extend(7_000_000_000_000_000_007_u64.to_le_bytes());
            header.extend((SIZE.bytes() as u32).to_le_bytes());
            header.extend((PAGE_BYTES as u32).to_le_bytes());
        }
        self.bytes.extend_from_slice(&header);
    }

    pub(crate) fn commit(&mut self, xid: u32, microseconds: i64) -> Lsn {
        self.record(
            RESOURCE_MANAGER_TRANSACTION,
            0x00,
            xid,
            &microseconds.to_le_bytes(),
        )
    }

    pub(crate) fn abort(&mut self, xid: u32, microseconds: i64) -> Lsn {
        self.record(
            RESOURCE_MANAGER_TRANSACTION,
            0x20,
            xid,
            &microseconds.to_le_bytes(),
        )
    }

    pub(crate) fn restore_point(&mut self, name: &str, microseconds: i64) -> Lsn {
        let mut main = microseconds.to_le_bytes().to_vec();
        main.extend_from_slice(name.as_bytes());
        main.resize(72, 0);
        self.record(RESOURCE_MANAGER_XLOG, 0x70, 0, &main)
    }

    pub(crate) fn filler(&mut self, bytes: usize) -> Lsn {
        self.record(FILLER, 0, 0, &vec![0xAB; bytes])
    }

    /// Switches to the next segment: the rest of this one has page headers only.
    pub(crate) fn switch(&mut self) -> Lsn {
        let lsn = self.record(RESOURCE_MANAGER_XLOG, 0x40, 0, &[]);
        self.pad();
        lsn
    }

    /// Fills the rest of the segment with records.
    pub(crate) fn fill_segment(&mut self) {
        let segment = SIZE.number_at(self.end());
        while SIZE.number_at(self.end()) == segment {
            self.filler(7000);
        }
    }

    /// Fills the rest of the segment with empty pages.
    pub(crate) fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(SIZE.bytes() as usize) {
            self.open_page(0, 0);
            self.bytes
                .resize(self.bytes.len().next_multiple_of(PAGE_BYTES), 0);
        }
    }

    /// The segments, the last one filled with zeros, and its name.
    pub(crate) fn segments(&self) -> Vec<(SegmentName, Vec<u8>)> {
        let chunks = self.bytes.chunks(SIZE.bytes() as usize).enumerate();
        chunks
            .map(|(index, chunk)| {
                let lsn = self.start + index as u64 * SIZE.bytes();
                let mut bytes = chunk.to_vec();
                bytes.resize(SIZE.bytes() as usize, 0);
                (SegmentName::at(self.timeline, lsn, SIZE), bytes)
            })
            .collect()
    }

    /// Writes the segments to `folder`, all under the names of finished ones.
    pub(crate) fn write_to(&self, folder: &Path) {
        for (name, bytes) in self.segments() {
            std::fs::write(folder.join(name.file_name(SIZE)), bytes).unwrap();
        }
    }

    /// Writes the segments to `folder`, the last one as unfinished.
    pub(crate) fn write_unfinished_to(&self, folder: &Path) {
        let segments = self.segments();
        let last = segments.len() - 1;
        for (index, (name, bytes)) in segments.into_iter().enumerate() {
            let file = if index == last {
                WalFileName::Partial(name)
            } else {
                WalFileName::Segment(name)
            };
            std::fs::write(folder.join(file.file_name(SIZE)), bytes).unwrap();
        }
    }
}
