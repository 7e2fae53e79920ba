//! Listing: every object below a folder, in the order of the paths' text, one folder's names in memory at a time.
//!
//! Hidden names (writers at work) and names that no object can have (`lost+found`) are passed over. A symbolic link or a
//! special file among the objects is an error: what is behind it would be missing from the list.

use std::ops::ControlFlow;
use std::sync::Arc;

use rustix::fs::{Dir, FileType};

use super::Root;
use super::folder::{Folder, check_object};
use super::reader::meta;
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::storage::ObjectMeta;

/// A name in a folder, with a slash behind it if it is a folder: this is what paths below it sort by.
struct Entry {
    key: String,
}

impl Entry {
    fn folder(&self) -> Option<&str> {
        self.key.strip_suffix('/')
    }
}

/// The folder to list; `None` when there is none, also when an object has that path.
pub(super) fn open(root: &Arc<Root>, path: &ObjectPath) -> Result<Option<Folder>> {
    match Folder::open(root, path) {
        Ok(folder) => Ok(Some(folder)),
        Err(
            StorageError::NotFound { .. }
            | StorageError::Misplaced {
                found: "a file", ..
            },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives every object below `folder` to `visit`.
pub(super) fn walk(
    folder: &Folder,
    visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    for entry in entries(folder)? {
        let flow = if let Some(name) = entry.folder() {
            match folder.child(name) {
                Ok(child) => walk(&child, visit)?,
                Err(StorageError::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            }
        } else {
            let stat = match folder.stat(&entry.key) {
                Err(StorageError::NotFound { .. }) => continue,
                stat => stat?,
            };
            check_object(&stat, &folder.place(&entry.key))?;
            visit(meta(folder.child_path(&entry.key), &stat))
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The names of the folders in `folder`, sorted.
pub(super) fn folders(folder: &Folder) -> Result<Vec<String>> {
    let entries = entries(folder)?;
    let mut names: Vec<String> = entries
        .iter()
        .filter_map(Entry::folder)
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// The names in `folder` that objects and folders can have, in listing order.
fn entries(folder: &Folder) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    each_name(folder, |name, kind| {
        if ObjectPath::parse(name).is_err() {
            return Ok(());
        }
        let is_folder = match kind {
            FileType::Unknown => match folder.stat(name) {
                Err(StorageError::NotFound { .. }) => return Ok(()),
                stat => FileType::from_raw_mode(stat?.st_mode) == FileType::Directory,
            },
            kind => kind == FileType::Directory,
        };
        let slash = if is_folder { "/" } else { "" };
        entries.push(Entry {
            key: format!("{name}{slash}"),
        });
        Ok(())
    })?;
    entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(entries)
}

/// Gives every name in `folder` that is text to `visit`, in no order.
pub(super) fn each_name(
    folder: &Folder,
    mut visit: impl FnMut(&str, FileType) -> Result<()>,
) -> Result<()> {
    let failed = |error| folder.error("list", "", error);
    for entry in Dir::read_from(folder.fd()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(name) => visit(name, entry.file_type())?,
        }
    }
    Ok(())
}
