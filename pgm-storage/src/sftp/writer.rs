//! Writing an object's file: temporary, synced, renamed, its folder synced.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use russh_sftp::protocol::{OpenFlags, StatusCode};

use super::server::Server;
use super::session::{self, Session};
use super::trouble::Trouble;
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::remote_problem::{RemoteMessage, RemoteProblem};
use crate::runtime::Running;
use crate::storage::{ObjectMeta, ObjectWriter, PutMode};

/// Bytes that are sent at a time, while as many are collected.
const BUFFER_BYTES: usize = 2 << 20;
/// How often a folder that vanishes while it is made is made again.
const FOLDER_TRIES_MAX: usize = 16;
/// How long removing an unfinished file may hold its caller.
const CLEANING_TIMEOUT: Duration = Duration::from_secs(10);

/// A temporary file on its way to become an object. Dropped before that, the file is removed.
#[derive(Debug)]
pub(super) struct SftpWriter {
    server: Arc<Server>,
    session: Arc<Session>,
    path: ObjectPath,
    mode: PutMode,
    temporary: String,
    handle: String,
    buffer: Vec<u8>,
    /// Bytes before the buffer.
    sent: u64,
    sending: Option<Running<std::result::Result<(), Trouble>>>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Writing,
    /// A write failed: there is a hole where the bytes should be.
    Spent,
    /// The temporary name is gone.
    Published,
}

