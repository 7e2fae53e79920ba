//! The names of archived objects, below `SERVER/wal`.

use pgm_proto::{Lsn, TimelineId};

use crate::{SegmentName, SegmentSize, WalFileName};

/// An object of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoredName {
    /// A finished segment.
    Segment(SegmentName),
    /// What is valid of an unfinished segment.
    Partial {
        /// The segment.
        segment: SegmentName,
        /// The end of its last valid record. From here on the stored segment is zero.
        end: Lsn,
    },
    /// The history file of a timeline.
    History(TimelineId),
}

impl StoredName {
    /// The path below `SERVER/wal`.
    pub fn path(self, size: SegmentSize) -> String {
        match self {
            Self::Segment(name) => {
                format!("{}/{}", name.timeline.file_prefix(), name.display(size))
            }
            Self::Partial { segment, end } => format!(
                "{}/{}.{:016X}.partial",
                segment.timeline.file_prefix(),
                segment.display(size),
                end.bytes()
            ),
            Self::History(timeline) => WalFileName::History(timeline).file_name(size),
        }
    }

    /// Reads a path below `SERVER/wal`; `None` for what the archive does not write.
    pub fn parse(path: &str, size: SegmentSize) -> Option<Self> {
        let Some((folder, file)) = path.split_once('/') else {
            return match WalFileName::parse(path, size).ok()? {
                WalFileName::History(timeline) => Some(Self::History(timeline)),
                _ => None,
            };
        };
        let (segment, rest) = match file.split_once('.') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (file, None),
        };
        let segment = SegmentName::parse(segment, size).ok()?;
        if segment.timeline.file_prefix() != folder {
            return None;
        }
        let Some(rest) = rest else {
            return Some(Self::Segment(segment));
        };
        let digits = rest
            .strip_suffix(".partial")
            .filter(|digits| digits.len() == 16)?;
        let plain = digits
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
        let end = Lsn::new(u64::from_str_radix(digits, 16).ok().filter(|_| plain)?);
        let inside = end > segment.start(size) && end <= segment.end(size);
        inside.then_some(Self::Partial { segment, end })
    }
}
