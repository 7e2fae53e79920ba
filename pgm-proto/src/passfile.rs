//! The password file, `.pgpass` (manual: 34.16).
//!
//! ```text
//! hostname:port:database:username:password
//! ```
//!
//! The first line that fits counts. `*` fits anything, `\:` and `\\` stand for the character itself, `#` begins a
//! comment line. A replication session has the database `replication`; the default socket folder is `localhost`. As
//! with libpq a file that others may read is ignored with a warning. Follows `passwordFromFile` in `fe-connect.c`.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::Secret;

/// No password file is that long.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// For which session a password is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lookup<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
}

/// The password that `path` has for a session; `None` when there is no such file or line.
pub(crate) fn password(path: &Path, lookup: Lookup<'_>) -> Option<Secret> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() {
        tracing::warn!(path = %path.display(), "password file ignored: it is not a plain file");
        return None;
    }
    if metadata.mode() & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "password file ignored: others have access to it (chmod 0600 mends it)"
        );
        return None;
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut content).ok()?;
    find(&content, lookup)
}

fn find(content: &[u8], lookup: Lookup<'_>) -> Option<Secret> {
    let port = lookup.port.to_string();
    let wanted = [lookup.host, &port, lookup.database, lookup.user];
    let lines = content.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.starts_with(b"#"))
        .find_map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let password = wanted
                .iter()
                .try_fold(line, |rest, field| match_field(rest, field))?;
            let password = password_field(password);
            let text = std::str::from_utf8(&password).ok()?;
            (!text.is_empty()).then(|| Secret::new(text))
        })
}

/// What comes after the first field of `line` and its colon, when the field fits `wanted`.
fn match_field<'a>(line: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut wanted = wanted.bytes();
    let mut rest = line;
    loop {
        let (byte, after) = match rest {
            [b':', after @ ..] => return wanted.next().is_none().then_some(after),
            [b'\\', escaped, after @ ..] => (*escaped, after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        if wanted.next() != Some(byte) {
            return None;
        }
        rest = after;
    }
}

/// The last field: up to an unescaped colon or the end, escapes resolved.
fn password_field(mut rest: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut password = Zeroizing::new(Vec::with_capacity(rest.len()));
    loop {
        rest = match rest {
            [] | [b':', ..] => return password,
            [b'\\', escaped, after @ ..] => {
                password.push(*escaped);
                after
            }
            [byte, after @ ..] => {
                password.push(*byte);
                after
            }
        };
    }
}

#[cfg(test)]
mod tests;
