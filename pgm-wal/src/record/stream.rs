//! Records, one after another, over pages and segments.
//!
//! A record begins at a multiple of eight bytes and continues on the next page behind that page's header, which repeats
//! how much of it is left. A segment's tail is unused after a segment switch. Of each record the head (at most 1 KiB)
//! and the beginning of the main data are kept; everything else only passes through the CRC, so a record of a gigabyte
//! costs no more memory than a small one. Follows `XLogDecodeNextRecord` and `XLogFindNextRecord` in
//! `access/transam/xlogreader.c`.

use std::ops::Range;

use pgm_proto::Lsn;

use super::RecordError;
use super::block::{self, HEAD_BYTES_MAX, Shape};
use super::header::{HEADER_BYTES, RECORD_BYTES_MAX, RecordHeader};
use super::page::{BadPage, PAGE_BYTES, PageHeader, WalVersion};
use super::pages::{Loaded, Pages};
use super::source::SegmentSource;
use crate::{History, SegmentSize};

const PAGE: u64 = PAGE_BYTES as u64;

/// How much of a record's main data is kept. The end of a transaction with four million subtransactions fits.
pub(super) const MAIN_DATA_BYTES_MAX: usize = 16 << 20;
/// What is kept allocated from one record to the next.
const MAIN_DATA_BYTES_IDLE: usize = 1 << 20;

/// A valid record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where it begins.
    pub lsn: Lsn,
    /// Where the next one begins, page headers not counted (`EndRecPtr`).
    pub end_lsn: Lsn,
    /// Where the record before it begins.
    pub previous: Lsn,
    /// Its transaction, 0 for none.
    pub xid: u32,
    /// The number of its resource manager.
    pub resource_manager: u8,
    /// What it is, in the words of its resource manager (upper four bits).
    pub info: u8,
    /// Its length, header included.
    pub total_len: u32,
    /// How much of that are full-page images.
    pub images_len: u32,
    /// The format of the WAL.
    pub version: WalVersion,
    /// Its main data, at most the first 16 MiB.
    pub main_data: &'a [u8],
}

/// Where and why the records end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The end of the last valid record; the position that was asked for if there is none.
    pub lsn: Lsn,
    /// What is there instead of another record.
    pub reason: EndReason,
}

/// What was found at the end of the WAL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// The segment does not exist.
    #[error("segment {0} does not exist")]
    NoSegment(String),
    /// Nothing was written there yet, or only a part of a record.
    #[error("{0}")]
    Invalid(Invalid),
}

/// Why there is no valid record at a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Zeros: nothing was written.
    #[error("nothing was written there")]
    Empty,
    /// The page's header is wrong.
    #[error(transparent)]
    Page(#[from] BadPage),
    /// The record's length is impossible.
    #[error("the record has the length {0}")]
    Length(u32),
    /// The record names another predecessor.
    #[error("the record follows {found}, not {expected}")]
    Previous {
        /// Where the record before this one begins.
        expected: Lsn,
        /// What the record says.
        found: Lsn,
    },
    /// No resource manager has this number.
    #[error("the record belongs to resource manager {0}")]
    ResourceManager(u8),
    /// A page does not go on with the record that began before it.
    #[error("the page goes on with {found} bytes of a record that has {expected} left")]
    Continuation {
        /// What is left of the record.
        expected: u32,
        /// What the page says.
        found: u32,
    },
    /// The checksum does not match.
    #[error("the record's checksum does not match")]
    Checksum,
    /// The block headers contradict the record's length.
    #[error("the record's parts contradict its length")]
    Parts,
}

/// Reads records in sequence.
#[derive(Debug)]
pub struct RecordReader<S> {
    pages: Pages<S>,
    /// Where the next record begins.
    position: Lsn,
    /// The record before `position`, unknown right after the start.
    previous: Option<Lsn>,
    /// The record that was read last.
    last: Option<Lsn>,
    header: RecordHeader,
    shape: Shape,
    head: Vec<u8>,
    main: Vec<u8>,
    /// The current record was already read by [`Self::seek`] and not yet given.
    pending: bool,
    end: Option<End>,
}

