//! A data directory of this host.
//!
//! Every folder is opened relative to the one that it is in, and no link is followed but those of tablespaces. A file is opened when its
//! turn comes, so that what is removed later can still be read.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::control_file::{self, ControlFile};
use super::directory::{At, DataDirectory, Entry, FolderId, Kind, Link, Names, Opening};
use crate::backup::collect::FileHeader;
use crate::backup::read::{SourceFile, Where};
use crate::error::{Error, Result};
use crate::manifest::FilePath;

/// Small runs are left to the workers while no more files than this are open.
const OPEN_MAX: usize = 256;

/// The data directory.
#[derive(Debug)]
pub(super) struct LocalDirectory<'a> {
    folder: BorrowedFd<'a>,
    control: Option<&'a File>,
    /// As many as there are open files, and one.
    open: Arc<()>,
}

impl<'a> LocalDirectory<'a> {
    /// The directory that is open as `folder`; without `control` its `pg_control` cannot be read.
    pub(super) fn new(folder: BorrowedFd<'a>, control: Option<&'a File>) -> Self {
        Self {
            folder,
            control,
            open: Arc::new(()),
        }
    }
}

impl DataDirectory for LocalDirectory<'_> {
    type Folder = OwnedFd;
    type Known = ();

    fn root(&self) -> Result<OwnedFd> {
        let folder = self.folder.try_clone_to_owned();
        folder.map_err(|source| Error::System {
            operation: "opening the data directory once more",
            source,
        })
    }

    fn links(&self) -> Result<Vec<Link>> {
        let path = b"pg_tblspc";
        let mut found = Vec::new();
        let Some(links) = open_folder(self.folder, path, path)? else {
            return Ok(found);
        };
        for (name, ()) in self.list(&links, path)?.iter() {
            let text = std::str::from_utf8(name).ok();
            let oid = text.and_then(|text| text.parse::<u32>().ok());
            // An in-place one is a folder like others.
            let target = rustix::fs::readlinkat(&links, name, Vec::new());
            if let (Some(oid), Ok(target)) = (oid, target)
                && let Ok(target) = target.into_string()
            {
                found.push((oid, target));
            }
        }
        Ok(found)
    }

    fn space(&self, target: &str) -> Result<Option<(OwnedFd, Option<FolderId>)>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(target, flags, Mode::empty()) {
            Ok(folder) => {
                let stat = rustix::fs::fstat(&folder)
                    .map_err(|error| failed("open", target.as_bytes(), error))?;
                Ok(Some((folder, Some(id_of(&stat)))))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("open", target.as_bytes(), error)),
        }
    }

    fn list(&self, folder: &OwnedFd, path: &[u8]) -> Result<Names<()>> {
        let mut names = Names::new();
        let listed = Dir::read_from(folder).map_err(|error| failed("list", path, error))?;
        for entry in listed {
            let entry = entry.map_err(|error| failed("list", path, error))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let pushed = names.push(name, ());
                pushed.ok_or_else(|| failed("list", path, Errno::OVERFLOW))?;
            }
        }
        names.sort();
        Ok(names)
    }

    fn look(&self, at: At<'_, Self>, _: Option<()>) -> Result<Option<Entry>> {
        match rustix::fs::statat(at.folder, at.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(entry_of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("look at", at.path, error)),
        }
    }

    fn open_folder(&self, at: At<'_, Self>) -> Result<Option<OwnedFd>> {
        open_folder(at.folder.as_fd(), at.name, at.path)
    }

    /// The folder of a tablespace may be within the data directory.
    fn is_space(&self, _: &[u8], entry: &Entry, _: &str, id: Option<FolderId>) -> bool {
        id.is_some() && id == entry.id
    }

    fn may_read(&self, at: At<'_, Self>, entry: &Entry) -> Result<()> {
        if entry.is_readable {
            return Ok(());
        }
        match rustix::fs::accessat(at.folder, at.name, Access::READ_OK, AtFlags::EACCESS) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("read", at.path, error)),
        }
    }

    fn open(&self, at: At<'_, Self>, path: &FilePath, _: &Entry) -> Result<Opening> {
        // Should it be a pipe by now, nobody waits for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(at.folder, at.name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Opening::Gone),
            Err(Errno::LOOP) => return Ok(Opening::Other),
            Err(error) => return Err(failed("open", at.path, error)),
        };
        let stat =
            rustix::fs::fstat(file.as_fd()).map_err(|error| failed("look at", at.path, error))?;
        let entry = entry_of(&stat);
        if entry.kind != Kind::File {
            return Ok(Opening::Other);
        }
        let source = SourceFile {
            path: path.clone(),
            place: Where::Here {
                file: file.into(),
                _open: Arc::clone(&self.open),
            },
            pages: None,
        };
        Ok(Opening::Open(entry.header(path), source))
    }

    fn has_many_open(&self) -> bool {
        Arc::strong_count(&self.open) > OPEN_MAX
    }

    fn control_file(&self) -> Result<(FileHeader, Vec<u8>)> {
        let file = self
            .control
            .ok_or_else(|| failed("open", control_file::PATH, Errno::NOENT))?;
        let stat = rustix::fs::fstat(file)
            .map_err(|error| failed("look at", control_file::PATH, error))?;
        let ControlFile { bytes } = ControlFile::read(file)?;
        let header = FileHeader {
            size: bytes.len() as u64,
            ..entry_of(&stat).header(&control_file::path()?)
        };
        Ok((header, bytes))
    }
}

fn open_folder(folder: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(opened) => Ok(Some(opened)),
        // Gone, or something else by now.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(failed("open", path, error)),
    }
}

fn entry_of(stat: &Stat) -> Entry {
    let user = geteuid();
    Entry {
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        },
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        mtime: u64::try_from(stat.st_mtime).unwrap_or(0),
        id: Some(id_of(stat)),
        is_readable: user.is_root() || (stat.st_uid == user.as_raw() && stat.st_mode & 0o400 != 0),
    }
}

fn id_of(stat: &Stat) -> FolderId {
    FolderId(stat.st_dev, stat.st_ino)
}

/// `operation` failed on a file of the server.
pub(super) fn failed(operation: &'static str, path: &[u8], error: Errno) -> Error {
    let path = match path {
        b"" => PathBuf::from("the data directory"),
        path => PathBuf::from(OsStr::from_bytes(path)),
    };
    Error::ServerFile {
        operation,
        path: path.display().to_string(),
        source: error.into(),
    }
}
