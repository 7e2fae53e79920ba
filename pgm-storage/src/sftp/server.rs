//! The server as the engine sees it: requests that are repeated over a new connection, and folders.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::connection::Target;
use super::misplaced;
use super::session::{Answer, Session};
use super::trouble::Trouble;
use crate::address::StoreAddress;
use crate::error::{Result, StorageError};
use crate::limits::Pacer;
use crate::meter::Meter;
use crate::open::StoreOptions;
use crate::path::ObjectPath;
use crate::remote_problem::{RemoteMessage, RemoteProblem};
use crate::runtime::{Running, Runtime};

const TIMEOUT: Duration = Duration::from_mins(1);
const RETRY_TIMEOUT: Duration = Duration::from_mins(3);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A server and a directory of it.
#[derive(Debug)]
pub(super) struct Server {
    runtime: Runtime,
    target: Arc<Target>,
    meter: Arc<Meter>,
    requests: Option<Arc<Pacer>>,
    at_once: Option<Arc<Semaphore>>,
    session: Mutex<Option<Arc<Session>>>,
    directory: String,
    /// The address without parameters, for messages.
    place: String,
    retry_timeout: Duration,
}

impl Server {
    pub(super) fn new(address: &StoreAddress, options: &StoreOptions) -> Result<Self> {
        let seconds = |name: &str, default: Duration| match address.parameter(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|seconds| (1..=86_400).contains(seconds))
                .map(Duration::from_secs)
                .ok_or_else(|| StorageError::Remote {
                    operation: "open",
                    path: address.to_string(),
                    problem: RemoteProblem::Settings,
                    source: RemoteMessage::new(&format!(
                        "{name}={text} is not a number of seconds from 1 to 86400"
                    )),
                }),
        };
        let failed = |source| StorageError::from_io("open", address.to_string(), source);
        let limits = &options.limits;
        let text = address.to_string();
        Ok(Self {
            target: Arc::new(Target::new(address, options, seconds("timeout", TIMEOUT)?)?),
            runtime: Runtime::start("store").map_err(failed)?,
            meter: Arc::clone(&options.meter),
            requests: limits
                .request_rate
                .map(|rate| Arc::new(Pacer::new(rate, Instant::now()))),
            at_once: limits
                .requests_at_once
                .map(|n| Arc::new(Semaphore::new(n.max(1)))),
            session: Mutex::new(None),
            directory: address.path().trim_end_matches('/').to_owned(),
            place: text.split('?').next().unwrap_or_default().to_owned(),
            retry_timeout: seconds("retry_timeout", RETRY_TIMEOUT)?,
        })
    }

    /// The object's place for messages.
    pub(super) fn place(&self, path: &ObjectPath) -> String {
        if path.is_root() {
            self.place.clone()
        } else {
            format!("{}/{path}", self.place.trim_end_matches('/'))
        }
    }

    /// The file name at the server.
    pub(super) fn file_or_root(&self, path: &ObjectPath) -> String {
        match (self.directory.as_str(), path.is_root()) {
            ("", true) => "/".to_owned(),
            (directory, true) => directory.to_owned(),
            (directory, false) => format!("{directory}/{path}"),
        }
    }

    /// The file name of an object; the root is none.
    pub(super) fn file(&self, path: &ObjectPath) -> Result<String> {
        if path.is_root() {
            return Err(misplaced(self.place.clone(), "a folder", "an object"));
        }
        Ok(self.file_or_root(path))
    }

    /// The connection there is, or a new one.
    pub(super) fn session(&self) -> io::Result<Answer<Arc<Session>>> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*session
            && !session.connection.is_closed()
        {
            return Ok(Ok(Arc::clone(session)));
        }
        let target = Arc::clone(&self.target);
        let (meter, requests) = (Arc::clone(&self.meter), self.requests.clone());
        let at_once = self.at_once.clone();
        let directory = self.file_or_root(&ObjectPath::root());
        let made = self.runtime.wait(async move {
            let mut session = Session {
                connection: target.connect().await?,
                meter,
                requests,
                at_once,
                syncs_folders: false,
            };
            session.find_out(directory).await?;
            Ok(Arc::new(session))
        })?;
        if let Ok(made) = &made {
            *session = Some(Arc::clone(made));
        }
        Ok(made)
    }

    /// Has the next request make a new connection, unless somebody did already.
    fn give_up(&self, lost: &Arc<Session>) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.as_ref().is_some_and(|now| Arc::ptr_eq(now, lost)) {
            *session = None;
        }
        let lost = Arc::clone(lost);
        self.runtime
            .spawn(async move { lost.connection.close().await });
    }

    /// Makes a request that may be repeated, over new connections if need be.
    pub(super) fn ask<T, F>(
        &self,
        operation: &'static str,
        path: &ObjectPath,
        request: impl Fn(Arc<Session>) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Answer<T>> + Send + 'static,
    {
        let failed = |source| StorageError::from_io(operation, self.place(path), source);
        let begun = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            let answer = match self.session().map_err(failed)? {
                Ok(session) => {
                    let answer = self
                        .runtime
                        .wait(request(Arc::clone(&session)))
                        .map_err(failed)?;
                    if answer.as_ref().is_err_and(Trouble::is_lost) {
                        self.give_up(&session);
                    }
                    answer
                }
                Err(trouble) => Err(trouble),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(trouble) if trouble.is_lost() && begun.elapsed() < self.retry_timeout => {
                    tracing::debug!(place = self.place, ?trouble, "asking once more");
                }
                Err(trouble) => return Err(trouble.at(operation, self.place(path))),
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Makes a request on this connection or not at all.
    pub(super) fn once<T: Send + 'static>(
        &self,
        session: &Arc<Session>,
        operation: &'static str,
        path: &ObjectPath,
        request: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> Result<Answer<T>> {
        let failed = |source| StorageError::from_io(operation, self.place(path), source);
        let answer = self.runtime.wait(request).map_err(failed)?;
        if answer.as_ref().is_err_and(Trouble::is_lost) {
            self.give_up(session);
        }
        Ok(answer)
    }

    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Running<T> {
        self.runtime.spawn(work)
    }

    /// Makes the folder and those above it; each new name is synced.
    pub(super) fn make_folder(&self, folder: &ObjectPath) -> Result<()> {
        let mut missing = vec![];
        let mut next = Some(folder.clone());
        while let Some(folder) = next {
            let file = self.file_or_root(&folder);
            let found = self.ask("look at", &folder, move |session| {
                let file = file.clone();
                async move { session.lstat(file).await }
            });
            match found {
                Ok(found) if found.file_type().is_dir() || folder.is_root() => break,
                Ok(_) => return Err(misplaced(self.place(&folder), "a file", "a folder")),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
            next = folder.parent();
            missing.push(folder);
        }
        if next_is_above_root(&missing) {
            self.make_root()?;
        }
        for folder in missing.iter().rev().filter(|folder| !folder.is_root()) {
            let file = self.file_or_root(folder);
            self.ask("create", folder, move |session| {
                let file = file.clone();
                async move { session.mkdir(file).await }
            })?;
            self.sync_folder_of(folder)?;
        }
        Ok(())
    }

    /// Makes the directory under which everything is, and those above it.
    fn make_root(&self) -> Result<()> {
        let root = ObjectPath::root();
        let ends = self
            .directory
            .char_indices()
            .filter(|(at, c)| *c == '/' && *at > 0)
            .map(|(at, _)| at)
            .chain([self.directory.len()]);
        for end in ends {
            let file = self.directory[..end].to_owned();
            self.ask("create", &root, move |session| {
                let file = file.clone();
                async move { session.mkdir(file).await }
            })?;
        }
        Ok(())
    }

    /// Makes a change of names in the folder of `path` durable, where the server can.
    pub(super) fn sync_folder_of(&self, path: &ObjectPath) -> Result<()> {
        let folder = path.parent().unwrap_or_default();
        let file = self.file_or_root(&folder);
        let synced = self.ask("sync", &folder, move |session| {
            let file = file.clone();
            async move { session.sync_folder(file).await }
        });
        match synced {
            // Somebody removed it as empty: then there is nothing to sync.
            Err(error) if error.is_not_found() => Ok(()),
            synced => synced,
        }
    }

    /// Removes the folders above `path` that are empty.
    pub(super) fn remove_empty_folders(&self, path: &ObjectPath) {
        let mut folder = path.parent();
        while let Some(empty) = folder.filter(|folder| !folder.is_root()) {
            let file = self.file_or_root(&empty);
            let removed = self.ask("delete", &empty, move |session| {
                let file = file.clone();
                async move { session.rmdir(file).await }
            });
            if removed.is_err() {
                return;
            }
            folder = empty.parent();
        }
    }
}

/// Whether not even the root is there.
fn next_is_above_root(missing: &[ObjectPath]) -> bool {
    missing.last().is_some_and(ObjectPath::is_root)
}
