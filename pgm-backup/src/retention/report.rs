//! What a run of retention did, or would do.

use pgm_proto::ServerName;
use pgm_wal::archive::Unneeded;

use super::policy::RetentionPolicy;
use super::select::Decision;
use super::{Mode, Plan};
use crate::delete::DeleteReport;
use crate::error::Error;
use crate::label::BackupLabel;

/// What was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionReport {
    /// The server.
    pub server: ServerName,
    /// The policy.
    pub policy: RetentionPolicy,
    /// Whether it was done.
    pub mode: Mode,
    /// Every backup as it was before, oldest first, and why it stays or that it goes.
    pub decisions: Vec<Decision>,
    /// The backups that were deleted; empty for a dry run.
    pub deleted: Vec<BackupLabel>,
    /// Bytes of their objects.
    pub deleted_bytes: u64,
    /// WAL that was removed, or would be.
    pub wal: PrunedWal,
    /// What a person should read.
    pub warnings: Vec<String>,
}

/// WAL objects in a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrunedWal {
    /// How many.
    pub objects: u64,
    /// Their bytes in the repository.
    pub bytes: u64,
}

impl PrunedWal {
    pub(super) fn count(&mut self, object: &Unneeded) {
        self.objects += 1;
        self.bytes += object.bytes;
    }
}

impl RetentionReport {
    pub(super) fn new(server: ServerName, plan: &Plan, mode: Mode) -> Self {
        let mut wal = PrunedWal::default();
        plan.wal.iter().for_each(|object| wal.count(object));
        Self {
            server,
            policy: plan.policy,
            mode,
            decisions: plan.decisions.clone(),
            deleted: Vec::new(),
            deleted_bytes: 0,
            wal,
            warnings: Vec::new(),
        }
    }

    pub(super) fn deleted(&mut self, deleted: DeleteReport) {
        self.deleted.push(deleted.label);
        self.deleted_bytes += deleted.bytes;
        self.warnings.extend(deleted.warnings);
    }

    pub(super) fn spared(&mut self, label: BackupLabel, error: &Error) {
        self.warnings
            .push(format!("backup {label} stays after all: {error}"));
    }
}
