//! Reading an object by ranges, with few requests.
//!
//! A request costs money and a round trip, so an object's end, where a pack has its index, comes with its opening; a small
//! object comes whole with the first read; and reads that follow each other widen the range that is fetched. What is kept
//! is one range and the end, and no more than is bounded by [`RANGE_MAX`].

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};

use super::{Bucket, Dialect, collect, trouble};
use crate::error::{Result, StorageError};
use crate::path::ObjectPath;
use crate::storage::ObjectReader;

/// Bytes of the end that come with the opening: the last chunk of a sealed object, too.
const TAIL: u64 = 65 << 10;
/// The first range of reads that may follow each other.
const RANGE_MIN: u64 = 256 << 10;
/// The widest range, and the size up to which an object is fetched whole.
const RANGE_MAX: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct CloudReader {
    bucket: Arc<Bucket>,
    path: ObjectPath,
    key: Path,
    size: u64,
    /// Which version of the object we read.
    tag: Option<String>,
    kept: Mutex<Kept>,
}

/// What was fetched and may be asked for again.
#[derive(Debug, Default)]
struct Kept {
    tail: Piece,
    range: Piece,
}

#[derive(Debug, Default, Clone)]
struct Piece {
    offset: u64,
    bytes: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// Fills `buf` from `offset` if all of it is here.
    fn fill(&self, buf: &mut [u8], offset: u64) -> bool {
        let Some(from) = offset.checked_sub(self.offset) else {
            return false;
        };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let wanted = from
            .checked_add(buf.len())
            .and_then(|to| self.bytes.get(from..to));
        wanted.is_some_and(|wanted| {
            buf.copy_from_slice(wanted);
            true
        })
    }
}

impl Kept {
    /// Fills `buf` from `offset` if all of it is here, in one piece or across both.
    fn fill(&self, buf: &mut [u8], offset: u64) -> bool {
        if self.tail.fill(buf, offset) || self.range.fill(buf, offset) {
            return true;
        }
        let Some(first) = self.tail.offset.checked_sub(offset) else {
            return false;
        };
        if self.tail.bytes.is_empty() || first >= buf.len() as u64 {
            return false;
        }
        // Less than the length of `buf`.
        let (before, behind) = buf.split_at_mut(first as usize);
        self.range.fill(before, offset) && self.tail.fill(behind, self.tail.offset)
    }
}

/// What to fetch for a read of `wanted`, given what is kept. `wanted` lies within `size`. What is fetched and the end that is kept
/// may be needed together.
fn range_for(wanted: &Range<u64>, size: u64, kept: &Kept) -> Range<u64> {
    // The end is here already, if there is one.
    let limit = if kept.tail.bytes.is_empty() || wanted.start >= kept.tail.offset {
        size
    } else {
        kept.tail.offset
    };
    if size <= RANGE_MAX {
        return 0..limit;
    }
    if wanted.start >= size - TAIL {
        return size - TAIL..size;
    }
    let last = &kept.range;
    let follows = !last.bytes.is_empty() && (last.offset..=last.end()).contains(&wanted.start);
    let width = if follows {
        (last.bytes.len() as u64 * 2).clamp(RANGE_MIN, RANGE_MAX)
    } else {
        RANGE_MIN
    };
    wanted.start..wanted.end.max(wanted.start + width).min(limit)
}

impl CloudReader {
    pub(super) fn open(bucket: &Arc<Bucket>, path: &ObjectPath) -> Result<Self> {
        let key = bucket.object_key(path)?;
        // Azure knows no ranges that count from the end: there the beginning comes.
        let (range, at_end) = match bucket.dialect {
            Dialect::Azure => (GetRange::Bounded(0..TAIL), false),
            Dialect::S3 | Dialect::Gcs => (GetRange::Suffix(TAIL), true),
        };
        let opened = bucket.insist("open", path, || {
            let (objects, asked) = (Arc::clone(&bucket.objects), key.clone());
            let options = GetOptions {
                range: Some(range.clone()),
                ..GetOptions::default()
            };
            async move {
                let found = objects.get_opts(&asked, options).await?;
                let (size, tag) = (found.meta.size, found.meta.e_tag.clone());
                let offset = found.range.start;
                let bytes = collect(found, size.min(TAIL)).await?;
                Ok((size, tag, Piece { offset, bytes }))
            }
        });
        match opened {
            Ok((size, _, piece)) if piece.bytes.len() as u64 != size.min(TAIL) => {
                return Err(StorageError::Damaged {
                    path: bucket.place(path),
                    reason: format!("{} of {} bytes came", piece.bytes.len(), size.min(TAIL)),
                });
            }
            Ok((size, tag, piece)) => {
                let kept = if at_end || size <= TAIL {
                    Kept {
                        tail: piece,
                        range: Piece::default(),
                    }
                } else {
                    Kept {
                        tail: Piece::default(),
                        range: piece,
                    }
                };
                return Ok(Self::new(bucket, path, key, size, tag, kept));
            }
            // An empty object has no range.
            Err(error) if trouble::is_out_of_range(&error) => {}
            Err(error) => return Err(error),
        }
        let found = bucket.ask(path)?;
        let (size, tag) = (found.meta.size, found.meta.e_tag);
        Ok(Self::new(bucket, path, key, size, tag, Kept::default()))
    }

