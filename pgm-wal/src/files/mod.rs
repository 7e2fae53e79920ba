//! WAL segments wherever they lie: files, folders, tar archives, packs of a repository, compressed or not.
//!
//! [`SegmentFiles::find`] looks at paths and learns which segments and history files are there; what a file is, it tells
//! from its first bytes and its name's first 24 digits, not from its suffix. [`SegmentFiles::source`] gives the bytes to
//! [`record`](crate::record). Where the same segment lies twice, the first one counts, a finished one before an
//! unfinished one.
//!
//! Files of `pg_wal` that wait to be used again, under the names of WAL to come, are passed over.
//!
//! Nothing is written and nothing unpacked to disk. A compressed segment is held decoded while it is read; no more of it
//! than a segment's size. Members of a compressed tar are found by decoding it from its beginning, as often as the reading
//! goes back.

mod encoding;
mod error;
mod members;
mod source;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use pgm_proto::{Lsn, TimelineId};
use pgm_storage::FileFormat;

pub use error::FilesError;
pub use source::FilesSource;

use crate::record::{BadPage, HEADER_BYTES_MAX, PageHeader};
use crate::{HISTORY_BYTES_MAX, History, SegmentName, SegmentNumber, SegmentSize, WalFileName};
use encoding::Encoding;

/// The name of a segment's file: three times eight hexadecimal digits.
const NAME_DIGITS: usize = 24;

/// Where a segment lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A file of its own.
    File { path: PathBuf, encoding: Encoding },
    /// A member of a tar archive, counted from its beginning, decoded.
    Member {
        path: PathBuf,
        encoding: Encoding,
        offset: u64,
        len: u64,
    },
}

/// What was found, and whether it is finished.
#[derive(Debug)]
struct Found {
    place: Place,
    partial: bool,
}

/// The segments in some files and folders.
#[derive(Debug)]
pub struct SegmentFiles {
    size: SegmentSize,
    segments: BTreeMap<SegmentName, Found>,
    histories: BTreeMap<TimelineId, History>,
}

/// Segments that follow each other without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first one's beginning.
    pub start: Lsn,
    /// The last one's end.
    pub end: Lsn,
}

/// Names are read before the size of segments is known.
struct Candidate {
    digits: String,
    found: Found,
}

impl SegmentFiles {
    /// Looks at `paths`: files, and folders with what lies directly in them.
    pub fn find(paths: &[PathBuf]) -> Result<Self, FilesError> {
        let mut candidates = Vec::new();
        let mut histories = BTreeMap::new();
        for path in paths {
            let failed = |error| FilesError::io("read", path, error);
            if !std::fs::metadata(path).map_err(failed)?.is_dir() {
                look(path, &mut candidates, &mut histories)?;
                continue;
            }
            let mut inside = Vec::new();
            for entry in std::fs::read_dir(path).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if entry.file_type().map_err(failed)?.is_file() {
                    inside.push(entry.path());
                }
            }
            inside.sort();
            for path in inside {
                look(&path, &mut candidates, &mut histories)?;
            }
        }
        let size = match candidates.first() {
            Some(first) => segment_size(&first.found.place)?,
            None => {
                return Err(FilesError::Nothing {
                    paths: paths.to_vec(),
                });
            }
        };
        let mut segments: BTreeMap<SegmentName, Found> = BTreeMap::new();
        for Candidate { digits, found } in candidates {
            // Digits that mean no segment of this size belong to another server.
            let Ok(name) = SegmentName::parse(&digits, size) else {
                continue;
            };
            let better = segments
                .get(&name)
                .is_none_or(|known| known.partial && !found.partial);
            if better && !found.place.awaits_use(name, size)? {
                segments.insert(name, found);
            }
        }
        Ok(Self {
            size,
            segments,
            histories,
        })
    }

    /// How large the segments are, by the first one's header.
    pub const fn size(&self) -> SegmentSize {
        self.size
    }

    /// The newest timeline of which there is a segment.
    pub fn newest_timeline(&self) -> Option<TimelineId> {
        self.segments.keys().map(|name| name.timeline).max()
    }

    /// The history of `timeline`; without its file, that of a timeline without ancestors.
    pub fn history(&self, timeline: TimelineId) -> History {
        match self.histories.get(&timeline) {
            Some(history) => history.clone(),
            None => History::root(timeline),
        }
    }

    /// The segments along `history` that follow each other without a hole.
    pub fn runs(&self, history: &History) -> Vec<Run> {
        let numbers: std::collections::BTreeSet<SegmentNumber> = self
            .segments
            .keys()
            .filter(|name| {
                // A segment behind the point at which its timeline was left belongs to another branch.
                let left = history.ancestor(name.timeline).map(|entry| entry.end);
                history.includes(name.timeline)
                    && left.is_none_or(|left| name.start(self.size) < left)
            })
            .map(|name| name.number)
            .collect();
        let mut runs: Vec<Run> = Vec::new();
        for number in numbers {
            let (start, end) = (number.start(self.size), number.end(self.size));
            match runs.last_mut() {
                Some(run) if run.end == start => run.end = end,
                _ => runs.push(Run { start, end }),
            }
        }
        runs
    }

    /// The segments of `run` as a source of records; those after it do not exist for it.
    pub fn source(&self, run: Run) -> FilesSource<'_> {
        FilesSource::new(self, run)
    }
}

