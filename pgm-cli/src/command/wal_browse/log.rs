//! Records as lines, forwards and backwards from any position.
//!
//! WAL can only be read forwards. Going back means to begin a little earlier, to read up to where one was, and to begin
//! earlier again, twice as far each time, until there is enough. So nothing has to be kept of WAL that was read, whatever
//! its size. Reading is done in portions: between two of them keys are looked at.

use jiff::Timestamp;
use pgm_proto::Lsn;
use pgm_wal::files::Run;
use pgm_wal::record::describe::{describe, write_blocks, write_operation};
use pgm_wal::record::{
    Record, RecordError, RecordReader, RelationFile, SegmentSource, TransactionEnd, TransactionKind,
};

use super::query::Query;
use crate::command::wal_source::WalSource;

/// How many records are read before keys are looked at.
const PORTION_RECORDS: usize = 20_000;
/// How far back a look begins, and at most goes, at once.
const BACK_BYTES_MIN: u64 = 64 << 10;
const BACK_BYTES_MAX: u64 = 64 << 20;
/// How much of a description is kept.
const TEXT_CHARS_MAX: usize = 500;

type Reader<'a> = RecordReader<Box<dyn SegmentSource + 'a>>;

/// The WAL that is looked at.
pub(super) struct Log<'a> {
    wal: &'a WalSource,
    pub(super) runs: Vec<Run>,
}

/// A position in one of the stretches without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) run: usize,
    pub(super) lsn: Lsn,
}

/// A record as a line of the list.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) next: Lsn,
    pub(super) xid: u32,
    pub(super) manager: u8,
    pub(super) length: u32,
    pub(super) operation: String,
    pub(super) text: String,
    /// The first relation that it refers to.
    pub(super) relation: Option<RelationFile>,
    /// When the last transaction had ended that was read before, or this one.
    pub(super) time: Option<Timestamp>,
    /// How it ends a transaction, if it does.
    pub(super) ends: Option<TransactionKind>,
}

impl<'a> Log<'a> {
    pub(super) const fn new(wal: &'a WalSource, runs: Vec<Run>) -> Self {
        Self { wal, runs }
    }

    /// The place of a position; of one in a hole, the place behind the hole.
    pub(super) fn place(&self, lsn: Lsn) -> Option<Place> {
        let run = self.runs.iter().position(|run| lsn < run.end)?;
        Some(Place {
            run,
            lsn: lsn.max(self.runs[run].start),
        })
    }

    pub(super) fn first(&self) -> Option<Place> {
        self.place(Lsn::INVALID)
    }

    pub(super) fn end(&self) -> Option<Place> {
        let run = self.runs.len().checked_sub(1)?;
        let lsn = self.runs[run].end;
        Some(Place { run, lsn })
    }

    /// A reader whose first record begins at `place` or behind it.
    fn reader(&self, place: Place) -> Result<Reader<'a>, RecordError> {
        let run = self.runs[place.run];
        RecordReader::seek(self.wal.source(run), self.wal.history.clone(), place.lsn)
    }

    /// Calls `use_it` with the record at `place`. What `held` keeps open is used again for the next record: opening a
    /// compressed segment means to decode it.
    pub(super) fn with_record<T>(
        &self,
        held: &mut Held<'a>,
        place: Place,
        use_it: impl FnOnce(&Record<'_>) -> T,
    ) -> Result<Option<T>, RecordError> {
        let source = match held.take() {
            Some((run, source)) if run == place.run => source,
            _ => self.wal.source(self.runs[place.run]),
        };
        let (_, source) = held.insert((place.run, source));
        let mut reader = RecordReader::at(source, self.wal.history.clone(), place.lsn);
        Ok(reader.next()?.map(|record| use_it(&record)))
    }
}

/// The source of a stretch, kept open.
pub(super) type Held<'a> = Option<(usize, Box<dyn SegmentSource + 'a>)>;

/// Where a list is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// With the next record.
    Here,
    /// With the next commit.
    Commit,
    /// With the first end of a transaction at this moment or later.
    Time(Timestamp),
}

