//! The local engine: objects are files below one directory.
//!
//! ```text
//! ROOT/main/wal/00000001/000000010000000000000004       an object, mode 0600; folders are 0700
//! ROOT/main/wal/00000001/.pgm-4711-88123-6f….tmp        a writer at work: process, its start time, a random number
//! ```
//!
//! Invariants:
//! - An object is a temporary file in its final folder until it is whole and synced; a rename then gives it its name and
//!   the folder is synced, and all folders above it once. A failed sync discards it. The names of transient objects, which are
//!   locks and what can be made anew, are not synced.
//! - A live writer holds a lock (`flock`) on its temporary file, so whoever gets that lock may remove the file.
//! - No symbolic link is followed below the root: every folder is opened from the one above it. The root itself may be
//!   reached through one.
//! - A folder is removed as soon as it is found empty; whoever needs it makes it again.

mod durable;
mod folder;
mod list;
mod reader;
mod temporary;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::DirBuilder;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use self::durable::DurableFolders;
use self::folder::Folder;
use self::reader::LocalReader;
use self::writer::LocalWriter;
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::storage::{ObjectMeta, ObjectReader, ObjectWriter, PutMode, Space, Storage};

/// How often a folder that vanishes while it is made is made again.
const FOLDER_TRIES_MAX: usize = 16;

/// A storage in a directory of this host.
#[derive(Debug, Clone)]
pub struct LocalStorage(Arc<Root>);

/// The directory under which everything is.
#[derive(Debug)]
struct Root {
    directory: PathBuf,
    fd: OwnedFd,
    durable: DurableFolders,
}

impl Root {
    /// The file name of an object, for error messages.
    fn place(&self, path: &ObjectPath) -> String {
        self.directory.join(path.as_str()).display().to_string()
    }

    fn error(&self, operation: &'static str, path: &ObjectPath, error: Errno) -> StorageError {
        StorageError::from_io(operation, self.place(path), error.into())
    }
}

