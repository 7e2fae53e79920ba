//! Names that are checked where they enter: servers, repositories and replication slots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text does not have the form of the name it is meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} name: use 1 to {length_max} characters out of {characters}")]
pub struct ParseNameError {
    kind: &'static str,
    text: String,
    length_max: usize,
    characters: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $length_max:literal, $characters:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let allowed: fn(u8) -> bool = $allowed;
                if (1..=$length_max).contains(&text.len()) && text.bytes().all(allowed) {
                    return Ok(Self(text.to_owned()));
                }
                Err(ParseNameError {
                    kind: $kind,
                    text: text.to_owned(),
                    length_max: $length_max,
                    characters: $characters,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The name under which pgm knows a PostgreSQL server: a folder in repositories and spools.
    ServerName,
    "server",
    64,
    "A-Z a-z 0-9 _ -",
    |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
);

name!(
    /// The name under which a configuration knows a repository.
    RepositoryName,
    "repository",
    64,
    "A-Z a-z 0-9 _ -",
    |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
);

/// The one that every configuration has.
impl Default for RepositoryName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

name!(
    /// The name of a replication slot (manual: 27.2.6.1; at most 63 characters).
    SlotName,
    "replication slot",
    63,
    "a-z 0-9 _",
    |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for text in ["", ".", "..", "a/b", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(text.parse::<ServerName>().is_err(), "{text}");
        }
        assert_eq!(
            "prod-1_A".parse::<ServerName>().unwrap().as_str(),
            "prod-1_A"
        );
        assert!("Slot".parse::<SlotName>().is_err());
    }
}