impl From {
    fn is_met_by(self, record: &Record<'_>) -> bool {
        match self {
            Self::Here => true,
            Self::Commit => {
                TransactionEnd::of(record).is_some_and(|end| end.kind == TransactionKind::Commit)
            }
            Self::Time(time) => TransactionEnd::of(record).is_some_and(|end| end.time >= time),
        }
    }
}

/// What a portion came to.
#[derive(Debug)]
pub(super) enum Portion {
    /// There is more to read; so far it was read to here.
    More(Lsn),
    /// All that was wanted, or all that there is.
    Rows { rows: Vec<Row>, reached: Reached },
}

/// Whether the WAL has more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reached {
    Enough,
    /// The beginning, or the end and what is there.
    End(String),
}

/// Reads forwards.
pub(super) struct Forward<'a> {
    reader: Option<Reader<'a>>,
    at: Place,
    from: From,
    wanted: usize,
    rows: Vec<Row>,
    time: Option<Timestamp>,
}

impl<'a> Forward<'a> {
    /// `wanted` rows from `at` on.
    pub(super) const fn new(at: Place, from: From, wanted: usize, time: Option<Timestamp>) -> Self {
        Self {
            reader: None,
            at,
            from,
            wanted,
            rows: Vec::new(),
            time,
        }
    }

    /// Reads a portion.
    pub(super) fn step(&mut self, log: &Log<'a>, query: &Query) -> Result<Portion, RecordError> {
        let mut scratch = String::new();
        for _ in 0..PORTION_RECORDS {
            if self.rows.len() >= self.wanted {
                return Ok(self.done(Reached::Enough));
            }
            let reader = match &mut self.reader {
                Some(reader) => reader,
                empty => empty.insert(log.reader(self.at)?),
            };
            let run_end = log.runs[self.at.run].end;
            let record = match reader.next()? {
                Some(record) if record.lsn < run_end => record,
                none => {
                    let inside = none.is_some();
                    let why = reader
                        .end()
                        .map(|end| format!("{} at {}", end.reason, end.lsn));
                    if self.at.run + 1 == log.runs.len() {
                        let why = why.filter(|_| !inside).unwrap_or_default();
                        return Ok(self.done(Reached::End(why)));
                    }
                    let run = self.at.run + 1;
                    let lsn = log.runs[run].start;
                    self.at = Place { run, lsn };
                    self.reader = None;
                    continue;
                }
            };
            self.at.lsn = record.lsn;
            if let Some(end) = TransactionEnd::of(&record) {
                self.time = Some(end.time);
            }
            if !query.lets_through(&record, &mut scratch) {
                continue;
            }
            if self.from.is_met_by(&record) {
                self.from = From::Here;
                self.rows.push(row(&record, self.at, self.time));
            }
        }
        Ok(Portion::More(self.at.lsn))
    }

    fn done(&mut self, reached: Reached) -> Portion {
        let rows = std::mem::take(&mut self.rows);
        Portion::Rows { rows, reached }
    }
}

/// Reads backwards.
pub(super) struct Backward<'a> {
    reader: Option<Reader<'a>>,
    /// What is read now begins here, and ends before `end`.
    begin: Place,
    end: Lsn,
    bytes: u64,
    from: From,
    wanted: usize,
    /// What was found in the stretch that is read now, and behind it.
    now: Vec<Row>,
    rows: Vec<Row>,
    time: Option<Timestamp>,
}

impl<'a> Backward<'a> {
    /// The last `wanted` rows before `end` that are as `from` says.
    pub(super) const fn new(end: Place, from: From, wanted: usize) -> Self {
        Self {
            reader: None,
            begin: end,
            end: end.lsn,
            bytes: BACK_BYTES_MIN,
            from,
            wanted,
            now: Vec::new(),
            rows: Vec::new(),
            time: None,
        }
    }

