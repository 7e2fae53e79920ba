//! One connection: SFTP's requests, counted and held back as the limits say.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::try_join_all;
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet, StatusCode};
use tokio::sync::Semaphore;

use super::connection::Connection;
use super::misplaced;
use super::trouble::Trouble;
use crate::error::Result;
use crate::limits::Pacer;
use crate::meter::{Meter, Operation};
use crate::path::ObjectPath;
use crate::remote_problem::RemoteProblem;
use crate::storage::{ObjectMeta, Space};

/// Requests of one transfer that are under way at a time.
const AT_ONCE: usize = 16;

/// What came of a request.
pub(super) type Answer<T> = std::result::Result<T, Trouble>;

/// One connection, and how it is used.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) meter: Arc<Meter>,
    pub(super) requests: Option<Arc<Pacer>>,
    pub(super) at_once: Option<Arc<Semaphore>>,
    /// Whether the server can sync folders.
    pub(super) syncs_folders: bool,
}

/// Refuses what is no file.
pub(super) fn check_file(found: &FileAttributes, place: &str) -> Result<()> {
    let kind = found.file_type();
    let what = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => "a folder",
        _ if kind.is_symlink() => "a symbolic link",
        _ => "a special file",
    };
    Err(misplaced(place.to_owned(), what, "an object"))
}

/// What a file's attributes say about the object.
pub(super) fn meta(path: ObjectPath, found: &FileAttributes) -> ObjectMeta {
    ObjectMeta {
        path,
        size: found.len(),
        modified: modified(found),
    }
}

pub(super) fn modified(found: &FileAttributes) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(found.mtime.unwrap_or(0)))
}

impl Session {
    /// Counts a request, waits until it may be made, makes it.
    async fn counted<T, E: Into<Trouble>>(
        &self,
        operation: Operation,
        bytes_sent: u64,
        request: impl Future<Output = std::result::Result<T, E>>,
    ) -> Answer<T> {
        // Never closed, so an error cannot be.
        let _permit = match &self.at_once {
            Some(at_once) => at_once.acquire().await.ok(),
            None => None,
        };
        if let Some(requests) = &self.requests {
            tokio::time::sleep(requests.take(1, Instant::now())).await;
        }
        self.meter.request(operation, bytes_sent);
        request.await.map_err(|error| {
            let trouble = error.into();
            if trouble.is_lost() {
                self.meter.failed(operation);
            }
            trouble
        })
    }

