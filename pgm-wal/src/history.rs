//! Timeline histories: what a timeline branched off from, and where.
//!
//! ```text
//! 1    0/A000198    no recovery target specified
//! 2    0/C0001F0    before 2026-11-22 02:34:56+00
//! ```
//!
//! The columns are separated by tabs. Each line of `00000003.history` names an ancestor of timeline 3 (in decimal, unlike the file's name), the position
//! at which it was left, and why. Empty lines and lines that begin with `#` are skipped. Follows
//! `readTimeLineHistory` and `writeTimeLineHistory` in `access/transam/timeline.c`, and is stricter in one thing:
//! positions may not go back from one line to the next.

use pgm_proto::{Lsn, TimelineId};

/// The largest history file that is read: PostgreSQL writes about 60 bytes a timeline.
pub const HISTORY_BYTES_MAX: usize = 1 << 20;

/// The ancestors of a timeline, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    timeline: TimelineId,
    entries: Vec<HistoryEntry>,
}

/// One ancestor in a [`History`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The ancestor.
    pub timeline: TimelineId,
    /// Where it was left: the first byte that belongs to the next timeline.
    pub end: Lsn,
    /// Why, as the server wrote it.
    pub reason: String,
}

/// The bytes are not a history file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The file is larger than any that a server writes.
    #[error(
        "the history of timeline {timeline} is {bytes} bytes long, more than {HISTORY_BYTES_MAX}"
    )]
    TooLong {
        /// The timeline whose history it is.
        timeline: TimelineId,
        /// The file's size.
        bytes: usize,
    },
    /// A line has not the form `timeline position reason`.
    #[error("line {line} of the history of timeline {timeline} is not `timeline position reason`")]
    Line {
        /// The timeline whose history it is.
        timeline: TimelineId,
        /// The line, counted from 1.
        line: usize,
    },
    /// A line's timeline or position goes back, or its timeline is not an ancestor's.
    #[error("line {line} of the history of timeline {timeline} is out of order")]
    Order {
        /// The timeline whose history it is.
        timeline: TimelineId,
        /// The line, counted from 1.
        line: usize,
    },
    /// A timeline other than the first has no ancestor.
    #[error("the history of timeline {timeline} names no ancestor")]
    NoAncestor {
        /// The timeline whose history it is.
        timeline: TimelineId,
    },
}

impl History {
    /// The history of a timeline without ancestors: timeline 1 of every server.
    pub const fn root(timeline: TimelineId) -> Self {
        Self {
            timeline,
            entries: Vec::new(),
        }
    }

    /// Reads the history file of `timeline`.
    pub fn parse(timeline: TimelineId, content: &[u8]) -> Result<Self, HistoryError> {
        if content.len() > HISTORY_BYTES_MAX {
            return Err(HistoryError::TooLong {
                timeline,
                bytes: content.len(),
            });
        }
        let mut entries: Vec<HistoryEntry> = Vec::new();
        for (index, bytes) in content.split(|byte| *byte == b'\n').enumerate() {
            let line = index + 1;
            let text = bytes.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            let entry = parse_line(text).ok_or(HistoryError::Line { timeline, line })?;
            let follows = entries
                .last()
                .is_none_or(|last| last.timeline < entry.timeline && last.end <= entry.end);
            if !follows || entry.timeline >= timeline {
                return Err(HistoryError::Order { timeline, line });
            }
            entries.push(entry);
        }
        if entries.is_empty() && timeline != TimelineId::FIRST {
            return Err(HistoryError::NoAncestor { timeline });
        }
        Ok(Self { timeline, entries })
    }

    /// The timeline whose history this is.
    pub const fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// The ancestors, oldest first.
    pub fn entries(&self) -> &[HistoryEntry] {
        &self.entries
    }

    /// The timeline that this one branched off from, and where.
    pub fn parent(&self) -> Option<&HistoryEntry> {
        self.entries.last()
    }

    /// The ancestor `timeline`, `None` when it is not one.
    pub fn ancestor(&self, timeline: TimelineId) -> Option<&HistoryEntry> {
        self.entries.iter().find(|entry| entry.timeline == timeline)
    }

    /// Whether `timeline` is this timeline or one of its ancestors.
    pub fn includes(&self, timeline: TimelineId) -> bool {
        timeline == self.timeline || self.ancestor(timeline).is_some()
    }

    /// Whether a server that is at `lsn` on `timeline` can go on to this timeline: `timeline` is part of this history
    /// and was not left before `lsn`.
    pub fn contains(&self, timeline: TimelineId, lsn: Lsn) -> bool {
        timeline == self.timeline
            || self
                .ancestor(timeline)
                .is_some_and(|entry| lsn <= entry.end)
    }

    /// Where `timeline` begins in this history: zero for the oldest, `None` when it is no part of it.
    pub fn start_of(&self, timeline: TimelineId) -> Option<Lsn> {
        let index = if timeline == self.timeline {
            self.entries.len()
        } else {
            self.entries
                .iter()
                .position(|entry| entry.timeline == timeline)?
        };
        Some(
            index
                .checked_sub(1)
                .map_or(Lsn::INVALID, |parent| self.entries[parent].end),
        )
    }

