//! Where a restore ends, in PostgreSQL's terms (manual: 19.5.5, 19.5.6 «Recovery Target»).

use std::fmt;

use jiff::Timestamp;
use pgm_proto::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};

/// The point at which recovery stops.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Target {
    /// The end of the archive.
    #[default]
    Latest,
    /// The first moment at which the backup is consistent.
    Immediate,
    /// The last commit up to this moment.
    Time(Timestamp),
    /// This position.
    Lsn(Lsn),
    /// The end of this transaction.
    Xid(u64),
    /// The restore point of this name.
    Name(String),
}

/// On which side of the target recovery stops (`recovery_target_inclusive`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Boundary {
    /// Just after it.
    #[default]
    Inclusive,
    /// Just before it.
    Exclusive,
}

/// What the server does when it has reached the target (`recovery_target_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TargetAction {
    /// Stays in recovery and lets people look.
    Pause,
    /// Ends recovery and opens for writing.
    #[default]
    Promote,
    /// Shuts down.
    Shutdown,
}

/// Which branch of the server's history is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TimelineChoice {
    /// The newest that the backup leads to.
    #[default]
    Newest,
    /// This one.
    Exactly(TimelineId),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("the end of the archive"),
            Self::Immediate => f.write_str("the end of the backup"),
            Self::Time(time) => write!(f, "time {time}"),
            Self::Lsn(lsn) => write!(f, "LSN {lsn}"),
            Self::Xid(xid) => write!(f, "transaction {xid}"),
            Self::Name(name) => write!(f, "restore point \"{}\"", name.escape_debug()),
        }
    }
}

impl TargetAction {
    /// PostgreSQL's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Promote => "promote",
            Self::Shutdown => "shutdown",
        }
    }
}