    /// Tries whether folders can be synced, on the one that is certainly there.
    pub(super) async fn find_out(&mut self, directory: String) -> Answer<()> {
        if !self.connection.extensions.fsync {
            return Ok(());
        }
        for folder in [directory, "/".to_owned()] {
            match self.sync_opened(folder).await {
                Ok(()) => {
                    self.syncs_folders = true;
                    return Ok(());
                }
                Err(trouble) if trouble.is(StatusCode::NoSuchFile) => {}
                Err(trouble) if trouble.is_lost() => return Err(trouble),
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    async fn sync_opened(&self, file: String) -> Answer<()> {
        let handle = self.open(file, OpenFlags::READ).await?;
        let synced = self.sync(handle.clone()).await;
        self.close(handle).await?;
        synced
    }

    pub(super) async fn sync_folder(&self, folder: String) -> Answer<()> {
        if self.syncs_folders {
            self.sync_opened(folder).await?;
        }
        Ok(())
    }

    pub(super) async fn lstat(&self, file: String) -> Answer<FileAttributes> {
        let request = self.connection.sftp.lstat(file);
        Ok(self.counted(Operation::Head, 0, request).await?.attrs)
    }

    pub(super) async fn fstat(&self, handle: String) -> Answer<FileAttributes> {
        let request = self.connection.sftp.fstat(handle);
        Ok(self.counted(Operation::Head, 0, request).await?.attrs)
    }

    pub(super) async fn open(&self, file: String, flags: OpenFlags) -> Answer<String> {
        let mut attributes = FileAttributes::empty();
        let operation = if flags.contains(OpenFlags::CREATE) {
            attributes.permissions = Some(0o600);
            Operation::Put
        } else {
            Operation::Get
        };
        let request = self.connection.sftp.open(file, flags, attributes);
        Ok(self.counted(operation, 0, request).await?.handle)
    }

    pub(super) async fn close(&self, handle: String) -> Answer<()> {
        let request = self.connection.sftp.close(handle);
        self.counted(Operation::Other, 0, request).await.map(drop)
    }

    /// Writes all of `bytes` at `offset`, in as many requests as the server wants.
    pub(super) async fn write(&self, handle: String, offset: u64, bytes: Vec<u8>) -> Answer<()> {
        let step = self.connection.extensions.write_bytes as usize;
        let mut offset = offset;
        for batch in bytes.chunks(step * AT_ONCE) {
            let mut requests = Vec::with_capacity(AT_ONCE);
            for piece in batch.chunks(step) {
                let write = self
                    .connection
                    .sftp
                    .write(handle.clone(), offset, piece.to_vec());
                offset += piece.len() as u64;
                requests.push(self.counted(Operation::PutPart, piece.len() as u64, write));
            }
            try_join_all(requests).await?;
        }
        Ok(())
    }

    /// Reads `length` bytes from `offset`; fewer come only at the file's end.
    pub(super) async fn read(&self, handle: String, offset: u64, length: u64) -> Answer<Vec<u8>> {
        let step = u64::from(self.connection.extensions.read_bytes);
        let mut bytes = Vec::new();
        let end = offset.saturating_add(length);
        let mut next = offset;
        while next < end {
            let batch_end = end.min(next + step * AT_ONCE as u64);
            let mut requests = Vec::with_capacity(AT_ONCE);
            let mut at = next;
            while at < batch_end {
                let wanted = step.min(batch_end - at);
                requests.push(self.read_piece(handle.clone(), at, wanted));
                at += wanted;
            }
            for (piece, wanted) in try_join_all(requests).await? {
                let short = (piece.len() as u64) < wanted;
                bytes.extend_from_slice(&piece);
                if short {
                    return Ok(bytes);
                }
            }
            next = batch_end;
        }
        Ok(bytes)
    }

    /// Reads one piece, with more requests if the server gives less at a time.
    async fn read_piece(&self, handle: String, offset: u64, wanted: u64) -> Answer<(Vec<u8>, u64)> {
        let mut bytes: Vec<u8> = Vec::new();
        while (bytes.len() as u64) < wanted {
            let (at, rest) = (offset + bytes.len() as u64, wanted - bytes.len() as u64);
            let request = self.connection.sftp.read(handle.clone(), at, rest as u32);
            match self.counted(Operation::Get, 0, request).await {
                Ok(data) if data.data.len() as u64 > rest || data.data.is_empty() => {
                    let text = format!("{} bytes came where {rest} were asked", data.data.len());
                    return Err(Trouble::Lost(RemoteProblem::Unavailable, text));
                }
                Ok(data) => {
                    self.meter.received(Operation::Get, data.data.len() as u64);
                    bytes.extend_from_slice(&data.data);
                }
                Err(trouble) if trouble.is(StatusCode::Eof) => break,
                Err(trouble) => return Err(trouble),
            }
        }
        Ok((bytes, wanted))
    }

    /// Makes what was written durable, where the server can.
    pub(super) async fn sync(&self, handle: String) -> Answer<()> {
        if !self.connection.extensions.fsync {
            return Ok(());
        }
        let request = self.connection.sftp.fsync(handle);
        self.counted(Operation::Other, 0, request).await.map(drop)
    }

    /// Renames; fails if `to` is there.
    pub(super) async fn rename(&self, from: String, to: String) -> Answer<()> {
        let request = self.connection.sftp.rename(from, to);
        self.counted(Operation::Copy, 0, request).await.map(drop)
    }

    /// Renames, in the place of what is at `to`.
    pub(super) async fn replace(&self, from: &str, to: &str) -> Answer<()> {
        if !self.connection.extensions.posix_rename {
            return Err(Trouble::Final(
                RemoteProblem::Unsupported,
                "the server has no posix-rename@openssh.com, so nothing can be replaced in one step"
                    .to_owned(),
            ));
        }
        let mut data = Vec::with_capacity(from.len() + to.len() + 8);
        for text in [from, to] {
            data.extend_from_slice(&(text.len() as u32).to_be_bytes());
            data.extend_from_slice(text.as_bytes());
        }
        let request = async {
            match self
                .connection
                .sftp
                .extended("posix-rename@openssh.com", data)
                .await
            {
                Ok(Packet::Status(status)) if status.status_code == StatusCode::Ok => Ok(()),
                Ok(Packet::Status(status)) => Err(Trouble::from(
                    russh_sftp::client::error::Error::from(status),
                )),
                Ok(_) => Err(Trouble::Lost(
                    RemoteProblem::Unavailable,
                    "the answer to a rename is none".to_owned(),
                )),
                Err(error) => Err(error.into()),
            }
        };
        self.counted(Operation::Copy, 0, request).await
    }

    pub(super) async fn remove(&self, file: String) -> Answer<()> {
        let request = self.connection.sftp.remove(file);
        self.counted(Operation::Delete, 0, request).await.map(drop)
    }

    pub(super) async fn rmdir(&self, folder: String) -> Answer<()> {
        let request = self.connection.sftp.rmdir(folder);
        self.counted(Operation::Delete, 0, request).await.map(drop)
    }

    /// Makes a folder; one that is there is fine.
    pub(super) async fn mkdir(&self, folder: String) -> Answer<()> {
        let mut attributes = FileAttributes::empty();
        attributes.permissions = Some(0o700);
        let request = self.connection.sftp.mkdir(folder.clone(), attributes);
        match self.counted(Operation::Put, 0, request).await {
            Err(trouble @ Trouble::Status(..)) => match self.lstat(folder).await {
                // A link to a folder may be the root or above it.
                Ok(found) if !found.file_type().is_file() => Ok(()),
                _ => Err(trouble),
            },
            made => made.map(drop),
        }
    }

    /// The names in a folder with what they are.
    pub(super) async fn names(&self, folder: String) -> Answer<Vec<(String, FileAttributes)>> {
        let request = self.connection.sftp.opendir(folder);
        let handle = self.counted(Operation::List, 0, request).await?.handle;
        let mut names = Vec::new();
        let ended = loop {
            let request = self.connection.sftp.readdir(handle.clone());
            match self.counted(Operation::List, 0, request).await {
                Ok(page) => names.extend(
                    page.files
                        .into_iter()
                        .map(|file| (file.filename, file.attrs)),
                ),
                Err(trouble) if trouble.is(StatusCode::Eof) => break Ok(()),
                Err(trouble) => break Err(trouble),
            }
        };
        self.close(handle).await?;
        ended.map(|()| names)
    }

    pub(super) async fn space(&self, folder: String) -> Answer<Option<Space>> {
        if !self.connection.extensions.statvfs {
            return Ok(None);
        }
        let request = self.connection.sftp.statvfs(folder);
        match self.counted(Operation::Other, 0, request).await {
            Ok(found) => Ok(Some(Space {
                free: found.blocks_avail.saturating_mul(found.fragment_size),
                total: found.blocks.saturating_mul(found.fragment_size),
            })),
            // The directory is made with the first object.
            Err(trouble) if trouble.is(StatusCode::NoSuchFile) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("extensions", &self.connection.extensions)
            .field("syncs_folders", &self.syncs_folders)
            .finish_non_exhaustive()
    }
}
