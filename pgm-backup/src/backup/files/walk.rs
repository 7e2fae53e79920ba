//! What there is in a data directory, in the order of names, as the server would send it.
//!
//! A folder or a file that is gone when its turn comes is passed over: replay knows of it. Follows `sendDir` and `sendTablespace` in
//! `basebackup.c`.

use std::io;

use super::directory::{At, DataDirectory, Entry, FolderId, Kind, Names};
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
pub(super) struct Tree<'a, D: DataDirectory> {
    directory: &'a D,
    major: u32,
    /// The name of the one folder in each tablespace that is this server's.
    version_folder: String,
    pub(super) tablespaces: Vec<Tablespace<D::Folder>>,
}

/// A tablespace beside the data directory.
#[derive(Debug)]
pub(super) struct Tablespace<F> {
    pub(super) oid: u32,
    pub(super) target: String,
    /// The folder, if it is there, and how to tell it from others.
    folder: Option<(F, Option<FolderId>)>,
}

/// Is told what there is.
pub(super) trait Visitor<D: DataDirectory> {
    /// A folder; what is in it comes later.
    fn folder(&mut self, folder: DirectoryEntry) -> Result<()>;
    /// The link of a tablespace, whose files have come before.
    fn tablespace(&mut self, link: TablespaceLink) -> Result<()>;
    /// A regular file, by its name in a folder.
    fn file(&mut self, at: At<'_, D>, path: FilePath, entry: &Entry) -> Result<()>;
    /// Something that no backup has.
    fn left(&mut self, path: &FilePath, what: &'static str) -> Result<()>;
}

impl<'a, D: DataDirectory> Tree<'a, D> {
    /// Finds the tablespaces of a data directory.
    pub(super) fn new(directory: &'a D, major: u32, catalog_version: u32) -> Result<Self> {
        let mut tablespaces = Vec::new();
        for (oid, target) in directory.links()? {
            // The server does not take other links for a tablespace's either.
            if target.starts_with('/') {
                tablespaces.push(Tablespace {
                    oid,
                    folder: directory.space(&target)?,
                    target,
                });
            }
        }
        tablespaces.sort_by_key(|tablespace| tablespace.oid);
        Ok(Self {
            directory,
            major,
            version_folder: format!("PG_{major}_{catalog_version}"),
            tablespaces,
        })
    }

    /// Visits everything but `global/pg_control`: tablespaces first, then the data directory.
    pub(super) fn visit(&self, cx: &Context, visitor: &mut dyn Visitor<D>) -> Result<()> {
        let mut walk = Walk {
            cx,
            tree: self,
            visitor,
        };
        for tablespace in &self.tablespaces {
            walk.tablespace(tablespace)?;
        }
        walk.contents(&self.directory.root()?, &[], 0)
    }
}

struct Walk<'a, D: DataDirectory> {
    cx: &'a Context,
    tree: &'a Tree<'a, D>,
    visitor: &'a mut dyn Visitor<D>,
}

impl<D: DataDirectory> Walk<'_, D> {
    fn tablespace(&mut self, tablespace: &Tablespace<D::Folder>) -> Result<()> {
        let Some((folder, _)) = &tablespace.folder else {
            return Ok(());
        };
        let directory = self.tree.directory;
        let path = format!("pg_tblspc/{}/{}", tablespace.oid, self.tree.version_folder);
        let at = At {
            folder,
            name: self.tree.version_folder.as_bytes(),
            path: path.as_bytes(),
        };
        let Some(entry) = directory.look(at, None)? else {
            return Ok(());
        };
        if let Some(version) = directory.open_folder(at)? {
            self.visitor.folder(folder_entry(at.path, &entry)?)?;
            self.contents(&version, at.path, 0)?;
        }
        Ok(())
    }

    fn contents(&mut self, folder: &D::Folder, path: &[u8], depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::ServerFile {
                operation: "open",
                path: String::from_utf8_lossy(path).into_owned(),
                source: io::Error::new(
                    io::ErrorKind::InvalidFilename,
                    "folders within folders without end",
                ),
            });
        }
        let all = self.tree.directory.list(folder, path)?;
        let of_database = names::is_of_database(path);
        for (name, known) in all.iter() {
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
            let at = At {
                folder,
                name,
                path: &child,
            };
            if let Some(entry) = self.tree.directory.look(at, Some(known))? {
                self.child(at, &entry, depth)?;
            }
        }
        Ok(())
    }

    fn child(&mut self, at: At<'_, D>, entry: &Entry, depth: usize) -> Result<()> {
        let path = at.path;
        if names::is_emptied(path) {
            return self.visitor.folder(folder_entry(path, entry)?);
        }
        if path == b"pg_wal" {
            return self.wal_folders(entry);
        }
        match entry.kind {
            Kind::File => self.visitor.file(at, file_path(path)?, entry),
            Kind::Folder => {
                self.visitor.folder(folder_entry(path, entry)?)?;
                if self.tree.is_space(path, entry) {
                    return Ok(());
                }
                match self.tree.directory.open_folder(at)? {
                    Some(folder) => self.contents(&folder, path, depth + 1),
                    None => Ok(()),
                }
            }
            Kind::Link => match self.tree.link(path) {
                Some(link) => self.visitor.tablespace(link),
                None => self.visitor.left(&file_path(path)?, "a symbolic link"),
            },
            Kind::Other => self.visitor.left(&file_path(path)?, "no regular file"),
        }
    }

    /// The WAL comes from the archive.
    fn wal_folders(&mut self, entry: &Entry) -> Result<()> {
        let more: &[&str] = match self.tree.major {
            SUMMARIES_SINCE.. => &["pg_wal", "pg_wal/archive_status", "pg_wal/summaries"],
            _ => &["pg_wal", "pg_wal/archive_status"],
        };
        for path in more {
            self.visitor.folder(folder_entry(path.as_bytes(), entry)?)?;
        }
        Ok(())
    }
}

impl<D: DataDirectory> Tree<'_, D> {
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

    /// Whether a folder is that of a tablespace: it may be within the data directory.
    fn is_space(&self, path: &[u8], entry: &Entry) -> bool {
        let mut there = self.tablespaces.iter().filter_map(|tablespace| {
            let (_, id) = tablespace.folder.as_ref()?;
            Some((tablespace.target.as_str(), *id))
        });
        there.any(|(target, id)| self.directory.is_space(path, entry, target, id))
    }
}

/// Whether a file in the folder of a database is of a relation that is temporary or not logged; of the latter the fork stays from
/// which it is made anew.
fn is_forgotten<K: Copy>(name: &[u8], all: &Names<K>) -> bool {
    match names::relation(name) {
        Some((_, b"init")) => false,
        Some((number, _)) => all.contains(&[number, b"_init"].concat()),
        None => names::is_temporary(name),
    }
}

fn folder_entry(path: &[u8], entry: &Entry) -> Result<DirectoryEntry> {
    let mode = match entry.kind {
        Kind::Folder => entry.mode,
        // A link that becomes a folder.
        _ => 0o700,
    };
    Ok(DirectoryEntry {
        path: file_path(path)?,
        mode,
        mtime: entry.mtime,
    })
}

fn file_path(path: &[u8]) -> Result<FilePath> {
    FilePath::new(path).map_err(|error| Error::ServerFile {
        operation: "back up",
        path: path.escape_ascii().to_string(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

#[cfg(test)]
mod tests;
