//! The engines of the clouds: S3 and what speaks its protocol, Azure Blob Storage, Google Cloud Storage.
//!
//! ```text
//! BUCKET/PREFIX/main/wal/00000001/000000010000000000000004      an object; its metadata `pgmwriter` says who wrote it
//! BUCKET/PREFIX/main/backup/20261122T023456Z/.pgm-6f….tmp       GCS only: an object in parts on its way
//! ```
//!
//! Invariants:
//! - Nothing is staged on this host: a writer holds two parts, and sends one while the other fills.
//! - An object of up to one part is written by one conditional request (put if absent). A larger one is sent in parts
//!   and completed by a conditional request; GCS has none, there the whole object is copied from a temporary name by a
//!   conditional request. Right before it, the path is asked for, which protects it also where a store passes over the
//!   condition.
//! - A request whose answer was lost is not guessed about: the object's `pgmwriter` tells whether it was ours.
//! - A reader sticks to the version of the object it opened (its entity tag); when that is gone, reads fail.
//! - Every request has a timeout and every operation an end; between tries the pause grows.
//!
//! What it does not do: make buckets, and clear away parts that a killed writer left (a lifecycle rule of the bucket does
//! that; they appear in no listing). A folder is only a prefix here: that a path is both an object and a folder is not
//! noticed.

mod connect;
mod listing;
mod reader;
mod service;
mod trouble;
mod writer;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetResult, ObjectStore, ObjectStoreExt, PutOptions,
    PutPayload,
};

use self::reader::CloudReader;
use self::service::ServerDate;
use self::writer::CloudWriter;
use crate::address::StoreAddress;
use crate::error::{Result, StorageError};
use crate::open::StoreOptions;
use crate::path::ObjectPath;
use crate::remote_problem::{RemoteMessage, RemoteProblem};
use crate::runtime::Runtime;
use crate::storage::{ObjectMeta, ObjectReader, ObjectWriter, PutMode, Space, Storage};

/// The metadata that says which writer made an object.
const WRITER: &str = "pgmwriter";
/// The first pause between two tries, which doubles each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Which protocol the store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    S3,
    Azure,
    Gcs,
}

/// A storage in a bucket.
#[derive(Debug, Clone)]
pub(crate) struct CloudStorage(Arc<Bucket>);

/// An opened bucket, or the part of it below a prefix.
#[derive(Debug)]
pub(super) struct Bucket {
    runtime: Runtime,
    objects: Arc<dyn ObjectStore>,
    dialect: Dialect,
    /// Empty, or without slashes at its ends.
    prefix: String,
    /// The address without parameters, for messages.
    place: String,
    storage_class: Option<String>,
    /// When an operation is given up.
    retry_timeout: Duration,
}

/// The random name of one writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WriterId(String);

/// Whose object is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    Others,
    Nobodys,
}

impl CloudStorage {
    pub(crate) fn open(address: &StoreAddress, options: &StoreOptions) -> Result<Self> {
        let failed = |source| StorageError::from_io("open", address.to_string(), source);
        let runtime = Runtime::start("store").map_err(failed)?;
        connect::connect(address, options, runtime).map(|bucket| Self(Arc::new(bucket)))
    }
}

impl Bucket {
    /// The object's place for messages.
    pub(super) fn place(&self, path: &ObjectPath) -> String {
        if path.is_root() {
            self.place.clone()
        } else {
            format!("{}/{path}", self.place)
        }
    }

    /// The object's key.
    fn key(&self, path: &ObjectPath) -> Result<Path> {
        let text = match (self.prefix.as_str(), path.as_str()) {
            ("", text) | (text, "") => text.to_owned(),
            (prefix, text) => format!("{prefix}/{text}"),
        };
        Path::parse(&text)
            .map_err(|error| self.settings(path, &format!("`{text}` cannot be a key: {error}")))
    }

    /// The key of an object; the root is none.
    pub(super) fn object_key(&self, path: &ObjectPath) -> Result<Path> {
        if path.is_root() {
            return Err(StorageError::Misplaced {
                path: self.place.clone(),
                found: "a folder",
                wanted: "an object",
            });
        }
        self.key(path)
    }