    /// Reads a portion.
    pub(super) fn step(&mut self, log: &Log<'a>, query: &Query) -> Result<Portion, RecordError> {
        let mut scratch = String::new();
        for _ in 0..PORTION_RECORDS {
            let Some(reader) = &mut self.reader else {
                if self.rows.len() >= self.wanted {
                    let rows = std::mem::take(&mut self.rows);
                    let reached = Reached::Enough;
                    return Ok(Portion::Rows { rows, reached });
                }
                if !self.go_back(log)? {
                    let rows = std::mem::take(&mut self.rows);
                    let reached = Reached::End(String::new());
                    return Ok(Portion::Rows { rows, reached });
                }
                continue;
            };
            let record = match reader.next()? {
                Some(record) if record.lsn < self.end => record,
                _ => {
                    self.finish_stretch();
                    continue;
                }
            };
            if let Some(end) = TransactionEnd::of(&record) {
                self.time = Some(end.time);
            }
            if query.lets_through(&record, &mut scratch) && self.from.is_met_by(&record) {
                let place = Place {
                    run: self.begin.run,
                    lsn: record.lsn,
                };
                self.now.push(row(&record, place, self.time));
                // Only the last ones are wanted.
                if self.now.len() >= 2 * self.wanted {
                    self.now.drain(..self.wanted);
                }
            }
        }
        Ok(Portion::More(self.begin.lsn))
    }

    /// Begins to read the stretch before; false when there is none.
    fn go_back(&mut self, log: &Log<'a>) -> Result<bool, RecordError> {
        let mut run = log.runs[self.begin.run];
        if self.begin.lsn <= run.start {
            let Some(before) = self.begin.run.checked_sub(1) else {
                return Ok(false);
            };
            run = log.runs[before];
            self.begin = Place {
                run: before,
                lsn: run.end,
            };
            self.bytes = BACK_BYTES_MIN;
        }
        self.end = self.begin.lsn;
        let begin = Lsn::new(self.end.bytes().saturating_sub(self.bytes)).max(run.start);
        self.begin.lsn = begin;
        self.bytes = (self.bytes * 2).min(BACK_BYTES_MAX);
        self.time = None;
        self.reader = Some(log.reader(self.begin)?);
        Ok(true)
    }

    fn finish_stretch(&mut self) {
        self.reader = None;
        let mut rows = std::mem::take(&mut self.now);
        rows.append(&mut self.rows);
        let surplus = rows.len().saturating_sub(self.wanted);
        rows.drain(..surplus);
        self.rows = rows;
    }
}

/// Reads all there is, for counting.
pub(super) struct Counter<'a> {
    reader: Option<Reader<'a>>,
    at: Option<Place>,
}

impl<'a> Counter<'a> {
    pub(super) const fn new() -> Self {
        Self {
            reader: None,
            at: None,
        }
    }

    /// How far it is.
    pub(super) fn at(&self) -> Lsn {
        self.at.map_or(Lsn::INVALID, |at| at.lsn)
    }

    /// Calls `visit` for the records of a portion that `query` lets through; false when there are no more.
    pub(super) fn step(
        &mut self,
        log: &Log<'a>,
        query: &Query,
        visit: &mut dyn FnMut(&Record<'_>),
    ) -> Result<bool, RecordError> {
        let Some(mut at) = self.at.or(log.first()) else {
            return Ok(false);
        };
        let mut scratch = String::new();
        for _ in 0..PORTION_RECORDS {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                empty => empty.insert(log.reader(at)?),
            };
            match reader.next()? {
                Some(record) if record.lsn < log.runs[at.run].end => {
                    at.lsn = record.lsn;
                    if query.lets_through(&record, &mut scratch) {
                        visit(&record);
                    }
                }
                _ if at.run + 1 == log.runs.len() => return Ok(false),
                _ => {
                    at.run += 1;
                    at.lsn = log.runs[at.run].start;
                    self.reader = None;
                }
            }
        }
        self.at = Some(at);
        Ok(true)
    }
}

fn row(record: &Record<'_>, place: Place, time: Option<Timestamp>) -> Row {
    let mut operation = String::new();
    write_operation(record, &mut operation);
    let mut text = String::new();
    describe(record, &mut text);
    if record.blocks().len() > 0 {
        write_blocks(record, &mut text);
    }
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    Row {
        place,
        next: record.end_lsn,
        xid: record.xid,
        manager: record.resource_manager,
        length: record.total_len,
        operation,
        text,
        relation: record.blocks().next().map(|block| block.relation),
        time,
        ends: TransactionEnd::of(record).map(|end| end.kind),
    }
}
