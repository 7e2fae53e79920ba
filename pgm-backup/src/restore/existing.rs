//! What is in the folders already: whether a restore may touch it, and what of it goes.
//!
//! A restore may be told to take a data directory of the same server and bring it to the state of the backup (a delta): files
//! that both have stay where they are, and only pages that differ are written. What an interrupted restore left is gone on
//! from in the same way.
//!
//! Nothing is touched that is not known to be ours: the directory must be one of this server, by the system identifier in its
//! `pg_control`, and nobody may run it. A folder for a tablespace must be the one that the directory's own link leads to, and of
//! that only what the backup has at its top is touched: servers of other major versions may have folders of their own there.
//! Files with more than one name are made anew: writing to them would change what the other name stands for.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pgm_proto::SystemId;

use super::error::RestoreError;
use super::place::CONTROL_FILE;
use super::roots::{MARKER, Roots, TABLESPACES, refuse_foreign};
use crate::context::Context;
use crate::label::BackupLabel;
use crate::manifest::{ManifestEntry, ManifestReader};

/// The file that a running server has in its data directory.
pub(super) const PID_FILE: &str = "postmaster.pid";
/// So many links that went are named; the others are only gone.
const LINKS_TOLD_MAX: usize = 8;

/// What a restore does with folders in which something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// They are refused.
    #[default]
    Refuse,
    /// A data directory of the same server that nobody runs, and its tablespaces, become what the backup has: what the backup
    /// does not have is removed, and of the rest only what differs is written.
    Update,
}

/// Refuses folders that a restore may not touch, and changes nothing.
pub(super) fn check(
    data: &Path,
    tablespaces: &BTreeMap<u32, PathBuf>,
    existing: Existing,
    server: SystemId,
) -> Result<(), RestoreError> {
    let is_update = existing == Existing::Update && data.is_absolute() && !is_free(data)?;
    if is_update {
        refuse_other_servers(data, server)?;
    } else {
        refuse_foreign(data)?;
    }
    for (oid, folder) in tablespaces {
        if !(is_update && is_linked(data, *oid, folder)) {
            refuse_foreign(folder)?;
        }
    }
    Ok(())
}

/// How many bytes there are that a restore does not have to find room for.
pub(super) fn occupied(data: &Path) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => bytes += found.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    bytes
}

/// Whether nothing of anybody's is there: no folder, an empty one, or one that an interrupted restore left.
pub(super) fn is_free(path: &Path) -> Result<bool, RestoreError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(path.join(MARKER).exists() || entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(RestoreError::file("read", path, error)),
    }
}

fn refuse_other_servers(data: &Path, server: SystemId) -> Result<(), RestoreError> {
    let refuse = |reason: String| RestoreError::Directory {
        path: data.to_owned(),
        reason,
    };
    if data.join(PID_FILE).exists() {
        return Err(RestoreError::Running {
            path: data.to_owned(),
        });
    }
    let control = data.join(OsStr::from_bytes(CONTROL_FILE));
    let mut identifier = [0; 8];
    let read = File::open(&control).and_then(|mut file| file.read_exact(&mut identifier));
    if let Err(error) = read {
        return Err(refuse(format!(
            "it is not empty, and no data directory: {}: {error}",
            control.display()
        )));
    }
    let found = SystemId::new(u64::from_ne_bytes(identifier));
    if found == server {
        return Ok(());
    }
    Err(refuse(format!(
        "it is the data directory of the server with system identifier {found}, and the backup is of {server}"
    )))
}

/// Whether the data directory's own link leads to the folder.
fn is_linked(data: &Path, oid: u32, folder: &Path) -> bool {
    let link = data.join(TABLESPACES).join(oid.to_string());
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    link.is_symlink() && same(&link, folder)
}

/// What went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Removed {
    /// Files, links and folders that the backup does not have.
    pub(super) entries: u64,
    /// Some of the links outside `pg_tblspc`, with where they led.
    pub(super) links: Vec<String>,
}

/// What a manifest has, so that it takes little memory for a million of files.
#[derive(Debug, Default)]
struct Wanted {
    kinds: HashMap<u64, Kind>,
    state: RandomState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
}