impl LocalStorage {
    /// Uses an existing directory.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let failed = |error| StorageError::from_io("open", directory.display().to_string(), error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(directory, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOTDIR) => {
                let path = directory.display().to_string();
                return Err(StorageError::Misplaced {
                    path,
                    found: "a file",
                    wanted: "a folder",
                });
            }
            Err(error) => return Err(failed(error.into())),
        };
        // Absolute, so that an error still names the right place after a change of the working directory.
        let directory = std::path::absolute(directory).map_err(failed)?;
        let durable = DurableFolders::default();
        Ok(Self(Arc::new(Root {
            directory,
            fd,
            durable,
        })))
    }

    /// Makes the directory, and those above it, if they are missing (mode 0700, durable), and uses it.
    pub fn create(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let failed =
            |path: &Path, error| StorageError::from_io("create", path.display().to_string(), error);
        let absolute = std::path::absolute(directory).map_err(|e| failed(directory, e))?;
        let missing: Vec<&Path> = absolute
            .ancestors()
            .take_while(|path| !path.exists())
            .collect();
        for path in missing.into_iter().rev() {
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(path, error));
                }
                _ => {}
            }
            let above = path.parent().unwrap_or(Path::new("/"));
            std::fs::File::open(above)
                .and_then(|above| above.sync_all())
                .map_err(|error| failed(above, error))?;
        }
        Self::open(absolute)
    }

    /// The directory under which everything is, as an absolute path.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Begins a writer in its folder, which is made if it is missing.
    fn writer(&self, path: &ObjectPath, mode: PutMode) -> Result<LocalWriter> {
        let Some(parent) = path.parent() else {
            return Err(self.root_is_no_object());
        };
        let mut tries = 0;
        loop {
            tries += 1;
            match LocalWriter::begin(Folder::create(&self.0, &parent)?, path, mode) {
                // Somebody removed the folder as empty between the two steps.
                Err(StorageError::NotFound { .. }) if tries < FOLDER_TRIES_MAX => {}
                result => return result,
            }
        }
    }

    /// A writer that has all of its bytes.
    fn written(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<LocalWriter> {
        let mut writer = self.writer(path, mode)?;
        io::Write::write_all(&mut writer, bytes)
            .map_err(|error| StorageError::from_io("write", self.0.place(path), error))?;
        Ok(writer)
    }

    /// Removes the name of an object; gives the folder that it was in, if it was there.
    fn unlink(&self, path: &ObjectPath) -> Result<Option<Folder>> {
        let (folder, name) = match self.existing(path) {
            Err(StorageError::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        match rustix::fs::unlinkat(folder.fd(), name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(Some(folder)),
            Err(Errno::ISDIR) => {
                let path = self.0.place(path);
                Err(StorageError::Misplaced {
                    path,
                    found: "a folder",
                    wanted: "an object",
                })
            }
            Err(error) => Err(self.0.error("delete", path, error)),
        }
    }

    /// The folder and the name in it of an object that should be there.
    fn existing<'a>(&self, path: &'a ObjectPath) -> Result<(Folder, &'a str)> {
        let Some(parent) = path.parent() else {
            return Err(self.root_is_no_object());
        };
        match Folder::open(&self.0, &parent) {
            Ok(folder) => Ok((folder, path.name())),
            // A folder is missing, or an object is in its place: either way there is no such object.
            Err(
                StorageError::NotFound { .. }
                | StorageError::Misplaced {
                    found: "a file", ..
                },
            ) => Err(StorageError::NotFound {
                path: self.0.place(path),
            }),
            Err(error) => Err(error),
        }
    }

    fn root_is_no_object(&self) -> StorageError {
        let path = self.0.directory.display().to_string();
        StorageError::Misplaced {
            path,
            found: "a folder",
            wanted: "an object",
        }
    }
}

impl Storage for LocalStorage {
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(self.writer(path, PutMode::Create)?))
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        self.written(path, bytes, mode)?.publish().map(drop)
    }

    fn put_transient(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        let writer = self.written(path, bytes, mode)?;
        writer.publish_transient().map(drop)
    }

    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>> {
        let (folder, name) = self.existing(path)?;
        Ok(Box::new(LocalReader::open(&folder, name)?))
    }

    fn get(&self, path: &ObjectPath, bytes_max: u64) -> Result<Vec<u8>> {
        let (folder, name) = self.existing(path)?;
        let reader = LocalReader::open(&folder, name)?;
        let size = reader.size();
        if size > bytes_max {
            return Err(StorageError::TooLarge {
                path: reader.place(),
                size,
                bytes_max,
            });
        }
        let mut bytes = vec![0; size as usize];
        reader.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        let (folder, name) = self.existing(path)?;
        let stat = folder.stat(name)?;
        folder::check_object(&stat, &folder.place(name))?;
        Ok(reader::meta(path.clone(), &stat))
    }

    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<()> {
        match list::open(&self.0, prefix)? {
            Some(folder) => list::walk(&folder, visit).map(drop),
            None => Ok(()),
        }
    }

    fn folders(&self, prefix: &ObjectPath) -> Result<Vec<String>> {
        match list::open(&self.0, prefix)? {
            Some(folder) => list::folders(&folder),
            None => Ok(Vec::new()),
        }
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        if let Some(folder) = self.unlink(path)? {
            folder.sync()?;
            folder.remove_empty();
        }
        Ok(())
    }

    fn delete_transient(&self, path: &ObjectPath) -> Result<()> {
        if let Some(folder) = self.unlink(path)? {
            folder.remove_empty();
        }
        Ok(())
    }

    fn sweep(&self, prefix: &ObjectPath) -> Result<u64> {
        match list::open(&self.0, prefix)? {
            Some(folder) => temporary::sweep(&folder),
            None => Ok(0),
        }
    }

    fn space(&self) -> Result<Option<Space>> {
        let stat = rustix::fs::fstatvfs(&self.0.fd)
            .map_err(|error| self.0.error("measure", &ObjectPath::root(), error))?;
        Ok(Some(Space {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        }))
    }

    fn describe(&self) -> String {
        format!("local directory {}", self.0.directory.display())
    }
}
