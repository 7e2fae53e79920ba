//! Records, one after another, over pages and segments.
//!
//! A record begins at a multiple of eight bytes and continues on the next page behind that page's header, which repeats
//! how much of it is left. A segment's tail is unused after a segment switch. A record that lies on one page is given as
//! it lies in the page; one that goes over pages is put together in one buffer that is used again for the next, and of
//! which the beginning is enough: whatever is longer than 20 MiB only passes through the checksum, so a record of a
//! gigabyte costs no more memory. Follows `XLogDecodeNextRecord` and `XLogFindNextRecord` in
//! `access/transam/xlogreader.c`.

use std::ops::{ControlFlow, Range};

use pgm_proto::Lsn;

use super::RecordError;
use super::block::{self, HEAD_BYTES_MAX, Shape};
use super::checksum::{self, RecordChecksum};
use super::end::{End, EndReason, Invalid};
use super::entry::Record;
use super::found::{Found, MAIN_DATA_BYTES_MAX};
use super::header::{HEADER_BYTES, RECORD_BYTES_MAX, RecordHeader};
use super::page::{BadPage, PAGE_BYTES, PageHeader};
use super::pages::{Loaded, Pages};
use super::position::{PAGE, align, align_len, page_of, total_len_at};
use super::source::SegmentSource;
use crate::{History, SegmentSize};

/// How much of a record is kept: the most that images and data of 33 blocks can be, and the main data.
const KEPT_BYTES_MAX: usize = MAIN_DATA_BYTES_MAX + (4 << 20);
/// What is kept allocated from one record to the next.
const KEPT_BYTES_IDLE: usize = 1 << 20;

/// Reads records in sequence.
#[derive(Debug)]
pub struct RecordReader<S> {
    pages: Pages<S>,
    /// Where the next record begins.
    position: Lsn,
    /// The record that was read last: the one before `position`. Unknown right after the start.
    last: Option<Lsn>,
    header: RecordHeader,
    shape: Shape,
    place: Place,
    /// A record that goes over pages, put together.
    whole: Vec<u8>,
    /// The current record was already read by [`Self::seek`] and not yet given.
    pending: bool,
    end: Option<End>,
}

