//! What a user chooses: a codec and its level, written `zstd:3`, `zstd:-5`, `lz4`, `gzip:6` or `none`. Levels of zstd below 0 are its
//! fast ones: `-5` is `zstd --fast=5`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Codec;

/// A codec with a level that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    codec: Codec,
    level: i32,
}

/// The text or the level is not a compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a compression: use zstd or zstd:LEVEL (-100 to -1, 1 to 22), lz4, gzip or gzip:LEVEL (1 to 9), or none"
)]
pub struct ParseCompressionError {
    text: String,
}

impl Compression {
    /// Bytes as they are.
    pub const NONE: Self = Self {
        codec: Codec::None,
        level: 0,
    };
    /// zstd at its default level 3.
    pub const ZSTD: Self = Self {
        codec: Codec::Zstd,
        level: 3,
    };
    /// LZ4, which has no levels.
    pub const LZ4: Self = Self {
        codec: Codec::Lz4,
        level: 0,
    };
    /// gzip at its default level 6.
    pub const GZIP: Self = Self {
        codec: Codec::Gzip,
        level: 6,
    };

    /// A codec at its default level.
    pub const fn of(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::NONE,
            Codec::Zstd => Self::ZSTD,
            Codec::Lz4 => Self::LZ4,
            Codec::Gzip => Self::GZIP,
        }
    }

    /// A codec at a level that it must have.
    pub fn with_level(codec: Codec, level: i32) -> Result<Self, ParseCompressionError> {
        // To zstd, 0 means the default level, which has a number of its own.
        if level != 0 && levels(codec).is_some_and(|levels| levels.contains(&level)) {
            return Ok(Self { codec, level });
        }
        Err(ParseCompressionError {
            text: format!("{}:{level}", codec.name()),
        })
    }

    /// The codec.
    pub const fn codec(self) -> Codec {
        self.codec
    }

    /// The level; 0 for a codec without levels.
    pub const fn level(self) -> i32 {
        self.level
    }
}

/// The levels of a codec, if it has any.
fn levels(codec: Codec) -> Option<RangeInclusive<i32>> {
    match codec {
        Codec::None | Codec::Lz4 => None,
        Codec::Zstd => Some(-100..=22),
        Codec::Gzip => Some(1..=9),
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::ZSTD
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match levels(self.codec) {
            Some(_) => f.pad(&format!("{}:{}", self.codec.name(), self.level)),
            None => f.pad(self.codec.name()),
        }
    }
}

impl FromStr for Compression {
    type Err = ParseCompressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseCompressionError {
            text: text.to_owned(),
        };
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let codec = [Codec::None, Codec::Zstd, Codec::Lz4, Codec::Gzip]
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(refuse)?;
        match level {
            None => Ok(Self::of(codec)),
            Some(level) => {
                Self::with_level(codec, level.parse().map_err(|_| refuse())?).map_err(|_| refuse())
            }
        }
    }
}

impl Serialize for Compression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Compression {
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
            "none",
            "zstd:-100",
            "zstd:-1",
            "zstd:1",
            "zstd:3",
            "zstd:22",
            "lz4",
            "gzip:1",
            "gzip:9",
        ] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        assert_eq!("zstd".parse(), Ok(Compression::ZSTD));
        assert_eq!("gzip".parse(), Ok(Compression::GZIP));
    }

    #[test]
    fn an_error_names_the_valid_codecs_and_levels() {
        for text in [
            "zstd:0",
            "zstd:-101",
            "zstd:23",
            "zstd:",
            "zstd:x",
            "lz4:1",
            "none:0",
            "gzip:10",
            "brotli",
            "",
        ] {
            let error = text.parse::<Compression>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}`")), "{error}");
            assert!(
                error.contains("(-100 to -1, 1 to 22)") && error.contains("(1 to 9)"),
                "{error}"
            );
        }
    }
}
