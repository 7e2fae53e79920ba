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
use pgm_wal::digest;
use pgm_wal::summary::Summary;
use pgm_wal::{SegmentName, SegmentSize, Spool};

use crate::shared_state::Slot;

/// How long the archiver may take before what is durable in the spool is good enough.
const ARCHIVER_PATIENCE: Duration = Duration::from_secs(15);

/// How long the WAL up to the start of a backup is waited for.
const CHANGES_PATIENCE: Duration = Duration::from_secs(30);
/// It is there in the next moment, and to look costs a glance at shared memory.
const LOOK_EVERY: Duration = Duration::from_millis(2);

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
            return Ok(missing("the first wal from the server".to_owned()));
        };
        let segment = |lsn: Lsn| SegmentName::at(timeline, lsn.max(start), size).file_name(size);
        let durable = self.receiver.durable().unwrap_or(Lsn::INVALID);
        let received_here = self.receiver.timeline() == Some(timeline);
        if received_here && durable < end {
            self.durable_since.set(None);
            let next = segment(durable);
            return Ok(missing(format!(
                "wal segment {next} from the server (durable up to {durable})"
            )));
        }
        let since = self.durable_since.get().unwrap_or_else(Instant::now);
        self.durable_since.set(Some(since));
        let patient = since.elapsed() < ARCHIVER_PATIENCE;
        let archived = self.receiver.archived().unwrap_or(Lsn::INVALID);
        if received_here && archived < end && patient {
            return Ok(missing(format!(
                "wal segment {} to be archived",
                segment(archived)
            )));
        }
        // Only what is really there counts; a large archive is not listed before that can be.
        // The spool first: a segment on its way from there to the archive is then seen at least once.
        let both = self.archive.index(size, Some(&self.spool))?;
        if self.archive.index(size, None)?.covers(timeline, start, end) {
            return Ok(Coverage::Complete);
        }
        // A receiver that has not begun yet cannot say what of its unfinished segment is durable.
        let durable_here = received_here || self.receiver.timeline().is_some();
        if durable_here && !patient && both.covers(timeline, start, end) {
            return Ok(Coverage::Complete);
        }
        let next = segment(both.reach_on(timeline, start));
        Ok(missing(format!("wal segment {next} to be archived")))
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

    fn changes(&self, timeline: TimelineId, start: Lsn, end: Lsn) -> Result<Option<Summary>> {
        let failed =
            |error: Box<dyn std::error::Error + Send + Sync>| pgm_backup::Error::Coverage(error);
        let deadline = Instant::now() + CHANGES_PATIENCE;
        // The server has just written the WAL up to where the backup starts: it is on its way.
        while self.receiver.durable().is_none_or(|durable| durable < end) {
            if Instant::now() >= deadline || self.receiver.timeline().is_none() {
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let size = self.size().map_err(|error| failed(Box::new(error)))?;
        let history = self.archive.history(timeline, Some(&self.spool));
        let history = history.map_err(|error| failed(Box::new(error)))?;
        let (Some(size), Some(history)) = (size, history) else {
            return Ok(None);
        };
        let changes = digest::changes(self.archive, Some(&self.spool), &history, size, start, end);
        changes.map(Some).map_err(|error| failed(Box::new(error)))
    }
}
