//! What there is in a data directory, in the order of names, as the server would send it.
//!
//! Every folder is opened relative to the one that it is in, and no link is followed but those of tablespaces. A folder or a file that is gone
//! when its turn comes is passed over: replay knows of it. Follows `sendDir` and `sendTablespace` in `basebackup.c`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{control_file, names};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::manifest::{DirectoryEntry, FilePath, TablespaceLink};

/// Folders within folders: no server makes more than five.
const DEPTH_MAX: usize = 32;
/// The first major version that has `pg_wal/summaries`.
const SUMMARIES_SINCE: u32 = 17;

/// A data directory and its tablespaces.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    major: u32,
    /// The name of the one folder in each tablespace that is this server's.
    version_folder: String,
    pub(super) tablespaces: Vec<Tablespace>,
}

/// A tablespace beside the data directory.
#[derive(Debug)]
pub(super) struct Tablespace {
    pub(super) oid: u32,
    pub(super) target: String,
    /// The folder, if it is there, and how to tell it from others.
    folder: Option<(OwnedFd, FolderId)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FolderId(u64, u64);

/// Is told what there is.
pub(super) trait Visitor {
    /// A folder; what is in it comes later.
    fn folder(&mut self, folder: DirectoryEntry) -> Result<()>;
    /// The link of a tablespace, whose files have come before.
    fn tablespace(&mut self, link: TablespaceLink) -> Result<()>;
    /// A regular file, by its name in an open folder.
    fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: FilePath,
        stat: &Stat,
    ) -> Result<()>;
    /// Something that no backup has.
    fn left(&mut self, path: &FilePath, what: &'static str) -> Result<()>;
}

/// The names in a folder, sorted, close together in memory.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    /// Where each begins and ends in the bytes.
    places: Vec<(u32, u16)>,
}

impl<'a> Tree<'a> {
    /// Finds the tablespaces of the data directory `root`.
    pub(super) fn new(root: BorrowedFd<'a>, major: u32, catalog_version: u32) -> Result<Self> {
        let mut tablespaces = Vec::new();
        let path = b"pg_tblspc".to_vec();
        if let Some(links) = open_folder(root, &path, &path)? {
            let links_names = Names::of(&links, &path)?;
            for name in links_names.iter() {
                let text = std::str::from_utf8(name).ok();
                let oid = text.and_then(|text| text.parse::<u32>().ok());
                // An in-place one is a folder like others.
                let target = rustix::fs::readlinkat(&links, name, Vec::new());
                if let (Some(oid), Ok(target)) = (oid, target) {
                    tablespaces.extend(Tablespace::open(oid, target.to_bytes())?);
                }
            }
        }
        tablespaces.sort_by_key(|tablespace: &Tablespace| tablespace.oid);
        Ok(Self {
            root,
            major,
            version_folder: format!("PG_{major}_{catalog_version}"),
            tablespaces,
        })
    }

    /// Visits everything but `global/pg_control`: tablespaces first, then the data directory.
    pub(super) fn visit(&self, cx: &Context, visitor: &mut dyn Visitor) -> Result<()> {
        let mut walk = Walk {
            cx,
            tree: self,
            visitor,
        };
        for tablespace in &self.tablespaces {
            walk.tablespace(tablespace)?;
        }
        walk.contents(self.root, &[], 0)
    }
}

impl Tablespace {
    /// `None` for a link that the server does not take for a tablespace's either.
    fn open(oid: u32, target: &[u8]) -> Result<Option<Self>> {
        let Some(target) = std::str::from_utf8(target)
            .ok()
            .filter(|target| target.starts_with('/'))
        else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match rustix::fs::open(target, flags, Mode::empty()) {
            Ok(folder) => {
                let stat = rustix::fs::fstat(&folder)
                    .map_err(|error| failed("open", target.as_bytes(), error))?;
                Some((folder, FolderId::of(&stat)))
            }
            Err(Errno::NOENT) => None,
            Err(error) => return Err(failed("open", target.as_bytes(), error)),
        };
        Ok(Some(Self {
            oid,
            target: target.to_owned(),
            folder,
        }))
    }
}

struct Walk<'a> {
    cx: &'a Context,
    tree: &'a Tree<'a>,
    visitor: &'a mut dyn Visitor,
}

