//! The names of the files in `pg_wal`.
//!
//! ```text
//! 00000001 00000003 000000A1           a segment: timeline, segment / per id, segment % per id
//! 00000001 00000003 000000A1 .partial  the last, unfinished segment of a timeline
//! 0000000A .history                    what timeline 10 branched off from
//! ```
//!
//! All digits are hexadecimal, timelines too. Follows `XLogFileName` and its neighbours in `access/xlog_internal.h`.
//! Which segment a name means depends on the [`SegmentSize`]. Backup history files (`….backup`) are not read here.

use std::fmt;

use pgm_proto::{Lsn, TimelineId};

use super::{SegmentNumber, SegmentSize};

/// A segment of one timeline.
///
/// Sorts by timeline, then by number, as the file names do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline that the segment's file is named for.
    pub timeline: TimelineId,
    /// Its place in the WAL.
    pub number: SegmentNumber,
}

/// A file of `pg_wal` that is kept: a segment, the unfinished last segment of a timeline, or a history file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFileName {
    /// A finished segment.
    Segment(SegmentName),
    /// An unfinished segment, filled up to some position.
    Partial(SegmentName),
    /// The history file of a timeline.
    History(TimelineId),
}

/// The text is not the name of a WAL file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of a WAL file with segments of {size}")]
pub struct ParseWalFileNameError {
    text: String,
    size: SegmentSize,
}

impl SegmentName {
    /// Segment `number` of `timeline`.
    pub const fn new(timeline: TimelineId, number: SegmentNumber) -> Self {
        Self { timeline, number }
    }

    /// The segment of `timeline` that holds the byte at `lsn`.
    pub const fn at(timeline: TimelineId, lsn: Lsn, size: SegmentSize) -> Self {
        Self {
            timeline,
            number: size.number_at(lsn),
        }
    }

    /// The next segment of the same timeline.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            timeline: self.timeline,
            number: self.number.next(),
        }
    }

    /// The position of its first byte.
    pub const fn start(self, size: SegmentSize) -> Lsn {
        self.number.start(size)
    }

    /// The position after its last byte.
    pub const fn end(self, size: SegmentSize) -> Lsn {
        self.number.end(size)
    }

    /// The name of its file: 24 hexadecimal digits.
    pub fn file_name(self, size: SegmentSize) -> String {
        self.display(size).to_string()
    }

    /// The name of its file, for formatting without an allocation.
    pub fn display(self, size: SegmentSize) -> impl fmt::Display {
        SegmentFileName { name: self, size }
    }

    /// Reads the name of a finished segment's file.
    pub fn parse(text: &str, size: SegmentSize) -> Result<Self, ParseWalFileNameError> {
        parse_segment(text, size).ok_or_else(|| ParseWalFileNameError {
            text: text.to_owned(),
            size,
        })
    }
}

impl WalFileName {
    /// The file's name.
    pub fn file_name(self, size: SegmentSize) -> String {
        match self {
            Self::Segment(name) => name.file_name(size),
            Self::Partial(name) => format!("{}.partial", name.display(size)),
            Self::History(timeline) => format!("{}.history", timeline.file_prefix()),
        }
    }

    /// Reads the name of a file.
    pub fn parse(text: &str, size: SegmentSize) -> Result<Self, ParseWalFileNameError> {
        let parsed = match text.split_once('.') {
            None => parse_segment(text, size).map(Self::Segment),
            Some((name, "partial")) => parse_segment(name, size).map(Self::Partial),
            Some((name, "history")) => TimelineId::from_file_prefix(name).map(Self::History),
            Some(_) => None,
        };
        parsed.ok_or_else(|| ParseWalFileNameError {
            text: text.to_owned(),
            size,
        })
    }

    /// The timeline that the file belongs to.
    pub const fn timeline(self) -> TimelineId {
        match self {
            Self::Segment(name) | Self::Partial(name) => name.timeline,
            Self::History(timeline) => timeline,
        }
    }
}

struct SegmentFileName {
    name: SegmentName,
    size: SegmentSize,
}

impl fmt::Display for SegmentFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, per_id) = (self.name.number.value(), self.size.per_id());
        let timeline = self.name.timeline.number();
        write!(
            f,
            "{timeline:08X}{:08X}{:08X}",
            number / per_id,
            number % per_id
        )
    }
}

fn parse_segment(text: &str, size: SegmentSize) -> Option<SegmentName> {
    let digits = text.len() == 24
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    if !digits {
        return None;
    }
    let timeline = TimelineId::from_file_prefix(&text[..8])?;
    let id = u64::from_str_radix(&text[8..16], 16).ok()?;
    let rest = u64::from_str_radix(&text[16..], 16).ok()?;
    let number = SegmentNumber::new(id * size.per_id() + rest);
    (rest < size.per_id()).then_some(SegmentName { timeline, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    #[test]
    fn names_are_those_of_postgresql() {
        let sixteen = SegmentSize::DEFAULT;
        let at = |lsn: &str, size| SegmentName::at(timeline(1), lsn.parse().unwrap(), size);
        assert_eq!(
            at("16/B374D848", sixteen).file_name(sixteen),
            "0000000100000016000000B3"
        );
        let one = SegmentSize::MIN;
        assert_eq!(
            at("16/B374D848", one).file_name(one),
            "000000010000001600000B37"
        );
        let gib = SegmentSize::MAX;
        assert_eq!(
            at("16/B374D848", gib).file_name(gib),
            "000000010000001600000002"
        );
    }

    #[test]
    fn timelines_above_nine_are_hexadecimal() {
        let size = SegmentSize::DEFAULT;
        let name = WalFileName::History(timeline(10));
        assert_eq!(name.file_name(size), "0000000A.history");
        assert_eq!(WalFileName::parse("0000000A.history", size).unwrap(), name);
        let parsed = SegmentName::parse("0000000A0000000000000003", size).unwrap();
        assert_eq!(
            parsed,
            SegmentName::new(timeline(10), SegmentNumber::new(3))
        );
    }

    #[test]
    fn every_size_reads_back_what_it_prints() {
        for power in 20..=30 {
            let size = SegmentSize::new(1 << power).unwrap();
            for lsn in [0, 1, (1 << 32) - 1, 1 << 32, u64::MAX >> 1, u64::MAX] {
                let name = SegmentName::at(timeline(0xFFFF_FFFF), Lsn::new(lsn), size);
                assert_eq!(
                    SegmentName::parse(&name.file_name(size), size).unwrap(),
                    name
                );
                let partial = WalFileName::Partial(name);
                assert_eq!(
                    WalFileName::parse(&partial.file_name(size), size).unwrap(),
                    partial
                );
            }
        }
    }

    #[test]
    fn other_files_are_not_wal() {
        let size = SegmentSize::DEFAULT;
        for text in [
            "",
            ".",
            ".partial",
            ".history",
            "00000001000000000000000",
            "0000000100000000000000011",
            "000000000000000000000001",
            "00000001000000000000000a",
            "000000010000000000000100",
            "000000010000000000000001.partial.failed-1",
            "000000010000000000000001.gz",
            "000000010000000000000001.00000028.backup",
            "00000000.history",
            "0000000a.history",
            "../0000000100000000000000",
            "ä0000001000000000000000",
        ] {
            assert!(WalFileName::parse(text, size).is_err(), "{text}");
        }
    }
}