/// Notes what the file at `path` holds.
fn look(
    path: &Path,
    candidates: &mut Vec<Candidate>,
    histories: &mut BTreeMap<TimelineId, History>,
) -> Result<(), FilesError> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(());
    };
    if let Some((digits, partial)) = segment_digits(name) {
        let encoding = Encoding::of(path)?;
        let place = Place::File {
            path: path.to_owned(),
            encoding,
        };
        candidates.push(Candidate {
            digits: digits.to_owned(),
            found: Found { place, partial },
        });
    } else if let Ok(WalFileName::History(timeline)) =
        WalFileName::parse(stem(name), SegmentSize::DEFAULT)
    {
        let mut content = Vec::new();
        Encoding::of(path)?
            .open(path)?
            .take(HISTORY_BYTES_MAX as u64 + 1)
            .read_to_end(&mut content)
            .map_err(|error| FilesError::io("read", path, error))?;
        note_history(path, timeline, &content, histories)?;
    } else if name.contains(".tar") || name.contains(".tgz") {
        members::look(path, candidates, histories)?;
    }
    Ok(())
}

fn note_history(
    path: &Path,
    timeline: TimelineId,
    content: &[u8],
    histories: &mut BTreeMap<TimelineId, History>,
) -> Result<(), FilesError> {
    let history = History::parse(timeline, content).map_err(|source| FilesError::History {
        path: path.to_owned(),
        source,
    })?;
    histories.insert(timeline, history);
    Ok(())
}

/// The digits of a segment's name, whatever compression added to it, and whether it is unfinished.
fn segment_digits(name: &str) -> Option<(&str, bool)> {
    let (digits, rest) = name.split_at_checked(NAME_DIGITS)?;
    let hexadecimal = digits
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    // A backup history file has eight more digits.
    let plausible = rest.is_empty() || rest.starts_with('.') && !rest.contains(".backup");
    (hexadecimal && plausible).then(|| (digits, rest.contains(".partial")))
}

/// A name without what compression added to it.
fn stem(name: &str) -> &str {
    FileFormat::ALL
        .into_iter()
        .find_map(|format| name.strip_suffix(format.suffix()))
        .unwrap_or(name)
}

/// The segment size that the segment's first page tells.
fn segment_size(place: &Place) -> Result<SegmentSize, FilesError> {
    let mut header = [0; HEADER_BYTES_MAX];
    let path = place.path();
    let mut reader = place.open()?;
    reader
        .read_exact(&mut header)
        .map_err(|error| FilesError::io("read", path, error))?;
    PageHeader::segment_size(&header).ok_or_else(|| FilesError::NoSegment {
        path: path.to_owned(),
    })
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Member { path, .. } => path,
        }
    }

    /// Whether the file is named for WAL that is still to come, as servers do with files that they no longer need: it is
    /// empty or begins with WAL of an earlier position.
    fn awaits_use(&self, name: SegmentName, size: SegmentSize) -> Result<bool, FilesError> {
        if !matches!(self, Self::File { .. }) {
            return Ok(false);
        }
        let mut header = Vec::new();
        self.open()?
            .take(HEADER_BYTES_MAX as u64)
            .read_to_end(&mut header)
            .map_err(|error| FilesError::io("read", self.path(), error))?;
        let start = name.start(size);
        Ok(
            match PageHeader::parse(&header, start, name.timeline, size) {
                Err(BadPage::Empty) => true,
                Err(BadPage::Address { found }) => found < start,
                _ => false,
            },
        )
    }

    /// The segment's bytes from its beginning on, decoded.
    fn open(&self) -> Result<Box<dyn Read>, FilesError> {
        match self {
            Self::File { path, encoding } => encoding.open(path),
            Self::Member {
                path,
                encoding,
                offset,
                len,
            } => {
                let mut reader = encoding.open(path)?;
                std::io::copy(&mut (&mut reader).take(*offset), &mut std::io::sink())
                    .map_err(|error| FilesError::io("read", path, error))?;
                Ok(Box::new(reader.take(*len)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
