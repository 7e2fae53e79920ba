//! What can be wrong with a sealed object, by what the reader can do about it.

use std::io;

use super::key::KeyId;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The bytes do not begin as a sealed object.
    #[error("this is not sealed by pgm")]
    NotSealed,
    /// It is sealed in a way that this version does not know.
    #[error("it is sealed with {what} {found}, which this version does not know")]
    Unsupported {
        /// `format version`, `cipher`, `chunk size 2^`.
        what: &'static str,
        /// What stands there.
        found: u8,
    },
    /// The header's checksum is wrong: an accident, not another key.
    #[error("the header of the sealed data is damaged")]
    DamagedHeader,
    /// It was sealed with another key.
    #[error("it is sealed with the key {needed}, and the key given is {given}")]
    WrongKey {
        /// The key that it takes.
        needed: KeyId,
        /// The key that was tried.
        given: KeyId,
    },
    /// It was sealed with a key that the ring does not have.
    #[error("it is sealed with the data key {needed}, which is not one of this repository")]
    UnknownKey {
        /// The key that it takes.
        needed: KeyId,
    },
    /// The ring is not one.
    #[error("the ring of data keys has {bytes} bytes, which no ring has")]
    NoRing {
        /// How many it has.
        bytes: usize,
    },
    /// The ring has no place for another key.
    #[error("a repository has at most {max} data keys")]
    RingFull {
        /// How many there may be.
        max: usize,
    },
    /// The right key, but the header was changed, or the object stands in for another.
    #[error("the header of the sealed data was tampered with, or belongs to something else")]
    TamperedHeader,
    /// A chunk is not what was sealed.
    #[error("the sealed data is damaged or was tampered with, at its byte {offset}")]
    Tampered {
        /// Where the chunk begins in the raw bytes.
        offset: u64,
    },
    /// The end is missing.
    #[error("the sealed data is cut off after {raw_bytes} bytes")]
    Truncated {
        /// How many raw bytes there are and are genuine.
        raw_bytes: u64,
    },
    /// More chunks than can be told apart.
    #[error("one sealed object cannot hold more than 2^32 chunks")]
    TooLarge,
    /// The system has no random numbers or the cipher refused to work.
    #[error("cannot {action}")]
    Cipher {
        /// What was tried.
        action: &'static str,
    },
    /// The bytes could not be read or written.
    #[error("{0}")]
    Io(io::Error),
}

impl SealError {
    /// The next thing to do, for a person.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotSealed => Some("was it encrypted at all, and by pgm?".to_owned()),
            Self::Unsupported { .. } => Some("use a newer pgm".to_owned()),
            Self::WrongKey { needed, .. } => {
                Some(format!("find the master key whose id is {needed}"))
            }
            Self::UnknownKey { .. } => Some(
                "it was put there by somebody else, or the newest keys of the repository are lost"
                    .to_owned(),
            ),
            Self::RingFull { .. } => {
                Some("copy into a new repository, which begins with one".to_owned())
            }
            Self::NoRing { .. }
            | Self::DamagedHeader
            | Self::TamperedHeader
            | Self::Tampered { .. }
            | Self::Truncated { .. } => {
                Some("take another copy; nothing of this one can be trusted".to_owned())
            }
            Self::TooLarge | Self::Cipher { .. } | Self::Io(_) => None,
        }
    }

    /// Takes a seal's own error out of one of `io::Read` or `io::Write`.
    pub fn from_io(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Io)
    }
}

impl From<io::Error> for SealError {
    fn from(error: io::Error) -> Self {
        Self::from_io(error)
    }
}

/// Lets reader and writer report their own error through `io::Read` and `io::Write`.
impl From<SealError> for io::Error {
    fn from(error: SealError) -> Self {
        let kind = match &error {
            SealError::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            SealError::Io(error) => error.kind(),
            SealError::Cipher { .. } | SealError::TooLarge => io::ErrorKind::Other,
            _ => io::ErrorKind::InvalidData,
        };
        match error {
            SealError::Io(error) => error,
            error => io::Error::new(kind, error),
        }
    }
}
