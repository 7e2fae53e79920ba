//! Writes the filtered segments, and the history files that lead through them.
//!
//! All segments are copied first, under names that end with `.unfinished`, then the changed records are written over the
//! originals, across pages and segments. Only when all of it is on disk, each gets its name: a folder has the whole
//! archive or none. Segments that end early, as unfinished ones do, are filled with zeros: PostgreSQL refuses any other
//! size.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pgm_proto::{Lsn, TimelineId};

use super::survey::{Change, Survey};
use super::transaction::LeftOut;
use super::{FilterError, Wal, replacement};
use crate::record::{
    HEADER_BYTES_MAX, HEADER_BYTES_MIN, PAGE_BYTES, Record, RecordError, choose_segment,
};
use crate::{SegmentName, SegmentNumber, SegmentSize, WalFileName};

const COPY_BYTES: usize = 1 << 20;
const UNFINISHED: &str = ".unfinished";

/// What was changed, and how much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Segments.
    pub segments: u64,
    /// Commits that became aborts.
    pub aborts: u64,
    /// Records that became such that do nothing.
    pub noops: u64,
    /// Records in which images of pages were changed.
    pub images: u64,
}

/// Counts what [`write`] would change.
pub(super) fn count(wal: &Wal<'_>, left_out: &LeftOut) -> Result<Changes, FilterError> {
    let mut changes = Changes::default();
    each_change(wal, left_out, &mut changes, &mut |_, _| Ok(()))?;
    Ok(changes)
}

/// Writes the WAL without `left_out` into `folder`.
pub(super) fn write(
    wal: &Wal<'_>,
    left_out: &LeftOut,
    folder: &Path,
) -> Result<Changes, FilterError> {
    let made = !folder.exists();
    fs::create_dir_all(folder).map_err(|error| FilterError::io("make", folder, error))?;
    let mut inside =
        fs::read_dir(folder).map_err(|error| FilterError::io("read", folder, error))?;
    if inside.next().is_some() {
        return Err(FilterError::NotEmpty {
            folder: folder.to_owned(),
        });
    }
    let mut output = Output {
        folder,
        size: (wal.open)().segment_size(),
        files: BTreeMap::new(),
        open: None,
    };
    let written = output.write(wal, left_out);
    if written.is_err() {
        output.discard(wal);
        if made {
            // Best effort: the error that led here is what matters.
            let _ = fs::remove_dir(folder);
        }
    }
    written
}

/// Takes the bytes of the record that takes the place of the one at a position.
type Replace<'a> = dyn FnMut(Lsn, &[u8]) -> Result<(), FilterError> + 'a;

/// Calls `each` with every record that becomes another one, and with its new bytes.
fn each_change(
    wal: &Wal<'_>,
    left_out: &LeftOut,
    changes: &mut Changes,
    each: &mut Replace<'_>,
) -> Result<(), FilterError> {
    let mut survey = Survey::new(left_out);
    wal.each(&mut |record: &Record<'_>| {
        let change = survey.look(record);
        let replaced;
        let bytes = match change {
            Change::Keep => return Ok(()),
            Change::Images => {
                changes.images += 1;
                survey.patched()
            }
            Change::Abort => {
                changes.aborts += 1;
                replaced = replacement::abort(record);
                replaced.as_deref().unwrap_or_default()
            }
            Change::Noop => {
                changes.noops += 1;
                replaced = replacement::noop(record);
                replaced.as_deref().unwrap_or_default()
            }
        };
        if bytes.len() != record.total_len as usize {
            return Err(Survey::unchangeable(record));
        }
        each(record.lsn, bytes)
    })
}

struct Output<'a> {
    folder: &'a Path,
    size: SegmentSize,
    files: BTreeMap<SegmentNumber, SegmentName>,
    open: Option<(SegmentNumber, File)>,
}

