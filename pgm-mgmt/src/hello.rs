//! How client and daemon agree on a version of the protocol.
//!
//! A client may begin with [`crate::Request::Hello`], naming the versions that it speaks; the daemon answers with the
//! newest one that both speak, or with the error `unsupported_protocol`, which names both ranges. A client that says no
//! hello is taken to speak version 1. Within a version, requests, fields and codes are added, never changed.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::client::{Client, ClientError};
use crate::error_code::{Error, ErrorCode};
use crate::request::Request;
use crate::response::Response;
use crate::role::Role;

/// The versions of the protocol that this crate speaks.
pub const PROTOCOL_VERSIONS: RangeInclusive<u32> = 1..=crate::PROTOCOL_VERSION;

/// What a client says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest version of the protocol that it speaks.
    pub protocol_min: u32,
    /// The newest.
    pub protocol_max: u32,
    /// Name and version of the program, for the log: `pgm-cli 0.1.0`.
    pub client: String,
}

/// What the daemon says of itself, and of whom it speaks to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of the protocol that both speak from here on.
    pub protocol: u32,
    /// The daemon's version.
    pub version: String,
    /// Whom the daemon takes the client for.
    pub user: String,
    /// What they may do.
    pub role: Role,
}

impl Hello {
    /// The hello of a client that is built with this crate.
    pub fn new(client: impl Into<String>) -> Self {
        Self {
            protocol_min: *PROTOCOL_VERSIONS.start(),
            protocol_max: *PROTOCOL_VERSIONS.end(),
            client: client.into(),
        }
    }

    /// The newest version that the client and a daemon of this crate's version both speak.
    pub fn agree(&self) -> Result<u32, Error> {
        let (ours_min, ours_max) = (*PROTOCOL_VERSIONS.start(), *PROTOCOL_VERSIONS.end());
        let newest = self.protocol_max.min(ours_max);
        if newest >= self.protocol_min.max(ours_min) {
            return Ok(newest);
        }
        let text = format!(
            "{} speaks version {} to {} of the management protocol, this pgmd {ours_min} to {ours_max}",
            self.client, self.protocol_min, self.protocol_max
        );
        let hint = if self.protocol_min > ours_max {
            "upgrade pgmd, or use the pgm-cli that came with it"
        } else {
            "upgrade the client"
        };
        Err(Error::new(ErrorCode::UnsupportedProtocol, text).with_hint(hint))
    }
}

impl Client {
    /// Agrees on a version. `None`: the daemon is older than this request, and speaks version 1.
    pub fn hello(&mut self, client: &str) -> Result<Option<Welcome>, ClientError> {
        match self.call(&Request::Hello(Hello::new(client))) {
            Ok(Response::Welcome(welcome)) => Ok(Some(welcome)),
            Ok(_) => Ok(None),
            Err(ClientError::Refused(error)) if error.code == ErrorCode::BadRequest => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(protocol_min: u32, protocol_max: u32) -> Hello {
        Hello {
            protocol_min,
            protocol_max,
            client: "other 9".to_owned(),
        }
    }

    #[test]
    fn the_newest_common_version_is_agreed_on() {
        assert_eq!(hello(1, 1).agree(), Ok(1));
        assert_eq!(hello(1, u32::MAX).agree(), Ok(crate::PROTOCOL_VERSION));
        assert_eq!(Hello::new("x").agree(), Ok(crate::PROTOCOL_VERSION));
    }

    #[test]
    fn without_a_common_version_both_ranges_are_named() {
        let newer = hello(7, 9).agree().unwrap_err();
        assert_eq!(newer.code, ErrorCode::UnsupportedProtocol);
        assert!(newer.text.contains("version 7 to 9"), "{newer}");
        assert!(newer.text.contains("this pgmd 1 to "), "{newer}");
        assert!(newer.hint.unwrap().contains("upgrade pgmd"));
        // A range that ends before it begins has nothing in common with any other.
        for older in [hello(0, 0), hello(2, 1)] {
            assert!(older.agree().is_err());
        }
    }
}
