//! Reading an object's file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::folder::{Folder, check_object, describe};
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::storage::{ObjectMeta, ObjectReader};

/// An open object. Its size is that at opening: objects do not change.
#[derive(Debug)]
pub(super) struct LocalReader {
    file: File,
    size: u64,
    place: String,
}

impl LocalReader {
    pub(super) fn open(folder: &Folder, name: &str) -> Result<Self> {
        let place = folder.place(name);
        // NONBLOCK only matters for a pipe in the place of an object, which would keep us waiting.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(folder.fd(), name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::NXIO) => {
                let found = describe(&folder.stat(name)?);
                return Err(StorageError::Misplaced {
                    path: place,
                    found,
                    wanted: "an object",
                });
            }
            Err(error) => return Err(folder.error("open", name, error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|error| folder.error("look at", name, error))?;
        check_object(&stat, &place)?;
        Ok(Self {
            file: File::from(fd),
            size: stat.st_size.unsigned_abs(),
            place,
        })
    }
}

impl ObjectReader for LocalReader {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buf, offset).map_err(|error| {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return StorageError::from_io("read", self.place.as_str(), error);
            }
            let reason = format!(
                "it ends before {} bytes from {offset} could be read ({} bytes when opened)",
                buf.len(),
                self.size
            );
            StorageError::Damaged {
                path: self.place.clone(),
                reason,
            }
        })
    }
}

/// What a file's status says about the object.
pub(super) fn meta(path: ObjectPath, stat: &Stat) -> ObjectMeta {
    let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    let modified: SystemTime = UNIX_EPOCH + seconds + Duration::from_nanos(stat.st_mtime_nsec);
    ObjectMeta {
        path,
        size: stat.st_size.unsigned_abs(),
        modified,
    }
}
