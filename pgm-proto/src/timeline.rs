//! Timelines: the branches of a server's history.
//!
//! A server gets a new timeline at each promotion and point-in-time recovery. File names print it as eight
//! hexadecimal digits, messages in decimal. Follows `TimeLineID` in `access/xlogdefs.h`.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a timeline, 1 for a new server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimelineId(NonZeroU32);

/// The text is not a timeline number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a timeline number from 1 to 4294967295")]
pub struct ParseTimelineError(String);

impl TimelineId {
    /// The timeline of a new server.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The timeline with this number, `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0.get()
    }

    /// The eight hexadecimal digits that file names begin with.
    pub fn file_prefix(self) -> String {
        format!("{:08X}", self.0)
    }

    /// Reads the eight hexadecimal digits that file names begin with.
    pub fn from_file_prefix(digits: &str) -> Option<Self> {
        let plain = digits.len() == 8
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
        plain
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten()
            .and_then(Self::new)
    }
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TimelineId {
    type Err = ParseTimelineError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().and_then(Self::new);
        number.ok_or_else(|| ParseTimelineError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_prefix_is_hexadecimal_also_above_nine() {
        let ten = TimelineId::new(10).unwrap();
        assert_eq!(ten.file_prefix(), "0000000A");
        assert_eq!(TimelineId::from_file_prefix("0000000A"), Some(ten));
        assert_eq!(ten.to_string(), "10");
    }

    #[test]
    fn zero_is_no_timeline() {
        assert!(TimelineId::from_file_prefix("00000000").is_none());
        assert!("0".parse::<TimelineId>().is_err());
    }
}
