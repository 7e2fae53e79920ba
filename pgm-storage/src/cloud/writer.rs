//! Writing an object: small ones with one request, larger ones in parts.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutPayload,
};

use super::service::ServerDate;
use super::{Bucket, Dialect, Whose, WriterId, listing, trouble};
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::remote_problem::{RemoteMessage, RemoteProblem};
use crate::runtime::Running;
use crate::storage::{ObjectMeta, ObjectWriter, PutMode};

/// Bytes of a part. S3 takes 10,000 parts, so an object may have 78 GiB.
const PART_BYTES: usize = 8 << 20;
const PARTS_MAX: u32 = 10_000;
/// How long giving up an upload may hold its caller.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// An object on its way. Dropped before [`finish`](ObjectWriter::finish), it leaves nothing.
#[derive(Debug)]
pub(super) struct CloudWriter {
    bucket: Arc<Bucket>,
    path: ObjectPath,
    key: Path,
    id: WriterId,
    /// What was not sent yet.
    part: Vec<u8>,
    written: u64,
    upload: Upload,
}

#[derive(Debug)]
enum Upload {
    /// Everything is in the first part.
    NotBegun,
    Running {
        multipart: Box<dyn MultipartUpload>,
        parts: u32,
        /// The part that is on its way.
        sending: Option<Running<object_store::Result<()>>>,
    },
    /// Something failed: there is a hole where bytes should be.
    Spent,
}

impl CloudWriter {
    pub(super) fn new(bucket: &Arc<Bucket>, path: &ObjectPath) -> Result<Self> {
        Ok(Self {
            key: bucket.object_key(path)?,
            bucket: Arc::clone(bucket),
            path: path.clone(),
            id: WriterId::new()?,
            part: Vec::new(),
            written: 0,
            upload: Upload::NotBegun,
        })
    }

    /// Where the parts become an object.
    fn upload_key(&self) -> Path {
        match self.bucket.dialect {
            Dialect::S3 | Dialect::Azure => self.key.clone(),
            Dialect::Gcs => {
                let folder = self
                    .key
                    .as_ref()
                    .rsplit_once('/')
                    .map_or("", |(folder, _)| folder);
                Path::from(folder).join(listing::temporary_name(&self.id.0))
            }
        }
    }

    fn failed(&self, problem: RemoteProblem, text: &str) -> StorageError {
        StorageError::Remote {
            operation: "write",
            path: self.place(),
            problem,
            source: RemoteMessage::new(text),
        }
    }

    /// Begins to send what was collected, once the part before it has arrived.
    fn send_part(&mut self) -> Result<()> {
        if matches!(self.upload, Upload::NotBegun) {
            // An upload of which nobody was told costs nothing but a line in the bucket's list of unfinished ones.
            let multipart = self.bucket.insist("write", &self.path, || {
                let (objects, key) = (Arc::clone(&self.bucket.objects), self.upload_key());
                let options = PutMultipartOptions {
                    attributes: self.bucket.attributes(&self.id),
                    ..PutMultipartOptions::default()
                };
                async move { objects.put_multipart_opts(&key, options).await }
            })?;
            self.upload = Upload::Running {
                multipart,
                parts: 0,
                sending: None,
            };
        }
        self.await_part()?;
        let payload = PutPayload::from(Bytes::from(std::mem::take(&mut self.part)));
        let full = match &mut self.upload {
            Upload::Running {
                multipart,
                parts,
                sending,
            } if *parts < PARTS_MAX => {
                *parts += 1;
                *sending = Some(self.bucket.runtime.spawn(multipart.put_part(payload)));
                return Ok(());
            }
            Upload::Running { .. } => format!("it needs more than {PARTS_MAX} parts"),
            Upload::NotBegun | Upload::Spent => "an earlier write to it failed".to_owned(),
        };
        Err(self.failed(RemoteProblem::Other, &full))
    }