    fn new(
        bucket: &Arc<Bucket>,
        path: &ObjectPath,
        key: Path,
        size: u64,
        tag: Option<String>,
        kept: Kept,
    ) -> Self {
        Self {
            bucket: Arc::clone(bucket),
            path: path.clone(),
            key,
            size,
            tag,
            kept: Mutex::new(kept),
        }
    }

    fn fetch(&self, range: Range<u64>) -> Result<Piece> {
        let (offset, size) = (range.start, range.end - range.start);
        let bytes = self.bucket.insist("read", &self.path, || {
            let (objects, key) = (Arc::clone(&self.bucket.objects), self.key.clone());
            let options = GetOptions {
                range: Some(GetRange::Bounded(range.clone())),
                if_match: self.tag.clone(),
                ..GetOptions::default()
            };
            async move {
                let found = objects.get_opts(&key, options).await?;
                collect(found, size).await
            }
        })?;
        if bytes.len() as u64 != size {
            return Err(StorageError::Damaged {
                path: self.place(),
                reason: format!("{} of {size} bytes from {offset} came", bytes.len()),
            });
        }
        Ok(Piece { offset, bytes })
    }
}

impl ObjectReader for CloudReader {
    fn place(&self) -> String {
        self.bucket.place(&self.path)
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        let Some(end) = end.filter(|end| *end <= self.size) else {
            return Err(StorageError::Damaged {
                path: self.place(),
                reason: format!(
                    "it ends at {} before {} bytes from {offset} could be read",
                    self.size,
                    buf.len()
                ),
            });
        };
        if buf.is_empty() {
            return Ok(());
        }
        let range = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.fill(buf, offset) {
                return Ok(());
            }
            range_for(&(offset..end), self.size, &kept)
        };
        // Fetched without the lock: readers of other places need not wait.
        let piece = self.fetch(range)?;
        let tail = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.tail.clone()
        };
        let range = piece.clone();
        let complete = Kept { tail, range }.fill(buf, offset);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if piece.end() == self.size
            && kept.tail.bytes.is_empty()
            && piece.bytes.len() as u64 <= TAIL
        {
            kept.tail = piece;
        } else {
            kept.range = piece;
        }
        if complete {
            return Ok(());
        }
        Err(StorageError::Damaged {
            path: self.place(),
            reason: format!("{} bytes from {offset} did not come", buf.len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn piece(range: Range<u64>) -> Piece {
        Piece {
            offset: range.start,
            bytes: Bytes::from(vec![0; (range.end - range.start) as usize]),
        }
    }

    #[test]
    fn a_small_object_comes_whole_but_for_its_end() {
        let size = 3 * MIB;
        let kept = Kept {
            tail: piece(size - TAIL..size),
            range: Piece::default(),
        };
        assert_eq!(range_for(&(0..8), size, &kept), 0..size - TAIL);
        assert_eq!(range_for(&(8..size), size, &kept), 0..size - TAIL);
    }

    #[test]
    fn a_read_may_begin_in_what_was_fetched_and_end_in_the_end() {
        let size = 3 * MIB;
        let whole: Vec<u8> = (0..size).map(|n| (n >> 8) as u8).collect();
        let part = |range: Range<u64>| Piece {
            offset: range.start,
            bytes: Bytes::copy_from_slice(&whole[range.start as usize..range.end as usize]),
        };
        let kept = Kept {
            tail: part(size - TAIL..size),
            range: part(MIB..size - TAIL),
        };
        let filled = |range: Range<u64>| {
            let mut buf = vec![0; (range.end - range.start) as usize];
            let filled = kept.fill(&mut buf, range.start);
            filled.then(|| buf == whole[range.start as usize..range.end as usize])
        };
        for range in [
            MIB..size,
            2 * MIB..2 * MIB + 5,
            size - 9..size,
            size - TAIL - 1..size,
        ] {
            assert_eq!(filled(range.clone()), Some(true), "{range:?}");
        }
        assert_eq!(filled(MIB - 1..size), None);
        assert_eq!(filled(0..8), None);
    }

    #[test]
    fn reads_that_follow_each_other_get_wider_ranges() {
        let size = 128 * MIB;
        let mut kept = Kept {
            tail: piece(size - TAIL..size),
            range: Piece::default(),
        };
        let (mut offset, mut requests) = (0, 0);
        while offset < size - TAIL {
            let wanted = offset..(offset + MIB).min(size - TAIL);
            let mut scratch = vec![0; (wanted.end - wanted.start) as usize];
            if !kept.range.fill(&mut scratch, offset) {
                let range = range_for(&wanted, size, &kept);
                assert!(range.start <= wanted.start && range.end >= wanted.end);
                assert!(range.end - range.start <= RANGE_MAX);
                kept.range = piece(range);
                requests += 1;
            }
            offset = wanted.end;
        }
        assert!(requests <= 20, "{requests} requests for 128 frames");
    }

    #[test]
    fn a_read_elsewhere_fetches_little() {
        let size = 128 * MIB;
        let kept = Kept {
            tail: Piece::default(),
            range: piece(0..8 * MIB),
        };
        let range = range_for(&(64 * MIB..64 * MIB + 10), size, &kept);
        assert_eq!(range, 64 * MIB..64 * MIB + RANGE_MIN);
        assert_eq!(
            range_for(&(size - 10..size), size, &kept),
            size - TAIL..size
        );
    }
}
