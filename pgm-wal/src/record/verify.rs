//! Every record of some WAL checked, and every damaged place named.
//!
//! A reader stops at the first place that is not valid. Here the next segment is gone on with, so that one damaged record
//! does not hide another. Whether the WAL ends in its last segment or is damaged there is decided by what follows: PostgreSQL
//! fills a page with zeros before it writes into it, so behind the last record there are zeros up to the page's end, and
//! pages that were never written or that belong to an earlier position.

use pgm_proto::Lsn;

use super::RecordError;
use super::end::{End, EndReason, Invalid};
use super::page::{BadPage, PAGE_BYTES, PageHeader};
use super::parallel::{Joined, Stretches, read_stretches};
use super::source::SegmentSource;
use crate::SegmentName;

const PAGE: u64 = PAGE_BYTES as u64;

/// A place that is not valid although WAL follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where the invalid record or page begins.
    pub lsn: Lsn,
    /// The file's name.
    pub segment: String,
    /// What is wrong.
    pub reason: Invalid,
}

/// What was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many records are valid.
    pub records: u64,
    /// Their bytes, headers included.
    pub record_bytes: u64,
    /// The first one.
    pub first: Option<Lsn>,
    /// Where and why the WAL ended before the end that was asked for.
    pub end: Option<End>,
    /// What is damaged, in the order of the WAL.
    pub damages: Vec<Damage>,
}

/// Checks every record that begins in `stretches`.
pub fn verify<S: SegmentSource>(
    stretches: &Stretches,
    source: impl Fn() -> S + Sync,
) -> Result<Verified, RecordError> {
    let mut verified = Verified::default();
    let mut rest = stretches.clone();
    while rest.from < rest.to {
        let damage = match count(&rest, &source) {
            Ok(joined) => {
                let damage = match &joined.end {
                    Some(end) => damage_at(&rest, end, &mut source())?,
                    None => None,
                };
                verified.add(joined);
                damage
            }
            Err(RecordError::Damaged {
                lsn,
                segment,
                reason,
            }) => {
                let mut before = rest.clone();
                before.to = before.size.round_down(lsn);
                if before.from < before.to {
                    // What comes before the damaged segment counts.
                    if let Ok(joined) = count(&before, &source) {
                        verified.add(joined);
                    }
                }
                Some(Damage {
                    lsn,
                    segment,
                    reason,
                })
            }
            Err(error) => return Err(error),
        };
        let Some(damage) = damage else {
            break;
        };
        // The damaged record may begin segments before the one in which it is found to be damaged.
        rest.from = rest
            .size
            .number_at(damage.lsn.max(rest.from))
            .end(rest.size);
        verified.end = None;
        verified.damages.push(damage);
    }
    Ok(verified)
}

type Counts = (u64, u64);

fn count<S: SegmentSource>(
    stretches: &Stretches,
    source: impl Fn() -> S + Sync,
) -> Result<Joined<Counts>, RecordError> {
    read_stretches(
        stretches,
        source,
        || (0, 0),
        |(records, bytes): &mut Counts, record| {
            *records += 1;
            *bytes += u64::from(record.total_len);
            Ok(())
        },
    )
}

impl Verified {
    fn add(&mut self, joined: Joined<Counts>) {
        for (records, bytes) in joined.outcomes {
            self.records += records;
            self.record_bytes += bytes;
        }
        self.first = self.first.or(joined.first);
        self.end = joined.end;
    }
}

/// The damage that `end` is, if it is not the end of the WAL.
fn damage_at<S: SegmentSource>(
    stretches: &Stretches,
    end: &End,
    source: &mut S,
) -> Result<Option<Damage>, RecordError> {
    let EndReason::Invalid(reason) = &end.reason else {
        return Ok(None);
    };
    let timeline = stretches.history.timeline_at(end.lsn);
    let name = SegmentName::at(timeline, end.lsn, stretches.size);
    let damaged = match reason {
        Invalid::Empty => rest_of_page(name, end.lsn, stretches, source)?,
        Invalid::Page(BadPage::Empty) => false,
        // A recycled segment: its pages belong to earlier positions.
        Invalid::Page(BadPage::Address { found }) => {
            *found >= end.lsn || !found.bytes().is_multiple_of(PAGE)
        }
        _ => true,
    };
    let damaged = damaged || later_pages(name, end.lsn, stretches, source)?;
    Ok(damaged.then(|| Damage {
        lsn: end.lsn,
        segment: name.file_name(stretches.size),
        reason: reason.clone(),
    }))
}

/// Whether anything but zeros is on the page of `lsn` from there on.
fn rest_of_page<S: SegmentSource>(
    name: SegmentName,
    lsn: Lsn,
    stretches: &Stretches,
    source: &mut S,
) -> Result<bool, RecordError> {
    let offset = stretches.size.offset_of(lsn);
    let mut rest = vec![0; (PAGE - offset % PAGE) as usize];
    source.read_at(name, offset, &mut rest)?;
    Ok(rest.iter().any(|byte| *byte != 0))
}

/// Whether a page behind that of `lsn` was written for its place.
fn later_pages<S: SegmentSource>(
    name: SegmentName,
    lsn: Lsn,
    stretches: &Stretches,
    source: &mut S,
) -> Result<bool, RecordError> {
    let mut page = vec![0; PAGE_BYTES];
    let mut offset = stretches.size.offset_of(lsn) / PAGE * PAGE + PAGE;
    while offset < stretches.size.bytes() {
        page.fill(0);
        let Some(1..) = source.read_at(name, offset, &mut page)? else {
            break;
        };
        let address = name.start(stretches.size) + offset;
        if PageHeader::parse(&page, address, name.timeline, stretches.size).is_ok() {
            return Ok(true);
        }
        offset += PAGE;
    }
    Ok(false)
}
