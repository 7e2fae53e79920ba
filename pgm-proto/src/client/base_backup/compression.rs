//! How a server compresses the archives of a base backup, written `zstd:3`, `lz4`, `gzip:9` or `none`.
//!
//! PostgreSQL can from version 15 on, as far as it was built with the libraries (manual 55.4, COMPRESSION). The levels are
//! PostgreSQL's own, but for zstd: from 20 on it uses windows of more than 8 MiB, which every reader must hold in memory.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ServerVersion;
use crate::client::replication::PARENTHESES_MAJOR;

/// A method with a level that it has, or its default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ServerCompression {
    method: CompressionMethod,
    level: Option<i32>,
}

/// What the archives are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CompressionMethod {
    /// Nothing.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// The text is no compression that a server has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a server's compression: use zstd or zstd:LEVEL (-100 to -1, 1 to 19), lz4 or lz4:LEVEL (1 to 12), \
     gzip or gzip:LEVEL (1 to 9), or none"
)]
pub struct ParseServerCompressionError {
    text: String,
}

impl CompressionMethod {
    const ALL: [Self; 4] = [Self::None, Self::Gzip, Self::Lz4, Self::Zstd];

    /// PostgreSQL's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// What the names of such archives end with.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Lz4 => ".lz4",
            Self::Zstd => ".zst",
        }
    }

    fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None => None,
            Self::Gzip => Some(1..=9),
            Self::Lz4 => Some(1..=12),
            Self::Zstd => Some(-100..=19),
        }
    }
}

impl ServerCompression {
    /// Bytes as they are.
    pub const NONE: Self = Self {
        method: CompressionMethod::None,
        level: None,
    };

    /// A method at the server's default level.
    pub const fn of(method: CompressionMethod) -> Self {
        Self {
            method,
            level: None,
        }
    }

    /// The method.
    pub const fn method(self) -> CompressionMethod {
        self.method
    }

    /// Whether servers of this version know the option; a server may still have been built without the library.
    pub fn is_known_to(self, version: ServerVersion) -> bool {
        self.method == CompressionMethod::None || version.major() >= PARENTHESES_MAJOR
    }

    /// The options of the command; none without compression.
    pub(super) fn options(self) -> Vec<String> {
        if self.method == CompressionMethod::None {
            return Vec::new();
        }
        let mut options = vec![format!("COMPRESSION '{}'", self.method.name())];
        if let Some(level) = self.level {
            options.push(format!("COMPRESSION_DETAIL 'level={level}'"));
        }
        options
    }
}

impl fmt::Display for ServerCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => f.pad(&format!("{}:{level}", self.method.name())),
            None => f.pad(self.method.name()),
        }
    }
}

impl FromStr for ServerCompression {
    type Err = ParseServerCompressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseServerCompressionError {
            text: text.to_owned(),
        };
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let mut methods = CompressionMethod::ALL.into_iter();
        let method = methods.find(|method| method.name() == name);
        let method = method.ok_or_else(refuse)?;
        let level = match level {
            None => None,
            Some(level) => {
                let level: i32 = level.parse().map_err(|_| refuse())?;
                let known = level != 0
                    && method
                        .levels()
                        .is_some_and(|levels| levels.contains(&level));
                Some(known.then_some(level).ok_or_else(refuse)?)
            }
        };
        Ok(Self { method, level })
    }
}

impl Serialize for ServerCompression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServerCompression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_compression_is_read_back_from_its_text() {
        for text in [
            "none", "gzip", "gzip:9", "lz4", "lz4:12", "zstd", "zstd:-7", "zstd:19",
        ] {
            let read: ServerCompression = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        for text in [
            "", "none:1", "gzip:0", "gzip:10", "lz4:13", "zstd:0", "zstd:20", "zstd:", "brotli",
            "zstd:1'",
        ] {
            let error = text.parse::<ServerCompression>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn the_options_are_the_commands() {
        let options = |text: &str| text.parse::<ServerCompression>().unwrap().options();
        assert_eq!(options("none"), Vec::<String>::new());
        assert_eq!(options("lz4"), ["COMPRESSION 'lz4'"]);
        assert_eq!(
            options("zstd:-7"),
            ["COMPRESSION 'zstd'", "COMPRESSION_DETAIL 'level=-7'"]
        );
        let old = ServerVersion::from_number(140_023);
        assert!(ServerCompression::NONE.is_known_to(old));
        assert!(!ServerCompression::of(CompressionMethod::Zstd).is_known_to(old));
    }
}
