//! Where tablespaces go: to the place they were at, or where the request puts them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::RestoreError;
use crate::catalog::BackupEntry;

/// The place of each tablespace of a backup; every mapping must fit one, and no two places may overlap.
pub(super) fn places(
    entry: &BackupEntry,
    directory: &Path,
    mappings: &[(PathBuf, PathBuf)],
) -> Result<BTreeMap<u32, PathBuf>, RestoreError> {
    let mut places = BTreeMap::new();
    for tablespace in &entry.tablespaces {
        let old = Path::new(&tablespace.location);
        // One in place is a folder of the data directory.
        if old.is_relative() {
            continue;
        }
        let new = mappings
            .iter()
            .find(|(from, _)| from == old)
            .map_or(old, |(_, to)| to);
        places.insert(tablespace.oid, new.to_owned());
    }
    for (old, new) in mappings {
        if !entry
            .tablespaces
            .iter()
            .any(|tablespace| Path::new(&tablespace.location) == old)
        {
            return Err(refuse(old, "the backup has no tablespace there"));
        }
        if !new.is_absolute() {
            return Err(refuse(new, "its new place is not an absolute path"));
        }
    }
    let all: Vec<&Path> = places
        .values()
        .map(PathBuf::as_path)
        .chain(std::iter::once(directory))
        .collect();
    for (index, place) in all.iter().enumerate() {
        for other in &all[..index] {
            if place.starts_with(other) || other.starts_with(place) {
                let reason = format!("it overlaps {}", other.display());
                return Err(refuse(place, &reason));
            }
        }
    }
    Ok(places)
}

fn refuse(path: &Path, reason: &str) -> RestoreError {
    RestoreError::Tablespace {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}
