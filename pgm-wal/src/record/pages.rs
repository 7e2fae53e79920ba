//! One page of WAL after another, along a timeline's history.
//!
//! For each segment the newest timeline of the history that has it is read, as PostgreSQL chooses: the segment in which
//! a timeline began exists on the parent too, and the parent's copy counts only up to that point. Reading is by `read`
//! into one buffer of a fixed size (page faults make a mapping slower, and a truncated file would kill the process).

use pgm_proto::{Lsn, TimelineId};

use super::page::{BadPage, PAGE_BYTES, PageHeader, WalVersion};
use super::source::{SegmentSource, SourceError};
use crate::{History, SegmentName, SegmentNumber, SegmentSize};

/// How much is read at once.
const CHUNK_BYTES: usize = 256 * 1024;
const PAGE: u64 = PAGE_BYTES as u64;

/// The chosen file for a segment number.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    name: SegmentName,
    /// Where the path leaves the timeline; bytes from here on are another branch's.
    limit: Lsn,
}

/// What was found where a page should be.
#[derive(Debug)]
pub(super) enum Loaded {
    Page {
        header: PageHeader,
        limit: Lsn,
    },
    Bad(BadPage),
    /// No file has this part of the WAL.
    Absent(SegmentName),
}

#[derive(Debug)]
pub(super) struct Pages<S> {
    source: S,
    history: History,
    size: SegmentSize,
    version: Option<WalVersion>,
    buffer: Vec<u8>,
    /// Where the buffer's content begins, and how much of it counts.
    start: Lsn,
    filled: usize,
    chosen: Option<Chosen>,
    /// The page that was loaded last.
    current: Option<Current>,
    /// The same page, as the reading of most records needs it.
    window: PageWindow,
}

/// Where in the buffer the page is that was loaded last.
#[derive(Debug, Clone, Copy, Default)]
struct PageWindow {
    address: u64,
    begin: usize,
    /// Where the page ends, or what counts of it; `begin` when there is no page.
    end: usize,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    address: Lsn,
    header: PageHeader,
    limit: Lsn,
}

impl<S: SegmentSource> Pages<S> {
    pub(super) fn new(source: S, history: History) -> Self {
        let size = source.segment_size();
        Self {
            source,
            history,
            size,
            version: None,
            buffer: vec![0; CHUNK_BYTES],
            start: Lsn::INVALID,
            filled: 0,
            chosen: None,
            current: None,
            window: PageWindow::default(),
        }
    }

    pub(super) const fn size(&self) -> SegmentSize {
        self.size
    }

    #[inline]
    pub(super) const fn version(&self) -> Option<WalVersion> {
        self.version
    }

    /// The segment that was read last, or the newest timeline's at `lsn`.
    pub(super) fn segment_at(&self, lsn: Lsn) -> SegmentName {
        let number = self.size.number_at(lsn);
        match self.chosen {
            Some(chosen) if chosen.name.number == number => chosen.name,
            _ => self.wanted_at(lsn),
        }
    }

    /// The segment of the timeline that the byte at `lsn` belongs to.
    pub(super) fn wanted_at(&self, lsn: Lsn) -> SegmentName {
        SegmentName::at(self.history.timeline_at(lsn), lsn, self.size)
    }

    /// Makes the page at `address` the one that [`Self::bytes`] gives.
    #[inline]
    pub(super) fn load(&mut self, address: Lsn) -> Result<Loaded, SourceError> {
        match self.current {
            Some(Current {
                address: at,
                header,
                limit,
            }) if at == address => Ok(Loaded::Page { header, limit }),
            _ => self.load_next(address),
        }
    }

