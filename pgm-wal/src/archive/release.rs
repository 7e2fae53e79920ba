//! When a file may leave a spool that several archives take from: once all of them have it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::WalFileName;

/// How many archives can share a spool.
pub const ARCHIVES_MAX: usize = 64;

/// What the archivers of one spool tell each other; clones are the same one.
#[derive(Debug, Clone)]
pub struct SpoolRelease(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// One bit for each archiver.
    all: u64,
    /// Who has which file.
    stored: Mutex<HashMap<WalFileName, u64>>,
}

impl SpoolRelease {
    /// For a spool that goes into `archives` archives (at least one, at most [`ARCHIVES_MAX`]).
    pub fn new(archives: usize) -> Self {
        let archives = archives.clamp(1, ARCHIVES_MAX);
        Self(Arc::new(Shared {
            all: u64::MAX >> (ARCHIVES_MAX - archives),
            stored: Mutex::default(),
        }))
    }

    /// Notes that the archiver with this number, from 0, has stored `file`; whether all of them have it now.
    pub(super) fn stored(&self, archiver: usize, file: WalFileName) -> bool {
        let bit = 1 << archiver.min(ARCHIVES_MAX - 1);
        if self.0.all == bit {
            return true;
        }
        let mut stored = self.0.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let have = stored.entry(file).or_default();
        *have |= bit;
        *have & self.0.all == self.0.all
    }

    /// Forgets what is no longer in the spool.
    pub(super) fn gone(&self, file: WalFileName) {
        let mut stored = self.0.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.remove(&file);
    }

    /// An unfinished segment may have grown: nobody has it.
    pub(super) fn grown(&self, archiver: usize, file: WalFileName) {
        let mut stored = self.0.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(have) = stored.get_mut(&file) {
            *have &= !(1 << archiver.min(ARCHIVES_MAX - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SegmentName, SegmentNumber};
    use pgm_proto::TimelineId;

    fn file(number: u64) -> WalFileName {
        WalFileName::Segment(SegmentName {
            timeline: TimelineId::FIRST,
            number: SegmentNumber::new(number),
        })
    }

    #[test]
    fn a_file_goes_when_the_last_archive_has_it() {
        let release = SpoolRelease::new(3);
        assert!(!release.stored(0, file(1)));
        assert!(!release.stored(0, file(1)));
        assert!(!release.stored(2, file(1)));
        assert!(!release.stored(2, file(2)));
        assert!(release.stored(1, file(1)));
        release.gone(file(1));
        assert!(!release.stored(1, file(1)));
        assert!(SpoolRelease::new(1).stored(0, file(1)));
    }
}
