//! A data directory on another host, which the server itself lists and reads, by its functions.
//!
//! One question is asked for each folder, and its answer has everything that is known of what is in there. So a file is looked at when its
//! folder is listed, and read later: what was removed meanwhile is zeros then, and what has grown is as long as it was. Replay knows of both. For files that
//! are replaced and that replay does not know of, such as those of the configuration, that would not do: whatever is no relation and is short is read as
//! a whole, at once.
//!
//! The server follows links when it is asked (`stat` in `genfile.c`), so what they lead to is taken for what is there; only those in `pg_tblspc` are told. And it does
//! not say which permissions files have: they are those that it gives to all that it makes.

use std::io;
use std::sync::Arc;

use pgm_proto::Client;

use super::control_file::{self, ControlFile, FILE_BYTES};
use super::directory::{At, DataDirectory, Entry, FolderId, Kind, Link, Names, Opening};
use super::session::Facts;
use super::sessions::Sessions;
use super::{names, sql};
use crate::backup::collect::FileHeader;
use crate::backup::read::{SourceFile, Where};
use crate::error::{Error, Result};
use crate::manifest::FilePath;

/// What is no relation and has at most so many bytes is read as a whole. Less than the receive buffer.
const WHOLE_BYTES_MAX: u64 = 512 << 10;
/// How often the links are looked at again when one of them goes meanwhile.
const LOOKED_AGAIN: usize = 10;
/// `ERRCODE_UNDEFINED_FILE`.
const NO_FILE: &str = "58P01";
const SPACES: &[u8] = b"pg_tblspc";

/// The data directory.
#[derive(Debug)]
pub(super) struct RemoteDirectory {
    sessions: Arc<Sessions>,
    folder_mode: u32,
    /// Which names can be asked for.
    encoding: String,
    /// Where it is on the server's host, as the server says.
    path: String,
}

/// What a list tells of a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    size: u64,
    mtime: u32,
    kind: KnownKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KnownKind {
    File,
    Folder,
    /// The link of a tablespace.
    Link,
    /// Or a link that leads nowhere.
    Gone,
}

impl RemoteDirectory {
    /// The data directory of the server with these facts.
    pub(super) fn new(sessions: Arc<Sessions>, facts: &Facts) -> Result<Self> {
        let mut directory = Self {
            sessions,
            folder_mode: u32::from_str_radix(&facts.folder_mode, 8).unwrap_or(0o700),
            encoding: facts.encoding.clone(),
            path: String::new(),
        };
        // Process, data directory, and more lines (`miscadmin.h`).
        let pid_file = directory
            .read(b"postmaster.pid", 8 << 10)?
            .unwrap_or_default();
        let pid_file = String::from_utf8_lossy(&pid_file);
        pid_file
            .lines()
            .nth(1)
            .unwrap_or_default()
            .clone_into(&mut directory.path);
        Ok(directory)
    }

    /// At most so many bytes of a file's beginning, or `None` if it is gone.
    fn read(&self, path: &[u8], most: usize) -> Result<Option<Vec<u8>>> {
        let query = format!(
            "SELECT pg_catalog.pg_read_binary_file({}, 0, {most}, true)",
            sql::text(path)
        );
        self.sessions.ask(|client| {
            let mut found = None;
            client.copy_rows(&query, |[bytes]| {
                found = bytes.map(<[u8]>::to_vec);
                Ok(())
            })?;
            Ok(found)
        })
    }

    /// Where the numbers among these names lead to that are links.
    fn links_among(&self, names: &Names<Known>) -> Result<Vec<Link>> {
        let numbers = names.iter().filter_map(|(name, _)| number(name));
        let values: Vec<String> = numbers
            .map(|oid| format!("({oid}::pg_catalog.oid)"))
            .collect();
        if values.is_empty() {
            return Ok(Vec::new());
        }
        // Of one that is a folder, the path of that within the data directory.
        let query = format!(
            "SELECT oid::pg_catalog.int8, pg_catalog.pg_tablespace_location(oid) \
             FROM (VALUES {}) AS space (oid)",
            values.join(", ")
        );
        self.sessions.ask(|client| {
            let mut found = Vec::new();
            client.copy_rows(&query, |[oid, target]| {
                let target = String::from_utf8_lossy(sql::bytes(target)?).into_owned();
                let oid = u32::try_from(sql::int8(oid)?).unwrap_or(0);
                if target.starts_with('/') {
                    found.push((oid, target));
                }
                Ok(())
            })?;
            Ok(found)
        })
    }

