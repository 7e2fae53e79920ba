//! The file that is being written: invisible under its name until it is whole, and gone if it never is.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

/// A file under a temporary name, removed when dropped without [`Target::publish`].
#[derive(Debug)]
pub(super) struct Target {
    temporary: PathBuf,
    path: PathBuf,
    pub(super) file: File,
}

impl Target {
    /// Makes it in the folder of `path`, with the permissions of `source`; fails when `path` is there already.
    pub(super) fn create(path: &Path, source: &fs::Metadata) -> io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let unique = jiff::Timestamp::now().as_nanosecond();
        let process = std::process::id();
        let temporary = path.with_file_name(format!(".{}.{process}-{unique}.tmp", name.display()));
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        let target = Self {
            file: options.open(&temporary)?,
            temporary,
            path: path.to_owned(),
        };
        let mode = source.mode() & 0o777;
        target.file.set_permissions(Permissions::from_mode(mode))?;
        Ok(target)
    }

    /// Gives the file its name; what is there already stays, and is an error.
    pub(super) fn publish(&self) -> io::Result<()> {
        let (from, to) = (self.temporary.as_path(), self.path.as_path());
        renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?;
        sync_folder_of(&self.path)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // After it was published there is no file of that name.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Makes a new or a removed name in the folder of `path` durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
