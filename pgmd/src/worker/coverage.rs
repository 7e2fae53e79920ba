//! Which WAL a backup can count on: what is archived, and what is durable in the spool.
//!
//! A primary ends a backup with a switch to a new segment, so the last one is finished and archived at once. A standby
//! cannot switch; there the durable part of the unfinished segment has to do, after a moment in which the archiver had
//! its chance.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgm_backup::{Coverage, Result, WalCoverage};
use pgm_proto::{Lsn, TimelineId};
use pgm_wal::archive::{Archive, ArchiveError};
use pgm_wal::{SegmentName, SegmentSize, Spool};

use crate::shared_state::Slot;

/// How long the archiver may take before what is durable in the spool is good enough.
const ARCHIVER_PATIENCE: Duration = Duration::from_secs(15);

/// The WAL of one server, archived and spooled.
pub(super) struct Held<'a> {
    pub(super) archive: &'a Archive,
    pub(super) spool: Spool,
    /// What the receive worker of the server tells.
    pub(super) receiver: &'a Slot,
    /// Since when all of it is durable.
    pub(super) durable_since: Cell<Option<Instant>>,
}

impl Held<'_> {
    fn size(&self) -> Result<Option<SegmentSize>, ArchiveError> {
        match self.spool.segment_size()? {
            Some(size) => Ok(Some(size)),
            None => self.archive.segment_size(),
        }
    }

    fn look(&self, timeline: TimelineId, start: Lsn, end: Lsn) -> Result<Coverage, ArchiveError> {
        let Some(size) = self.size()? else {
            return Ok(missing("wal: nothing has been received yet".to_owned()));
        };
        // The spool first: a segment on its way from there to the archive is then seen at least once.
        let both = self.archive.index(size, Some(&self.spool))?;
        let archived = self.archive.index(size, None)?;
        if archived.covers(timeline, start, end) {
            return Ok(Coverage::Complete);
        }
        let durable = self.receiver.durable().unwrap_or(Lsn::INVALID);
        let receiving = self.receiver.timeline();
        let all_received = both.covers(timeline, start, end);
        let segment = |lsn| SegmentName::at(timeline, lsn, size).file_name(size);
        if all_received && (receiving != Some(timeline) || durable >= end) {
            let since = self.durable_since.get().unwrap_or_else(Instant::now);
            self.durable_since.set(Some(since));
            if since.elapsed() >= ARCHIVER_PATIENCE {
                return Ok(Coverage::Complete);
            }
            let next = archived.reach_on(timeline, start);
            return Ok(missing(format!(
                "wal segment {} to be archived",
                segment(next)
            )));
        }
        self.durable_since.set(None);
        let next = both.reach_on(timeline, start);
        Ok(missing(format!(
            "wal segment {} from the server (received up to {durable})",
            segment(next)
        )))
    }
}

fn missing(what: String) -> Coverage {
    Coverage::Missing { what }
}

impl WalCoverage for Held<'_> {
    fn covered(&self, timeline: TimelineId, start: Lsn, end: Lsn) -> Result<Coverage> {
        self.look(timeline, start, end)
            .map_err(|error| pgm_backup::Error::Coverage(Box::new(error)))
    }
}
