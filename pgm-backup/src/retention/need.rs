//! From the backups that stay to the WAL that they need.

use pgm_wal::archive::ArchiveError;
use pgm_wal::{History, SegmentSize};

use super::policy::RetentionPolicy;
use super::select::{Decision, Reason};
use super::wal_need::{Keeper, Recovery, WalNeed};
use crate::catalog::BackupEntry;
use crate::delete::WalAtHand;

/// The need of the backups in `kept`. With a recovery window, those older than its first backup keep the WAL that makes
/// them consistent and no more; without one, point-in-time recovery goes from the oldest backup on.
pub(super) fn of(
    wal: WalAtHand<'_>,
    size: SegmentSize,
    policy: &RetentionPolicy,
    decisions: &[Decision],
    kept: &[&BackupEntry],
) -> Result<WalNeed, ArchiveError> {
    let in_window = |reason: &Reason| matches!(reason, Reason::Window | Reason::WindowStart);
    let begins = decisions
        .iter()
        .find(|decision| decision.reasons.iter().any(in_window))
        .map(|decision| decision.label)
        .filter(|_| policy.window_seconds > 0);
    let keepers = kept.iter().map(|entry| {
        let (start, end) = entry.wal_range();
        Keeper {
            timeline: entry.timeline,
            start,
            end,
            recovery: match begins {
                Some(begins) if entry.label < begins => Recovery::OwnEnd,
                _ => Recovery::AnyPoint,
            },
        }
    });
    Ok(WalNeed::new(size, keepers.collect(), histories(wal, size)?))
}

/// The histories that can be read. One that is damaged counts as unknown, and its timeline stays whole.
fn histories(wal: WalAtHand<'_>, size: SegmentSize) -> Result<Vec<History>, ArchiveError> {
    let index = wal.archive.index(size, wal.spool)?;
    let mut histories = Vec::new();
    for timeline in index.timelines() {
        match wal.archive.history(timeline, wal.spool) {
            Ok(history) => histories.extend(history),
            Err(ArchiveError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(histories)
}
