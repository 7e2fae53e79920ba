//! PostgreSQL's `backup_manifest` of what is restored.
//!
//! What the server sent describes what is restored, and is given back verbatim, but for an incremental backup that the server
//! itself made: its manifest lists the pieces that came (`INCREMENTAL.16384`). Then this one is written from ours, as
//! `pg_combinebackup` writes one: the same lines for the same files, and for those put together the checksums found while they
//! were. It is written from ours, too, for a backup whose files were read where they are: there was no server to write one.
//!
//! ```text
//! { "PostgreSQL-Backup-Manifest-Version": 2,
//! "System-Identifier": 7571…,
//! "Files": [
//! { "Path": "base/5/1259", "Size": 114688, "Last-Modified": "2026-11-22 02:34:56 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "2c3d8f01" },
//! …
//! ],
//! "WAL-Ranges": [
//! { "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000138" }
//! ],
//! "Manifest-Checksum": "SHA-256 of all lines before this one"}
//! ```
//!
//! Follows `backup_manifest.c`; files of `pg_wal` are not listed there, either.

use std::fmt::Write as _;
use std::io::{self, Write};

use aws_lc_rs::digest::{Context as Digest, SHA256};

use super::error::RestoreError;
use crate::catalog::{BackupEntry, BackupMethod};
use crate::error::Error;
use crate::manifest::{FileEntry, ManifestEntry, ManifestObject, ManifestReader};
use crate::repository::Repository;

/// The first major version that knows version 2 of manifests.
const VERSION_2_SINCE: u32 = 17;
/// Lines are written in pieces of at least so many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Whether what is restored of a backup gets a manifest.
pub(super) fn is_written(entry: &BackupEntry) -> bool {
    entry.server_manifest.is_some()
        || matches!(entry.method, BackupMethod::Files | BackupMethod::Blocks)
}

/// Writes the manifest, if there is to be one: the server's own, of the repository, or one that is composed of ours. `found` are the checksums of the files of which our manifest has none, in its
/// order.
pub(super) fn write(
    (repository, manifests): (&Repository, &ManifestObject),
    entry: &BackupEntry,
    found: &[u32],
    out: &mut dyn Write,
) -> Result<(), RestoreError> {
    match (entry.server_manifest, entry.method) {
        (None, BackupMethod::BaseBackup | BackupMethod::BaseBackupIncremental) => Ok(()),
        (Some(_), BackupMethod::BaseBackup) => {
            repository.server_manifest(entry, out)?;
            Ok(())
        }
        (Some(_), BackupMethod::BaseBackupIncremental)
        | (_, BackupMethod::Files | BackupMethod::Blocks) => {
            let found = &mut found.iter().copied();
            compose(entry, manifests.read(entry)?, found, out)
        }
    }
}

/// Writes a manifest from which a server of the same version learns which files a backup has, and from where on WAL counts as later: what it
/// takes to build an incremental one on it. Checksums that are not known are wrong in it; the server does not look at them.
pub(crate) fn compose_names(
    repository: &Repository,
    entry: &BackupEntry,
    out: &mut dyn Write,
) -> Result<(), RestoreError> {
    let unknown = &mut std::iter::repeat(0);
    compose(entry, repository.manifest(entry)?, unknown, out)
}

/// How many bytes [`write()`] writes.
pub(super) fn bytes(
    (repository, manifests): (&Repository, &ManifestObject),
    entry: &BackupEntry,
    found: &[u32],
) -> Result<Option<u64>, RestoreError> {
    match entry.method {
        BackupMethod::BaseBackup => Ok(repository.server_manifest_bytes(entry)?),
        BackupMethod::BaseBackupIncremental if entry.server_manifest.is_none() => Ok(None),
        BackupMethod::BaseBackupIncremental | BackupMethod::Files | BackupMethod::Blocks => {
            let mut counted = Counted(0);
            write((repository, manifests), entry, found, &mut counted)?;
            Ok(Some(counted.0))
        }
    }
}

struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compose(
    entry: &BackupEntry,
    manifest: ManifestReader,
    found: &mut dyn Iterator<Item = u32>,
    out: &mut dyn Write,
) -> Result<(), RestoreError> {
    let mut lines = Lines {
        out,
        digest: Digest::new(&SHA256),
        text: String::new(),
    };
    lines.text = head(entry);
    let mut separator = "\n";
    for line in manifest {
        let ManifestEntry::File(file) = line? else {
            continue;
        };
        let crc32c = file.crc32c.or_else(|| found.next());
        let crc32c = crc32c.ok_or_else(|| RestoreError::Damaged {
            label: entry.label,
            reason: format!("file {} has no checksum", file.path),
        })?;
        if file.path.as_bytes().starts_with(b"pg_wal/") {
            continue;
        }
        lines.text.push_str(separator);
        push_file(&mut lines.text, &file, crc32c);
        separator = ",\n";
        lines.send(PIECE_BYTES)?;
    }
    let _ = write!(
        lines.text,
        "\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": {}, \"Start-LSN\": \"{}\", \"End-LSN\": \"{}\" }}\n],\n",
        entry.timeline, entry.start_lsn, entry.end_lsn
    );
    lines.send(0)?;
    let Lines { out, digest, .. } = lines;
    let digest = hex(digest.finish().as_ref());
    out.write_all(format!("\"Manifest-Checksum\": \"{digest}\"}}\n").as_bytes())
        .map_err(unwritable)
}

/// The lines before the files.
fn head(entry: &BackupEntry) -> String {
    let version = if entry.version.major() < VERSION_2_SINCE {
        "1,".to_owned()
    } else {
        format!("2,\n\"System-Identifier\": {},", entry.system_id)
    };
    format!("{{ \"PostgreSQL-Backup-Manifest-Version\": {version}\n\"Files\": [")
}

/// Lines on their way out, and their digest.
struct Lines<'a> {
    out: &'a mut dyn Write,
    digest: Digest,
    text: String,
}

impl Lines<'_> {
    /// Writes what there is, if it is so many bytes.
    fn send(&mut self, bytes_min: usize) -> Result<(), RestoreError> {
        if self.text.len() < bytes_min {
            return Ok(());
        }
        self.digest.update(self.text.as_bytes());
        self.out
            .write_all(self.text.as_bytes())
            .map_err(unwritable)?;
        self.text.clear();
        Ok(())
    }
}

fn push_file(text: &mut String, file: &FileEntry, crc32c: u32) {
    let path = match std::str::from_utf8(file.path.as_bytes()) {
        Ok(path) => format!("\"Path\": {}", serde_json::Value::from(path)),
        Err(_) => format!("\"Encoded-Path\": \"{}\"", hex(file.path.as_bytes())),
    };
    let modified = i64::try_from(file.mtime).ok();
    let modified = modified.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let modified = modified.unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let _ = write!(
        text,
        "{{ {path}, \"Size\": {}, \"Last-Modified\": \"{}\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{}\" }}",
        file.size,
        modified.strftime("%Y-%m-%d %H:%M:%S GMT"),
        hex(&crc32c.to_le_bytes())
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unwritable(source: io::Error) -> RestoreError {
    RestoreError::Repository(Error::System {
        operation: "writing backup_manifest",
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::FilePath;

    #[test]
    fn a_line_is_as_postgresql_writes_it() {
        let file = |path: &[u8]| FileEntry {
            path: FilePath::new(path).unwrap(),
            size: 8192,
            mode: 0o600,
            mtime: 1_763_778_896,
            crc32c: None,
            extents: Vec::new(),
        };
        let line = |path: &[u8]| {
            let mut text = String::new();
            push_file(&mut text, &file(path), 0x018F_3D2C);
            text
        };
        assert_eq!(
            line(b"base/5/1259"),
            "{ \"Path\": \"base/5/1259\", \"Size\": 8192, \"Last-Modified\": \"2025-11-22 02:34:56 GMT\", \
             \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"2c3d8f01\" }"
        );
        assert!(line(b"a\"b").starts_with("{ \"Path\": \"a\\\"b\","));
        assert!(line(b"a\xFF").starts_with("{ \"Encoded-Path\": \"61ff\","));
    }
}
