//! Positions in the write-ahead log.
//!
//! An [`Lsn`] is a byte position in a server's WAL since its `initdb`, printed as PostgreSQL prints it: two
//! hexadecimal halves with a slash (`16/B374D848`). Follows `XLogRecPtr` in `access/xlogdefs.h` and `pg_lsn`.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A position in the write-ahead log, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

/// The text is not an LSN such as `16/B374D848`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an LSN such as 16/B374D848")]
pub struct ParseLsnError(String);

impl Lsn {
    /// No position: PostgreSQL's `InvalidXLogRecPtr`.
    pub const INVALID: Self = Self(0);

    /// The position `bytes` bytes after the beginning of the WAL.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This position in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Whether this is a real position, not [`Lsn::INVALID`].
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }

    /// The distance in bytes from `earlier` to here; zero when `earlier` is not earlier.
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The position `bytes` further on, or `None` past the end of the LSN space.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |digits: &str| {
            let plain = (1..=8).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain
                .then(|| u64::from_str_radix(digits, 16).ok())
                .flatten()
        };
        let parsed = text
            .split_once('/')
            .and_then(|(high, low)| Some(Self(half(high)? << 32 | half(low)?)));
        parsed.ok_or_else(|| ParseLsnError(text.to_owned()))
    }
}

impl Add<u64> for Lsn {
    type Output = Self;

    fn add(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl Sub<Lsn> for Lsn {
    type Output = u64;

    fn sub(self, other: Self) -> u64 {
        self.bytes_since(other)
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_as_postgresql_does() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "0/3000028"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        assert_eq!("0/a".parse::<Lsn>().unwrap(), Lsn::new(10));
    }

    #[test]
    fn refuses_what_is_not_an_lsn() {
        for text in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "1/2/3",
            "g/1",
            "123456789/0",
            "+1/2",
            " 1/2",
        ] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }
}