    /// The path of a key; `None` for what cannot be an object of ours.
    pub(super) fn path_of(&self, key: &Path) -> Option<ObjectPath> {
        let text = key.as_ref();
        let below = if self.prefix.is_empty() {
            text
        } else {
            text.strip_prefix(self.prefix.as_str())?.strip_prefix('/')?
        };
        ObjectPath::parse(below).ok().filter(|path| !path.is_root())
    }

    fn settings(&self, path: &ObjectPath, text: &str) -> StorageError {
        StorageError::Remote {
            operation: "open",
            path: self.place(path),
            problem: RemoteProblem::Settings,
            source: RemoteMessage::new(text),
        }
    }

    /// Runs `future` on the store's thread and sorts what went wrong.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        operation: &'static str,
        path: &ObjectPath,
        future: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T> {
        let answer = self.runtime.wait(future);
        answer
            .map_err(|source| StorageError::from_io(operation, self.place(path), source))?
            .map_err(|error| trouble::sort(operation, self.place(path), &error))
    }

    /// The same for what may be done twice: made anew by `request` and tried again while the trouble may pass. The library does so
    /// only with requests that change nothing, and not for everything once an answer has begun.
    pub(super) fn insist<T, F>(
        &self,
        operation: &'static str,
        path: &ObjectPath,
        mut request: impl FnMut() -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let error = match self.wait(operation, path, request()) {
                Err(error) if trouble::may_pass(&error) => error,
                answer => return answer,
            };
            if begun.elapsed() + pause >= self.retry_timeout {
                return Err(error);
            }
            tracing::debug!(object = %path, %error, "trying it once more");
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    pub(super) fn attributes(&self, id: &WriterId) -> Attributes {
        let mut attributes = Attributes::new();
        attributes.insert(Attribute::Metadata(WRITER.into()), id.0.clone().into());
        if let Some(class) = &self.storage_class {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        attributes
    }

    /// Asks for size, time and writer.
    pub(super) fn ask(&self, path: &ObjectPath) -> Result<GetResult> {
        let key = self.object_key(path)?;
        self.insist("look at", path, || {
            let (objects, key) = (Arc::clone(&self.objects), key.clone());
            let options = GetOptions {
                head: true,
                ..GetOptions::default()
            };
            async move { objects.get_opts(&key, options).await }
        })
    }

    /// Whose the object at `path` is.
    pub(super) fn whose(&self, path: &ObjectPath, id: &WriterId, size: u64) -> Result<Whose> {
        match self.ask(path) {
            Ok(found) => {
                let writer = found.attributes.get(&Attribute::Metadata(WRITER.into()));
                let ours = writer.is_some_and(|writer| writer.as_ref() == id.0);
                Ok(if ours && found.meta.size == size {
                    Whose::Ours
                } else {
                    Whose::Others
                })
            }
            Err(error) if error.is_not_found() => Ok(Whose::Nobodys),
            Err(error) => Err(error),
        }
    }

    /// Writes a whole object with one request; gives when, by the store's clock.
    ///
    /// A conditional request that got no answer may have been carried out, so it is repeated only when the object is
    /// seen not to be there.
    pub(super) fn put_whole(
        &self,
        path: &ObjectPath,
        bytes: &Bytes,
        mode: PutMode,
        id: &WriterId,
    ) -> Result<SystemTime> {
        let key = self.object_key(path)?;
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let (objects, key) = (Arc::clone(&self.objects), key.clone());
            let payload = PutPayload::from(bytes.clone());
            let options = PutOptions {
                mode: match mode {
                    PutMode::Create => object_store::PutMode::Create,
                    PutMode::Replace => object_store::PutMode::Overwrite,
                },
                attributes: self.attributes(id),
                ..PutOptions::default()
            };
            let put = self.wait("write", path, async move {
                objects.put_opts(&key, payload, options).await
            });
            let error = match put {
                Ok(put) => return Ok(ServerDate::of(&put.extensions)),
                Err(error) => error,
            };
            let may_be_there = error.is_already_exists() || trouble::is_ambiguous(&error);
            if mode == PutMode::Replace || !may_be_there {
                return Err(error);
            }
            match self.whose(path, id, bytes.len() as u64) {
                Ok(Whose::Ours) => return Ok(SystemTime::now()),
                Ok(Whose::Others) => {
                    return Err(StorageError::AlreadyExists {
                        path: self.place(path),
                    });
                }
                // Also when it was there a moment ago: then somebody removed it, and the path is free.
                Ok(Whose::Nobodys) if begun.elapsed() < self.retry_timeout => {}
                Ok(Whose::Nobodys) | Err(_) => return Err(error),
            }
            tracing::debug!(object = %path, %error, "writing it once more");
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

impl WriterId {
    pub(super) fn new() -> Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|error| StorageError::from_io("name", "a writer", io::Error::other(error)))?;
        Ok(Self(format!("{:032x}", u128::from_be_bytes(bytes))))
    }
}

impl Storage for CloudStorage {
    fn create(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(CloudWriter::new(&self.0, path)?))
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: PutMode) -> Result<()> {
        let bytes = Bytes::copy_from_slice(bytes);
        self.0
            .put_whole(path, &bytes, mode, &WriterId::new()?)
            .map(drop)
    }

    fn open(&self, path: &ObjectPath) -> Result<Box<dyn ObjectReader>> {
        Ok(Box::new(CloudReader::open(&self.0, path)?))
    }

    fn get(&self, path: &ObjectPath, bytes_max: u64) -> Result<Vec<u8>> {
        let key = self.0.object_key(path)?;
        let got = self.0.insist("read", path, || {
            let (objects, key) = (Arc::clone(&self.0.objects), key.clone());
            async move {
                let found = objects.get(&key).await?;
                let size = found.meta.size;
                if size > bytes_max {
                    return Ok(Err(size));
                }
                Ok(Ok((size, found.bytes().await?)))
            }
        })?;
        match got {
            Ok((size, bytes)) if bytes.len() as u64 == size => Ok(bytes.to_vec()),
            Ok((size, bytes)) => Err(StorageError::Damaged {
                path: self.0.place(path),
                reason: format!("{} of {size} bytes came", bytes.len()),
            }),
            Err(size) => Err(StorageError::TooLarge {
                path: self.0.place(path),
                size,
                bytes_max,
            }),
        }
    }

    fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        let found = self.0.ask(path)?;
        Ok(ObjectMeta {
            path: path.clone(),
            size: found.meta.size,
            modified: found.meta.last_modified.into(),
        })
    }

