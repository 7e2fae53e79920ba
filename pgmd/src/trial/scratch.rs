//! The scratch area: a folder with one folder for each trial that runs.
//!
//! ```text
//! SCRATCH/trial-RANDOM.lock    locked (flock) as long as anybody uses the folder: the process that tries the backup, and
//!                              the server that it started, which inherits the lock as its standard input
//! SCRATCH/trial-RANDOM/        data, tablespaces/OID, socket, postgresql.conf, pg_hba.conf, log
//! ```
//!
//! A trial removes its folder when it ends, however it ends. What a process left that was killed is removed by the next
//! trial or the next start of the daemon ([`sweep`]): exactly those folders whose lock file nobody has locked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::TrialError;

const PREFIX: &str = "trial-";
const LOCK_SUFFIX: &str = ".lock";
/// The longest path of a unix socket (`sun_path` without its zero byte).
const SOCKET_PATH_MAX: usize = 107;
/// The port, which is only a part of the socket's name.
pub(super) const PORT: u16 = 5432;

/// The folder of one trial; removed when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    lock_path: PathBuf,
    lock: File,
    removed: bool,
}

impl Scratch {
    /// Makes a folder in `area`, which is made, too, if it is missing.
    pub(super) fn make(area: &Path) -> Result<Self, TrialError> {
        let failed = |path: &Path, error| TrialError::file("make", path, error);
        folder(area, true).map_err(|error| failed(area, error))?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| failed(area, io::Error::other(error)))?;
        let name = format!("{PREFIX}{:016x}", u64::from_le_bytes(random));
        let lock_path = area.join(format!("{name}{LOCK_SUFFIX}"));
        let lock = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| failed(&lock_path, error))?;
        lock.lock().map_err(|error| failed(&lock_path, error))?;
        let scratch = Self {
            folder: area.join(name),
            lock_path,
            lock,
            removed: false,
        };
        // Somebody who swept in this very moment has removed the file.
        if scratch.lock.metadata().is_ok_and(|meta| meta.nlink() == 0) {
            let gone = io::Error::other("it was removed at once");
            return Err(failed(&scratch.lock_path, gone));
        }
        for path in [scratch.folder(), &scratch.socket_folder()] {
            folder(path, false).map_err(|error| failed(path, error))?;
        }
        let socket = scratch.socket_folder().join(format!(".s.PGSQL.{PORT}"));
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(TrialError::LongPath {
                path: scratch.socket_folder(),
            });
        }
        Ok(scratch)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn tablespace(&self, oid: u32) -> PathBuf {
        self.folder.join("tablespaces").join(oid.to_string())
    }

    pub(super) fn socket_folder(&self) -> PathBuf {
        self.folder.join("s")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The lock, to be handed to processes that use the folder.
    pub(super) fn lock(&self) -> Result<File, TrialError> {
        self.lock
            .try_clone()
            .map_err(|error| TrialError::file("use", &self.lock_path, error))
    }

    /// Removes the folder.
    pub(super) fn remove(mut self) -> Result<(), TrialError> {
        self.removed = true;
        remove(&self.folder, &self.lock_path)
            .map_err(|error| TrialError::file("remove", &self.folder, error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = remove(&self.folder, &self.lock_path)
        {
            tracing::warn!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

fn folder(path: &Path, recursive: bool) -> io::Result<()> {
    DirBuilder::new()
        .recursive(recursive)
        .mode(0o700)
        .create(path)
}

/// The folder first: while its lock file is there, it is known to be ours.
fn remove(folder: &Path, lock: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    gone(fs::remove_dir_all(folder))?;
    gone(fs::remove_file(lock))
}

/// Removes what trials left in `area` whose processes were killed.
pub fn sweep(area: &Path) {
    let Ok(entries) = fs::read_dir(area) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let trial = name
            .to_str()
            .and_then(|name| name.strip_suffix(LOCK_SUFFIX));
        let Some(trial) = trial.filter(|trial| is_trial(trial)) else {
            continue;
        };
        let Ok(lock) = OpenOptions::new().write(true).open(entry.path()) else {
            continue;
        };
        if lock.try_lock().is_err() {
            continue;
        }
        let folder = area.join(trial);
        match remove(&folder, &entry.path()) {
            Ok(()) => tracing::info!("removed what a trial left: {}", folder.display()),
            Err(error) => {
                tracing::warn!(
                    "cannot remove what a trial left in {}: {error}",
                    folder.display()
                );
            }
        }
    }
}

fn is_trial(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|random| {
        random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Refuses a file system with less than `needed` bytes free.
pub(super) fn refuse_small(path: &Path, needed: u64) -> Result<(), TrialError> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    let Some(space) = existing.and_then(|existing| rustix::fs::statvfs(existing).ok()) else {
        return Ok(());
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(TrialError::NoRoom {
        path: path.to_owned(),
        free,
        needed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_trial_left_goes_and_nothing_else() {
        let area = tempfile::tempdir().unwrap();
        let mine = Scratch::make(area.path()).unwrap();
        fs::write(mine.folder().join("file"), "x").unwrap();
        let dead = format!("{PREFIX}0123456789abcdef");
        fs::create_dir_all(area.path().join(&dead).join("data/base")).unwrap();
        fs::write(area.path().join(format!("{dead}{LOCK_SUFFIX}")), "").unwrap();
        // Not ours: no lock file, or another name.
        for other in ["trial-fedcba9876543210", "trial-x", "data"] {
            fs::create_dir(area.path().join(other)).unwrap();
        }
        fs::write(area.path().join("data.lock"), "").unwrap();
        sweep(area.path());
        assert!(!area.path().join(&dead).exists());
        assert!(mine.folder().join("file").exists());
        for other in ["trial-fedcba9876543210", "trial-x", "data", "data.lock"] {
            assert!(area.path().join(other).exists(), "{other}");
        }
        let (folder, lock) = (mine.folder().to_owned(), mine.lock_path.clone());
        mine.remove().unwrap();
        assert!(!folder.exists() && !lock.exists());
    }

    #[test]
    fn a_path_that_is_too_long_and_a_disk_that_is_too_small_are_refused() {
        let area = tempfile::tempdir().unwrap();
        let long = area.path().join("x".repeat(90));
        assert!(matches!(
            Scratch::make(&long),
            Err(TrialError::LongPath { .. })
        ));
        assert_eq!(fs::read_dir(&long).unwrap().count(), 0);
        let error = refuse_small(&area.path().join("new"), u64::MAX).unwrap_err();
        assert!(error.hint().unwrap().contains("--scratch"));
        assert!(refuse_small(area.path(), 1).is_ok());
    }
}
