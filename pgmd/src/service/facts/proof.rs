//! What verifications say of a backup, as far as it was read.
//!
//! Verifications are read anew when somebody asked for a look, because a job has ended, and once an hour: another process may
//! verify, too. In between they stand as they were, so that a look at a far repository does not cost a request for each of them.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use pgm_backup::catalog::BackupEntry;
use pgm_backup::verify::Level;
use pgm_backup::verify::verification::{Outcome, Trial, Verification};
use pgm_backup::{Repository, Result};

/// How long what was read stands.
const STANDS: Duration = Duration::from_hours(1);

/// Whether something is known to have happened since the look before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum News {
    None,
    Some,
}

/// What verifications say of a backup.
#[derive(Debug, Clone)]
pub(in crate::service) struct Proof {
    /// What the newest one found; `None` when there is none.
    pub(in crate::service) outcome: Option<Outcome>,
    /// When it was last found to be sound, and how far that went.
    pub(in crate::service) sound: Vec<(Level, Timestamp)>,
    /// What the newest server that was started on it showed.
    pub(in crate::service) trial: Option<Trial>,
    read: Instant,
}

impl Proof {
    /// What the repository has.
    pub(super) fn read(repository: &Repository, entry: &BackupEntry) -> Result<Self> {
        let verifications = repository.verifications(&entry.server, entry.label)?;
        Ok(Self::of(&verifications))
    }

    /// What `verifications`, newest first, say.
    pub(in crate::service) fn of(verifications: &[Verification]) -> Self {
        let sound = verifications
            .iter()
            .filter(|one| one.outcome == Outcome::Sound);
        Self {
            outcome: verifications.first().map(|one| one.outcome),
            sound: sound.map(|one| (one.level, one.finished)).collect(),
            trial: verifications.iter().find_map(|one| one.trial.clone()),
            read: Instant::now(),
        }
    }

    /// Whether it need not be read again.
    pub(super) fn stands(&self, news: News) -> bool {
        news == News::None && self.read.elapsed() < STANDS
    }

    /// When it was last found to be sound, at least as far as `level`.
    pub(in crate::service) fn sound_since(&self, level: Level) -> Option<Timestamp> {
        let deep = self.sound.iter().filter(|(depth, _)| *depth >= level);
        deep.map(|(_, at)| *at).max()
    }
}
