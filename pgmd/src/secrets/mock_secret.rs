//! What makes the salts of users who do not exist: random, and the same after a restart.
//!
//! Whoever asks twice for the same unknown name gets the same salt, as for a known one, and cannot compute it.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use super::error::SecretsError;
use super::private_file::{self, Write};

/// The name of its file, beside that of the admins.
const FILE_NAME: &str = "scram.secret";
const BYTES: usize = 32;

/// The secret; never printed, wiped when dropped.
#[derive(Clone)]
pub struct MockSecret(Zeroizing<[u8; BYTES]>);

impl MockSecret {
    /// Reads it from beside `admins`, or makes it there.
    pub fn load_or_create(admins: &Path) -> Result<Self, SecretsError> {
        let path = admins.with_file_name(FILE_NAME);
        if let Some(secret) = Self::load(&path)? {
            return Ok(secret);
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        getrandom::fill(bytes.as_mut())
            .map_err(|error| SecretsError::io("write", &path, std::io::Error::other(error)))?;
        let mut text = Zeroizing::new(String::with_capacity(2 * BYTES + 1));
        for byte in bytes.iter() {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        private_file::write(&path, &text, Write::New)?;
        Ok(Self(bytes))
    }

    fn load(path: &Path) -> Result<Option<Self>, SecretsError> {
        let Some(text) = private_file::read(path)? else {
            return Ok(None);
        };
        let wrong = || SecretsError::unusable(path, "it is not 64 hexadecimal digits");
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * BYTES {
            return Err(wrong());
        }
        let mut bytes = Zeroizing::new([0; BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            let number = value(pair[0]).zip(value(pair[1]));
            let (high, low) = number.ok_or_else(wrong)?;
            *byte = (high * 16 + low) as u8;
        }
        Ok(Some(Self(bytes)))
    }

    /// The bytes, for HMAC.
    pub fn expose(&self) -> &[u8; BYTES] {
        &self.0
    }
}

impl fmt::Debug for MockSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MockSecret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let admins = folder.path().join("admins.ron");
        let first = MockSecret::load_or_create(&admins).unwrap();
        let second = MockSecret::load_or_create(&admins).unwrap();
        assert_eq!(first.expose(), second.expose());
        assert_ne!(first.expose(), &[0; BYTES]);
        assert!(!format!("{first:?}").contains("0x"));
    }
}
