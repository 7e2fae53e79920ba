//! Waiting until all WAL of a backup is durable.
//!
//! A backup without the WAL up to its end can never become consistent, so it is not published before. Whoever keeps the
//! WAL answers through [`WalCoverage`]; this step asks again until the answer is complete or the deadline has passed.

use std::time::{Duration, Instant};

use pgm_proto::{Lsn, TimelineId};

use crate::catalog::BackupEntry;
use crate::context::{Context, Phase};
use crate::error::{Error, Result};

/// How often the answer is asked for at least.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// Tells which WAL is durable: in the archive, or in the spool and synced.
pub trait WalCoverage {
    /// Whether every byte of `timeline` from `start` to `end` is durable; an error of any kind goes into
    /// [`Error::Coverage`].
    fn covered(&self, timeline: TimelineId, start: Lsn, end: Lsn) -> Result<Coverage>;

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

/// Waits until the WAL that `entry` needs is durable.
pub(super) fn await_wal(
    cx: &Context,
    entry: &BackupEntry,
    coverage: &dyn WalCoverage,
    timeout: Duration,
) -> Result<()> {
    let (start, end) = entry.wal_range();
    let total = Some(end.bytes_since(start));
    let begun = Instant::now();
    loop {
        cx.check_cancel()?;
        let missing = match coverage.covered(entry.timeline, start, end)? {
            Coverage::Complete => return Ok(()),
            Coverage::Missing { what } => what,
        };
        cx.report(Phase::AwaitWal, 0, total, &missing);
        let Some(left) = timeout
            .checked_sub(begun.elapsed())
            .filter(|left| !left.is_zero())
        else {
            return Err(Error::WalMissing {
                label: entry.label,
                timeline: entry.timeline,
                start,
                end,
                missing,
                waited_seconds: begun.elapsed().as_secs(),
            });
        };
        coverage.wait(left.min(POLL_EVERY));
    }
}
