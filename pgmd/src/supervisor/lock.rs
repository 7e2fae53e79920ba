//! One daemon a base directory: a lock on a file with the process id, which the kernel gives back when the process dies.
//!
//! A file that a dead daemon left is no obstacle. At the end the file is removed while it is still locked; whoever had opened
//! it meanwhile gets the lock of a file that is gone, sees that, and opens the next one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::StartError;

/// How often a file that has just been removed is followed by the next.
const TRIES: usize = 10;

/// The lock, held while the value lives.
#[derive(Debug)]
pub(super) struct BaseLock {
    file: File,
    path: PathBuf,
}

impl BaseLock {
    /// Takes the lock and writes our process id into the file.
    pub(super) fn take(path: &Path) -> Result<Self, StartError> {
        let failed = |action, error| StartError::io(action, path, error);
        for _ in 0..TRIES {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(held(&file, path)),
                Err(TryLockError::Error(error)) => return Err(failed("lock", error)),
            }
            if !is_at(&file, path) {
                continue;
            }
            let mut lock = Self {
                file,
                path: path.to_owned(),
            };
            lock.write_pid().map_err(|error| failed("write", error))?;
            return Ok(lock);
        }
        Err(failed("lock", std::io::Error::other("it comes and goes")))
    }

    /// Gives the lock back, leaving no file behind.
    pub(super) fn release(self) {
        // One that is left behind does no harm.
        let _ = std::fs::remove_file(&self.path);
    }

    fn write_pid(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())
    }
}

fn open(path: &Path) -> Result<File, StartError> {
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let file = options.open(path);
    file.map_err(|error| StartError::io("open", path, error))
}

/// Whether `path` still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

fn held(mut file: &File, path: &Path) -> StartError {
    let mut pid = String::new();
    let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut pid);
    let pid = match pid.trim() {
        "" => "that is just starting",
        pid => pid,
    };
    StartError::AlreadyRunning {
        folder: path.parent().unwrap_or(path).to_owned(),
        pid: pid.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_the_first_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgmd.pid");
        let first = BaseLock::take(&path).unwrap();
        let error = BaseLock::take(&path).unwrap_err();
        let pid = std::process::id();
        assert!(
            error.to_string().ends_with(&format!("(process {pid})")),
            "{error}"
        );
        assert!(error.hint().unwrap().contains(&pid.to_string()));
        first.release();
        assert!(!path.exists());
        assert!(BaseLock::take(&path).is_ok());
    }

    #[test]
    fn a_file_left_by_a_dead_daemon_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgmd.pid");
        std::fs::write(&path, "99999999999999999999\n").unwrap();
        let lock = BaseLock::take(&path).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap().trim(),
            std::process::id().to_string()
        );
        lock.release();
    }

    #[test]
    fn a_file_that_was_removed_while_it_was_waited_for_is_not_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgmd.pid");
        let early = open(&path).unwrap();
        BaseLock::take(&path).unwrap().release();
        early.try_lock().unwrap();
        assert!(!is_at(&early, &path));
        let next = BaseLock::take(&path).unwrap();
        assert!(is_at(&next.file, &path));
    }
}