impl Output<'_> {
    fn write(&mut self, wal: &Wal<'_>, left_out: &LeftOut) -> Result<Changes, FilterError> {
        self.copy(wal)?;
        let mut changes = Changes::default();
        each_change(wal, left_out, &mut changes, &mut |lsn, bytes| {
            self.put(lsn, bytes)
        })?;
        self.open = None;
        changes.segments = self.files.len() as u64;
        self.write_histories(wal)?;
        self.publish()?;
        Ok(changes)
    }

    fn unfinished(&self, name: SegmentName) -> PathBuf {
        self.folder
            .join(format!("{}{UNFINISHED}", name.display(self.size)))
    }

    fn copy(&mut self, wal: &Wal<'_>) -> Result<(), FilterError> {
        let mut source = (wal.open)();
        let mut buffer = vec![0; COPY_BYTES];
        let last = self.size.number_before(wal.run.end);
        let mut number = self.size.number_at(wal.run.start);
        while number <= last {
            let chosen =
                choose_segment(&mut source, wal.history, number).map_err(RecordError::from)?;
            let Some((name, _)) = chosen else {
                break;
            };
            let path = self.unfinished(name);
            let file =
                File::create_new(&path).map_err(|error| FilterError::io("make", &path, error))?;
            self.files.insert(number, name);
            let mut offset = 0;
            while offset < self.size.bytes() {
                let count = source
                    .read_at(name, offset, &mut buffer)
                    .map_err(RecordError::from)?
                    .unwrap_or(0);
                if count == 0 {
                    break;
                }
                file.write_all_at(&buffer[..count], offset)
                    .map_err(|error| FilterError::io("write", &path, error))?;
                offset += count as u64;
            }
            file.set_len(self.size.bytes())
                .map_err(|error| FilterError::io("write", &path, error))?;
            number = number.next();
        }
        Ok(())
    }

    /// Writes a record over the one that begins at `at`.
    fn put(&mut self, mut at: Lsn, mut bytes: &[u8]) -> Result<(), FilterError> {
        while !bytes.is_empty() {
            let offset = self.size.offset_of(at);
            let in_page = (offset % PAGE_BYTES as u64) as usize;
            if in_page == 0 {
                let header = if offset == 0 {
                    HEADER_BYTES_MAX
                } else {
                    HEADER_BYTES_MIN
                };
                at = at + header as u64;
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PAGE_BYTES - in_page));
            self.put_in_segment(at, now)?;
            at = at + now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn put_in_segment(&mut self, at: Lsn, bytes: &[u8]) -> Result<(), FilterError> {
        let number = self.size.number_at(at);
        // A record that ends behind the last segment is not replayed from this copy.
        let Some(name) = self.files.get(&number).copied() else {
            return Ok(());
        };
        let path = self.unfinished(name);
        let file = match self.open.take() {
            Some((held, file)) if held == number => file,
            _ => File::options()
                .write(true)
                .open(&path)
                .map_err(|error| FilterError::io("open", &path, error))?,
        };
        file.write_all_at(bytes, self.size.offset_of(at))
            .map_err(|error| FilterError::io("write", &path, error))?;
        self.open = Some((number, file));
        Ok(())
    }

    /// PostgreSQL looks for the newest timeline by asking for one history after the other, without a hole.
    fn write_histories(&self, wal: &Wal<'_>) -> Result<(), FilterError> {
        let newest = wal.history.timeline().number();
        for timeline in (2..=newest).filter_map(TimelineId::new) {
            let mut text = String::new();
            if wal.history.includes(timeline) {
                for entry in wal.history.entries() {
                    if entry.timeline < timeline {
                        let number = entry.timeline.number();
                        let _ = writeln!(text, "{number}\t{}\t{}\n", entry.end, entry.reason);
                    }
                }
            } else {
                text.push_str("# another branch, which is not part of this archive\n");
            }
            let path = self.history(timeline);
            fs::write(&path, text).map_err(|error| FilterError::io("write", &path, error))?;
            sync(&path)?;
        }
        Ok(())
    }

    fn history(&self, timeline: TimelineId) -> PathBuf {
        let name = WalFileName::History(timeline).file_name(self.size);
        self.folder.join(name)
    }

    fn publish(&self) -> Result<(), FilterError> {
        for name in self.files.values() {
            sync(&self.unfinished(*name))?;
        }
        for name in self.files.values() {
            let path = self.folder.join(name.file_name(self.size));
            fs::rename(self.unfinished(*name), &path)
                .map_err(|error| FilterError::io("make", &path, error))?;
        }
        sync(self.folder)
    }

    /// Removes what was written, as far as it can be.
    fn discard(&self, wal: &Wal<'_>) {
        for timeline in (2..=wal.history.timeline().number()).filter_map(TimelineId::new) {
            let _ = fs::remove_file(self.history(timeline));
        }
        for name in self.files.values() {
            let _ = fs::remove_file(self.unfinished(*name));
            let _ = fs::remove_file(self.folder.join(name.file_name(self.size)));
        }
    }
}

fn sync(path: &Path) -> Result<(), FilterError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| FilterError::io("sync", path, error))
}
