//! Which folders have a name that is known to be durable.
//!
//! A new name is durable once its folder was synced, but that folder's own name may not be: whoever made it may not have come
//! to syncing the one above. So the folders above are synced, too, but each only once: every sync has the disk empty its
//! cache, even for a folder without changes. A folder is told by its inode and the time of its birth, so one that was made
//! anew in the place of another is another one. Clocks of file systems tick in milliseconds, so only what was born a while
//! before is remembered: what comes in its place later is born later. Where the file system has no such time nothing is.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, StatxFlags, statx};

/// More than that are not remembered: they are synced once more, and that is all.
const KNOWN_MAX: usize = 4096;

/// A folder must be so old to be remembered.
const AGE_MIN: Duration = Duration::from_secs(1);

/// The folders whose names are durable.
#[derive(Debug, Default)]
pub(super) struct DurableFolders(Mutex<HashSet<Identity>>);

/// What a folder is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: (u32, u32),
    inode: u64,
    birth: Birth,
}

/// Seconds since 1970, and nanoseconds.
type Birth = (i64, u32);

impl Identity {
    /// `None` if the file system does not tell enough.
    pub(super) fn of(folder: BorrowedFd<'_>) -> Option<Self> {
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let stat = statx(folder, "", AtFlags::EMPTY_PATH, wanted).ok()?;
        if !StatxFlags::from_bits_retain(stat.stx_mask).contains(wanted) {
            return None;
        }
        Some(Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            birth: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        })
    }
}

impl DurableFolders {
    pub(super) fn has(&self, folder: Option<Identity>) -> bool {
        folder.is_some_and(|folder| self.known().contains(&folder))
    }

    /// The folder above it was synced at the time `now` or later.
    pub(super) fn note(&self, folder: Option<Identity>, now: SystemTime) {
        let age = folder.and_then(|folder| now.duration_since(time_of(folder.birth)?).ok());
        if age.is_none_or(|age| age < AGE_MIN) {
            return;
        }
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.extend(folder);
    }

    fn known(&self) -> MutexGuard<'_, HashSet<Identity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn time_of((seconds, nanoseconds): Birth) -> Option<SystemTime> {
    let since = Duration::new(u64::try_from(seconds).ok()?, nanoseconds);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;

    use super::*;

    fn identity(inode: u64, birth: Birth) -> Identity {
        let device = (8, 1);
        Identity {
            device,
            inode,
            birth,
        }
    }

    /// So many milliseconds after the birth of the folders in these tests.
    fn after(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(5000 + milliseconds)
    }

    #[test]
    fn an_old_folder_is_known_until_another_one_has_its_inode() {
        let folders = DurableFolders::default();
        let folder = Some(identity(7, (5, 0)));
        folders.note(folder, after(999));
        assert!(!folders.has(folder), "another one may yet have its birth");
        folders.note(folder, after(1000));
        assert!(folders.has(folder));
        assert!(!folders.has(Some(identity(7, (6, 0)))));
        assert!(!folders.has(None));
    }

    #[test]
    fn the_file_system_tells_two_folders_apart() {
        let scratch = tempfile::tempdir().unwrap();
        let of = |name: &str| {
            let path = scratch.path().join(name);
            let _ = fs::create_dir(&path);
            Identity::of(File::open(path).unwrap().as_fd())
        };
        let (one, other) = (of("one"), of("other"));
        assert!(one.is_none() || one != other);
        assert_eq!(one, of("one"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let folders = DurableFolders::default();
        for inode in 0..=KNOWN_MAX as u64 {
            folders.note(Some(identity(inode, (5, 0))), after(1000));
        }
        assert!(folders.has(Some(identity(KNOWN_MAX as u64, (5, 0)))));
        assert!(!folders.has(Some(identity(0, (5, 0)))));
        assert!(folders.known().len() <= KNOWN_MAX);
    }
}
