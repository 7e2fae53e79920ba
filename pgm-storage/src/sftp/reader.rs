//! Reading an object's file. The open file stays readable when its name is gone; after a lost connection it is opened
//! again, if it is the same.

use std::sync::{Arc, Mutex, PoisonError};

use russh_sftp::protocol::OpenFlags;

use super::server::Server;
use super::session::{self, Session};
use super::trouble::Trouble;
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::remote_problem::RemoteProblem;
use crate::storage::{ObjectMeta, ObjectReader};

#[derive(Debug)]
pub(super) struct SftpReader {
    server: Arc<Server>,
    /// As it was when it was opened: objects do not change.
    meta: ObjectMeta,
    file: String,
    opened: Mutex<Opened>,
}

/// An open file, valid on its connection only.
#[derive(Debug, Clone)]
struct Opened {
    session: Arc<Session>,
    handle: String,
}

impl SftpReader {
    pub(super) fn open(server: &Arc<Server>, path: &ObjectPath) -> Result<Self> {
        let file = server.file(path)?;
        let name = file.clone();
        let (opened, found) =
            server.ask("open", path, move |session| open(session, name.clone()))?;
        let reader = Self {
            server: Arc::clone(server),
            meta: session::meta(path.clone(), &found),
            file,
            opened: Mutex::new(opened),
        };
        session::check_file(&found, &reader.place())?;
        Ok(reader)
    }

    /// The open file on `session`, opened again if that is another connection than before.
    async fn on(
        session: Arc<Session>,
        before: Opened,
        file: String,
        meta: ObjectMeta,
    ) -> std::result::Result<Opened, Trouble> {
        if Arc::ptr_eq(&session, &before.session) {
            return Ok(before);
        }
        let (opened, found) = open(session, file).await?;
        if found.len() != meta.size || session::modified(&found) != meta.modified {
            return Err(Trouble::Final(
                RemoteProblem::Changed,
                "after the connection was lost, another file was in its place".to_owned(),
            ));
        }
        Ok(opened)
    }
}

async fn open(
    session: Arc<Session>,
    file: String,
) -> std::result::Result<(Opened, russh_sftp::protocol::FileAttributes), Trouble> {
    let handle = session.open(file, OpenFlags::READ).await?;
    let found = session.fstat(handle.clone()).await?;
    Ok((Opened { session, handle }, found))
}

impl ObjectReader for SftpReader {
    fn place(&self) -> String {
        self.server.place(&self.meta.path)
    }

    fn size(&self) -> u64 {
        self.meta.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let length = buf.len() as u64;
        let short = |found: u64| StorageError::Damaged {
            path: self.place(),
            reason: format!("it ends at {found} before {length} bytes from {offset} could be read"),
        };
        if offset
            .checked_add(length)
            .is_none_or(|end| end > self.meta.size)
        {
            return Err(short(self.meta.size));
        }
        if buf.is_empty() {
            return Ok(());
        }
        let before = self
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (opened, bytes) = self.server.ask("read", &self.meta.path, |session| {
            let (before, file, meta) = (before.clone(), self.file.clone(), self.meta.clone());
            async move {
                let opened = Self::on(session, before, file, meta).await?;
                let bytes = opened
                    .session
                    .read(opened.handle.clone(), offset, length)
                    .await?;
                Ok((opened, bytes))
            }
        })?;
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        if bytes.len() as u64 != length {
            return Err(short(offset + bytes.len() as u64));
        }
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}

impl Drop for SftpReader {
    fn drop(&mut self) {
        let opened = self
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // Nobody waits: a server that forgets its clients closes their files.
        self.server
            .spawn(async move { opened.session.close(opened.handle).await });
    }
}