    /// What is in `pg_tblspc`, and where its links lead to.
    fn spaces(&self) -> Result<(Names<Known>, Vec<Link>)> {
        let mut looked = 0;
        loop {
            looked += 1;
            let names = self.names(SPACES)?;
            match self.links_among(&names) {
                Err(Error::Server(pgm_proto::Error::Server(error)))
                    if error.sqlstate == NO_FILE && looked < LOOKED_AGAIN => {}
                Err(error) => return Err(error),
                Ok(links) => return Ok((names, links)),
            }
        }
    }

    fn names(&self, path: &[u8]) -> Result<Names<Known>> {
        let (folder, before) = match path {
            b"" => (sql::text(b"."), sql::text(b"")),
            path => (sql::text(path), sql::text(&[path, b"/"].concat())),
        };
        let query = format!(
            "SELECT name, {FACTS} FROM pg_catalog.pg_ls_dir({folder}, true, false) AS listed (name), \
             LATERAL pg_catalog.pg_stat_file(pg_catalog.concat({before}, name), true) AS found"
        );
        let mut names = self.sessions.ask(|client| listed(client, &query))?;
        names.sort();
        let mut strange = names
            .iter()
            .filter(|(name, _)| !is_text_in(name, &self.encoding));
        if let Some((name, _)) = strange.next() {
            return Err(Error::ServerFile {
                operation: "name",
                path: [path, b"/", name].concat().escape_ascii().to_string(),
                source: io::Error::new(
                    io::ErrorKind::InvalidFilename,
                    format!(
                        "its name is no text in {}, the database's encoding",
                        self.encoding
                    ),
                ),
            });
        }
        drop(strange);
        Ok(names)
    }

    fn entry(&self, known: Known) -> Option<Entry> {
        let kind = match known.kind {
            KnownKind::File => Kind::File,
            KnownKind::Folder => Kind::Folder,
            KnownKind::Link => Kind::Link,
            KnownKind::Gone => return None,
        };
        Some(Entry {
            kind,
            size: known.size,
            mode: match kind {
                Kind::Folder => self.folder_mode,
                _ => self.folder_mode & 0o666,
            },
            mtime: known.mtime.into(),
            id: None,
            is_readable: true,
        })
    }

    /// A file that is read where its bytes get their places.
    fn opening(&self, path: &FilePath, entry: &Entry) -> Opening {
        let source = SourceFile {
            path: path.clone(),
            place: Where::There(Arc::clone(&self.sessions) as _),
            pages: None,
        };
        Opening::Open(entry.header(path), source)
    }
}

/// What is asked of each name.
const FACTS: &str = "found.size, \
    pg_catalog.floor(pg_catalog.date_part('epoch', found.modification))::pg_catalog.int8, \
    found.isdir";

fn listed(client: &mut Client, query: &str) -> Result<Names<Known>, pgm_proto::Error> {
    let mut names = Names::new();
    client.copy_rows(query, |[name, size, mtime, is_folder]| {
        let known = known(size, mtime, is_folder)?;
        names
            .push(sql::bytes(name)?, known)
            .ok_or_else(|| pgm_proto::Error::Protocol("a folder has names without end".to_owned()))
    })?;
    Ok(names)
}

fn known(
    size: Option<&[u8]>,
    mtime: Option<&[u8]>,
    is_folder: Option<&[u8]>,
) -> Result<Known, pgm_proto::Error> {
    if size.is_none() {
        return Ok(Known {
            size: 0,
            mtime: 0,
            kind: KnownKind::Gone,
        });
    }
    Ok(Known {
        size: u64::try_from(sql::int8(size)?).unwrap_or(0),
        mtime: u32::try_from(sql::int8(mtime)?.max(0)).unwrap_or(u32::MAX),
        kind: match sql::bytes(is_folder)? {
            [0] => KnownKind::File,
            _ => KnownKind::Folder,
        },
    })
}

