//! Where to begin: a pure choice out of what is known.
//!
//! The first of these that there is: the spool's newest timeline, at its first segment that is not finished; the
//! caller's hint (the end of the archive); the replication slot's position; the end of the server's WAL. Always the
//! beginning of a segment, as PostgreSQL's own receivers do. A server that cannot continue from there is refused; only
//! a hint that lies on a branch which the server has left does not count: the spool is empty, so somebody has decided
//! that the server is to be followed on its new branch.

use pgm_proto::{Lsn, ServerIdentity, SlotPosition, TimelineId};

use super::StartHint;
use crate::error::ReceiveError;
use crate::history::History;
use crate::segment::{SegmentName, SegmentSize};
use crate::spool::SpoolEnd;

/// What the choice depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) segment_size: SegmentSize,
    /// The server's timeline.
    pub(crate) timeline: TimelineId,
    /// The end of the server's WAL.
    pub(crate) flush_lsn: Lsn,
    pub(crate) slot: Option<SlotPosition>,
    pub(crate) spool_end: Option<SpoolEnd>,
    /// Timelines whose history is in the spool.
    pub(crate) histories: Vec<TimelineId>,
    pub(crate) hint: Option<StartHint>,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) timeline: TimelineId,
    pub(crate) lsn: Lsn,
}

impl Facts {
    pub(crate) fn new(
        server: &ServerIdentity,
        segment_size: SegmentSize,
        spool: &crate::SpoolListing,
        hint: Option<StartHint>,
    ) -> Self {
        Self {
            segment_size,
            timeline: server.timeline,
            flush_lsn: server.flush_lsn,
            slot: server.slot,
            spool_end: spool.end(),
            histories: spool.histories.clone(),
            hint,
        }
    }
}

/// Chooses where to begin on a server with this `history`.
pub(crate) fn choose(facts: &Facts, history: &History) -> Result<Start, ReceiveError> {
    let size = facts.segment_size;
    let at = |timeline, lsn| SegmentName::at(timeline, lsn, size);
    let slot = facts
        .slot
        .and_then(|slot| Some((slot.restart_lsn?, slot.timeline)));
    // Receiving begins at a segment's beginning, which may lie before the branch point although the hint does not.
    let on_this_branch =
        |hint: &StartHint| history.contains(hint.timeline, size.round_down(hint.lsn));
    let first = if let Some(end) = facts.spool_end {
        end.resume_at()
    } else if let Some(hint) = facts.hint.filter(on_this_branch) {
        at(hint.timeline, hint.lsn)
    } else if let Some((lsn, timeline)) = slot {
        at(timeline.unwrap_or_else(|| history.timeline_at(lsn)), lsn)
    } else {
        at(facts.timeline, facts.flush_lsn)
    };
    let start = Start {
        timeline: first.timeline,
        lsn: first.start(size),
    };
    reachable(start, facts, history)?;
    Ok(start)
}

/// Refuses a server that cannot give the WAL that follows `start`, or would give that of another branch.
fn reachable(start: Start, facts: &Facts, history: &History) -> Result<(), ReceiveError> {
    let (server, Start { timeline, lsn }) = (facts.timeline, start);
    if timeline == server {
        if lsn > facts.flush_lsn {
            return Err(ReceiveError::ServerBehind {
                timeline,
                ours: lsn,
                theirs: facts.flush_lsn,
            });
        }
        return Ok(());
    }
    let Some(entry) = history.ancestor(timeline) else {
        return Err(ReceiveError::OtherBranch { timeline, server });
    };
    if lsn > entry.end {
        return Err(ReceiveError::Diverged {
            timeline,
            ours: lsn,
            fork: entry.end,
            server,
        });
    }
    Ok(())
}
