//! From where to where a server can be restored.

use pgm_proto::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};

use crate::restore::PlannedTransaction;

/// To any point of it a server can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryWindow {
    /// The labels of the backups that begin in it, oldest first.
    pub backups: Vec<String>,
    /// The first point: where the oldest of them is consistent.
    pub from_lsn: Lsn,
    /// When that was.
    pub from_time: String,
    /// The last point: where the WAL ends that recovery can read.
    pub to_lsn: Lsn,
    /// The timeline on which it ends.
    pub timeline: TimelineId,
    /// The last commit in it, and so the newest time that can be asked for; none where there is none near the end.
    pub last_commit: Option<PlannedTransaction>,
}
