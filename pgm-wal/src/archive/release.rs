//! When a file may leave a spool that several archives take from: once all of them have it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::WalFileName;

/// What the archivers of one spool tell each other; clones are the same one.
#[derive(Debug, Clone)]
pub struct SpoolRelease(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    archives: usize,
    /// The numbers of the archivers that have a file.
    stored: Mutex<HashMap<WalFileName, BTreeSet<usize>>>,
}

impl SpoolRelease {
    /// For a spool that goes into so many archives.
    pub fn new(archives: usize) -> Self {
        Self(Arc::new(Shared {
            archives,
            stored: Mutex::default(),
        }))
    }

    /// Notes that the archiver with this number, from 0, has stored `file`; whether all of them have it now.
    pub(super) fn stored(&self, archiver: usize, file: WalFileName) -> bool {
        let mut stored = self.lock();
        let have = stored.entry(file).or_default();
        have.insert(archiver);
        have.len() >= self.0.archives
    }

    /// Forgets what is no longer in the spool.
    pub(super) fn gone(&self, file: WalFileName) {
        self.lock().remove(&file);
    }

    /// An unfinished segment may have grown: the archiver does not have all of it any more.
    pub(super) fn grown(&self, archiver: usize, file: WalFileName) {
        if let Some(have) = self.lock().get_mut(&file) {
            have.remove(&archiver);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WalFileName, BTreeSet<usize>>> {
        self.0.stored.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn an_archive_that_has_less_than_all_of_a_file_does_not_have_it() {
        let release = SpoolRelease::new(2);
        assert!(!release.stored(0, file(1)));
        release.grown(0, file(1));
        assert!(!release.stored(1, file(1)));
        assert!(release.stored(0, file(1)));
    }
}
