//! Writing an object's file: temporary, synced, renamed, its folders synced.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;

use rustix::fs::{Advice, AtFlags, RenameFlags};
use rustix::io::Errno;

use super::folder::{Folder, check_object};
use super::reader::meta;
use super::temporary;
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::storage::{ObjectMeta, ObjectWriter, PutMode};

/// Bytes after which the kernel is told to begin writing them to the disk, so that the sync at the end is short.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// A temporary file on its way to become an object. Dropped before that, the file is removed.
#[derive(Debug)]
pub(super) struct LocalWriter {
    pub(super) file: File,
    folder: Folder,
    path: ObjectPath,
    mode: PutMode,
    /// The temporary file's name, as long as it has it.
    temporary: Option<String>,
    written: u64,
    /// Up to here write-back has begun.
    written_back: u64,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Writing,
    /// A write failed: there is a hole where the bytes should be.
    Spent,
}

impl LocalWriter {
    /// Makes the temporary file; [`StorageError::NotFound`] if the folder was removed since it was opened.
    pub(super) fn begin(folder: Folder, path: &ObjectPath, mode: PutMode) -> Result<Self> {
        let place = folder.place(path.name());
        match folder.stat(path.name()) {
            Ok(stat) => {
                check_object(&stat, &place)?;
                if mode == PutMode::Create {
                    return Err(StorageError::AlreadyExists { path: place });
                }
            }
            Err(StorageError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let (name, file) = temporary::create(&folder)?;
        Ok(Self {
            file,
            folder,
            path: path.clone(),
            mode,
            temporary: Some(name),
            written: 0,
            written_back: 0,
            state: State::Writing,
        })
    }

    /// Makes the object durable and visible.
    pub(super) fn publish(mut self) -> Result<ObjectMeta> {
        let meta = self.show()?;
        if let Err(error) = self.folder.sync() {
            if self.mode == PutMode::Create {
                // The name is ours: nobody else can have made it. Nobody was promised that it stays.
                let name = self.path.name();
                let _ = rustix::fs::unlinkat(self.folder.fd(), name, AtFlags::empty());
            }
            return Err(error);
        }
        Ok(meta)
    }

    /// Makes the object visible. Its bytes are durable, so it is never seen in part, but its name need not be.
    pub(super) fn publish_transient(mut self) -> Result<ObjectMeta> {
        self.show()
    }

    fn show(&mut self) -> Result<ObjectMeta> {
        let place = self.folder.place(self.path.name());
        if self.state == State::Spent {
            let source = io::Error::other("an earlier write to it failed");
            return Err(StorageError::Io {
                operation: "finish",
                path: place,
                source,
            });
        }
        // An error here means that the kernel may have dropped our pages: the file is worth nothing, and a second sync
        // of it would lie. Dropping `self` discards it.
        self.file
            .sync_all()
            .map_err(|error| StorageError::from_io("sync", place.as_str(), error))?;
        let stat = rustix::fs::fstat(&self.file)
            .map_err(|error| self.folder.error("look at", self.path.name(), error))?;
        let meta = meta(self.path.clone(), &stat);
        if meta.size != self.written {
            let reason = format!(
                "it has {} bytes after {} were written",
                meta.size, self.written
            );
            return Err(StorageError::Damaged {
                path: place,
                reason,
            });
        }
        self.rename()?;
        Ok(meta)
    }

    /// Gives the temporary file its final name.
    fn rename(&mut self) -> Result<()> {
        let Some(from) = self.temporary.as_deref() else {
            return Ok(());
        };
        let (fd, to) = (self.folder.fd(), self.path.name());
        let renamed = match self.mode {
            PutMode::Replace => rustix::fs::renameat(fd, from, fd, to),
            PutMode::Create => {
                match rustix::fs::renameat_with(fd, from, fd, to, RenameFlags::NOREPLACE) {
                    // A file system without it: a link fails as well if the name is taken.
                    Err(Errno::INVAL | Errno::NOSYS) => self.link(from, to),
                    renamed => renamed,
                }
            }
        };
        match renamed {
            Ok(()) => {
                self.temporary = None;
                Ok(())
            }
            Err(error @ (Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY)) => {
                // A folder that appeared meanwhile is another mistake than an object.
                check_object(&self.folder.stat(to)?, &self.folder.place(to))?;
                Err(self.folder.error("create", to, error))
            }
            Err(error) => Err(self.folder.error("rename to", to, error)),
        }
    }

    /// The way without `RENAME_NOREPLACE`: a link fails as well if the name is taken.
    fn link(&self, from: &str, to: &str) -> Result<(), Errno> {
        let fd = self.folder.fd();
        rustix::fs::linkat(fd, from, fd, to, AtFlags::empty())?;
        // If the temporary name stays, a sweep removes it; the object is complete.
        let _ = rustix::fs::unlinkat(fd, from, AtFlags::empty());
        Ok(())
    }

    /// Has the kernel begin to write what it collected. Dropping those pages is only advice: dirty ones are written and
    /// stay. An error of that write-back is reported by the sync.
    fn begin_write_back(&mut self) {
        let bytes = self.written - self.written_back;
        if bytes >= WRITE_BACK_BYTES {
            let _ = rustix::fs::fadvise(
                &self.file,
                self.written_back,
                NonZeroU64::new(bytes),
                Advice::DontNeed,
            );
            self.written_back = self.written;
        }
    }
}

impl Write for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            Ok(written) => {
                self.written += written as u64;
                self.begin_write_back();
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.state = State::Spent;
                Err(StorageError::from_io("write", self.place(), error).into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter for LocalWriter {
    fn place(&self) -> String {
        self.folder.place(self.path.name())
    }

    fn finish(self: Box<Self>) -> Result<ObjectMeta> {
        self.publish()
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        let Some(name) = self.temporary.take() else {
            return;
        };
        if let Err(error) = rustix::fs::unlinkat(self.folder.fd(), &name, AtFlags::empty()) {
            let file = self.folder.place(&name);
            tracing::warn!(file, %error, "an unfinished file could not be removed");
        }
        self.folder.remove_empty();
    }
}
