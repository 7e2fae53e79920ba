//! The key by which a client may cancel what runs for it, from another connection.

use std::fmt;

use super::verifier::random;

/// BackendKeyData: told at the login, and shown again by a CancelRequest. It opens nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CancelKey {
    pid: i32,
    secret: i32,
}

impl CancelKey {
    /// A key that nobody can guess.
    pub fn new() -> Self {
        Self {
            pid: i32::try_from(std::process::id()).unwrap_or_default(),
            secret: i32::from_be_bytes(random()),
        }
    }

    /// Reads what follows the code of a CancelRequest.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (pid, secret) = body.split_at_checked(4)?;
        Some(Self {
            pid: i32::from_be_bytes(pid.try_into().ok()?),
            secret: i32::from_be_bytes(secret.try_into().ok()?),
        })
    }

    pub(super) const fn parts(self) -> (i32, i32) {
        (self.pid, self.secret)
    }
}

impl Default for CancelKey {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelKey(***)")
    }
}