impl SftpWriter {
    pub(super) fn begin(server: &Arc<Server>, path: &ObjectPath, mode: PutMode) -> Result<Self> {
        let target = server.file(path)?;
        let found = server.ask("look at", path, move |session| {
            let target = target.clone();
            async move { session.lstat(target).await }
        });
        match found {
            Ok(found) => {
                session::check_file(&found, &server.place(path))?;
                if mode == PutMode::Create {
                    let path = server.place(path);
                    return Err(StorageError::AlreadyExists { path });
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let folder = path.parent().unwrap_or_default();
        let temporary = format!("{}/.pgm-{}.tmp", server.file_or_root(&folder), random()?);
        let mut tries = 0;
        let (session, handle) = loop {
            tries += 1;
            let file = temporary.clone();
            // Not exclusive: the name is ours alone, and a lost answer is repeated.
            let flags = OpenFlags::CREATE | OpenFlags::WRITE | OpenFlags::TRUNCATE;
            let opened = server.ask("create", path, move |session| {
                let (file, used) = (file.clone(), Arc::clone(&session));
                async move { Ok((used, session.open(file, flags).await?)) }
            });
            match opened {
                // The folder is missing, or somebody removed it as empty.
                Err(error) if error.is_not_found() && tries < FOLDER_TRIES_MAX => {
                    server.make_folder(&folder)?;
                }
                opened => break opened?,
            }
        };
        Ok(Self {
            server: Arc::clone(server),
            session,
            path: path.clone(),
            mode,
            temporary,
            handle,
            buffer: Vec::new(),
            sent: 0,
            sending: None,
            state: State::Writing,
        })
    }

    fn await_sent(&mut self) -> Result<()> {
        let Some(sending) = self.sending.take() else {
            return Ok(());
        };
        sending
            .wait()
            .map_err(|source| StorageError::from_io("write", self.place(), source))?
            .map_err(|trouble| trouble.at("write", self.place()))
    }

    /// Sends what was collected, once what was sent before has arrived.
    fn send(&mut self) -> Result<()> {
        self.await_sent()?;
        let bytes = std::mem::take(&mut self.buffer);
        let (session, handle, offset) = (Arc::clone(&self.session), self.handle.clone(), self.sent);
        self.sent += bytes.len() as u64;
        let sending = async move { session.write(handle, offset, bytes).await };
        self.sending = Some(self.server.spawn(sending));
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = rest.len().min(BUFFER_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(&rest[..count]);
            rest = &rest[count..];
            if self.buffer.len() == BUFFER_BYTES {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Makes the object durable and visible.
    pub(super) fn publish(mut self) -> Result<ObjectMeta> {
        if self.state == State::Spent {
            return Err(spent(self.place()));
        }
        self.send()?;
        self.await_sent()?;
        let (session, handle) = (Arc::clone(&self.session), self.handle.clone());
        let found = self
            .server
            .once(&self.session, "write", &self.path, async move {
                session.sync(handle.clone()).await?;
                let found = session.fstat(handle.clone()).await?;
                session.close(handle).await?;
                Ok(found)
            })?
            .map_err(|trouble| trouble.at("write", self.place()))?;
        if found.len() != self.sent {
            return Err(StorageError::Damaged {
                path: self.place(),
                reason: format!(
                    "it has {} bytes after {} were written",
                    found.len(),
                    self.sent
                ),
            });
        }
        self.rename()?;
        if let Err(error) = self.server.sync_folder_of(&self.path) {
            if self.mode == PutMode::Create {
                // The name is ours, and nobody was promised that it stays.
                self.remove(self.server.file_or_root(&self.path));
            }
            return Err(error);
        }
        Ok(session::meta(self.path.clone(), &found))
    }

    fn rename(&mut self) -> Result<()> {
        let (from, to) = (self.temporary.clone(), self.server.file(&self.path)?);
        let (session, mode) = (Arc::clone(&self.session), self.mode);
        let renamed = self
            .server
            .once(&self.session, "rename", &self.path, async move {
                match mode {
                    PutMode::Create => session.rename(from, to).await,
                    PutMode::Replace => session.replace(&from, &to).await,
                }
            })?;
        let trouble = match renamed {
            Ok(()) => {
                self.state = State::Published;
                return Ok(());
            }
            Err(trouble) => trouble,
        };
        // A failure has no reason and a lost answer may have been a yes: see what is there now.
        let lstat = |file: String| {
            self.server.ask("look at", &self.path, move |session| {
                let file = file.clone();
                async move { session.lstat(file).await }
            })
        };
        let there = lstat(self.server.file(&self.path)?);
        if trouble.is_lost() {
            let ours = lstat(self.temporary.clone()).is_err_and(|error| error.is_not_found());
            if ours && there.is_ok_and(|there| there.len() == self.sent) {
                self.state = State::Published;
                return Ok(());
            }
        } else if trouble.is(StatusCode::Failure)
            && let Ok(there) = there
        {
            session::check_file(&there, &self.place())?;
            if self.mode == PutMode::Create {
                return Err(StorageError::AlreadyExists { path: self.place() });
            }
        }
        Err(trouble.at("rename", self.place()))
    }

    fn remove(&self, file: String) {
        let server = &self.server;
        let Ok(Ok(session)) = server.session() else {
            return;
        };
        let removing = server.spawn(async move { session.remove(file).await });
        removing.wait_at_most(CLEANING_TIMEOUT);
    }
}

fn spent(path: String) -> StorageError {
    StorageError::Remote {
        operation: "write",
        path,
        problem: RemoteProblem::Other,
        source: RemoteMessage::new("an earlier write to it failed"),
    }
}

fn random() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        StorageError::from_io("name", "a temporary file", io::Error::other(error))
    })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

impl Write for SftpWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.state == State::Spent {
            return Err(spent(self.place()).into());
        }
        match self.take(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.state = State::Spent;
                Err(error.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter for SftpWriter {
    fn place(&self) -> String {
        self.server.place(&self.path)
    }

    fn finish(self: Box<Self>) -> Result<ObjectMeta> {
        self.publish()
    }
}

impl Drop for SftpWriter {
    fn drop(&mut self) {
        if self.state == State::Published {
            return;
        }
        // What is still being sent would write to a file that is gone: that is fine.
        self.sending = None;
        self.remove(self.temporary.clone());
        self.server.remove_empty_folders(&self.path);
    }
}
