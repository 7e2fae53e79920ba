//! The folders that a restore writes into: the data directory and one folder for each tablespace.
//!
//! Files are opened relative to a root's descriptor with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`: whatever a
//! manifest says, nothing outside a root is touched. While a restore is under way each root holds a marker; a root with
//! a marker is ours, so the next attempt may go on with it. What else may be restored into is said in `existing`. PostgreSQL
//! does not start on an unfinished data directory, since `pg_control` comes last.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use super::error::RestoreError;
use crate::manifest::FilePath;

/// The file that marks an unfinished restore.
pub(super) const MARKER: &str = "pgm_restore_is_not_finished";
/// The folder of the links to tablespaces.
pub(super) const TABLESPACES: &str = "pg_tblspc";

/// One folder that is restored into.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    folder: OwnedFd,
    found: Found,
}

/// All folders that are restored into.
#[derive(Debug)]
pub(super) struct Roots {
    data: Root,
    tablespaces: BTreeMap<u32, Root>,
}

/// Whether there was something in the folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Found {
    /// They were made, or were empty.
    Nothing,
    /// What is there may be the same as in the backup.
    Something,
}

impl Roots {
    /// Makes the folders and marks them. What is in them stays: whether they may be taken was found out before.
    pub(super) fn prepare(
        data: &Path,
        tablespaces: &BTreeMap<u32, PathBuf>,
    ) -> Result<Self, RestoreError> {
        let data = Root::prepare(data)?;
        let tablespaces = tablespaces
            .iter()
            .map(|(oid, path)| Ok((*oid, Root::prepare(path)?)))
            .collect::<Result<_, RestoreError>>()?;
        Ok(Self { data, tablespaces })
    }

    /// The data directory.
    pub(super) fn data_path(&self) -> &Path {
        &self.data.path
    }

    /// Whether there was something in one of them.
    pub(super) fn found(&self) -> Found {
        let found = self.all().map(|root| root.found).max();
        found.unwrap_or(Found::Nothing)
    }

    /// Every folder, with what the paths of its files begin with in a manifest.
    pub(super) fn folders(&self) -> impl Iterator<Item = (Vec<u8>, &Path)> {
        let tablespaces = self.tablespaces.iter().map(|(oid, root)| {
            (
                format!("{TABLESPACES}/{oid}/").into_bytes(),
                root.path.as_path(),
            )
        });
        tablespaces.chain(std::iter::once((Vec::new(), self.data.path.as_path())))
    }

    /// Makes a folder, with its parents.
    pub(super) fn make_folder(&self, path: &FilePath, mode: u32) -> Result<(), RestoreError> {
        let Some((root, relative)) = self.resolve(path) else {
            return Ok(());
        };
        root.make_folder(relative, mode)
            .map_err(|error| root.failed("make folder", relative, error))
    }

    /// Makes a file that must not exist.
    pub(super) fn create(&self, path: &FilePath, mode: u32) -> Result<File, RestoreError> {
        self.open_with(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)
    }