    fn list(
        &self,
        prefix: &ObjectPath,
        visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
    ) -> Result<()> {
        listing::list(&self.0, prefix, visit)
    }

    fn folders(&self, prefix: &ObjectPath) -> Result<Vec<String>> {
        listing::folders(&self.0, prefix)
    }

    fn delete(&self, path: &ObjectPath) -> Result<()> {
        let key = self.0.object_key(path)?;
        let deleted = self.0.insist("delete", path, || {
            let (objects, key) = (Arc::clone(&self.0.objects), key.clone());
            async move { objects.delete(&key).await }
        });
        match deleted {
            Err(error) if error.is_not_found() => Ok(()),
            deleted => deleted,
        }
    }

    fn sweep(&self, prefix: &ObjectPath) -> Result<u64> {
        listing::sweep(&self.0, prefix)
    }

    fn space(&self) -> Result<Option<Space>> {
        Ok(None)
    }

    fn describe(&self) -> String {
        let kind = match self.0.dialect {
            Dialect::S3 => "S3",
            Dialect::Azure => "Azure Blob Storage",
            Dialect::Gcs => "Google Cloud Storage",
        };
        format!("{kind} {}", self.0.place)
    }
}

/// Collects a body of known size.
pub(super) async fn collect(found: GetResult, size: u64) -> object_store::Result<Bytes> {
    let mut stream = found.into_stream();
    let mut bytes = bytes::BytesMut::with_capacity(usize::try_from(size).unwrap_or(0));
    while let Some(more) = stream.next().await {
        let more = more?;
        if (bytes.len() + more.len()) as u64 > size {
            return Err(object_store::Error::Generic {
                store: "store",
                source: "more bytes came than were asked for".into(),
            });
        }
        bytes.extend_from_slice(&more);
    }
    Ok(bytes.freeze())
}