/// How one attempt to read a record came out.
enum Attempt {
    Read {
        lsn: Lsn,
        next: Lsn,
    },
    /// The record was cut off by a crash; the WAL goes on with the page here.
    CutOff(Lsn),
    NotThere(Stop),
}

enum Stop {
    Absent(String),
    Invalid { at: Lsn, reason: Invalid },
}

impl<S: SegmentSource> RecordReader<S> {
    /// Reads along `history` from the record that begins at `lsn`.
    pub fn at(source: S, history: History, lsn: Lsn) -> Self {
        Self {
            pages: Pages::new(source, history),
            position: align(lsn),
            previous: None,
            last: None,
            header: RecordHeader::default(),
            shape: Shape::default(),
            head: Vec::with_capacity(HEAD_BYTES_MAX),
            main: Vec::new(),
            pending: false,
            end: None,
        }
    }

    /// Reads along `history` from the first record that begins at `lsn` or later, whatever is there: a record that
    /// began on an earlier page is skipped.
    pub fn seek(source: S, history: History, lsn: Lsn) -> Result<Self, RecordError> {
        let mut reader = Self::at(source, history, lsn);
        let lsn = reader.position;
        match reader.first_on_page(page_of(lsn))? {
            Ok(first) => reader.position = first,
            Err(stop) => {
                reader.conclude(stop)?;
                return Ok(reader);
            }
        }
        while reader.advance()? {
            if reader.last >= Some(lsn) {
                reader.pending = true;
                break;
            }
        }
        Ok(reader)
    }

