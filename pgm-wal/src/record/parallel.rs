//! Several stretches of WAL read at once.
//!
//! The WAL from one position to another is cut into stretches at segment boundaries; each is given to a reader of its own
//! that reads every record that *begins* in it, so each record is read once, whichever boundary it crosses. Afterwards
//! the link of each stretch's first record to the last one before it is checked, as one reader would have done.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pgm_proto::Lsn;

use super::RecordError;
use super::end::{End, Invalid};
use super::entry::Record;
use super::source::SegmentSource;
use super::stream::RecordReader;
use crate::{History, SegmentName, SegmentSize};

/// What is read, and by how many.
#[derive(Debug, Clone)]
pub struct Stretches {
    /// The timelines to follow.
    pub history: History,
    /// How large the server's segments are.
    pub size: SegmentSize,
    /// Where the first record begins, or a position before it.
    pub from: Lsn,
    /// Records that begin here or later are not read.
    pub to: Lsn,
    /// How many readers work at once.
    pub readers: usize,
    /// How long a stretch is at least.
    pub bytes_min: u64,
}

/// What one reader found.
#[derive(Debug)]
struct Part<T> {
    start: Lsn,
    /// The first record, and the one that it says is before it.
    first: Option<(Lsn, Lsn)>,
    last: Option<Lsn>,
    end: Option<End>,
    outcome: T,
}

/// Everything that was found, in the order of the WAL.
#[derive(Debug)]
pub struct Joined<T> {
    /// What `visit` made of each stretch.
    pub outcomes: Vec<T>,
    /// The first record.
    pub first: Option<Lsn>,
    /// Why the WAL ended before `to`, if it did.
    pub end: Option<End>,
}

/// Reads `stretches`: for each, `start` makes what `visit` then is given with every record. `source` opens the WAL
/// anew for each reader.
pub fn read_stretches<S, T, F>(
    stretches: &Stretches,
    source: impl Fn() -> S + Sync,
    start: impl Fn() -> T + Sync,
    visit: F,
) -> Result<Joined<T>, RecordError>
where
    S: SegmentSource,
    T: Send,
    F: Fn(&mut T, &Record<'_>) -> Result<(), RecordError> + Sync,
{
    let bounds = bounds(stretches);
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let parts = Mutex::new(Vec::with_capacity(bounds.len()));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((from, to)) = bounds.get(index).copied() else {
                return;
            };
            let part = read_one(&stretches.history, source(), from, to, start(), &visit);
            if part.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            if let Ok(mut parts) = parts.lock() {
                parts.push((index, part));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..stretches.readers.min(bounds.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut parts = parts.into_inner().unwrap_or_default();
    parts.sort_by_key(|(index, _)| *index);
    join(stretches, parts.into_iter().map(|(_, part)| part))
}

/// The stretches: each begins and ends where a segment does, but for the first and the last.
fn bounds(stretches: &Stretches) -> Vec<(Lsn, Lsn)> {
    let size = stretches.size.bytes();
    let step = stretches
        .bytes_min
        .max(1)
        .div_ceil(size)
        .saturating_mul(size);
    let mut bounds = Vec::new();
    let mut from = stretches.from;
    while from < stretches.to {
        let to = stretches.size.round_down(from).bytes().saturating_add(step);
        let to = Lsn::new(to).min(stretches.to);
        bounds.push((from, to));
        from = to;
    }
    bounds
}

fn read_one<S: SegmentSource, T>(
    history: &History,
    source: S,
    from: Lsn,
    to: Lsn,
    outcome: T,
    visit: &impl Fn(&mut T, &Record<'_>) -> Result<(), RecordError>,
) -> Result<Part<T>, RecordError> {
    let mut part = Part {
        start: from,
        first: None,
        last: None,
        end: None,
        outcome,
    };
    let mut reader = RecordReader::seek(source, history.clone(), from)?;
    reader.for_each(|record| {
        if record.lsn >= to {
            return Ok(ControlFlow::Break(()));
        }
        part.first.get_or_insert((record.lsn, record.previous));
        part.last = Some(record.lsn);
        visit(&mut part.outcome, record).map(ControlFlow::Continue)
    })?;
    part.end = reader.end().cloned();
    Ok(part)
}

fn join<T>(
    stretches: &Stretches,
    parts: impl Iterator<Item = Result<Part<T>, RecordError>>,
) -> Result<Joined<T>, RecordError> {
    let mut joined = Joined {
        outcomes: Vec::new(),
        first: None,
        end: None,
    };
    let mut last = None;
    for part in parts {
        let part = part?;
        if let (Some(expected), Some((lsn, found))) = (last, part.first)
            && expected != found
        {
            let timeline = stretches.history.timeline_at(part.start);
            let name = SegmentName::at(timeline, lsn, stretches.size);
            return Err(RecordError::Damaged {
                lsn,
                segment: name.file_name(stretches.size),
                reason: Invalid::Previous { expected, found },
            });
        }
        joined.first = joined.first.or(part.first.map(|(lsn, _)| lsn));
        last = part.last.or(last);
        joined.outcomes.push(part.outcome);
        if part.end.is_some() {
            joined.end = part.end;
            break;
        }
    }
    Ok(joined)
}
