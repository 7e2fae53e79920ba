//! Waiting until all WAL of a backup is durable, and publishing it then.
//!
//! A backup without the WAL up to its end can never become consistent, so it is not published before. Whoever keeps the
//! WAL answers through [`WalCoverage`]; this step asks again until the answer is complete or the deadline has passed, in
//! each target for itself: none waits for the WAL of another one.

use std::time::{Duration, Instant};

use pgm_proto::{Lsn, TimelineId};
use pgm_wal::summary::Summary;

use super::BackupRequest;
use super::lanes::Lanes;
use super::publish::publish;
use crate::catalog::{BackupEntry, BackupWal};
use crate::context::{Context, Phase};
use crate::error::{Error, Result};
use crate::manifest::PackRecord;
use crate::repository::Staging;

/// How often the answer is asked for at least.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// And at most: the WAL of a quiet server is there in the next moment, and that shall be all that a small backup waits.
const POLL_EVERY_MIN: Duration = Duration::from_millis(1);

/// Tells which WAL is durable: in the archive, or in the spool and synced.
pub trait WalCoverage {
    /// Whether every byte of `timeline` from `start` to `end` is durable; an error of any kind goes into
    /// [`Error::Coverage`].
    fn covered(&self, timeline: TimelineId, start: Lsn, end: Lsn) -> Result<Coverage>;

    /// Which blocks the WAL of `timeline` changes between `start`, where a record begins, and `end`; `None` when that cannot
    /// be told. May name more, and waits until the WAL is there. An error of any kind goes into [`Error::Coverage`].
    fn changes(&self, timeline: TimelineId, start: Lsn, end: Lsn) -> Result<Option<Summary>> {
        let _ = (timeline, start, end);
        Ok(None)
    }

    /// Waits until the answer may have changed, at most for `timeout`; by default for all of it.
    fn wait(&self, timeout: Duration) {
        std::thread::sleep(timeout);
    }
}

/// Whether all WAL of a range is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// Every byte is.
    Complete,
    /// Not yet.
    Missing {
        /// The first missing segment or position, for people: `wal segment 0000000100000003000000A1`.
        what: String,
    },
}

/// There is no archive: nothing is ever covered. For backups that include their WAL, which do not ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoArchive;

impl WalCoverage for NoArchive {
    fn covered(&self, _: TimelineId, start: Lsn, _: Lsn) -> Result<Coverage> {
        Ok(Coverage::Missing {
            what: format!("the WAL from {start}, because there is no archive"),
        })
    }
}

/// A backup that has everything but its WAL, or has that, too.
enum Stand<'a> {
    Waiting(Box<Unpublished<'a>>),
    Published(Box<BackupEntry>),
}

/// What is left to be published in one target.
pub(super) struct Unpublished<'a> {
    pub(super) coverage: &'a dyn WalCoverage,
    pub(super) staging: Staging,
    /// Packs of earlier backups that it needs.
    pub(super) foreign: Vec<PackRecord>,
    pub(super) entry: BackupEntry,
}

/// Publishes the backup in each target as soon as every WAL byte of it is durable there.
pub(super) fn publish_when_durable(
    cx: &Context,
    lanes: Lanes<Unpublished<'_>>,
    request: &BackupRequest,
) -> Result<Lanes<BackupEntry>> {
    let begun = Instant::now();
    let mut lanes = lanes.step(|lane| Ok(Stand::Waiting(Box::new(lane))))?;
    loop {
        let waited = begun.elapsed();
        let left = request.wal_timeout.saturating_sub(waited);
        lanes = lanes.step(|stand| match stand {
            Stand::Published(_) => Ok(stand),
            Stand::Waiting(lane) => match (missing(cx, &lane, request)?, left.is_zero()) {
                (None, _) => Ok(Stand::Published(Box::new(publish(
                    cx,
                    lane.staging,
                    &lane.foreign,
                    lane.entry,
                )?))),
                (Some(_), false) => Ok(Stand::Waiting(lane)),
                (Some(missing), true) => Err(never_arrived(&lane.entry, missing, waited)),
            },
        })?;
        let waiting = lanes.open().find_map(|(_, stand)| match stand {
            Stand::Waiting(lane) => Some(lane.coverage),
            Stand::Published(_) => None,
        });
        let Some(coverage) = waiting else { break };
        let pause = (waited / 8).clamp(POLL_EVERY_MIN, POLL_EVERY);
        coverage.wait(left.min(pause));
    }
    lanes.step(|stand| match stand {
        Stand::Published(entry) => Ok(*entry),
        Stand::Waiting(_) => Err(Error::Cancelled),
    })
}

/// What is missing of the WAL of a backup.
fn missing(
    cx: &Context,
    lane: &Unpublished<'_>,
    request: &BackupRequest,
) -> Result<Option<String>> {
    cx.check_cancel()?;
    if request.wal == BackupWal::Included {
        return Ok(None);
    }
    let (start, end) = lane.entry.wal_range();
    match lane.coverage.covered(lane.entry.timeline, start, end)? {
        Coverage::Complete => Ok(None),
        Coverage::Missing { what } => {
            let total = Some(end.bytes_since(start));
            cx.report(Phase::AwaitWal, 0, total, &what);
            Ok(Some(what))
        }
    }
}

fn never_arrived(entry: &BackupEntry, missing: String, waited: Duration) -> Error {
    let (start, end) = entry.wal_range();
    Error::WalMissing {
        label: entry.label,
        timeline: entry.timeline,
        start,
        end,
        missing,
        waited_seconds: waited.as_secs(),
    }
}
