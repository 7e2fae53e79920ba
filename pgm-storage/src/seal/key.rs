//! The master key: 256 random bits, written as 64 hexadecimal digits, and its public name.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// The size of a master key.
pub const MASTER_KEY_BYTES: usize = 32;

const KEY_ID_BYTES: usize = 16;
/// What is authenticated with the key to get its id.
const KEY_ID_TEXT: &[u8] = b"pgm key id";

/// The key that wraps every data key; never printed, wiped when dropped.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Zeroizing<[u8; MASTER_KEY_BYTES]>,
    id: KeyId,
}

/// The public name of a master key; tells nothing about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KEY_ID_BYTES]);

/// The text is not a master key. The text itself is not in the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a master key is 64 hexadecimal digits, and this is something else")]
pub struct ParseMasterKeyError;

impl MasterKey {
    /// A new random key.
    pub fn generate() -> Result<Self, super::SealError> {
        let mut bytes = Zeroizing::new([0; MASTER_KEY_BYTES]);
        super::cipher::randomise(bytes.as_mut())?;
        Ok(Self::new(&bytes))
    }

    /// The key of these bytes.
    pub fn new(bytes: &[u8; MASTER_KEY_BYTES]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let tag = hmac::sign(&key, KEY_ID_TEXT);
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&tag.as_ref()[..KEY_ID_BYTES]);
        Self {
            bytes: Zeroizing::new(*bytes),
            id: KeyId(id),
        }
    }

    /// The key as text, for the one file that keeps it.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * MASTER_KEY_BYTES));
        for byte in self.bytes.iter() {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        text
    }

    /// Its public name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn bytes(&self) -> &[u8; MASTER_KEY_BYTES] {
        &self.bytes
    }
}

fn digit(value: u8) -> char {
    char::from(if value < 10 {
        b'0' + value
    } else {
        b'a' + value - 10
    })
}

impl FromStr for MasterKey {
    type Err = ParseMasterKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * MASTER_KEY_BYTES {
            return Err(ParseMasterKeyError);
        }
        let mut bytes = Zeroizing::new([0; MASTER_KEY_BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let value = |digit: u8| char::from(digit).to_digit(16);
            let (Some(high), Some(low)) = (value(pair[0]), value(pair[1])) else {
                return Err(ParseMasterKeyError);
            };
            *byte = (high * 16 + low) as u8;
        }
        Ok(Self::new(&bytes))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

impl KeyId {
    pub(super) const BYTES: usize = KEY_ID_BYTES;

    pub(super) const fn from_bytes(bytes: [u8; KEY_ID_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; KEY_ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_its_text_and_is_in_no_debug_output() {
        let key = MasterKey::generate().unwrap();
        let text = key.expose();
        let again: MasterKey = format!(" {}\n", text.to_uppercase()).parse().unwrap();
        assert_eq!(again.bytes(), key.bytes());
        assert_eq!(again.id(), key.id());
        assert!(!format!("{key:?}").contains(text.as_str()));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        for text in [
            "",
            "0123",
            &"g".repeat(64),
            &"0".repeat(65),
            &"ä".repeat(32),
        ] {
            let error = text.parse::<MasterKey>().unwrap_err();
            assert!(text.is_empty() || !error.to_string().contains(text));
        }
    }
}