    /// The timeline that the byte at `lsn` belongs to (`tliOfPointInHistory`).
    pub fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        self.entries
            .iter()
            .find(|entry| lsn < entry.end)
            .map_or(self.timeline, |entry| entry.timeline)
    }

    /// The timeline that follows `timeline` in this history, `None` for the newest or for one that is no part of it.
    pub fn next_after(&self, timeline: TimelineId) -> Option<TimelineId> {
        let index = self
            .entries
            .iter()
            .position(|entry| entry.timeline == timeline)?;
        Some(
            self.entries
                .get(index + 1)
                .map_or(self.timeline, |entry| entry.timeline),
        )
    }
}

fn parse_line(text: &[u8]) -> Option<HistoryEntry> {
    let (timeline, rest) = word(text);
    let (end, reason) = word(rest);
    Some(HistoryEntry {
        timeline: decimal(timeline)?,
        end: std::str::from_utf8(end).ok()?.parse().ok()?,
        reason: String::from_utf8_lossy(reason).into_owned(),
    })
}

/// A timeline in decimal digits alone: a sign, which `u32::from_str` takes, is refused.
fn decimal(digits: &[u8]) -> Option<TimelineId> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    TimelineId::new(text.parse().ok()?)
}

fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn lsn(text: &str) -> Lsn {
        text.parse().unwrap()
    }

    #[test]
    fn reads_what_a_server_writes() {
        let content =
            b"1\t0/A000198\tno recovery target specified\n\n2\t0/C0001F0\tbefore 2026-11-22\tx\n";
        let history = History::parse(timeline(3), content).unwrap();
        assert_eq!(history.entries().len(), 2);
        let parent = history.parent().unwrap();
        assert_eq!(
            (parent.timeline, parent.end),
            (timeline(2), lsn("0/C0001F0"))
        );
        assert_eq!(parent.reason, "before 2026-11-22\tx");
    }

    #[test]
    fn skips_comments_and_blank_lines_and_takes_any_white_space() {
        let content = b"# a comment\n\n   \t \n  1   0/10\n\t# 9\n2 \t 0/10\t\r\n";
        let history = History::parse(timeline(3), content).unwrap();
        assert_eq!(history.entries()[0].reason, "");
        assert_eq!(history.entries()[1].end, lsn("0/10"));
    }

    #[test]
    fn timelines_inside_are_decimal() {
        let history = History::parse(timeline(11), b"9\t0/1\tx\n10\t0/2\tx\n").unwrap();
        assert_eq!(history.parent().unwrap().timeline, timeline(10));
        assert!(History::parse(timeline(11), b"A\t0/1\tx\n").is_err());
    }

    #[test]
    fn hostile_content_is_an_error() {
        let cases: &[&[u8]] = &[
            b"",
            b"# only a comment\n",
            b"1\n",
            b"1\t0/1/2\tx\n",
            b"1\t00\tx\n",
            b"0\t0/1\tx\n",
            b"+1\t0/1\tx\n",
            b"-1\t0/1\tx\n",
            b"4294967296\t0/1\tx\n",
            b"3\t0/1\tx\n",
            b"4\t0/1\tx\n",
            b"2\t0/1\tx\n1\t0/2\tx\n",
            b"1\t0/1\tx\n1\t0/2\tx\n",
            b"1\t0/2\tx\n2\t0/1\tx\n",
            b"1\t0/1\tx\n\0",
            b"\xFF\xFE\t0/1\tx\n",
            b"1\t0/FFFFFFFFF\tx\n",
        ];
        for content in cases {
            assert!(
                History::parse(timeline(3), content).is_err(),
                "{}",
                content.escape_ascii()
            );
        }
        let long = vec![b'\n'; HISTORY_BYTES_MAX + 1];
        assert!(History::parse(timeline(3), &long).is_err());
        assert!(History::parse(timeline(3), b"1\t0/1\t\xFF\n").is_ok());
    }

    #[test]
    fn knows_which_timeline_a_byte_belongs_to() {
        let history = History::parse(timeline(4), b"1\t0/10\tx\n2\t0/20\tx\n").unwrap();
        for (position, expected) in [
            ("0/0", 1),
            ("0/F", 1),
            ("0/10", 2),
            ("0/1F", 2),
            ("0/20", 4),
        ] {
            assert_eq!(
                history.timeline_at(lsn(position)),
                timeline(expected),
                "{position}"
            );
        }
        assert!(history.contains(timeline(1), lsn("0/10")));
        assert!(!history.contains(timeline(1), lsn("0/11")));
        assert!(!history.contains(timeline(3), lsn("0/1")));
        assert!(history.contains(timeline(4), lsn("F/0")));
        assert_eq!(history.start_of(timeline(4)), Some(lsn("0/20")));
        assert_eq!(history.start_of(timeline(1)), Some(lsn("0/0")));
        assert_eq!(history.start_of(timeline(3)), None);
        assert_eq!(history.next_after(timeline(1)), Some(timeline(2)));
        assert_eq!(history.next_after(timeline(2)), Some(timeline(4)));
        assert_eq!(history.next_after(timeline(4)), None);
    }
}
