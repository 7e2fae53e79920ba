//! What a server keeps of a password: enough to check it, too little to log in with it.
//!
//! ```text
//! SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>        salt and keys in base64
//! ```
//!
//! That is PostgreSQL's own form, as in `pg_authid.rolpassword`: a verifier can be copied from there and back. The password
//! is prepared with SASLprep, and taken as it is where SASLprep refuses it, as PostgreSQL does.
//!
//! A verifier is a secret nevertheless: whoever has it can try passwords offline, and can pretend to be the server. So it
//! has no `Display`, its `Debug` says nothing, and its keys are wiped when it is dropped.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Secret;
use crate::scram::{ITERATIONS_MAX, ITERATIONS_MIN};

/// Bytes of a SHA-256 hash, and so of each key.
pub(super) const KEY_BYTES: usize = 32;
/// As long as PostgreSQL's.
pub(super) const SALT_BYTES: usize = 16;
/// What a salt from elsewhere may have.
const SALT_BYTES_MAX: usize = 64;
/// The name before the first `$`.
const SCHEME: &str = "SCRAM-SHA-256";

/// How often a password is hashed: 4,096 to 100,000 times.
///
/// Fewer make it cheap to guess, more are refused by clients that do not want their time wasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScramIterations(NonZeroU32);

impl ScramIterations {
    /// The fewest.
    pub const MIN: u32 = ITERATIONS_MIN;
    /// The most.
    pub const MAX: u32 = ITERATIONS_MAX;

    /// So many iterations, `None` outside the bounds.
    pub const fn new(count: u32) -> Option<Self> {
        match NonZeroU32::new(count) {
            Some(count) if count.get() >= Self::MIN && count.get() <= Self::MAX => {
                Some(Self(count))
            }
            _ => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl Default for ScramIterations {
    /// 4,096, PostgreSQL's.
    fn default() -> Self {
        Self(const { NonZeroU32::new(ITERATIONS_MIN).expect("4096 is not zero") })
    }
}

impl fmt::Display for ScramIterations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is no SCRAM verifier. The text itself is not repeated: it is a secret, or a password by mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseVerifierError {
    /// It is something else.
    #[error("this is not of the form SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")]
    Form,
    /// One of its parts is not base64, or has the wrong length.
    #[error("the {part} of a SCRAM-SHA-256 verifier is not base64 of the right length")]
    Part {
        /// Which part.
        part: &'static str,
    },
    /// The count is out of bounds.
    #[error(
        "a SCRAM-SHA-256 verifier with {count} iterations: from {min} to {max} are taken",
        min = ScramIterations::MIN,
        max = ScramIterations::MAX
    )]
    Iterations {
        /// The count.
        count: u32,
    },
}

impl ParseVerifierError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        Some("make a new one from the password".to_owned())
    }
}

/// What a server keeps of a password for SCRAM-SHA-256.
///
/// ```
/// use pgm_proto::{ScramIterations, ScramVerifier, Secret};
///
/// let verifier = ScramVerifier::from_password(&Secret::new("pencil"), ScramIterations::default());
/// let text = verifier.to_text();
/// assert!(text.expose().starts_with("SCRAM-SHA-256$4096:"));
/// assert_eq!(text.expose().parse(), Ok(verifier));
/// ```
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ScramVerifier {
    #[zeroize(skip)]
    iterations: ScramIterations,
    salt: Vec<u8>,
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

impl ScramVerifier {
    /// The verifier of `password`, with a new random salt. Costs some milliseconds.
    pub fn from_password(password: &Secret, iterations: ScramIterations) -> Self {
        Self::salted(
            password.expose(),
            random::<SALT_BYTES>().to_vec(),
            iterations,
        )
    }

    /// The verifier of nobody: it has the `salt` that a client is told, and no password fits it.
    pub(super) fn unknown_user(
        salt: [u8; SALT_BYTES],
        iterations: ScramIterations,
    ) -> ScramVerifier {
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: random(),
            server_key: random(),
        }
    }

    fn salted(password: &str, salt: Vec<u8>, iterations: ScramIterations) -> Self {
        let prepared = prepare(password);
        let mut salted = Zeroizing::new([0; KEY_BYTES]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations.0,
            &salt,
            prepared.as_bytes(),
            salted.as_mut_slice(),
        );
        let client_key = Zeroizing::new(hmac_sha256(salted.as_slice(), b"Client Key"));
        Self {
            iterations,
            salt,
            stored_key: sha256(client_key.as_slice()),
            server_key: hmac_sha256(salted.as_slice(), b"Server Key"),
        }
    }

    /// How often the password was hashed.
    pub fn iterations(&self) -> ScramIterations {
        self.iterations
    }

    /// In PostgreSQL's form, for the file that keeps it.
    pub fn to_text(&self) -> Secret {
        Secret::new(format!(
            "{SCHEME}${}:{}${}:{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(self.stored_key),
            BASE64.encode(self.server_key)
        ))
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub(super) fn stored_key(&self) -> &[u8; KEY_BYTES] {
        &self.stored_key
    }

    pub(super) fn server_key(&self) -> &[u8; KEY_BYTES] {
        &self.server_key
    }
}

impl FromStr for ScramVerifier {
    type Err = ParseVerifierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || {
            let rest = text.strip_prefix(SCHEME)?.strip_prefix('$')?;
            let (work, keys) = rest.split_once('$')?;
            Some((work.split_once(':')?, keys.split_once(':')?))
        };
        let ((count, salt), (stored_key, server_key)) = parts().ok_or(ParseVerifierError::Form)?;
        let count = count.parse().map_err(|_| ParseVerifierError::Form)?;
        let salt = BASE64.decode(salt).ok();
        let salt = salt.filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len()));
        Ok(Self {
            iterations: ScramIterations::new(count)
                .ok_or(ParseVerifierError::Iterations { count })?,
            salt: salt.ok_or(ParseVerifierError::Part { part: "salt" })?,
            stored_key: key(stored_key, "stored key")?,
            server_key: key(server_key, "server key")?,
        })
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(***)")
    }
}

