//! Passwords: where they come from, which are taken, how new ones are made.

use std::path::Path;

use pgm_proto::Secret;
use zeroize::Zeroizing;

use super::error::SecretsError;
use super::private_file;
use crate::config::MasterKeySource;
use crate::supervisor::secret_command;

/// The longest password; PostgreSQL's own clients stop at less.
pub const PASSWORD_BYTES_MAX: usize = 1000;

/// Without the letters that are mistaken for each other.
const LETTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_.+";

/// How long a made-up password is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordLength(usize);

impl PasswordLength {
    /// 24 letters, 142 bits.
    pub const DEFAULT: Self = Self(24);
    /// The fewest and the most letters.
    pub const LIMITS: std::ops::RangeInclusive<usize> = 12..=200;

    /// So many letters; `None` outside the limits.
    pub fn new(letters: usize) -> Option<Self> {
        Self::LIMITS.contains(&letters).then_some(Self(letters))
    }
}

/// A new password, every letter as likely as any other.
pub fn random_password(length: PasswordLength) -> Result<Secret, SecretsError> {
    // Bytes above the last multiple would make some letters likelier.
    let fair = 256 - 256 % LETTERS.len();
    let mut password = Zeroizing::new(String::with_capacity(length.0));
    while password.len() < length.0 {
        let mut bytes = Zeroizing::new([0_u8; 64]);
        getrandom::fill(bytes.as_mut()).map_err(|error| {
            SecretsError::io(
                "read",
                Path::new("/dev/urandom"),
                std::io::Error::other(error),
            )
        })?;
        let letters = bytes.iter().map(|byte| usize::from(*byte));
        for byte in letters.filter(|byte| *byte < fair) {
            if password.len() < length.0 {
                password.push(char::from(LETTERS[byte % LETTERS.len()]));
            }
        }
    }
    Ok(Secret::new(password.as_str()))
}

/// `password`, if it can be one.
pub fn check_password(password: Secret) -> Result<Secret, SecretsError> {
    let text = password.expose();
    let reason = if text.is_empty() {
        "is empty"
    } else if text.len() > PASSWORD_BYTES_MAX {
        "has more than 1000 bytes"
    } else if text.chars().any(char::is_control) {
        "holds control characters"
    } else {
        return Ok(password);
    };
    Err(SecretsError::Password { reason })
}

/// The secret that a file, a command or the environment gives, without the line's end; `what` names it in errors.
pub fn secret_from(source: &MasterKeySource, what: &'static str) -> Result<Secret, SecretsError> {
    match source {
        MasterKeySource::File(path) => {
            let text = private_file::read(path)?.ok_or_else(|| SecretsError::Missing {
                what,
                path: private_file::owned(path),
            })?;
            Ok(Secret::new(without_line_end(&text)))
        }
        MasterKeySource::Command(command) => {
            let text =
                secret_command::run(command).map_err(|how| SecretsError::Command { what, how })?;
            Ok(Secret::new(without_line_end(&text)))
        }
        MasterKeySource::Environment(name) => {
            let text = std::env::var(name)
                .map_err(|_| SecretsError::Environment { name: name.clone() })?;
            Ok(Secret::new(without_line_end(&Zeroizing::new(text))))
        }
    }
}

fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_passwords_have_their_length_and_differ() {
        let length = PasswordLength::new(40).unwrap();
        let (one, other) = (
            random_password(length).unwrap(),
            random_password(length).unwrap(),
        );
        assert_eq!(one.expose().len(), 40);
        assert!(one != other);
        assert!(one.expose().bytes().all(|byte| LETTERS.contains(&byte)));
        assert_eq!(PasswordLength::new(11), None);
    }

    #[test]
    fn what_cannot_be_a_password_is_refused_without_being_repeated() {
        for bad in ["", "a\nb", "a\0b", &"x".repeat(1001)] {
            let error = check_password(Secret::new(bad)).unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
        assert!(check_password(Secret::new(" grüße ")).is_ok());
    }

    #[test]
    fn secrets_come_from_commands_and_failures_do_not_repeat_them() {
        let from = |text: &str| secret_from(&MasterKeySource::Command(text.to_owned()), "a key");
        assert_eq!(from("printf 'hunter2\\r\\n'").unwrap().expose(), "hunter2");
        let error = from("echo hunter2; exit 3").unwrap_err().to_string();
        assert!(
            error.contains("status 3") && !error.contains("hunter2"),
            "{error}"
        );
        let missing = MasterKeySource::Environment("PGM_NO_SUCH_VARIABLE".to_owned());
        assert!(secret_from(&missing, "a key").is_err());
    }
}
