//! What a backup has come to in each of its targets.
//!
//! Every step is taken in every lane. A lane whose step fails is dropped with its error, and the others go on; when none
//! is left, the backup has failed with the error of the first target. A lane that was dropped never comes back.

use std::sync::OnceLock;

use super::target::{BackupOutcome, BackupTarget};
use crate::catalog::BackupEntry;
use crate::error::{Error, Result};

/// One lane for each target, in their order.
#[derive(Debug)]
pub(super) struct Lanes<T>(Vec<Lane<T>>);

#[derive(Debug)]
struct Lane<T> {
    /// The repository in a person's words.
    place: String,
    /// What the lane has come to; also of a lane that was dropped while it was shared.
    value: Option<T>,
    dropped: OnceLock<Error>,
}

impl<T> Lane<T> {
    fn open(&self) -> Option<&T> {
        match self.dropped.get() {
            None => self.value.as_ref(),
            Some(_) => None,
        }
    }
}

impl<'a> Lanes<&'a BackupTarget<'a>> {
    pub(super) fn of(targets: &'a [BackupTarget<'a>]) -> Self {
        let lane = |target: &'a BackupTarget<'a>| Lane {
            place: target.repository.storage().describe(),
            value: Some(target),
            dropped: OnceLock::new(),
        };
        Self(targets.iter().map(lane).collect())
    }
}

impl<T> Lanes<T> {
    /// Takes a step in every open lane; fails if no lane is left after it.
    pub(super) fn step<U>(self, mut step: impl FnMut(T) -> Result<U>) -> Result<Lanes<U>> {
        let mut failed = Vec::new();
        let mut lanes = Vec::with_capacity(self.0.len());
        for (number, lane) in self.0.into_iter().enumerate() {
            let value = match (lane.dropped.get(), lane.value) {
                (None, Some(value)) => match step(value) {
                    Ok(value) => Some(value),
                    Err(error) => {
                        failed.push((number, error));
                        None
                    }
                },
                _ => None,
            };
            lanes.push(Lane {
                place: lane.place,
                value,
                dropped: lane.dropped,
            });
        }
        let lanes = Lanes(lanes);
        for (number, error) in failed {
            lanes.drop_lane(number, error);
        }
        if lanes.is_any_open() {
            Ok(lanes)
        } else {
            Err(lanes.into_first_error())
        }
    }

    /// Brings the targets' own values along.
    pub(super) fn zip<U>(self, others: &[U]) -> Lanes<(T, &U)> {
        let lanes = self.0.into_iter().zip(others);
        let zipped = lanes.map(|(lane, other)| Lane {
            place: lane.place,
            value: lane.value.map(|value| (value, other)),
            dropped: lane.dropped,
        });
        Lanes(zipped.collect())
    }

    /// The open lanes, and their numbers.
    pub(super) fn open(&self) -> impl Iterator<Item = (usize, &T)> {
        let lanes = self.0.iter().enumerate();
        lanes.filter_map(|(number, lane)| Some((number, lane.open()?)))
    }

    /// How many lanes there are, open or not.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a step in every open lane while others use the lanes, too. Fails once no lane is left, with an error that
    /// says nothing: [`into_first_error`](Self::into_first_error) has the one that does.
    pub(super) fn each(&self, mut step: impl FnMut(&T) -> Result<()>) -> Result<()> {
        for (number, value) in self.open() {
            if let Err(error) = step(value) {
                self.drop_lane(number, error);
            }
        }
        if self.is_any_open() {
            Ok(())
        } else {
            Err(Error::Cancelled)
        }
    }

    pub(super) fn is_open(&self, number: usize) -> bool {
        self.0.get(number).is_some_and(|lane| lane.open().is_some())
    }

    pub(super) fn is_any_open(&self) -> bool {
        self.0.iter().any(|lane| lane.open().is_some())
    }

