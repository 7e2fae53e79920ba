//! A folder below the root, opened step by step so that no symbolic link is ever followed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::durable::Identity;
use super::{FOLDER_TRIES_MAX, Root};
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;

/// An open folder, with every folder between the root and it.
#[derive(Debug)]
pub(super) struct Folder {
    root: Arc<Root>,
    path: ObjectPath,
    /// Outermost first, without the root.
    chain: Vec<Arc<OwnedFd>>,
}

#[derive(Debug, Clone, Copy)]
enum Missing {
    Fail,
    Create,
}

impl Folder {
    /// Opens a folder that must be there.
    pub(super) fn open(root: &Arc<Root>, path: &ObjectPath) -> Result<Self> {
        Self::step_down(root, path, Missing::Fail)
    }

    /// Opens a folder, and makes what is missing of it. It is durable once [`sync`](Self::sync) was called.
    pub(super) fn create(root: &Arc<Root>, path: &ObjectPath) -> Result<Self> {
        let mut tries = 1;
        loop {
            match Self::step_down(root, path, Missing::Create) {
                // A folder on the way was removed as empty after this made it.
                Err(StorageError::NotFound { .. }) if tries < FOLDER_TRIES_MAX => tries += 1,
                result => return result,
            }
        }
    }

    fn step_down(root: &Arc<Root>, path: &ObjectPath, missing: Missing) -> Result<Self> {
        let (root, chain) = (Arc::clone(root), Vec::new());
        let mut folder = Self {
            root,
            path: ObjectPath::root(),
            chain,
        };
        for name in path.components() {
            folder = folder.enter(name, missing)?;
        }
        Ok(folder)
    }

    fn enter(mut self, name: &str, missing: Missing) -> Result<Self> {
        let fd = match (self.open_folder(name), missing) {
            (Err(StorageError::NotFound { .. }), Missing::Create) => {
                match rustix::fs::mkdirat(self.fd(), name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => self.open_folder(name)?,
                    Err(error) => return Err(self.error("create", name, error)),
                }
            }
            (opened, _) => opened?,
        };
        self.chain.push(Arc::new(fd));
        self.path = self.child_path(name);
        Ok(self)
    }

    /// Opens the folder `name` in this one.
    pub(super) fn child(&self, name: &str) -> Result<Self> {
        let fd = self.open_folder(name)?;
        let mut chain = self.chain.clone();
        chain.push(Arc::new(fd));
        Ok(Self {
            root: Arc::clone(&self.root),
            path: self.child_path(name),
            chain,
        })
    }

    fn open_folder(&self, name: &str) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(self.fd(), name, flags, Mode::empty()) {
            Ok(fd) => Ok(fd),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let found = describe(&self.stat(name)?);
                Err(StorageError::Misplaced {
                    path: self.place(name),
                    found,
                    wanted: "a folder",
                })
            }
            Err(error) => Err(self.error("open", name, error)),
        }
    }

    /// The path of `name`, which the caller has checked to be a component.
    pub(super) fn child_path(&self, name: &str) -> ObjectPath {
        self.path.join(name).unwrap_or_else(|_| self.path.clone())
    }

    /// The file name of `name` in this folder, for error messages.
    pub(super) fn place(&self, name: &str) -> String {
        self.root
            .directory
            .join(self.path.as_str())
            .join(name)
            .display()
            .to_string()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.chain
            .last()
            .map_or(self.root.fd.as_fd(), |fd| fd.as_fd())
    }

    /// What is at `name`, without following it.
    pub(super) fn stat(&self, name: &str) -> Result<Stat> {
        rustix::fs::statat(self.fd(), name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.error("look at", name, error))
    }

    /// Makes the names in this folder durable, and its own name and those of the folders above it.
    ///
    /// Also of those that existed before, since whoever made one may not have come to it yet; but once for each.
    pub(super) fn sync(&self) -> Result<()> {
        let sync = |fd: BorrowedFd<'_>| {
            rustix::fs::fsync(fd).map_err(|error| self.error("sync", "", error))
        };
        sync(self.fd())?;
        for depth in (0..self.chain.len()).rev() {
            let identity = Identity::of(self.chain[depth].as_fd());
            if self.root.durable.has(identity) {
                continue;
            }
            let above = depth
                .checked_sub(1)
                .map_or(&self.root.fd, |above| &self.chain[above]);
            let now = SystemTime::now();
            sync(above.as_fd())?;
            self.root.durable.note(identity, now);
        }
        Ok(())
    }

    /// Removes this folder and those above it as long as they are empty, never the root. A failure only leaves an empty
    /// folder.
    pub(super) fn remove_empty(&self) {
        let mut path = self.path.clone();
        for depth in (0..self.chain.len()).rev() {
            let above = depth
                .checked_sub(1)
                .map_or(&self.root.fd, |above| &self.chain[above]);
            if rustix::fs::unlinkat(above, path.name(), AtFlags::REMOVEDIR).is_err() {
                return;
            }
            let Some(parent) = path.parent() else { return };
            path = parent;
        }
    }

    pub(super) fn error(&self, operation: &'static str, name: &str, error: Errno) -> StorageError {
        StorageError::from_io(operation, self.place(name), error.into())
    }
}

/// Refuses everything that is not a plain file.
pub(super) fn check_object(stat: &Stat, place: &str) -> Result<()> {
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        return Ok(());
    }
    let (path, found) = (place.to_owned(), describe(stat));
    Err(StorageError::Misplaced {
        path,
        found,
        wanted: "an object",
    })
}

/// What a file is, in a person's words.
pub(super) fn describe(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        _ => "a special file",
    }
}