impl Wanted {
    fn read(
        cx: &Context,
        label: BackupLabel,
        manifest: &mut ManifestReader,
    ) -> Result<Self, RestoreError> {
        let mut wanted = Self::default();
        while let Some(entry) = manifest.next_entry()? {
            cx.check_cancel()?;
            let (path, kind) = match &entry {
                ManifestEntry::Directory(folder) => (&folder.path, Kind::Folder),
                ManifestEntry::File(file) => (&file.path, Kind::File),
                ManifestEntry::Tablespace(_) | ManifestEntry::Symlink(_) => continue,
            };
            let key = wanted.state.hash_one(path.as_bytes());
            if wanted.kinds.insert(key, kind) == Some(Kind::File) && kind == Kind::File {
                return Err(RestoreError::Damaged {
                    label,
                    reason: format!("file {} is there twice", path.as_path().display()),
                });
            }
        }
        Ok(wanted)
    }

    fn kind(&self, path: &[u8]) -> Option<Kind> {
        self.kinds.get(&self.state.hash_one(path)).copied()
    }

    fn has(&self, path: &[u8], found: &Metadata) -> bool {
        match self.kind(path) {
            Some(Kind::Folder) => found.is_dir(),
            Some(Kind::File) => found.is_file() && found.nlink() == 1,
            None => false,
        }
    }
}

/// Removes what the backup does not have, and what cannot stay because it is of another kind. `pg_control` goes first: what
/// is half a backup is no server.
pub(super) fn remove_others(
    cx: &Context,
    roots: &Roots,
    label: BackupLabel,
    manifest: &mut ManifestReader,
) -> Result<Removed, RestoreError> {
    let control = roots.data_path().join(OsStr::from_bytes(CONTROL_FILE));
    match fs::remove_file(&control) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(RestoreError::file("remove", &control, error));
        }
        _ => {}
    }
    roots.sync()?;
    let wanted = Wanted::read(cx, label, manifest)?;
    let mut removed = Removed::default();
    for (prefix, path) in roots.folders() {
        sweep(cx, &wanted, prefix, path, &mut removed)?;
    }
    Ok(removed)
}

fn sweep(
    cx: &Context,
    wanted: &Wanted,
    prefix: Vec<u8>,
    root: &Path,
    removed: &mut Removed,
) -> Result<(), RestoreError> {
    let is_tablespace = !prefix.is_empty();
    let mut folders = vec![(prefix, root.to_owned())];
    while let Some((prefix, folder)) = folders.pop() {
        let failed = |error| RestoreError::file("read", &folder, error);
        for entry in fs::read_dir(&folder).map_err(failed)? {
            cx.check_cancel()?;
            let entry = entry.map_err(failed)?;
            let (name, path) = (entry.file_name(), entry.path());
            if name == MARKER {
                continue;
            }
            let found = entry.metadata().map_err(failed)?;
            let relative = [&prefix, name.as_bytes()].concat();
            if is_tablespace && folder == root && wanted.kind(&relative).is_none() {
                continue;
            }
            if !wanted.has(&relative, &found) {
                removed.note(&relative, &path, &found);
                remove(&path, &found)
                    .map_err(|error| RestoreError::file("remove", &path, error))?;
            } else if found.is_dir() {
                folders.push(([&relative, b"/".as_slice()].concat(), path));
            }
        }
    }
    Ok(())
}

fn remove(path: &Path, found: &Metadata) -> io::Result<()> {
    if found.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

impl Removed {
    fn note(&mut self, relative: &[u8], path: &Path, found: &Metadata) {
        self.entries += 1;
        let is_tablespace = relative.starts_with(TABLESPACES.as_bytes());
        if found.is_symlink() && !is_tablespace && self.links.len() < LINKS_TOLD_MAX {
            let leads_to = fs::read_link(path).unwrap_or_default();
            let name = relative.escape_ascii();
            let leads_to = leads_to.display();
            self.links.push(format!("{name} was a link to {leads_to}; the link is gone, what it leads to was left as it is"));
        }
    }
}