    /// Takes a lane out, unless it is out already.
    pub(super) fn drop_lane(&self, number: usize, error: Error) {
        let Some(lane) = self.0.get(number) else {
            return;
        };
        let text = error.to_string();
        // What ends the whole backup is for whoever asked for it to tell.
        if lane.dropped.set(error).is_ok() && self.is_any_open() {
            tracing::warn!(repository = %lane.place, error = %text,
                "the backup goes on without this repository");
        }
    }

    /// The lanes that were dropped while they were shared, and why.
    pub(super) fn dropped(&self) -> impl Iterator<Item = (&T, &Error)> {
        let lanes = self.0.iter();
        lanes.filter_map(|lane| Some((lane.value.as_ref()?, lane.dropped.get()?)))
    }

    /// Takes out what the lanes that were dropped while they were shared had come to: letting go of it may take as long
    /// as their repositories are waited for.
    pub(super) fn take_dropped(&mut self) -> Vec<T> {
        let dropped = self.0.iter_mut();
        dropped
            .filter_map(|lane| match lane.dropped.get() {
                Some(_) => lane.value.take(),
                None => None,
            })
            .collect()
    }

    /// Why the first target that was dropped was.
    pub(super) fn into_first_error(self) -> Error {
        let mut dropped = self
            .0
            .into_iter()
            .filter_map(|lane| lane.dropped.into_inner());
        // Only a backup without targets has no error here.
        dropped.next().unwrap_or(Error::NoTarget)
    }
}

impl Lanes<BackupEntry> {
    pub(super) fn into_outcomes(self) -> Vec<BackupOutcome> {
        let outcome = |lane: Lane<BackupEntry>| match (lane.dropped.into_inner(), lane.value) {
            (None, Some(entry)) => BackupOutcome::Complete(Box::new(entry)),
            (error, _) => BackupOutcome::Dropped(error.unwrap_or(Error::NoTarget)),
        };
        self.0.into_iter().map(outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pgm_storage::{Compression, MemoryStorage};

    use super::super::NoArchive;
    use super::*;
    use crate::repository::Repository;

    fn lanes_do(run: impl FnOnce(Lanes<usize>)) {
        let repository = Repository::create(Arc::new(MemoryStorage::new())).unwrap();
        let target = BackupTarget {
            repository: &repository,
            compression: Compression::NONE,
            coverage: &NoArchive,
        };
        let targets = [target; 3];
        let mut number = 0;
        let numbered = Lanes::of(&targets).step(|_| {
            number += 1;
            Ok(number)
        });
        run(numbered.unwrap());
    }

    fn bad(number: usize) -> Error {
        Error::BadStream {
            reason: format!("lane {number}"),
        }
    }

    #[test]
    fn a_lane_that_fails_is_out_and_the_others_keep_their_numbers() {
        lanes_do(|lanes| {
            let even = |number: usize| match number {
                2 => Err(bad(number)),
                number => Ok(10 * number),
            };
            let lanes = lanes.step(even).unwrap();
            assert_eq!(lanes.open().collect::<Vec<_>>(), [(0, &10), (2, &30)]);
            let one = |number: &usize| match number {
                10 => Err(bad(1)),
                _ => Ok(()),
            };
            lanes.each(one).unwrap();
            assert_eq!(lanes.open().collect::<Vec<_>>(), [(2, &30)]);
            assert!(lanes.is_open(2) && !lanes.is_open(0) && !lanes.is_open(1));
        });
    }

    #[test]
    fn without_a_lane_the_error_of_the_first_target_is_the_one() {
        lanes_do(|lanes| {
            let mut lanes = lanes.step(Ok).unwrap();
            lanes.drop_lane(2, bad(3));
            lanes.drop_lane(2, bad(4));
            assert_eq!(lanes.take_dropped(), [3]);
            let error = lanes.step(|number| Err::<(), _>(bad(number))).unwrap_err();
            assert!(error.to_string().ends_with("lane 1"), "{error}");
        });
        let none = Lanes::of(&[]).step(Ok).unwrap_err();
        assert!(matches!(none, Error::NoTarget) && none.hint().is_some());
    }
}
