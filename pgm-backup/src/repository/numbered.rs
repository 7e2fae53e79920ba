//! Small records that change: a folder of numbered objects, of which the highest counts.
//!
//! ```text
//! SERVER/backup/LABEL/marks/00000001      superseded; kept in case that the next one is damaged
//! SERVER/backup/LABEL/marks/00000002      in force
//! ```
//!
//! Nothing is overwritten: a change puts the next number with put-if-absent, so of two writers one wins and the other
//! looks again. Old numbers are removed once enough newer ones are there; a number that cannot be removed (object lock)
//! does no harm.

use std::ops::ControlFlow;

use pgm_storage::{ObjectPath, PutMode, Storage};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};
use crate::record::{self, RECORD_BYTES_MAX};

/// How often a writer tries again when another one was faster.
const ATTEMPTS_MAX: u32 = 16;

/// The numbers in `folder`, sorted.
pub(crate) fn numbers(storage: &dyn Storage, folder: &ObjectPath) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    storage.list(folder, &mut |meta| {
        found.extend(meta.path.name().parse::<u64>());
        ControlFlow::Continue(())
    })?;
    found.sort_unstable();
    Ok(found)
}

/// The object with this number.
pub(crate) fn object(folder: &ObjectPath, number: u64) -> Result<ObjectPath> {
    folder
        .join(&format!("{number:08}"))
        .map_err(|error| Error::damaged(folder, error.to_string()))
}

/// Reads one record of `folder`; `None` if it was removed meanwhile.
pub(crate) fn read<T: DeserializeOwned>(
    storage: &dyn Storage,
    folder: &ObjectPath,
    number: u64,
    format_newest: u32,
) -> Result<Option<T>> {
    let path = object(folder, number)?;
    match storage.get(&path, RECORD_BYTES_MAX) {
        Ok(bytes) => record::decode(&path, &bytes, format_newest).map(Some),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(Error::reading(&path, error)),
    }
}

/// Puts `value` under the next number, and removes all but the newest `keep`.
pub(crate) fn put_next<T: Serialize>(
    storage: &dyn Storage,
    folder: &ObjectPath,
    value: &T,
    keep: usize,
) -> Result<()> {
    let bytes = record::encode(value);
    let mut attempts = 0;
    loop {
        let known = numbers(storage, folder)?;
        let next = known.last().copied().unwrap_or(0).saturating_add(1);
        match storage.put(&object(folder, next)?, &bytes, PutMode::Create) {
            Ok(()) => {
                prune(storage, folder, &known, keep);
                return Ok(());
            }
            Err(error) if error.is_already_exists() && attempts < ATTEMPTS_MAX => attempts += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes what is superseded by the number just put and the newest of `known`.
fn prune(storage: &dyn Storage, folder: &ObjectPath, known: &[u64], keep: usize) {
    let superseded = known.len().saturating_sub(keep.saturating_sub(1));
    for number in &known[..superseded] {
        let removed = object(folder, *number).and_then(|path| Ok(storage.delete(&path)?));
        if let Err(error) = removed {
            tracing::debug!(%folder, number, %error, "a superseded record stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use pgm_storage::MemoryStorage;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        format: u32,
        value: u32,
    }

    #[test]
    fn the_newest_counts_and_the_one_before_is_kept() {
        let storage = MemoryStorage::new();
        let folder = ObjectPath::parse("a/marks").unwrap();
        for value in 1..=5 {
            put_next(&storage, &folder, &Sample { format: 1, value }, 2).unwrap();
        }
        assert_eq!(numbers(&storage, &folder).unwrap(), [4, 5]);
        let newest: Option<Sample> = read(&storage, &folder, 5, 1).unwrap();
        assert_eq!(newest.unwrap().value, 5);
        assert!(read::<Sample>(&storage, &folder, 9, 1).unwrap().is_none());
    }

    #[test]
    fn of_many_writers_each_gets_a_number_of_its_own() {
        let storage = MemoryStorage::new();
        let folder = ObjectPath::parse("a/verify").unwrap();
        std::thread::scope(|scope| {
            for value in 0..8 {
                let (storage, folder) = (&storage, &folder);
                scope.spawn(move || {
                    put_next(storage, folder, &Sample { format: 1, value }, 100).unwrap();
                });
            }
        });
        assert_eq!(
            numbers(&storage, &folder).unwrap(),
            (1..=8).collect::<Vec<_>>()
        );
    }
}