fn number(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// Whether the server takes a name for a text: it checks what it is asked, not what it answers.
fn is_text_in(name: &[u8], encoding: &str) -> bool {
    match encoding {
        "SQL_ASCII" => true,
        "UTF8" => std::str::from_utf8(name).is_ok(),
        _ => name.is_ascii(),
    }
}

impl DataDirectory for RemoteDirectory {
    /// A folder is known by its path.
    type Folder = ();
    type Known = Known;

    fn root(&self) -> Result<()> {
        Ok(())
    }

    fn links(&self) -> Result<Vec<Link>> {
        Ok(self.spaces()?.1)
    }

    fn space(&self, _: &str) -> Result<Option<((), Option<FolderId>)>> {
        Ok(Some(((), None)))
    }

    fn list(&self, (): &(), path: &[u8]) -> Result<Names<Known>> {
        if path != SPACES {
            return self.names(path);
        }
        let (mut names, links) = self.spaces()?;
        for (name, known) in names.iter_mut() {
            if number(name).is_some_and(|number| links.iter().any(|(oid, _)| *oid == number)) {
                known.kind = KnownKind::Link;
            }
        }
        Ok(names)
    }

    fn look(&self, at: At<'_, Self>, listed: Option<Known>) -> Result<Option<Entry>> {
        if let Some(known) = listed {
            return Ok(self.entry(known));
        }
        let query = format!(
            "SELECT {FACTS} FROM pg_catalog.pg_stat_file({}, true) AS found",
            sql::text(at.path)
        );
        let found = self.sessions.ask(|client| {
            let mut found = None;
            client.copy_rows(&query, |[size, mtime, is_folder]| {
                found = Some(known(size, mtime, is_folder)?);
                Ok(())
            })?;
            Ok(found)
        })?;
        Ok(found.and_then(|known| self.entry(known)))
    }

    fn open_folder(&self, _: At<'_, Self>) -> Result<Option<()>> {
        Ok(Some(()))
    }

    fn is_space(&self, path: &[u8], _: &Entry, target: &str, _: Option<FolderId>) -> bool {
        let inside = target.strip_prefix(self.path.as_str());
        let inside = inside.and_then(|inside| inside.strip_prefix('/'));
        inside.is_some_and(|inside| inside.as_bytes() == path)
    }

    fn may_read(&self, _: At<'_, Self>, _: &Entry) -> Result<()> {
        Ok(())
    }

    fn open(&self, at: At<'_, Self>, path: &FilePath, entry: &Entry) -> Result<Opening> {
        if names::first_block(at.path).is_some() || entry.size > WHOLE_BYTES_MAX {
            return Ok(self.opening(path, entry));
        }
        if entry.size == 0 {
            // A pipe looks like this, too; whoever opens one waits for its other end.
            return Ok(Opening::Read(entry.header(path), Vec::new()));
        }
        let most = WHOLE_BYTES_MAX as usize + 1;
        let Some(bytes) = self.read(at.path, most)? else {
            return Ok(Opening::Gone);
        };
        if bytes.len() < most {
            let size = bytes.len() as u64;
            return Ok(Opening::Read(
                FileHeader {
                    size,
                    ..entry.header(path)
                },
                bytes,
            ));
        }
        // It has grown since.
        Ok(match self.look(at, None)? {
            Some(entry) => self.opening(path, &entry),
            None => Opening::Gone,
        })
    }

    /// Nothing is open here.
    fn has_many_open(&self) -> bool {
        false
    }

    fn control_file(&self) -> Result<(FileHeader, Vec<u8>)> {
        let at = At {
            folder: &(),
            name: control_file::PATH,
            path: control_file::PATH,
        };
        let entry = self.look(at, None)?.ok_or_else(control_file::missing)?;
        let ControlFile { bytes } = ControlFile::read_by(|| {
            let bytes = self.read(control_file::PATH, FILE_BYTES)?;
            bytes.ok_or_else(control_file::missing)
        })?;
        let header = FileHeader {
            size: bytes.len() as u64,
            ..entry.header(&control_file::path()?)
        };
        Ok((header, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_server_would_not_take_are_told() {
        let latin: &[u8] = b"f\xFCr";
        let taken =
            |encoding| [b"16384", "für".as_bytes(), latin].map(|name| is_text_in(name, encoding));
        assert_eq!(taken("UTF8"), [true, true, false]);
        assert_eq!(taken("SQL_ASCII"), [true; 3]);
        assert_eq!(taken("LATIN1"), [true, false, false]);
    }

    #[test]
    fn what_a_list_tells_is_understood() {
        let eight = |number: i64| number.to_be_bytes();
        let tell = |size: i64, mtime: i64, folder: u8| {
            let known = known(Some(&eight(size)), Some(&eight(mtime)), Some(&[folder])).unwrap();
            (known.size, known.mtime, known.kind)
        };
        assert_eq!(
            tell(8192, 1_700_000_000, 0),
            (8192, 1_700_000_000, KnownKind::File)
        );
        assert_eq!(tell(-1, -5, 1), (0, 0, KnownKind::Folder));
        assert_eq!(known(None, None, None).unwrap().kind, KnownKind::Gone);
        assert!(known(Some(&[1]), None, None).is_err());
    }
}
