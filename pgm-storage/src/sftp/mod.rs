//! The engine for servers with SSH: objects are files below one directory of theirs, reached by SFTP.
//!
//! ```text
//! DIRECTORY/main/wal/00000001/000000010000000000000004      an object, mode 0600; folders are 0700
//! DIRECTORY/main/wal/00000001/.pgm-6f….tmp                  a writer at work
//! ```
//!
//! Invariants:
//! - The server's key is always checked against a known_hosts file; an unknown key is refused, never learnt.
//! - An object is a temporary file in its final folder until it is whole and, where the server offers
//!   `fsync@openssh.com`, synced; a rename then gives it its name. `rename` of SFTP never replaces, which makes it the put
//!   if absent; replacing is `posix-rename@openssh.com`, and refused where that is missing. Where the server can sync
//!   folders (OpenSSH on Linux can), folders are synced too; a server without either is trusted with durability.
//! - A lost connection is made again, with growing pauses and an end. What had no answer is looked at before it is
//!   repeated. A writer does not survive its connection; a reader does, if the file is the same.
//! - A folder is removed as soon as it is found empty; whoever needs it makes it again.
//!
//! What it does not do: ask an agent, read `~/.ssh`, or guard against somebody else with an account on that server who
//! puts symbolic links into the directory.

mod connection;
mod listing;
mod reader;
mod server;
mod session;
mod trouble;
mod writer;

use std::ops::ControlFlow;
use std::sync::Arc;

use self::reader::SftpReader;
use self::server::Server;
use self::writer::SftpWriter;
use crate::address::StoreAddress;
use crate::error::{Result, StorageError};
use crate::open::StoreOptions;
use crate::path::ObjectPath;
use crate::storage::{ObjectMeta, ObjectReader, ObjectWriter, PutMode, Space, Storage};

/// A storage in a directory of a server with SSH.
#[derive(Debug, Clone)]
pub(crate) struct SftpStorage(Arc<Server>);

impl SftpStorage {
    pub(crate) fn open(address: &StoreAddress, options: &StoreOptions) -> Result<Self> {
        Server::new(address, options).map(|server| Self(Arc::new(server)))
    }
}

/// A path that is not what it should be.
fn misplaced(path: String, found: &'static str, wanted: &'static str) -> StorageError {
    StorageError::Misplaced {
        path,
        found,
        wanted,
    }
}

impl Storage for SftpStorage {
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(SftpWriter::begin(&self.0, path, PutMode::Create)?))
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        let mut writer = SftpWriter::begin(&self.0, path, mode)?;
        std::io::Write::write_all(&mut writer, bytes)
            .map_err(|error| StorageError::from_io("write", self.0.place(path), error))?;
        writer.publish().map(drop)
    }

    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>> {
        Ok(Box::new(SftpReader::open(&self.0, path)?))
    }

    fn get(&self, path: &ObjectPath, bytes_max: u64) -> Result<Vec<u8>> {
        let reader = SftpReader::open(&self.0, path)?;
        let size = reader.size();
        if size > bytes_max {
            return Err(StorageError::TooLarge {
                path: reader.place(),
                size,
                bytes_max,
            });
        }
        let mut bytes = vec![0; size as usize];
        reader.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        let place = self.0.place(path);
        let file = self.0.file(path)?;
        let found = self.0.ask("look at", path, move |session| {
            let file = file.clone();
            async move { session.lstat(file).await }
        })?;
        session::check_file(&found, &place)?;
        Ok(session::meta(path.clone(), &found))
    }

    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<()> {
        listing::walk(&self.0, prefix, visit).map(drop)
    }

    fn folders(&self, prefix: &ObjectPath) -> Result<Vec<String>> {
        listing::folders(&self.0, prefix)
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        let file = self.0.file(path)?;
        let removed = self.0.ask("delete", path, move |session| {
            let file = file.clone();
            async move { session.remove(file).await }
        });
        match removed {
            Ok(()) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => {
                // SFTP's failures have no reason: look what it was that would not go.
                return match self.head(path) {
                    Err(other @ StorageError::Misplaced { .. }) => Err(other),
                    Err(other) if other.is_not_found() => Ok(()),
                    _ => Err(error),
                };
            }
        }
        self.0.sync_folder_of(path)?;
        self.0.remove_empty_folders(path);
        Ok(())
    }

    fn sweep(&self, prefix: &ObjectPath) -> Result<u64> {
        listing::sweep(&self.0, prefix)
    }

    fn space(&self) -> Result<Option<Space>> {
        let root = self.0.file_or_root(&ObjectPath::root());
        self.0.ask("measure", &ObjectPath::root(), move |session| {
            let root = root.clone();
            async move { session.space(root).await }
        })
    }

    fn describe(&self) -> String {
        format!("SFTP {}", self.0.place(&ObjectPath::root()))
    }
}
