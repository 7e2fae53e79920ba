//! Everything that pages and metrics show, gathered once and then only read.
//!
//! A [`Watcher`] keeps the newest [`Facts`]; asking for them never waits for a server, a worker or the repository. What
//! the workers know comes from the shared state, what rests in the repository from a picture that a thread of its own
//! renews ([`catalog`]), and what needs a past (how long something has been behind) from a short memory ([`heartbeat`]).

mod catalog;
mod gather;
mod heartbeat;
mod process;
mod proof;
#[cfg(test)]
pub(super) mod sample;
mod timeline;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use pgm_backup::verify::verification::Trial;
use pgm_mgmt::{Gap, JobProgress, ServerState};
use pgm_proto::{Lsn, RepositoryName, ServerName, ServerVersion, SlotName, SystemId, TimelineId};
use pgm_storage::Space;

use crate::shared_state::Observations;
use crate::supervisor::{ArchiveView, Counts, Problem, StandbyEnds};

pub(super) use catalog::{Backup, ServerCatalog, Soundness};
pub(super) use gather::Watcher;
pub(super) use process::ProcessFacts;
pub(super) use window::{Growth, Window};

/// The daemon and its servers at one moment.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The moment.
    pub(super) now: Timestamp,
    /// When the daemon started.
    pub(super) started: Timestamp,
    /// The repository.
    pub(super) repository: RepositoryFacts,
    /// The servers of the configuration, by name.
    pub(super) servers: Vec<ServerFacts>,
    /// The jobs that run or wait.
    pub(super) jobs: Vec<JobProgress>,
    /// What was counted.
    pub(super) counts: Counts,
    /// The directories that are kept ready to be started as standbys.
    pub(super) standbys: Vec<StandbyFacts>,
    /// The daemon as a process.
    pub(super) process: ProcessFacts,
    /// Certificates in use: what for, and until when each is valid.
    pub(super) certificates: Vec<(&'static str, Timestamp)>,
}

/// A directory that is kept ready to be started as a standby.
#[derive(Debug, Clone)]
pub(super) struct StandbyFacts {
    /// Whose it is.
    pub(super) server: ServerName,
    /// How the configuration calls it.
    pub(super) name: String,
    /// What became of bringing it up to date.
    pub(super) ends: StandbyEnds,
}

/// The repository and the spool.
#[derive(Debug, Clone, Default)]
pub(super) struct RepositoryFacts {
    /// Where it is.
    pub(super) path: String,
    /// Room in it.
    pub(super) space: Option<Space>,
    /// Room where the spool is.
    pub(super) spool_space: Option<Space>,
    /// The newest look into it, once there was one.
    pub(super) look: Option<Look>,
}

/// One look into the repository.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// When it ended.
    pub(super) at: Timestamp,
    /// How long it took.
    pub(super) took: Duration,
    /// Why it failed, when it did; what was seen before stays.
    pub(super) error: Option<String>,
}

/// One server.
#[derive(Debug, Clone)]
pub(super) struct ServerFacts {
    /// Its name.
    pub(super) name: ServerName,
    /// The replication slot.
    pub(super) slot: SlotName,
    /// What its receive worker does.
    pub(super) state: ServerState,
    /// Which server it is, once it has been reached.
    pub(super) identity: Option<(SystemId, ServerVersion)>,
    /// The timeline that is received.
    pub(super) timeline: Option<TimelineId>,
    /// How far WAL has arrived.
    pub(super) received: Option<Lsn>,
    /// How far it is durable here.
    pub(super) durable: Option<Lsn>,
    /// How far it is in the repository.
    pub(super) archived: Option<Lsn>,
    /// How far the server had written when it was last heard of.
    pub(super) server_end: Option<Lsn>,
    /// When it was last heard of.
    pub(super) last_message: Option<Timestamp>,
    /// Seconds of work that are not durable here.
    pub(super) flushed_rpo: Option<Duration>,
    /// Seconds of work that are not in the repository.
    pub(super) stored_rpo: Option<Duration>,
    /// Bytes of WAL received.
    pub(super) received_bytes: u64,
    /// Segments stored in the repository.
    pub(super) stored_segments: u64,
    /// Failed attempts to store something.
    pub(super) store_errors: u64,
    /// When something was last stored.
    pub(super) last_stored: Option<Timestamp>,
    /// Bytes in the spool.
    pub(super) spool_bytes: u64,
    /// How often the worker was started again.
    pub(super) restarts: u64,
    /// How often the connection failed or was lost.
    pub(super) connection_failures: u64,
    /// How long syncs took.
    pub(super) fsync: Observations,
    /// How long storing segments took.
    pub(super) store: Observations,
    /// How long acknowledgements took.
    pub(super) acknowledge: Observations,
    /// What is wrong.
    pub(super) problem: Option<Problem>,
    /// Holes in the WAL.
    pub(super) gaps: Vec<Gap>,
    /// How archiving goes, by repository.
    pub(super) archives: BTreeMap<RepositoryName, ArchiveView>,
    /// What the repository has of it, once it was looked at.
    pub(super) catalog: Option<ServerCatalog>,
    /// The stretches of time to any moment of which it can be restored, oldest first.
    pub(super) windows: Vec<Window>,
}

impl ServerFacts {
    /// Bytes that the server has written and `stage` does not have.
    pub(super) fn behind(&self, stage: Option<Lsn>) -> Option<u64> {
        Some(self.server_end?.bytes_since(stage?))
    }

    /// The newest sound backup.
    pub(super) fn newest_backup(&self) -> Option<&Backup> {
        self.backups().iter().rev().find(|backup| backup.is_sound())
    }

    /// The backup whose trial went furthest in time.
    pub(super) fn proven(&self) -> Option<(&Backup, &Trial)> {
        let tried = self.backups().iter().filter_map(|backup| {
            let trial = backup.proof.as_ref()?.trial.as_ref()?;
            Some((backup, trial))
        });
        tried.max_by_key(|(_, trial)| trial.proven)
    }

    /// The oldest sound backup.
    pub(super) fn oldest_backup(&self) -> Option<&Backup> {
        self.backups().iter().find(|backup| backup.is_sound())
    }

    /// Its backups, oldest first.
    pub(super) fn backups(&self) -> &[Backup] {
        self.catalog
            .as_ref()
            .map_or(&[], |catalog| &catalog.backups)
    }
}
