//! One daemon a base directory: a lock on the pid file, which the kernel gives back when the process dies.
//!
//! A file that a dead daemon left is no obstacle. The file is emptied, not removed, at the end: whoever opened it
//! meanwhile would otherwise lock a file that nobody else can see.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::StartError;

/// The lock, held while the value lives.
#[derive(Debug)]
pub(super) struct BaseLock {
    file: File,
}

impl BaseLock {
    /// Takes the lock and writes our process id into the file.
    pub(super) fn take(path: &Path) -> Result<Self, StartError> {
        let failed = |action, error| StartError::io(action, path, error);
        let mut options = OpenOptions::new();
        let options = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(path).map_err(|error| failed("open", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&file).take(32).read_to_string(&mut pid);
                let pid = pid.trim();
                let pid = if pid.is_empty() {
                    "that is just starting"
                } else {
                    pid
                }
                .to_owned();
                let folder = path.parent().unwrap_or(path).to_owned();
                return Err(StartError::AlreadyRunning { folder, pid });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", error)),
        }
        file.set_len(0).map_err(|error| failed("write", error))?;
        writeln!(file, "{}", std::process::id()).map_err(|error| failed("write", error))?;
        Ok(Self { file })
    }

    /// Gives the lock back, leaving no process id behind.
    pub(super) fn release(self) {
        // The lock goes with the file; a number left behind would do no harm.
        let _ = self.file.set_len(0);
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
}