fn key(text: &str, part: &'static str) -> Result<[u8; KEY_BYTES], ParseVerifierError> {
    let bytes = BASE64.decode(text).map(Zeroizing::new).ok();
    let bytes = bytes.and_then(|bytes| bytes.as_slice().try_into().ok());
    bytes.ok_or(ParseVerifierError::Part { part })
}

/// SASLprep; the password itself where that refuses it or leaves nothing (PostgreSQL's `pg_saslprep`).
fn prepare(password: &str) -> Zeroizing<String> {
    let prepared = stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password));
    Zeroizing::new(if prepared.is_empty() {
        password.to_owned()
    } else {
        prepared.into_owned()
    })
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub(super) fn hmac_sha256(key: &[u8], bytes: &[u8]) -> [u8; KEY_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes);
    tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source answers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677's example: user, password `pencil`.
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

    fn rfc_verifier() -> ScramVerifier {
        let salt = BASE64.decode(SALT).unwrap();
        ScramVerifier::salted("pencil", salt, ScramIterations::default())
    }

    #[test]
    fn the_form_is_postgresqls_and_the_keys_are_the_rfcs() {
        // RFC 7677's example, in PostgreSQL's form.
        let from_server = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
            WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(rfc_verifier().to_text().expose(), from_server);
        assert_eq!(from_server.parse(), Ok(rfc_verifier()));
    }

    #[test]
    fn another_implementation_agrees() {
        let theirs = postgres_protocol::password::scram_sha_256("pa\u{AD}ss wörd".as_bytes());
        let parsed: ScramVerifier = theirs.parse().unwrap();
        let ours = ScramVerifier::salted(
            "pa\u{AD}ss wörd",
            parsed.salt.clone(),
            ScramIterations::default(),
        );
        assert_eq!(ours.to_text().expose(), theirs);
    }

    #[test]
    fn two_verifiers_of_one_password_differ() {
        let make = || {
            ScramVerifier::from_password(&Secret::new("pencil"), ScramIterations::default())
                .to_text()
        };
        assert_ne!(make(), make());
    }

    #[test]
    fn what_is_no_verifier_is_refused_and_not_repeated() {
        let good = rfc_verifier().to_text().expose().to_owned();
        for bad in [
            "",
            "hunter2",
            "md5d41d8cd98f00b204e9800998ecf8427e",
            &good[..good.len() - 1],
            &good[..60],
            &good.replace("4096", "1"),
            &good.replace("4096", "4294967296"),
            &good.replace("4096", "+5000x"),
            &good.replace("SCRAM-SHA-256", "SCRAM-SHA-512"),
            &good.replace(SALT, ""),
            &good.replace(SALT, "****"),
            &format!("{good}:"),
            &good.replace('$', "$$"),
        ] {
            let error = bad.parse::<ScramVerifier>().unwrap_err();
            assert!(
                bad.is_empty() || !error.to_string().contains(bad),
                "{error}"
            );
        }
    }

    #[test]
    fn passwords_are_prepared_and_taken_as_they_are_where_that_fails() {
        // A soft hyphen is mapped to nothing, a non-breaking space to a space, ligatures are taken apart.
        for (raw, prepared) in [
            ("I\u{AD}X", "IX"),
            ("\u{AA}", "a"),
            ("\u{2168}", "IX"),
            ("a\u{A0}b", "a b"),
            ("b\u{7}l", "b\u{7}l"),
            ("\u{627}1", "\u{627}1"),
            ("\u{AD}", "\u{AD}"),
        ] {
            assert_eq!(prepare(raw).as_str(), prepared);
        }
    }

    #[test]
    fn nothing_of_a_verifier_is_printed() {
        assert_eq!(format!("{:?}", rfc_verifier()), "ScramVerifier(***)");
    }

    #[test]
    fn iterations_have_bounds() {
        assert_eq!(ScramIterations::new(4095), None);
        assert_eq!(ScramIterations::new(100_001), None);
        assert_eq!(ScramIterations::new(4096), Some(ScramIterations::default()));
    }
}
