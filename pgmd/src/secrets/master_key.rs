//! The master key: where it comes from and how a new one is made.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use pgm_proto::Secret;
use pgm_storage::seal::{MASTER_KEY_BYTES, MasterKey};
use zeroize::Zeroizing;

use super::error::SecretsError;
use super::password::secret_from;
use super::private_file::{self, Write};
use crate::config::MasterKeySource;

/// RFC 9106's second choice: 64 MiB, three passes, four lanes.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
const SALT_BYTES: usize = 16;

/// What makes the same passphrase give different keys; no secret, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Salt([u8; SALT_BYTES]);

/// The master key that `source` gives.
pub fn master_key(source: &MasterKeySource) -> Result<MasterKey, SecretsError> {
    let text = secret_from(source, "master key")?;
    text.expose().parse().map_err(|_| SecretsError::NoMasterKey)
}

/// Writes `key` into a new file; an old one is never touched.
pub fn create_master_key(path: &Path, key: &MasterKey) -> Result<(), SecretsError> {
    let exists = || SecretsError::Exists {
        what: "master key",
        path: path.to_owned(),
    };
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let text = Zeroizing::new(format!("{}\n", *key.expose()));
    private_file::write(path, &text, Write::New).map_err(|error| match error {
        SecretsError::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            exists()
        }
        error => error,
    })
}

/// The key of a passphrase, by Argon2id with 64 MiB, three passes and four lanes. Takes some tenths of a second.
pub fn from_passphrase(passphrase: &Secret, salt: Argon2Salt) -> Result<MasterKey, SecretsError> {
    let unusable = |_| SecretsError::Password {
        reason: "cannot be made into a key",
    };
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, Some(MASTER_KEY_BYTES)).map_err(unusable)?;
    let mut key = Zeroizing::new([0; MASTER_KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose().as_bytes(), &salt.0, key.as_mut())
        .map_err(unusable)?;
    Ok(MasterKey::new(&key))
}

impl Argon2Salt {
    /// A new random one.
    pub fn random() -> Result<Self, SecretsError> {
        let mut bytes = [0; SALT_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| {
            SecretsError::io(
                "read",
                Path::new("/dev/urandom"),
                std::io::Error::other(error),
            )
        })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Argon2Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Argon2Salt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "a salt is 32 hexadecimal digits, as `admin master-key --passphrase` printed it";
        let plain =
            text.len() == 2 * SALT_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !plain {
            return Err(WRONG);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| WRONG)?;
        Ok(Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_found_again_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let source = MasterKeySource::File(path.clone());
        assert!(matches!(
            master_key(&source),
            Err(SecretsError::Missing { .. })
        ));
        let key = MasterKey::generate().unwrap();
        create_master_key(&path, &key).unwrap();
        assert_eq!(master_key(&source).unwrap().id(), key.id());
        let again = create_master_key(&path, &MasterKey::generate().unwrap()).unwrap_err();
        assert!(matches!(again, SecretsError::Exists { .. }), "{again}");
        assert_eq!(master_key(&source).unwrap().id(), key.id());
    }

    #[test]
    fn a_passphrase_gives_the_same_key_with_the_same_salt_only() {
        let salt: Argon2Salt = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
        assert_eq!(salt.to_string(), "000102030405060708090a0b0c0d0e0f");
        let passphrase = Secret::new("correct horse battery staple");
        let key = from_passphrase(&passphrase, salt).unwrap();
        // Computed with argon2-cffi 25.1.0 and with cryptography 48.0.0, both from PyPI.
        assert_eq!(
            key.expose().as_str(),
            "853b272a44db1421c02962669a55eb0994f3cab385ed1c4c79253eee19bab49e"
        );
        let other = from_passphrase(&passphrase, Argon2Salt::random().unwrap()).unwrap();
        assert_ne!(key.id(), other.id());
        assert!("0001".parse::<Argon2Salt>().is_err());
    }
}