    /// Opens a file that is there, to be read and written, and gives it its mode and size; `None` if there is none.
    pub(super) fn open_existing(
        &self,
        path: &FilePath,
        mode: u32,
        size: u64,
    ) -> Result<Option<File>, RestoreError> {
        let file = match self.open_with(path, OFlags::RDWR, 0) {
            Ok(file) => file,
            Err(RestoreError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let adapt = || -> io::Result<()> {
            file.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
            if file.metadata()?.len() != size {
                file.set_len(size)?;
            }
            Ok(())
        };
        adapt().map_err(|error| RestoreError::file("write", path.as_path(), error))?;
        Ok(Some(file))
    }

    /// Opens a file that is there, to be read and written.
    pub(super) fn open_both(&self, path: &FilePath) -> Result<File, RestoreError> {
        self.open_with(path, OFlags::RDWR, 0)
    }

    /// Opens a file for writing.
    pub(super) fn open(&self, path: &FilePath) -> Result<File, RestoreError> {
        self.open_with(path, OFlags::WRONLY, 0)
    }

    fn open_with(&self, path: &FilePath, flags: OFlags, mode: u32) -> Result<File, RestoreError> {
        let Some((root, relative)) = self.resolve(path) else {
            return Err(RestoreError::file(
                "write",
                path.as_path(),
                io::ErrorKind::IsADirectory,
            ));
        };
        let open = || root.open(relative, flags, mode);
        let opened = match open() {
            // A server sends folders before their files; be robust all the same.
            Err(error) if error.kind() == io::ErrorKind::NotFound && mode != 0 => {
                let parent = relative.parent().unwrap_or(Path::new(""));
                root.make_folder(parent, 0o700).and_then(|()| open())
            }
            other => other,
        };
        opened
            .map(File::from)
            .map_err(|error| root.failed("write", relative, error))
    }

    /// Makes the link to a tablespace.
    pub(super) fn link_tablespaces(&self) -> Result<(), RestoreError> {
        let folder = Path::new(TABLESPACES);
        self.data
            .make_folder(folder, 0o700)
            .map_err(|error| self.data.failed("make folder", folder, error))?;
        for (oid, root) in &self.tablespaces {
            let link = folder.join(oid.to_string());
            rustix::fs::symlinkat(&root.path, &self.data.folder, &link)
                .map_err(|error| self.data.failed("make link", &link, error.into()))?;
        }
        Ok(())
    }

    /// Makes everything that was written durable.
    pub(super) fn sync(&self) -> Result<(), RestoreError> {
        for root in self.all() {
            rustix::fs::syncfs(&root.folder)
                .map_err(|error| root.failed("sync", Path::new(""), error.into()))?;
        }
        Ok(())
    }

    /// Takes the markers away: the restore is complete.
    pub(super) fn finish(&self) -> Result<(), RestoreError> {
        for root in self.all() {
            rustix::fs::unlinkat(&root.folder, MARKER, AtFlags::empty())
                .map_err(|error| root.failed("remove", Path::new(MARKER), error.into()))?;
        }
        self.sync()
    }

    fn all(&self) -> impl Iterator<Item = &Root> {
        self.tablespaces.values().chain(std::iter::once(&self.data))
    }

    /// The root of `path` and the path within it; nothing for a tablespace's own folder, which is a root.
    fn resolve<'a>(&'a self, path: &'a FilePath) -> Option<(&'a Root, &'a Path)> {
        let bytes = path.as_bytes();
        let below = bytes
            .strip_prefix(TABLESPACES.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"/"));
        let Some(below) = below else {
            return Some((&self.data, path.as_path()));
        };
        let mut parts = below.splitn(2, |&byte| byte == b'/');
        let oid = parts
            .next()
            .and_then(|oid| std::str::from_utf8(oid).ok()?.parse().ok());
        let Some(root) = oid.and_then(|oid: u32| self.tablespaces.get(&oid)) else {
            return Some((&self.data, path.as_path()));
        };
        parts
            .next()
            .map(|rest| (root, Path::new(OsStr::from_bytes(rest))))
    }
}

