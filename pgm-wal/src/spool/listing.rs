//! What lies in a spool.

use std::path::Path;

use pgm_proto::TimelineId;

use crate::error::SpoolError;
use crate::segment::{SegmentName, SegmentSize, WalFileName};

/// The WAL files of a spool, each kind sorted by timeline and number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpoolListing {
    /// Finished segments.
    pub segments: Vec<SegmentName>,
    /// Unfinished segments: one being filled, and the last ones of timelines that were left.
    pub partials: Vec<SegmentName>,
    /// Timelines whose history file is here.
    pub histories: Vec<TimelineId>,
    /// Segments that a failed sync set aside.
    pub(super) failed: Vec<SegmentName>,
}

/// Where the WAL of a spool's newest timeline ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolEnd {
    /// The last segment is finished.
    Finished(SegmentName),
    /// This segment is filled up to some position inside it.
    Unfinished(SegmentName),
}

impl SpoolEnd {
    /// The first segment that must still be received, in whole.
    #[must_use]
    pub const fn resume_at(self) -> SegmentName {
        match self {
            Self::Finished(name) => name.next(),
            Self::Unfinished(name) => name,
        }
    }
}

impl SpoolListing {
    /// Where the newest timeline ends.
    ///
    /// An unfinished segment counts only behind the last finished one; of several the earliest, because a crash
    /// between renaming a segment and making the next may leave both unfinished.
    pub fn end(&self) -> Option<SpoolEnd> {
        let all = self
            .segments
            .iter()
            .chain(&self.partials)
            .chain(&self.failed);
        let newest = all.map(|name| name.timeline).max()?;
        let finished = self
            .segments
            .iter()
            .copied()
            .filter(|name| name.timeline == newest)
            .max();
        let unfinished = self.partials.iter().chain(&self.failed).copied();
        let unfinished = unfinished
            .filter(|name| name.timeline == newest && finished.is_none_or(|done| *name > done))
            .min();
        unfinished
            .map(SpoolEnd::Unfinished)
            .or(finished.map(SpoolEnd::Finished))
    }
}

pub(super) fn read(folder: &Path, size: SegmentSize) -> Result<SpoolListing, SpoolError> {
    let failure = |source| SpoolError::io("list", folder, source);
    let mut listing = SpoolListing::default();
    for entry in std::fs::read_dir(folder).map_err(failure)? {
        let name = entry.map_err(failure)?.file_name();
        let Some(text) = name.to_str() else { continue };
        match WalFileName::parse(text, size) {
            Ok(WalFileName::Segment(name)) => listing.segments.push(name),
            Ok(WalFileName::Partial(name)) => listing.partials.push(name),
            Ok(WalFileName::History(timeline)) => listing.histories.push(timeline),
            Err(_) => listing.failed.extend(failed_segment(text, size)),
        }
    }
    listing.segments.sort_unstable();
    listing.partials.sort_unstable();
    listing.histories.sort_unstable();
    Ok(listing)
}

fn failed_segment(text: &str, size: SegmentSize) -> Option<SegmentName> {
    let (name, _) = text.split_once(".partial.failed-")?;
    SegmentName::parse(name, size).ok()
}