impl Walk<'_> {
    fn tablespace(&mut self, tablespace: &Tablespace) -> Result<()> {
        let Some((folder, _)) = &tablespace.folder else {
            return Ok(());
        };
        let name = self.tree.version_folder.as_bytes();
        let path = format!("pg_tblspc/{}/{}", tablespace.oid, self.tree.version_folder);
        let Some(stat) = stat_of(folder.as_fd(), name, path.as_bytes())? else {
            return Ok(());
        };
        if let Some(version) = open_folder(folder.as_fd(), name, path.as_bytes())? {
            self.visitor.folder(directory(path.as_bytes(), &stat)?)?;
            self.contents(version.as_fd(), path.as_bytes(), 0)?;
        }
        Ok(())
    }

    fn contents(&mut self, folder: BorrowedFd<'_>, path: &[u8], depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(failed("open", path, Errno::NAMETOOLONG));
        }
        let all = Names::of(&folder, path)?;
        let of_database = names::is_of_database(path);
        for name in all.iter() {
            self.cx.check_cancel()?;
            if names::is_left(name) || (of_database && is_forgotten(name, &all)) {
                continue;
            }
            let child = match path {
                b"" => name.to_vec(),
                path => [path, b"/", name].concat(),
            };
            if child == control_file::PATH {
                continue;
            }
            if let Some(stat) = stat_of(folder, name, &child)? {
                self.child(folder, name, &child, &stat, depth)?;
            }
        }
        Ok(())
    }

    fn child(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        depth: usize,
    ) -> Result<()> {
        if names::is_emptied(path) {
            return self.visitor.folder(directory(path, stat)?);
        }
        if path == b"pg_wal" {
            return self.wal_folders(stat);
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                self.visitor
                    .file(folder, OsStr::from_bytes(name), file_path(path)?, stat)
            }
            FileType::Directory => {
                self.visitor.folder(directory(path, stat)?)?;
                let id = FolderId::of(stat);
                let mut tablespaces = self.tree.tablespaces.iter();
                // The folder of a tablespace may be within the data directory.
                if tablespaces.any(|tablespace| tablespace.is(id)) {
                    return Ok(());
                }
                match open_folder(folder, name, path)? {
                    Some(folder) => self.contents(folder.as_fd(), path, depth + 1),
                    None => Ok(()),
                }
            }
            FileType::Symlink => match self.tree.link(path) {
                Some(link) => self.visitor.tablespace(link),
                None => self.visitor.left(&file_path(path)?, "a symbolic link"),
            },
            _ => self.visitor.left(&file_path(path)?, "no regular file"),
        }
    }

    /// The WAL comes from the archive.
    fn wal_folders(&mut self, stat: &Stat) -> Result<()> {
        let more: &[&str] = match self.tree.major {
            SUMMARIES_SINCE.. => &["pg_wal", "pg_wal/archive_status", "pg_wal/summaries"],
            _ => &["pg_wal", "pg_wal/archive_status"],
        };
        for path in more {
            self.visitor.folder(directory(path.as_bytes(), stat)?)?;
        }
        Ok(())
    }
}

impl Tree<'_> {
    /// The tablespace whose link this path is.
    fn link(&self, path: &[u8]) -> Option<TablespaceLink> {
        let name = path.strip_prefix(b"pg_tblspc/")?;
        let mut tablespaces = self.tablespaces.iter();
        let found = tablespaces.find(|one| one.oid.to_string().as_bytes() == name)?;
        Some(TablespaceLink {
            oid: found.oid,
            target: found.target.clone(),
        })
    }
}

impl Tablespace {
    fn is(&self, id: FolderId) -> bool {
        self.folder.as_ref().is_some_and(|(_, own)| *own == id)
    }
}

impl FolderId {
    fn of(stat: &Stat) -> Self {
        Self(stat.st_dev, stat.st_ino)
    }
}

impl Names {
    fn of(folder: &impl AsFd, path: &[u8]) -> Result<Self> {
        let mut names = Self::default();
        let listed = Dir::read_from(folder).map_err(|error| failed("list", path, error))?;
        for entry in listed {
            let entry = entry.map_err(|error| failed("list", path, error))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let begin = u32::try_from(names.bytes.len());
            let (Ok(begin), Ok(length)) = (begin, u16::try_from(name.len())) else {
                return Err(failed("list", path, Errno::OVERFLOW));
            };
            names.places.push((begin, length));
            names.bytes.extend_from_slice(name);
        }
        let Self { bytes, places } = &mut names;
        places.sort_unstable_by_key(|place| name_at(bytes, *place));
        Ok(names)
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| name_at(&self.bytes, *place))
    }

    fn contains(&self, name: &[u8]) -> bool {
        let found = self
            .places
            .binary_search_by_key(&name, |place| name_at(&self.bytes, *place));
        found.is_ok()
    }
}

fn name_at(bytes: &[u8], (begin, length): (u32, u16)) -> &[u8] {
    &bytes[begin as usize..][..usize::from(length)]
}

/// Whether a file in the folder of a database is of a relation that is temporary or not logged; of the latter the fork stays from
/// which it is made anew.
fn is_forgotten(name: &[u8], all: &Names) -> bool {
    match names::relation(name) {
        Some((_, b"init")) => false,
        Some((number, _)) => all.contains(&[number, b"_init"].concat()),
        None => names::is_temporary(name),
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

/// What is known of a name in a folder, if there is still something under it.
fn stat_of(folder: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<Stat>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(failed("look at", path, error)),
    }
}

/// The permission bits in a mode.
pub(super) fn permissions(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// The time of the last change, in seconds since 1970.
pub(super) fn changed_at(stat: &Stat) -> u64 {
    u64::try_from(stat.st_mtime).unwrap_or(0)
}

fn directory(path: &[u8], stat: &Stat) -> Result<DirectoryEntry> {
    let mode = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => permissions(stat),
        // A link that becomes a folder.
        _ => 0o700,
    };
    Ok(DirectoryEntry {
        path: file_path(path)?,
        mode,
        mtime: changed_at(stat),
    })
}

fn file_path(path: &[u8]) -> Result<FilePath> {
    FilePath::new(path).map_err(|error| Error::ServerFile {
        operation: "back up",
        path: path.escape_ascii().to_string(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
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

#[cfg(test)]
mod tests;