    /// Waits for the part that is on its way.
    fn await_part(&mut self) -> Result<()> {
        let Upload::Running { sending, .. } = &mut self.upload else {
            return Ok(());
        };
        let Some(running) = sending.take() else {
            return Ok(());
        };
        running
            .wait()
            .map_err(|source| StorageError::from_io("write", self.place(), source))?
            .map_err(|error| trouble::sort("write", self.place(), &error))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.part.len() == PART_BYTES {
                self.send_part()?;
            }
            let count = rest.len().min(PART_BYTES - self.part.len());
            self.part.extend_from_slice(&rest[..count]);
            rest = &rest[count..];
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn publish(&mut self) -> Result<ObjectMeta> {
        let modified = match self.upload {
            Upload::NotBegun => {
                let bytes = Bytes::from(std::mem::take(&mut self.part));
                self.bucket
                    .put_whole(&self.path, &bytes, PutMode::Create, &self.id)?
            }
            Upload::Running { .. } => {
                if !self.part.is_empty() {
                    self.send_part()?;
                }
                self.await_part()?;
                self.complete()?
            }
            Upload::Spent => {
                return Err(self.failed(RemoteProblem::Other, "an earlier write to it failed"));
            }
        };
        self.upload = Upload::NotBegun;
        Ok(ObjectMeta {
            path: self.path.clone(),
            size: self.written,
            modified,
        })
    }

    /// Makes the parts an object, unless the path is taken.
    fn complete(&mut self) -> Result<SystemTime> {
        match self.bucket.ask(&self.path) {
            Err(error) if error.is_not_found() => {}
            Ok(_) => return Err(StorageError::AlreadyExists { path: self.place() }),
            Err(error) => return Err(error),
        }
        let Upload::Running { mut multipart, .. } =
            std::mem::replace(&mut self.upload, Upload::Spent)
        else {
            return Err(self.failed(RemoteProblem::Other, "an earlier write to it failed"));
        };
        let temporary = (self.upload_key() != self.key).then(|| self.upload_key());
        let (objects, key) = (Arc::clone(&self.bucket.objects), self.key.clone());
        let (multipart, completed) = self
            .bucket
            .runtime
            .wait(async move {
                let mut completed = multipart.complete().await;
                if let (Some(temporary), true) = (temporary, completed.is_ok()) {
                    let options = CopyOptions::new().with_mode(CopyMode::Create);
                    if let Err(error) = objects.copy_opts(&temporary, &key, options).await {
                        completed = Err(error);
                    }
                    let _ = objects.delete(&temporary).await;
                }
                (multipart, completed)
            })
            .map_err(|source| StorageError::from_io("write", self.place(), source))?;
        let error = match completed {
            Ok(put) => return Ok(ServerDate::of(&put.extensions)),
            Err(error) => trouble::sort("write", self.place(), &error),
        };
        // The answer may have been lost, and the request repeated in vain: only the object itself can tell.
        match self.bucket.whose(&self.path, &self.id, self.written) {
            Ok(Whose::Ours) => return Ok(SystemTime::now()),
            Ok(Whose::Others) => {
                self.give_up(multipart);
                return Err(StorageError::AlreadyExists { path: self.place() });
            }
            Ok(Whose::Nobodys) | Err(_) => {}
        }
        self.give_up(multipart);
        Err(error)
    }

    /// Has the store forget the parts.
    fn give_up(&self, mut multipart: Box<dyn MultipartUpload>) {
        let place = self.place();
        let aborting = self.bucket.runtime.spawn(async move {
            if let Err(error) = multipart.abort().await {
                tracing::debug!(object = place, %error, "its parts stay until the bucket's rules clear them away");
            }
        });
        aborting.wait_at_most(ABORT_TIMEOUT);
    }
}

impl Write for CloudWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if matches!(self.upload, Upload::Spent) {
            return Err(self
                .failed(RemoteProblem::Other, "an earlier write to it failed")
                .into());
        }
        match self.take(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.abandon();
                Err(error.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ObjectWriter for CloudWriter {
    fn place(&self) -> String {
        self.bucket.place(&self.path)
    }

    fn finish(mut self: Box<Self>) -> Result<ObjectMeta> {
        self.publish()
    }
}

impl CloudWriter {
    fn abandon(&mut self) {
        if let Upload::Running { multipart, .. } =
            std::mem::replace(&mut self.upload, Upload::Spent)
        {
            self.give_up(multipart);
        }
    }
}

impl Drop for CloudWriter {
    fn drop(&mut self) {
        self.abandon();
    }
}
