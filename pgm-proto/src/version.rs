//! The version of a PostgreSQL server.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A server's version in the form of `server_version_num`: 170010 is 17.10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerVersion(u32);

impl ServerVersion {
    /// The version with this `server_version_num`.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Reads the `server_version` parameter, such as `17.10 (Debian 17.10-1)` or `18beta1`.
    pub fn from_parameter(text: &str) -> Option<Self> {
        let digits_end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let major: u32 = text[..digits_end].parse().ok()?;
        let rest = text[digits_end..].strip_prefix('.').unwrap_or("");
        let minor_end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let minor = rest[..minor_end].parse().unwrap_or(0);
        (10..1000)
            .contains(&major)
            .then_some(Self(major * 10_000 + minor % 10_000))
    }

    /// The major version: 17.
    pub const fn major(self) -> u32 {
        self.0 / 10_000
    }

    /// The minor version: 10 of 17.10.
    pub const fn minor(self) -> u32 {
        self.0 % 10_000
    }

    /// The whole number: 170010.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_servers_report() {
        for (text, number) in [
            ("17.10 (Debian 17.10-1)", 170_010),
            ("18beta1", 180_000),
            ("14.23", 140_023),
        ] {
            assert_eq!(
                ServerVersion::from_parameter(text).unwrap().number(),
                number,
                "{text}"
            );
        }
        assert!(ServerVersion::from_parameter("nine").is_none());
    }
}
