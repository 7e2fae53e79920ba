//! Recovery windows: from where to where a server can be restored, to any point in between.
//!
//! A window begins where its oldest backup is consistent and ends where the WAL that follows does. Its last commit is the
//! newest moment that can be asked for: PostgreSQL refuses a time that no commit reaches. Windows come from the names of
//! what is archived and from digests; of the WAL itself only what has no digest yet is read.
//!
//! Not here: whether what is stored is sound. That is [`verify`](crate::verify)'s.

use jiff::Timestamp;
use pgm_proto::{Lsn, TimelineId};
use pgm_wal::archive::{Archive, ArchiveError, ArchiveIndex};
use pgm_wal::digest::{Commit, last_commit};
use pgm_wal::{History, Spool};

use crate::catalog::{BackupEntry, BackupWal};
use crate::label::BackupLabel;

/// Of so many windows, the newest ones, the last commit is looked up.
const LOOKED_UP_MAX: usize = 4;

/// To any point of it a server can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The backups that begin in it, oldest first; never empty.
    pub backups: Vec<BackupLabel>,
    /// Where the oldest of them is consistent: the first point.
    pub from: Lsn,
    /// When that was, by pgm's clock.
    pub from_time: Timestamp,
    /// Where the WAL ends that recovery can read: the last point.
    pub to: Lsn,
    /// The timeline on which it ends.
    pub timeline: TimelineId,
    /// The last commit in it; `None` where there is none near its end.
    pub last_commit: Option<Commit>,
}

/// The windows of the server that `archive` belongs to, oldest first: those that `backups`, oldest first, open with the WAL
/// in `index`, which was made of `archive` and `spool`. Backups that cannot become consistent open none.
pub fn windows<'a>(
    backups: impl IntoIterator<Item = &'a BackupEntry>,
    archive: &Archive,
    spool: Option<&Spool>,
    index: &ArchiveIndex,
) -> Result<Vec<Window>, ArchiveError> {
    let histories = histories(archive, spool, index)?;
    let mut found: Vec<(Window, History)> = Vec::new();
    for entry in backups {
        let passes = |history: &&History| history.contains(entry.timeline, entry.end_lsn);
        let own = History::root(entry.timeline);
        let history = histories.iter().rev().find(passes).unwrap_or(&own);
        let Some(to) = reach(entry, history, index) else {
            continue;
        };
        let timeline = history.timeline_at(Lsn::new(to.bytes().saturating_sub(1)));
        let known = found
            .iter_mut()
            .find(|(window, _)| (window.to, window.timeline) == (to, timeline));
        if let Some((window, _)) = known {
            window.backups.push(entry.label);
            continue;
        }
        let window = Window {
            backups: vec![entry.label],
            from: entry.end_lsn,
            from_time: entry.stopped,
            to,
            timeline,
            last_commit: None,
        };
        found.push((window, history.clone()));
    }
    let size = index.segment_size();
    for (window, history) in found.iter_mut().rev().take(LOOKED_UP_MAX) {
        let range = (window.from, window.to);
        // It is told, not needed: WAL that cannot be read for it gives none.
        window.last_commit = last_commit(archive, spool, history, size, range).unwrap_or(None);
    }
    Ok(found.into_iter().map(|(window, _)| window).collect())
}

/// How far the WAL goes from a backup on; `None` when it does not make the backup consistent.
fn reach(entry: &BackupEntry, history: &History, index: &ArchiveIndex) -> Option<Lsn> {
    let (from, least) = match entry.wal {
        BackupWal::Archive => (entry.start_lsn, entry.end_lsn),
        // What the backup brings along need not be in the archive.
        BackupWal::Included => (entry.end_lsn, Lsn::INVALID),
    };
    let reach = index.reach(history, from);
    (reach >= least).then_some(reach)
}

/// The histories of the timelines of which there is anything, oldest first.
fn histories(
    archive: &Archive,
    spool: Option<&Spool>,
    index: &ArchiveIndex,
) -> Result<Vec<History>, ArchiveError> {
    let timelines: std::collections::BTreeSet<TimelineId> =
        index.timelines().chain(index.histories()).collect();
    let mut histories = Vec::new();
    for timeline in timelines {
        histories.extend(archive.history(timeline, spool)?);
    }
    Ok(histories)
}