    fn load_next(&mut self, address: Lsn) -> Result<Loaded, SourceError> {
        self.current = None;
        self.window = PageWindow::default();
        let number = self.size.number_at(address);
        if self
            .chosen
            .is_none_or(|chosen| chosen.name.number != number)
        {
            self.filled = 0;
            self.chosen = self.choose(number)?;
        }
        let Some(chosen) = self.chosen else {
            return Ok(Loaded::Absent(self.wanted_at(address)));
        };
        if address >= chosen.limit {
            return Ok(Loaded::Absent(SegmentName::new(
                self.history.timeline_at(address),
                number,
            )));
        }
        if !self.holds(address) && !self.fill(chosen.name, address)? {
            self.chosen = None;
            return Ok(Loaded::Absent(chosen.name));
        }
        if !self.holds(address) {
            return Ok(Loaded::Bad(BadPage::Empty));
        }
        let parsed = PageHeader::parse(
            self.bytes(address),
            address,
            chosen.name.timeline,
            self.size,
        );
        let header = match parsed {
            Ok(header) => header,
            Err(bad) => return Ok(Loaded::Bad(bad)),
        };
        if *self.version.get_or_insert(header.version) != header.version {
            return Ok(Loaded::Bad(BadPage::Magic(header.version.magic())));
        }
        let limit = chosen.limit;
        self.current = Some(Current {
            address,
            header,
            limit,
        });
        let begin = address.bytes_since(self.start) as usize;
        self.window = PageWindow {
            address: address.bytes(),
            begin,
            end: begin + limit.bytes_since(address).min(PAGE) as usize,
        };
        Ok(Loaded::Page { header, limit })
    }

    /// What counts on the page that was loaded last, from `lsn` on; nothing when `lsn` is not on it, or at its header.
    #[inline]
    pub(super) fn rest_of_page(&self, lsn: Lsn) -> &[u8] {
        let PageWindow {
            address,
            begin,
            end,
        } = self.window;
        match lsn.bytes().wrapping_sub(address) {
            offset @ 1..PAGE => {
                let at = begin + offset as usize;
                self.buffer.get(at..end).unwrap_or_default()
            }
            _ => &[],
        }
    }

    /// The page at `address`, which was loaded last.
    #[inline]
    pub(super) fn bytes(&self, address: Lsn) -> &[u8] {
        let at = address.bytes_since(self.start) as usize;
        &self.buffer[at..at + PAGE_BYTES]
    }

    /// Whether there is WAL of this history after the segment that holds `lsn`.
    pub(super) fn goes_on_after(&mut self, lsn: Lsn) -> Result<bool, SourceError> {
        let number = self.size.number_at(lsn);
        for timeline in timelines(&self.history) {
            let newest = self.source.newest(timeline)?;
            let last = match self.history.ancestor(timeline) {
                Some(entry) => newest.min(Some(self.size.number_before(entry.end))),
                None => newest,
            };
            if last > Some(number) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn holds(&self, address: Lsn) -> bool {
        address >= self.start && address + PAGE <= self.start + self.filled as u64
    }

    /// Reads the chunk that begins at `address`; false when the segment is not there.
    fn fill(&mut self, name: SegmentName, address: Lsn) -> Result<bool, SourceError> {
        let offset = self.size.offset_of(address);
        let length = (CHUNK_BYTES as u64).min(self.size.bytes() - offset) as usize;
        self.filled = 0;
        let Some(count) = self
            .source
            .read_at(name, offset, &mut self.buffer[..length])?
        else {
            return Ok(false);
        };
        // A file may end inside a page: what is not there counts as never written.
        let count = count.min(length);
        self.filled = count.next_multiple_of(PAGE_BYTES).min(length);
        self.buffer[count..self.filled].fill(0);
        self.start = address;
        Ok(true)
    }

    fn choose(&mut self, number: SegmentNumber) -> Result<Option<Chosen>, SourceError> {
        let chosen = choose_segment(&mut self.source, &self.history, number)?;
        Ok(chosen.map(|(name, limit)| Chosen { name, limit }))
    }
}

/// The newest timeline's file with segment `number`, and where the path along `history` leaves it.
pub(crate) fn choose_segment<S: SegmentSource>(
    source: &mut S,
    history: &History,
    number: SegmentNumber,
) -> Result<Option<(SegmentName, Lsn)>, SourceError> {
    let size = source.segment_size();
    for timeline in timelines(history) {
        let begins_later = history
            .start_of(timeline)
            .is_none_or(|start| start >= number.end(size));
        let limit = history
            .ancestor(timeline)
            .map_or(Lsn::new(u64::MAX), |entry| entry.end);
        if begins_later || limit <= number.start(size) {
            continue;
        }
        let name = SegmentName::new(timeline, number);
        if source.read_at(name, 0, &mut [])?.is_some() {
            return Ok(Some((name, limit)));
        }
    }
    Ok(None)
}

/// The timelines of a history, newest first.
fn timelines(history: &History) -> Vec<TimelineId> {
    let ancestors = history.entries().iter().rev().map(|entry| entry.timeline);
    std::iter::once(history.timeline())
        .chain(ancestors)
        .collect()
}
