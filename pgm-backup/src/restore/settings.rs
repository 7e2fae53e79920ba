//! Writes what is not pages: the server's own manifest and the recovery settings.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::elsewhere::Elsewhere;
use super::error::RestoreError;
use super::overrides::Overrides;
use super::recovery::{self, RecoverySettings};
use super::roots::Roots;
use super::{Recovery, RestorePlan, backup_manifest};
use crate::catalog::BackupEntry;
use crate::manifest::ManifestObject;
use crate::repository::Repository;

/// The file that makes PostgreSQL a standby; a backup of a standby brings it along.
pub(super) const STANDBY_SIGNAL: &str = "standby.signal";
/// The manifest of PostgreSQL, which `pg_verifybackup` reads.
pub(super) const BACKUP_MANIFEST: &str = "backup_manifest";

/// Writes `backup_manifest` (with the checksums `found` while files were put in place), `postgresql.auto.conf` and `recovery.signal`, and takes `standby.signal` away: what is restored
/// is a server of its own, not one that waits for a primary, unless that is asked for.
pub(super) fn write(
    roots: &Roots,
    (repository, manifests): (&Repository, &ManifestObject),
    elsewhere: &Elsewhere<'_>,
    plan: &RestorePlan,
    found: &[u32],
) -> Result<(), RestoreError> {
    let folder = roots.data_path();
    if backup_manifest::is_written(&plan.entry) {
        let path = folder.join(BACKUP_MANIFEST);
        let write = |repository: &Repository, entry: &BackupEntry| {
            remove(&path)?;
            let mut file = new_file(&path)?;
            backup_manifest::write((repository, manifests), entry, found, &mut file)
        };
        write(repository, &plan.entry).or_else(|failed| elsewhere.give_manifest(&write, failed))?;
    }
    remove(&folder.join(STANDBY_SIGNAL))?;
    let auto_conf = folder.join(recovery::AUTO_CONF);
    let signal = match &plan.request.recovery {
        Recovery::None => return Ok(()),
        Recovery::Command(restore_command) => {
            let settings = RecoverySettings {
                restore_command,
                target: &plan.stop.target,
                boundary: plan.stop.boundary,
                action: plan.request.action,
                timeline: plan.timeline,
            };
            rewrite(&auto_conf, |existing| {
                recovery::rewrite(existing, &settings)
            })?;
            recovery::SIGNAL
        }
        Recovery::Standby(settings) => {
            // Before our own settings, which count whatever is in there.
            if let Some(overrides) = &settings.overrides {
                Overrides::read(overrides)?.copy(overrides, folder)?;
            }
            rewrite(&auto_conf, |existing| {
                recovery::rewrite_standby(existing, settings)
            })?;
            STANDBY_SIGNAL
        }
    };
    new_file(&folder.join(signal))?;
    Ok(())
}

fn rewrite(path: &Path, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<(), RestoreError> {
    let existing = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(RestoreError::file("read", path, error)),
    };
    let mut open = OpenOptions::new();
    let opened = open
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    opened
        .and_then(|mut file| file.write_all(&change(&existing)))
        .map_err(|error| RestoreError::file("write", path, error))
}

pub(super) fn remove(path: &Path) -> Result<(), RestoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RestoreError::file("remove", path, error))
        }
        _ => Ok(()),
    }
}

pub(super) fn new_file(path: &Path) -> Result<fs::File, RestoreError> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    opened.map_err(|error| RestoreError::file("write", path, error))
}