    /// The next record, `None` at the end of the WAL ([`Self::end`] then says why).
    #[allow(
        clippy::should_implement_trait,
        reason = "a record borrows from the reader"
    )]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, RecordError> {
        if !std::mem::take(&mut self.pending) && !self.advance()? {
            return Ok(None);
        }
        Ok(self.current())
    }

    /// Where and why the records ended, once they did.
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The end of the last record: where the next one begins.
    pub const fn position(&self) -> Lsn {
        self.position
    }

    /// Where the last record began.
    pub const fn last_record(&self) -> Option<Lsn> {
        self.last
    }

    /// How large the server's segments are.
    pub const fn segment_size(&self) -> SegmentSize {
        self.pages.size()
    }

    fn current(&self) -> Option<Record<'_>> {
        Some(Record {
            lsn: self.last?,
            end_lsn: self.position,
            previous: self.header.previous,
            xid: self.header.xid,
            resource_manager: self.header.resource_manager,
            info: self.header.info,
            total_len: self.header.total_len,
            images_len: self.shape.images_len,
            version: self.pages.version()?,
            main_data: &self.main,
        })
    }

    fn advance(&mut self) -> Result<bool, RecordError> {
        while self.end.is_none() {
            match self.read_record()? {
                Attempt::Read { lsn, next } => {
                    self.position = next;
                    self.previous = Some(lsn);
                    self.last = Some(lsn);
                    return Ok(true);
                }
                Attempt::CutOff(page) => self.position = page,
                Attempt::NotThere(stop) => self.conclude(stop)?,
            }
        }
        Ok(false)
    }

    /// Decides whether `stop` is the end of the WAL or a hole in it.
    fn conclude(&mut self, stop: Stop) -> Result<(), RecordError> {
        let at = match stop {
            Stop::Absent(_) => self.position,
            Stop::Invalid { at, .. } => at,
        };
        let goes_on = self.pages.goes_on_after(at)?;
        let reason = match stop {
            Stop::Absent(segment) if goes_on => return Err(RecordError::Missing { segment }),
            Stop::Invalid { at, reason } if goes_on => {
                let segment = self.pages.segment_at(at).file_name(self.pages.size());
                return Err(RecordError::Damaged {
                    lsn: at,
                    segment,
                    reason,
                });
            }
            Stop::Absent(segment) => EndReason::NoSegment(segment),
            Stop::Invalid { reason, .. } => EndReason::Invalid(reason),
        };
        self.end = Some(End {
            lsn: self.position,
            reason,
        });
        Ok(())
    }

    /// Where the first record begins that begins on the page at `page` or later.
    fn first_on_page(&mut self, mut page: Lsn) -> Result<Result<Lsn, Stop>, RecordError> {
        loop {
            let header = match self.load(page)? {
                Ok((header, _)) => header,
                Err(stop) => return Ok(Err(stop)),
            };
            let rest = if header.is_continuation() {
                align_len(header.remaining)
            } else {
                0
            };
            let begin = header.len() as u64 + rest;
            if begin < PAGE {
                return Ok(Ok(page + begin));
            }
            page = page + PAGE;
        }
    }

    fn load(&mut self, page: Lsn) -> Result<Result<(PageHeader, Lsn), Stop>, RecordError> {
        Ok(match self.pages.load(page)? {
            Loaded::Page { header, limit } => Ok((header, limit)),
            Loaded::Bad(BadPage::Empty) => Err(Stop::Invalid {
                at: page,
                reason: Invalid::Empty,
            }),
            Loaded::Bad(bad) => Err(Stop::Invalid {
                at: page,
                reason: bad.into(),
            }),
            Loaded::Absent(name) => Err(Stop::Absent(name.file_name(self.pages.size()))),
        })
    }

    /// Reads the record at `position` and checks it.
    fn read_record(&mut self) -> Result<Attempt, RecordError> {
        let mut page = page_of(self.position);
        let (first, limit) = match self.load(page)? {
            Ok(loaded) => loaded,
            Err(stop) => return Ok(Attempt::NotThere(stop)),
        };
        let lsn = self.position.max(page + first.len() as u64);
        let not_there = |reason| Ok(Attempt::NotThere(Stop::Invalid { at: lsn, reason }));
        if self.position == page && first.is_continuation() {
            return not_there(Invalid::Continuation {
                expected: 0,
                found: first.remaining,
            });
        }
        if lsn >= limit {
            return Ok(self.left_at(limit));
        }
        let mut offset = lsn.bytes_since(page) as usize;
        let total_len = total_len_at(&self.pages.bytes(page)[offset..]);
        match total_len {
            0 => return not_there(Invalid::Empty),
            _ if !(HEADER_BYTES as u32..=RECORD_BYTES_MAX).contains(&total_len) => {
                return not_there(Invalid::Length(total_len));
            }
            _ => {}
        }
        let mut gathered = Gathered {
            lsn,
            total_len,
            len: 0,
            crc: 0,
            main_start: 0,
        };
        self.head.clear();
        self.main.clear();
        self.main.shrink_to(MAIN_DATA_BYTES_IDLE);
        loop {
            let count = (PAGE_BYTES - offset).min((total_len - gathered.len) as usize);
            if page + (offset + count) as u64 > limit {
                // The rest of the record belongs to another branch of the timelines.
                return Ok(self.left_at(limit));
            }
            if let Err(reason) = self.gather(&mut gathered, page, offset..offset + count) {
                return not_there(reason);
            }
            if gathered.len == total_len {
                let next = page + align_len((offset + count) as u32);
                return Ok(self.finish(&gathered, lsn, next));
            }
            page = page + PAGE;
            let header = match self.load(page)? {
                Ok((header, _)) => header,
                Err(stop) => return Ok(Attempt::NotThere(stop)),
            };
            let expected = total_len - gathered.len;
            if header.overwrites_continuation() {
                return Ok(Attempt::CutOff(page));
            }
            if !header.is_continuation() || header.remaining != expected {
                let found = if header.is_continuation() {
                    header.remaining
                } else {
                    0
                };
                return not_there(Invalid::Continuation { expected, found });
            }
            offset = header.len();
        }
    }

    /// Only the parent's copy of a segment is there, and it ends at `limit`.
    fn left_at(&self, limit: Lsn) -> Attempt {
        let name = self.pages.wanted_at(limit).file_name(self.pages.size());
        Attempt::NotThere(Stop::Absent(name))
    }

    /// Takes the bytes in `range` of `page`, which go on with the record.
    fn gather(
        &mut self,
        gathered: &mut Gathered,
        page: Lsn,
        range: Range<usize>,
    ) -> Result<(), Invalid> {
        let (lsn, total_len, count) = (gathered.lsn, gathered.total_len, range.len());
        let bytes = &self.pages.bytes(page)[range];
        let begin = gathered.len as usize;
        gathered.len += count as u32;
        let head_len = HEAD_BYTES_MAX.min(total_len as usize);
        let (into_head, behind) = bytes.split_at(count.min(head_len.saturating_sub(begin)));
        if !into_head.is_empty() {
            self.head.extend_from_slice(into_head);
            if self.head.len() < head_len {
                return Ok(());
            }
            let version = self.pages.version().ok_or(Invalid::Parts)?;
            self.header = check_header(&self.head, self.previous, lsn)?;
            let body = &self.head[HEADER_BYTES..];
            self.shape = block::shape(body, total_len - HEADER_BYTES as u32, version)
                .ok_or(Invalid::Parts)?;
            gathered.crc = crc32c::crc32c(body);
            gathered.main_start = (total_len - self.shape.main_len) as usize;
            let from = gathered.main_start.min(self.head.len());
            keep(&mut self.main, &self.head[from..]);
        }
        gathered.crc = crc32c::crc32c_append(gathered.crc, behind);
        let position = begin + into_head.len();
        let from = gathered
            .main_start
            .saturating_sub(position)
            .min(behind.len());
        keep(&mut self.main, &behind[from..]);
        Ok(())
    }

    fn finish(&self, gathered: &Gathered, lsn: Lsn, next: Lsn) -> Attempt {
        let crc = crc32c::crc32c_append(gathered.crc, &self.head[..HEADER_BYTES - 4]);
        if crc != self.header.crc {
            return Attempt::NotThere(Stop::Invalid {
                at: lsn,
                reason: Invalid::Checksum,
            });
        }
        let size = self.pages.size();
        let next = if self.header.switches_segment() && size.offset_of(next) != 0 {
            size.number_at(next).end(size)
        } else {
            next
        };
        Attempt::Read { lsn, next }
    }
}

/// How much of the current record was read.
struct Gathered {
    lsn: Lsn,
    total_len: u32,
    len: u32,
    crc: u32,
    /// Where in the record the main data begins.
    main_start: usize,
}

fn check_header(head: &[u8], previous: Option<Lsn>, lsn: Lsn) -> Result<RecordHeader, Invalid> {
    let bytes = head.first_chunk().ok_or(Invalid::Parts)?;
    let header = RecordHeader::parse(bytes);
    if !header.has_known_manager() {
        return Err(Invalid::ResourceManager(header.resource_manager));
    }
    let found = header.previous;
    match previous {
        Some(expected) if found != expected => Err(Invalid::Previous { expected, found }),
        None if found >= lsn => Err(Invalid::Previous {
            expected: lsn,
            found,
        }),
        _ => Ok(header),
    }
}

fn keep(main: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAIN_DATA_BYTES_MAX.saturating_sub(main.len());
    main.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// A record's length; all of it is on the page on which the record begins.
fn total_len_at(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn page_of(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.bytes() - lsn.bytes() % PAGE)
}

fn align(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.bytes().saturating_add(7) & !7)
}

fn align_len(len: u32) -> u64 {
    u64::from(len).next_multiple_of(8)
}
