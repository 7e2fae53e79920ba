//! Files of a standby's own, which take the place of those of the backup: `postgresql.conf`, `pg_hba.conf` and the like.
//!
//! Only settings are taken. What makes the directory this very server, and what recovery depends on, is refused: a mistake
//! there would be found when the standby is needed. It is refused before anything is written.

use std::fs::{self, File, FileType};
use std::io;
use std::path::{Path, PathBuf};

use super::error::RestoreError;
use super::settings::{new_file, remove};

/// Folders at the top of a data directory in which nothing may be replaced, besides all that begin with `pg_`.
const FOLDERS: [&str; 2] = ["base", "global"];
/// Files at the top that may not be replaced.
const FILES: [&str; 10] = [
    "PG_VERSION",
    "backup_label",
    "backup_manifest",
    "tablespace_map",
    "recovery.signal",
    "standby.signal",
    "promote.signal",
    "postmaster.pid",
    "postmaster.opts",
    "current_logfiles",
];
/// Settings in deeper folders than this are none.
const DEPTH_MAX: usize = 8;
/// Nobody has more files of settings.
const ENTRIES_MAX: usize = 1000;

/// What takes the place of what; paths are relative, folders stand before what is in them.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Overrides {
    /// Looks at everything below `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, RestoreError> {
        let mut found = Self::default();
        found.add(folder, Path::new(""), 0)?;
        Ok(found)
    }

    /// Copies the files from `folder` to the same places below `data`.
    pub(super) fn copy(&self, folder: &Path, data: &Path) -> Result<(), RestoreError> {
        for path in &self.folders {
            make_folder(&data.join(path))?;
        }
        for path in &self.files {
            copy_file(&folder.join(path), &data.join(path))?;
        }
        Ok(())
    }

    fn add(&mut self, top: &Path, below: &Path, depth: usize) -> Result<(), RestoreError> {
        let folder = top.join(below);
        let failed = |error| RestoreError::file("read", &folder, error);
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let (relative, path) = (below.join(&name), folder.join(&name));
            // What a link leads to counts: settings are often kept elsewhere.
            let kind = fs::metadata(&path)
                .map_err(|error| RestoreError::file("read", &path, error))?
                .file_type();
            if let Some(reason) = objection(&name.to_string_lossy(), kind, depth) {
                return Err(refuse(&path, reason));
            }
            if self.folders.len() + self.files.len() >= ENTRIES_MAX {
                return Err(refuse(&path, "there are too many files of settings"));
            }
            if kind.is_dir() {
                self.folders.push(relative.clone());
                self.add(top, &relative, depth + 1)?;
            } else {
                self.files.push(relative);
            }
        }
        Ok(())
    }
}

/// Why something cannot be settings.
fn objection(name: &str, kind: FileType, depth: usize) -> Option<&'static str> {
    let at_top = depth == 0;
    if depth > DEPTH_MAX {
        Some("it lies too deep")
    } else if kind.is_dir() {
        let is_theirs = at_top && (FOLDERS.contains(&name) || name.starts_with("pg_"));
        is_theirs.then_some("what is in there is PostgreSQL's, not settings")
    } else if !kind.is_file() {
        Some("it is no file")
    } else {
        let makes_it = at_top && FILES.contains(&name);
        makes_it.then_some("it makes the directory what it is, and is no settings")
    }
}

fn make_folder(path: &Path) -> Result<(), RestoreError> {
    use std::os::unix::fs::DirBuilderExt as _;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(RestoreError::file("make the folder", path, error))
        }
        _ => Ok(()),
    }
}

fn copy_file(from: &Path, to: &Path) -> Result<(), RestoreError> {
    let mut source = File::open(from).map_err(|error| RestoreError::file("read", from, error))?;
    remove(to)?;
    let mut target = new_file(to)?;
    io::copy(&mut source, &mut target).map_err(|error| RestoreError::file("write", to, error))?;
    Ok(())
}

fn refuse(path: &Path, reason: &str) -> RestoreError {
    RestoreError::Override {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("own"), scratch.path().join("data"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        (scratch, from, to)
    }

    #[test]
    fn settings_take_the_place_of_the_backups() {
        let (_scratch, from, to) = folders();
        fs::write(to.join("postgresql.conf"), "port = 5432").unwrap();
        fs::write(to.join("pg_ident.conf"), "kept").unwrap();
        fs::write(from.join("postgresql.conf"), "port = 5433").unwrap();
        fs::write(from.join("pg_hba.conf"), "own").unwrap();
        fs::create_dir(from.join("conf.d")).unwrap();
        fs::write(from.join("conf.d/base.conf"), "work_mem = '8MB'").unwrap();
        for _ in 0..2 {
            Overrides::read(&from).unwrap().copy(&from, &to).unwrap();
            let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
            assert_eq!(read("postgresql.conf"), "port = 5433");
            assert_eq!(read("pg_hba.conf"), "own");
            assert_eq!(read("pg_ident.conf"), "kept");
            assert_eq!(read("conf.d/base.conf"), "work_mem = '8MB'");
        }
    }

    #[test]
    fn what_is_no_settings_is_refused() {
        for name in [
            "base/1/2",
            "global/pg_control",
            "pg_wal/x",
            "PG_VERSION",
            "standby.signal",
        ] {
            let (_scratch, from, _) = folders();
            let path = from.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            let error = Overrides::read(&from).unwrap_err();
            assert!(
                matches!(error, RestoreError::Override { .. }),
                "{name}: {error}"
            );
            assert!(error.hint().is_some());
        }
        let (_scratch, from, _) = folders();
        assert!(Overrides::read(&from.join("missing")).is_err());
        let mut deep = from.clone();
        for _ in 0..10 {
            deep.push("conf.d");
        }
        fs::create_dir_all(&deep).unwrap();
        assert!(Overrides::read(&from).is_err());
    }
}
