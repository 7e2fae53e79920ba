//! A folder of a test's own, gone when the test is over.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A temporary folder, removed with all its contents when dropped; kept when the test is failing.
///
/// Its path is short: unix sockets, whose paths are limited to 107 bytes, rest in it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a new folder whose name begins with `prefix`.
    pub fn new(prefix: &str) -> Self {
        let path = tempfile::Builder::new()
            .prefix(&format!("{prefix}-"))
            .rand_bytes(5)
            .tempdir()
            .expect("a temporary folder can be made")
            .keep();
        Self { path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the folder.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for the failing test: {}", self.path.display());
            return;
        }
        if fs::remove_dir_all(&self.path).is_err() {
            // A test may have taken away the permission to write in a folder.
            make_writable(&self.path);
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn make_writable(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}
