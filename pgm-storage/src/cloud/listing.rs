//! Listing: the store's pages, one in memory at a time.
//!
//! Stores list by the keys' bytes, which is the order of paths. One that does not (S3's directory buckets, Azure's
//! hierarchical namespaces) would break what callers rely on, so it is refused with an error; so is one that gives the
//! same page again.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{Bucket, Dialect};
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::remote_problem::{RemoteMessage, RemoteProblem};
use crate::storage::ObjectMeta;

/// Objects that are taken from the library at a time.
const PAGE: usize = 1000;
/// The age from which an unfinished temporary object is nobody's: no upload takes that long.
const LEFTOVER_AGE: Duration = Duration::from_hours(7 * 24);

type Found = BoxStream<'static, object_store::Result<object_store::ObjectMeta>>;

/// A listing under way, page by page. A page that is lost on the way is asked for again.
struct Pages<'a> {
    bucket: &'a Bucket,
    folder: &'a ObjectPath,
    prefix: Option<Path>,
    next: Next,
    page: VecDeque<object_store::ObjectMeta>,
}

/// Where the next page comes from.
enum Next {
    /// The listing that gave the page before, and the last key of that.
    Rest(Option<Found>, Option<Path>),
    Nothing,
}

impl<'a> Pages<'a> {
    fn begin(bucket: &'a Bucket, folder: &'a ObjectPath) -> Result<Self> {
        let key = bucket.key(folder)?;
        Ok(Self {
            bucket,
            folder,
            prefix: (!key.as_ref().is_empty()).then_some(key),
            next: Next::Rest(None, None),
            page: VecDeque::new(),
        })
    }

    fn next(&mut self) -> Result<Option<object_store::ObjectMeta>> {
        if self.page.is_empty() {
            self.turn()?;
        }
        Ok(self.page.pop_front())
    }

    fn turn(&mut self) -> Result<()> {
        let Next::Rest(mut rest, last) = std::mem::replace(&mut self.next, Next::Nothing) else {
            return Ok(());
        };
        let (objects, prefix) = (&self.bucket.objects, self.prefix.as_ref());
        let (page, rest) = self.bucket.insist("list", self.folder, || {
            let mut stream = rest.take().unwrap_or_else(|| match &last {
                Some(last) => objects.list_with_offset(prefix, last),
                None => objects.list(prefix),
            });
            async move {
                let page: VecDeque<_> = stream.by_ref().take(PAGE).try_collect().await?;
                Ok((page, stream))
            }
        })?;
        if page.len() == PAGE {
            let last = page.back().map(|found| found.location.clone());
            self.next = Next::Rest(Some(rest), last);
        }
        self.page = page;
        Ok(())
    }
}

/// Gives every object below `folder` to `visit`.
pub(super) fn list(
    bucket: &Bucket,
    folder: &ObjectPath,
    visit: &mut dyn FnMut(ObjectMeta) -> ControlFlow<()>,
) -> Result<()> {
    let mut pages = Pages::begin(bucket, folder)?;
    let mut last: Option<Path> = None;
    while let Some(found) = pages.next()? {
        if last.as_ref().is_some_and(|last| *last >= found.location) {
            return Err(StorageError::Remote {
                operation: "list",
                path: bucket.place(folder),
                problem: RemoteProblem::Unsupported,
                source: RemoteMessage::new(&format!(
                    "it lists {} again or out of order",
                    found.location
                )),
            });
        }
        let path = bucket.path_of(&found.location);
        last = Some(found.location);
        let Some(path) =
            path.filter(|path| path.below(folder).is_some_and(|rest| !rest.is_empty()))
        else {
            continue;
        };
        let meta = ObjectMeta {
            path,
            size: found.size,
            modified: found.last_modified.into(),
        };
        if visit(meta).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// The names of the folders directly in `folder`.
pub(super) fn folders(bucket: &Bucket, folder: &ObjectPath) -> Result<Vec<String>> {
    let key = bucket.key(folder)?;
    let prefix = (!key.as_ref().is_empty()).then_some(key);
    let found = bucket.insist("list", folder, || {
        let (objects, prefix) = (Arc::clone(&bucket.objects), prefix.clone());
        async move { objects.list_with_delimiter(prefix.as_ref()).await }
    })?;
    let mut names: Vec<String> = found
        .common_prefixes
        .iter()
        .filter_map(|prefix| bucket.path_of(prefix))
        .map(|path| path.name().to_owned())
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Removes temporary objects that are too old to be on their way; only GCS has any.
pub(super) fn sweep(bucket: &Bucket, folder: &ObjectPath) -> Result<u64> {
    if bucket.dialect != Dialect::Gcs {
        return Ok(0);
    }
    let mut pages = Pages::begin(bucket, folder)?;
    let mut swept = 0;
    while let Some(found) = pages.next()? {
        let age = SystemTime::now().duration_since(found.last_modified.into());
        let name = found.location.filename().unwrap_or("");
        if is_temporary(name) && age.is_ok_and(|age| age > LEFTOVER_AGE) {
            bucket.insist("delete", folder, || {
                let (objects, key) = (Arc::clone(&bucket.objects), found.location.clone());
                async move { objects.delete(&key).await }
            })?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// The name of the temporary object of a writer.
pub(super) fn temporary_name(id: &str) -> String {
    format!(".pgm-{id}.tmp")
}

fn is_temporary(name: &str) -> bool {
    name.strip_prefix(".pgm-")
        .is_some_and(|rest| rest.strip_suffix(".tmp").is_some())
}
