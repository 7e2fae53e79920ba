//! A user's name: a PostgreSQL role's or an admin's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// As PostgreSQL's names: NAMEDATALEN without its zero byte.
const BYTES_MAX: usize = 63;

/// 1 to 63 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

/// The text is not a user's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a user's name has 1 to 63 bytes and no control characters")]
pub struct ParseUserNameError;

impl UserName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = ParseUserNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseUserNameError)
        }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for UserName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UserName {
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
    fn names_are_postgresqls() {
        for good in ["a", "Back up", "grüße", &"x".repeat(63)] {
            assert_eq!(good.parse::<UserName>().unwrap().as_str(), good);
        }
        for bad in ["", "a\nb", "a\0", &"x".repeat(64)] {
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
    }
}