/// Where the bytes of the current record are.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// On the page that begins here.
    Page {
        page: Lsn,
        offset: usize,
        len: usize,
    },
    /// Put together.
    Whole,
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
            last: None,
            header: RecordHeader::default(),
            shape: Shape::default(),
            place: Place::Whole,
            whole: Vec::new(),
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
    #[inline]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, RecordError> {
        if !self.pending
            && let Some(found) = self.advance_on_page()
        {
            return Ok(Some(self.found(&found)));
        }
        self.next_anywhere()
    }

    /// Gives every further record to `visit`, until that breaks off or the WAL ends ([`Self::end`] then says why): what a
    /// loop over [`Self::next`] does, but faster, as no record is moved.
    #[inline]
    pub fn for_each<E: From<RecordError>>(
        &mut self,
        mut visit: impl FnMut(&Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        loop {
            while !self.pending
                && let Some(found) = self.advance_on_page()
            {
                if visit(&self.found(&found))?.is_break() {
                    return Ok(());
                }
            }
            match self.next_anywhere()? {
                Some(record) if visit(&record)?.is_continue() => {}
                _ => return Ok(()),
            }
        }
    }

    /// The next record, wherever it is.
    fn next_anywhere(&mut self) -> Result<Option<Record<'_>>, RecordError> {
        if !std::mem::take(&mut self.pending) && !self.advance()? {
            return Ok(None);
        }
        let bytes = match self.place {
            Place::Page { page, offset, len } => &self.pages.bytes(page)[offset..offset + len],
            Place::Whole => &self.whole[..],
        };
        let (Some(lsn), Some(version)) = (self.last, self.pages.version()) else {
            return Ok(None);
        };
        let found = Found {
            lsn,
            header: self.header,
            shape: self.shape,
            version,
        };
        Ok(Some(found.record(self.position, bytes)))
    }

    /// The record that was read last, which is on the page that was loaded last.
    #[allow(
        clippy::inline_always,
        reason = "measured: an eighth of a scan, as what nobody looks at is not made"
    )]
    #[inline(always)]
    fn found(&self, found: &Found) -> Record<'_> {
        found.record(self.position, self.pages.rest_of_page(found.lsn))
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

    fn advance(&mut self) -> Result<bool, RecordError> {
        while self.end.is_none() {
            match self.read_record()? {
                Attempt::Read { lsn, next } => {
                    self.position = next;
                    self.last = Some(lsn);
                    return Ok(true);
                }
                Attempt::CutOff(page) => self.position = page,
                Attempt::NotThere(stop) => self.conclude(stop)?,
            }
        }
        Ok(false)
    }

    /// Reads a valid record that lies on the page that was loaded last, which is what most records do. Whatever else is
    /// there is left to [`Self::read_record`].
    ///
    /// What is found goes on by value, not through fields: a record is read faster than stores to memory can be loaded
    /// again in other pieces.
    #[allow(
        clippy::inline_always,
        reason = "measured: an eighth of a scan, as what nobody looks at is not made"
    )]
    #[inline(always)]
    fn advance_on_page(&mut self) -> Option<Found> {
        let lsn = self.position;
        let rest = self.pages.rest_of_page(lsn);
        let header = RecordHeader::parse(rest.first_chunk::<HEADER_BYTES>()?);
        let len = header.total_len as usize;
        let body = rest.get(HEADER_BYTES..len)?;
        if self.last != Some(header.previous) || !header.has_known_manager() {
            return None;
        }
        let version = self.pages.version()?;
        let shape = block::shape(&rest[HEADER_BYTES..], body.len() as u32, version)?;
        if checksum::of_record(&rest[..len]) != header.crc {
            return None;
        }
        self.position = self.behind_switch(&header, lsn + align_len(header.total_len));
        self.last = Some(lsn);
        Some(Found {
            lsn,
            header,
            shape,
            version,
        })
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
        let page = page_of(self.position);
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
        let offset = lsn.bytes_since(page) as usize;
        let total_len = total_len_at(&self.pages.bytes(page)[offset..]);
        match total_len {
            0 => return not_there(Invalid::Empty),
            _ if !(HEADER_BYTES as u32..=RECORD_BYTES_MAX).contains(&total_len) => {
                return not_there(Invalid::Length(total_len));
            }
            _ => {}
        }
        let len = total_len as usize;
        if len > PAGE_BYTES - offset {
            return self.read_over_pages(lsn, page, limit, total_len);
        }
        let end = offset + len;
        if page + end as u64 > limit {
            return Ok(self.left_at(limit));
        }
        if let Err(reason) = self.take_from_page(page, offset..end, lsn) {
            return not_there(reason);
        }
        let next = page + align_len(end as u32);
        Ok(Attempt::Read {
            lsn,
            next: self.behind_switch(&self.header, next),
        })
    }

    /// Checks the record in `range` of `page` and makes it the current one.
    #[inline]
    fn take_from_page(&mut self, page: Lsn, range: Range<usize>, lsn: Lsn) -> Result<(), Invalid> {
        let bytes = &self.pages.bytes(page)[range.clone()];
        self.header = RecordHeader::checked(bytes, self.last, lsn)?;
        if checksum::of_record(bytes) != self.header.crc {
            return Err(Invalid::Checksum);
        }
        let version = self.pages.version().ok_or(Invalid::Parts)?;
        let body = &bytes[HEADER_BYTES..];
        self.shape = block::shape(body, body.len() as u32, version).ok_or(Invalid::Parts)?;
        self.place = Place::Page {
            page,
            offset: range.start,
            len: range.len(),
        };
        Ok(())
    }

    /// Reads the record at `lsn` on `page`, which goes on behind that page.
    fn read_over_pages(
        &mut self,
        lsn: Lsn,
        mut page: Lsn,
        mut limit: Lsn,
        total_len: u32,
    ) -> Result<Attempt, RecordError> {
        let not_there = |reason| Ok(Attempt::NotThere(Stop::Invalid { at: lsn, reason }));
        let mut checksum = RecordChecksum::default();
        let mut offset = lsn.bytes_since(page) as usize;
        let mut left = total_len;
        self.whole.clear();
        self.whole.shrink_to(KEPT_BYTES_IDLE);
        self.place = Place::Whole;
        loop {
            let count = (PAGE_BYTES - offset).min(left as usize);
            if page + (offset + count) as u64 > limit {
                // The rest of the record belongs to another branch of the timelines.
                return Ok(self.left_at(limit));
            }
            let begin = (total_len - left) as usize;
            left -= count as u32;
            if let Err(reason) =
                self.take_part(page, offset..offset + count, begin, lsn, &mut checksum)
            {
                return not_there(reason);
            }
            if left == 0 {
                let next = page + align_len((offset + count) as u32);
                return match self.finish(checksum, total_len) {
                    Ok(()) => Ok(Attempt::Read {
                        lsn,
                        next: self.behind_switch(&self.header, next),
                    }),
                    Err(reason) => not_there(reason),
                };
            }
            page = page + PAGE;
            let header = match self.load(page)? {
                Ok((header, page_limit)) => {
                    limit = page_limit;
                    header
                }
                Err(stop) => return Ok(Attempt::NotThere(stop)),
            };
            if header.overwrites_continuation() {
                return Ok(Attempt::CutOff(page));
            }
            if !header.is_continuation() || header.remaining != left {
                let found = if header.is_continuation() {
                    header.remaining
                } else {
                    0
                };
                return not_there(Invalid::Continuation {
                    expected: left,
                    found,
                });
            }
            offset = header.len();
        }
    }

    /// Takes the bytes in `range` of `page`, which are those from `begin` on of the record at `lsn`.
    fn take_part(
        &mut self,
        page: Lsn,
        range: Range<usize>,
        begin: usize,
        lsn: Lsn,
        checksum: &mut RecordChecksum,
    ) -> Result<(), Invalid> {
        let bytes = &self.pages.bytes(page)[range];
        let room = KEPT_BYTES_MAX.saturating_sub(begin);
        self.whole
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        let end = begin + bytes.len();
        if begin < HEADER_BYTES {
            if end >= HEADER_BYTES {
                self.header = RecordHeader::checked(&self.whole, self.last, lsn)?;
                checksum.append(&self.whole[HEADER_BYTES..]);
            }
        } else {
            checksum.append(bytes);
        }
        Ok(())
    }

    /// Checks the record that was put together.
    fn finish(&mut self, checksum: RecordChecksum, total_len: u32) -> Result<(), Invalid> {
        let header = self.whole.first_chunk().ok_or(Invalid::Parts)?;
        if checksum.finish(header) != self.header.crc {
            return Err(Invalid::Checksum);
        }
        let version = self.pages.version().ok_or(Invalid::Parts)?;
        let head = &self.whole[HEADER_BYTES..self.whole.len().min(HEAD_BYTES_MAX)];
        self.shape =
            block::shape(head, total_len - HEADER_BYTES as u32, version).ok_or(Invalid::Parts)?;
        Ok(())
    }

    /// Where the record after that with `header` begins, which would begin at `next` if this one did not switch segments.
    #[inline]
    fn behind_switch(&self, header: &RecordHeader, next: Lsn) -> Lsn {
        let size = self.pages.size();
        if header.switches_segment() && size.offset_of(next) != 0 {
            size.number_at(next).end(size)
        } else {
            next
        }
    }

    /// Only the parent's copy of a segment is there, and it ends at `limit`.
    fn left_at(&self, limit: Lsn) -> Attempt {
        let name = self.pages.wanted_at(limit).file_name(self.pages.size());
        Attempt::NotThere(Stop::Absent(name))
    }
}