impl Root {
    fn prepare(path: &Path) -> Result<Self, RestoreError> {
        let failed = |operation| move |error: io::Error| RestoreError::file(operation, path, error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("make"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed("protect"))?;
        let found = found_in(path).map_err(failed("read"))?;
        File::create(path.join(MARKER)).map_err(failed("write to"))?;
        let folder = rustix::fs::open(
            path,
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| failed("open")(error.into()))?;
        Ok(Self {
            path: path.to_owned(),
            folder,
            found,
        })
    }

    fn open(&self, relative: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        open_beneath(self.folder.as_fd(), relative, flags, mode)
    }

    fn make_folder(&self, relative: &Path, mode: u32) -> io::Result<()> {
        let mut made = PathBuf::new();
        let depth = relative.components().count();
        for (level, component) in relative.components().enumerate() {
            let parent = if made.as_os_str().is_empty() {
                None
            } else {
                Some(self.open(&made, OFlags::DIRECTORY | OFlags::RDONLY, 0)?)
            };
            let parent = parent.as_ref().map_or(self.folder.as_fd(), AsFd::as_fd);
            let mode = if level + 1 == depth {
                mode & 0o777
            } else {
                0o700
            };
            match rustix::fs::mkdirat(parent, component.as_os_str(), Mode::from_raw_mode(mode)) {
                Ok(()) => made.push(component),
                Err(rustix::io::Errno::EXIST) => {
                    if level + 1 == depth {
                        let mode = Mode::from_raw_mode(mode);
                        rustix::fs::chmodat(parent, component.as_os_str(), mode, AtFlags::empty())?;
                    }
                    made.push(component);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn failed(&self, operation: &'static str, relative: &Path, error: io::Error) -> RestoreError {
        RestoreError::file(operation, &self.path.join(relative), error)
    }
}

/// Opens a path below a folder: no link is followed and nothing outside is reached.
fn open_beneath(
    folder: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: u32,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(mode & 0o777);
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(folder, path, flags, mode, resolve) {
        // Old kernels and some sandboxes have no openat2; the names were checked when the manifest was read.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            Ok(rustix::fs::openat(folder, path, flags, mode)?)
        }
        other => Ok(other?),
    }
}

/// Refuses a folder that is neither absent, empty nor left by an unfinished restore.
pub(super) fn refuse_foreign(path: &Path) -> Result<(), RestoreError> {
    let refuse = |reason: &str| RestoreError::Directory {
        path: path.to_owned(),
        reason: reason.into(),
    };
    if !path.is_absolute() {
        return Err(refuse("it is not an absolute path"));
    }
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return parent_writable(path),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(refuse("it is not a directory"));
        }
        Err(error) => return Err(RestoreError::file("read", path, error)),
    };
    if path.join(MARKER).exists() {
        return Ok(());
    }
    match entries.next() {
        None => writable(path),
        Some(Ok(_)) => Err(refuse("it is not empty")),
        Some(Err(error)) => Err(RestoreError::file("read", path, error)),
    }
}

fn parent_writable(path: &Path) -> Result<(), RestoreError> {
    match path.ancestors().skip(1).find(|ancestor| ancestor.exists()) {
        Some(parent) => writable(parent),
        None => Ok(()),
    }
}

fn writable(folder: &Path) -> Result<(), RestoreError> {
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(folder, access)
        .map_err(|error| RestoreError::file("write to", folder, error))
}

/// Whether there is more than the marker.
fn found_in(path: &Path) -> io::Result<Found> {
    for entry in fs::read_dir(path)? {
        if entry?.file_name() != MARKER {
            return Ok(Found::Something);
        }
    }
    Ok(Found::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn path(text: &str) -> FilePath {
        FilePath::new(text.as_bytes()).unwrap()
    }

    fn prepare(folder: &Path) -> Result<Roots, RestoreError> {
        let tablespaces = BTreeMap::from([(16385, folder.join("space"))]);
        refuse_foreign(&folder.join("data"))?;
        refuse_foreign(&folder.join("space"))?;
        Roots::prepare(&folder.join("data"), &tablespaces)
    }

    #[test]
    fn files_of_a_tablespace_go_to_its_folder_and_the_link_leads_there() {
        let scratch = tempfile::tempdir().unwrap();
        let roots = prepare(scratch.path()).unwrap();
        let file = path("pg_tblspc/16385/PG_17/5/1");
        roots.make_folder(&path("pg_tblspc/16385"), 0o700).unwrap();
        roots.create(&file, 0o600).unwrap().write_all(b"x").unwrap();
        roots.link_tablespaces().unwrap();
        roots.finish().unwrap();
        let through_link = scratch.path().join("data/pg_tblspc/16385/PG_17/5/1");
        assert_eq!(fs::read(through_link).unwrap(), b"x");
        assert!(scratch.path().join("space/PG_17/5/1").exists());
        assert!(!scratch.path().join("data").join(MARKER).exists());
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused_and_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("space")).unwrap();
        fs::write(scratch.path().join("space/precious"), "x").unwrap();
        assert!(matches!(
            prepare(scratch.path()),
            Err(RestoreError::Directory { .. })
        ));
        assert!(scratch.path().join("space/precious").exists());
        assert!(!scratch.path().join("data").exists());
    }

    #[test]
    fn an_unfinished_restore_is_gone_on_with() {
        let scratch = tempfile::tempdir().unwrap();
        let roots = prepare(scratch.path()).unwrap();
        assert_eq!(roots.found(), Found::Nothing);
        roots.create(&path("base/5/1"), 0o640).unwrap();
        drop(roots);
        let roots = prepare(scratch.path()).unwrap();
        assert_eq!(roots.found(), Found::Something);
        let file = roots.open_existing(&path("base/5/1"), 0o600, 3).unwrap();
        let found = file.unwrap().metadata().unwrap();
        assert_eq!(
            (found.len(), found.permissions().mode() & 0o777),
            (3, 0o600)
        );
        assert!(
            roots
                .open_existing(&path("base/5/2"), 0o600, 3)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_link_inside_the_data_directory_is_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let roots = prepare(scratch.path()).unwrap();
        fs::create_dir(scratch.path().join("outside")).unwrap();
        std::os::unix::fs::symlink(
            scratch.path().join("outside"),
            scratch.path().join("data/base"),
        )
        .unwrap();
        assert!(roots.create(&path("base/1"), 0o600).is_err());
        assert!(!scratch.path().join("outside/1").exists());
    }
}
