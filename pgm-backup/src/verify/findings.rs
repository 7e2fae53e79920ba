//! Collecting what is wrong, from several threads, within bounds.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::verification::{Area, Finding, Outcome};
use super::{Listing, VerifiedFile};
use crate::error::Error;

/// The most findings of one backup that are told; all are counted.
const FINDINGS_MAX: usize = 500;

/// How much a whole verification may tell, so that its report always has room in a message.
#[derive(Debug)]
pub(super) struct Room {
    findings_bytes: usize,
    files_bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            findings_bytes: 768 << 10,
            files_bytes: 768 << 10,
        }
    }
}

/// What is wrong with one backup.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    room: &'a Mutex<Room>,
    listing: Listing,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Sorted, and each told once.
    findings: BTreeSet<Finding>,
    total: u64,
    worst: Option<Area>,
    files: Vec<VerifiedFile>,
    files_omitted: u64,
}

/// What was collected.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) outcome: Outcome,
    pub(super) findings: Vec<Finding>,
    pub(super) total: u64,
    pub(super) files: Vec<VerifiedFile>,
    pub(super) files_omitted: u64,
}

impl<'a> Findings<'a> {
    pub(super) fn new(room: &'a Mutex<Room>, listing: Listing) -> Self {
        Self {
            room,
            listing,
            state: Mutex::default(),
        }
    }

    /// Notes one thing that is wrong.
    pub(super) fn add(&self, finding: Finding) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.findings.contains(&finding) {
            return;
        }
        state.total += 1;
        state.worst = Some(
            state
                .worst
                .map_or(finding.area, |worst| worst.min(finding.area)),
        );
        let bytes = finding.object.len()
            + finding.reason.len()
            + finding.file.as_ref().map_or(0, String::len)
            + 100;
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if state.findings.len() < FINDINGS_MAX && room.findings_bytes >= bytes {
            room.findings_bytes -= bytes;
            state.findings.insert(finding);
        }
    }

    /// Notes that an object as a whole is wrong.
    pub(super) fn object(&self, area: Area, object: &impl ToString, reason: impl Into<String>) {
        self.add(Finding {
            area,
            object: object.to_string(),
            offset: None,
            file: None,
            reason: reason.into(),
        });
    }

    /// Notes that reading an object failed.
    pub(super) fn failed(&self, area: Area, object: &impl ToString, error: &Error) {
        self.object(area, object, reason(error));
    }

    /// Notes how one file is.
    pub(super) fn file(&self, file: VerifiedFile) {
        if file.is_sound() && self.listing == Listing::Failed {
            return;
        }
        let bytes = file.path.len() + 100;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        // Sound files leave a part of the room to those that are not.
        let reserve = if file.is_sound() { 256 << 10 } else { 0 };
        if room.files_bytes >= bytes + reserve {
            room.files_bytes -= bytes;
            state.files.push(file);
        } else {
            state.files_omitted += 1;
        }
    }

    /// Whether nothing was found that keeps the backup from being restored.
    pub(super) fn is_restorable(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        outcome(state.worst) != Outcome::Damaged
    }

    pub(super) fn into_collected(self) -> Collected {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let outcome = outcome(state.worst);
        let mut files = state.files;
        files.sort_by(|one, other| {
            (one.is_sound(), &one.path).cmp(&(other.is_sound(), &other.path))
        });
        Collected {
            outcome,
            findings: state.findings.into_iter().collect(),
            total: state.total,
            files,
            files_omitted: state.files_omitted,
        }
    }
}

fn outcome(worst: Option<Area>) -> Outcome {
    match worst {
        None => Outcome::Sound,
        Some(Area::Window | Area::Marks | Area::Checks) => Outcome::Flawed,
        Some(Area::Catalog | Area::Data | Area::Wal | Area::Trial) => Outcome::Damaged,
    }
}

/// What is wrong with an object, without its name.
pub(super) fn reason(error: &Error) -> String {
    use pgm_storage::StorageError;
    match error {
        Error::Damaged { reason, .. } => reason.clone(),
        Error::Storage(StorageError::NotFound { .. }) => "it is missing".to_owned(),
        Error::Storage(error) => error.damage().unwrap_or_else(|| error.to_string()),
        error => error.to_string(),
    }
}
