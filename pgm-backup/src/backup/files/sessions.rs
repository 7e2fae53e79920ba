//! The sessions over which the files of a server are read, several at a time.
//!
//! Whoever reads takes one, asks, and gives it back. None is opened anew: a session that is lost ends the backup, as that does which has begun it.
//! A standby may end what is asked because of what it replays; that is asked again.

use std::fmt::Write as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgm_proto::Client;
use pgm_storage::Cancel;

use super::sql;
use crate::backup::read::{ReadThere, Run};
use crate::error::{Error, Result};

/// A row has at most so many bytes of a file: less than the receive buffer, and few enough for the server's memory.
const ROW_BYTES_MAX: usize = 256 << 10;
/// How often something is asked again that a standby has ended, and after which pause.
const ASKED_AGAIN: u32 = 20;
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How often somebody who waits for a session looks whether the backup was cancelled.
const CANCEL_EVERY: Duration = Duration::from_millis(100);
/// What ends a statement on a standby (`ERRCODE_T_R_SERIALIZATION_FAILURE`, `ERRCODE_T_R_DEADLOCK_DETECTED`).
const ENDED_BY_REPLAY: [&str; 2] = ["40001", "40P01"];

/// The sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    state: Mutex<State>,
    freed: Condvar,
    cancel: Cancel,
}

#[derive(Debug)]
struct State {
    free: Vec<Client>,
    /// Somebody has lost one; that is the error that is reported.
    lost: bool,
}

/// A row's share of a run.
struct Share {
    run: usize,
    start: usize,
    length: usize,
    answered: bool,
}

impl Sessions {
    pub(super) fn new(free: Vec<Client>, cancel: Cancel) -> Self {
        let lost = free.is_empty();
        Self {
            state: Mutex::new(State { free, lost }),
            freed: Condvar::new(),
            cancel,
        }
    }

    /// Asks something in one of the sessions, once more if it is ended by what the server replays.
    pub(super) fn ask<T>(
        &self,
        mut ask: impl FnMut(&mut Client) -> Result<T, pgm_proto::Error>,
    ) -> Result<T> {
        let mut client = self.take()?;
        let mut again = ASKED_AGAIN;
        loop {
            match ask(&mut client) {
                Err(pgm_proto::Error::Server(error)) if error.severity == "ERROR" => {
                    if again > 0 && ENDED_BY_REPLAY.contains(&error.sqlstate.as_str()) {
                        again -= 1;
                        std::thread::sleep(ASKED_AGAIN_AFTER);
                        continue;
                    }
                    self.give_back(client);
                    return Err(Error::Server(error.into()));
                }
                Err(pgm_proto::Error::Interrupted) => return Err(Error::Cancelled),
                Err(source) => {
                    self.lock().lost = true;
                    self.freed.notify_all();
                    return Err(Error::ReadingSessionLost { source });
                }
                Ok(answer) => {
                    self.give_back(client);
                    return Ok(answer);
                }
            }
        }
    }

    fn take(&self) -> Result<Client> {
        let mut state = self.lock();
        loop {
            if state.lost || self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if let Some(client) = state.free.pop() {
                return Ok(client);
            }
            let waited = self.freed.wait_timeout(state, CANCEL_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn give_back(&self, client: Client) {
        self.lock().free.push(client);
        self.freed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadThere for Sessions {
    fn read(&self, runs: &mut [&mut Run<'_>]) -> Result<()> {
        let (query, mut shares) = question(runs);
        self.ask(|client| {
            for share in &mut shares {
                share.answered = false;
            }
            for run in runs.iter_mut() {
                run.there = run.bytes.len();
            }
            client.copy_rows(&query, |row| take_row(row, runs, &mut shares))?;
            if shares.iter().all(|share| share.answered) {
                Ok(())
            } else {
                Err(strange("the server did not answer for all runs of a frame"))
            }
        })
    }
}

/// One question for all runs, and the shares that its rows answer for, by their numbers.
fn question(runs: &[&mut Run<'_>]) -> (String, Vec<Share>) {
    let mut values = String::new();
    let mut shares = Vec::with_capacity(runs.len());
    for (number, run) in runs.iter().enumerate() {
        let path = sql::text(run.file.path.as_bytes());
        for start in (0..run.bytes.len()).step_by(ROW_BYTES_MAX) {
            let length = ROW_BYTES_MAX.min(run.bytes.len() - start);
            let comma = if shares.is_empty() { "" } else { ", " };
            let offset = run.offset + start as u64;
            // Writing into a text cannot fail.
            let _ = write!(
                values,
                "{comma}({}, {path}, {offset}, {length})",
                shares.len()
            );
            shares.push(Share {
                run: number,
                start,
                length,
                answered: false,
            });
        }
    }
    let query = format!(
        "SELECT number::pg_catalog.int4, \
         pg_catalog.pg_read_binary_file(path, start::pg_catalog.int8, length::pg_catalog.int8, true) \
         FROM (VALUES {values}) AS run (number, path, start, length)"
    );
    (query, shares)
}

/// Puts what there is of a file in its place, and zeros behind it; of a file that is gone there is nothing.
fn take_row(
    [number, bytes]: [Option<&[u8]>; 2],
    runs: &mut [&mut Run<'_>],
    shares: &mut [Share],
) -> Result<(), pgm_proto::Error> {
    let number = sql::int4(number)?;
    let share = usize::try_from(number)
        .ok()
        .and_then(|number| shares.get_mut(number));
    let share = share.filter(|share| !share.answered);
    let share = share.ok_or_else(|| strange("the server answered for a run of its own"))?;
    let bytes = bytes.unwrap_or_default();
    let run = &mut *runs[share.run];
    let place = &mut run.bytes[share.start..][..share.length];
    let (now, rest) = place
        .split_at_mut_checked(bytes.len())
        .ok_or_else(|| strange("the server gave more of a file than it was asked for"))?;
    now.copy_from_slice(bytes);
    if !rest.is_empty() {
        rest.fill(0);
        run.there = run.there.min(share.start + bytes.len());
    }
    share.answered = true;
    Ok(())
}

fn strange(text: &str) -> pgm_proto::Error {
    pgm_proto::Error::Protocol(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backup::read::{SourceFile, Where};
    use crate::manifest::FilePath;

    fn source(path: &str) -> SourceFile {
        SourceFile {
            path: FilePath::new(path).unwrap(),
            place: Where::There(Arc::new(Sessions::new(Vec::new(), Cancel::new()))),
            pages: None,
        }
    }

    fn row<'a>(number: &'a [u8; 4], bytes: Option<&'a [u8]>) -> [Option<&'a [u8]>; 2] {
        [Some(number), bytes]
    }

    #[test]
    fn one_question_is_asked_for_all_runs_and_long_ones_are_answered_in_several_rows() {
        let (one, two) = (source("base/5/1"), source("it's"));
        let (mut long, mut short) = (vec![9; ROW_BYTES_MAX + 10], vec![9; 5]);
        let mut first = Run {
            file: &one,
            offset: 8192,
            there: long.len(),
            bytes: &mut long,
        };
        let mut second = Run {
            file: &two,
            offset: 0,
            there: short.len(),
            bytes: &mut short,
        };
        let mut runs = [&mut first, &mut second];
        let (query, mut shares) = question(&runs);
        assert!(
            query.contains(
                "(VALUES (0, 'base/5/1', 8192, 262144), (1, 'base/5/1', 270336, 10), (2, 'it''s', 0, 5))"
            ),
            "{query}"
        );
        let mut take = |number: u32, bytes: Option<&[u8]>| {
            take_row(row(&number.to_be_bytes(), bytes), &mut runs, &mut shares)
        };
        // In any order; the file has become shorter, and the other one is gone.
        take(2, None).unwrap();
        take(1, Some(&[1; 4])).unwrap();
        take(0, Some(&vec![2; ROW_BYTES_MAX])).unwrap();
        for refused in [take(0, Some(&[2; 1])), take(3, None), take(u32::MAX, None)] {
            assert!(refused.is_err());
        }
        assert!(shares.iter().all(|share| share.answered));
        assert_eq!((first.there, second.there), (ROW_BYTES_MAX + 4, 0));
        assert_eq!(short, [0; 5]);
        assert_eq!(long[ROW_BYTES_MAX - 1..], [2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn more_than_was_asked_for_is_refused() {
        let file = source("base/5/1");
        let mut bytes = vec![0; 5];
        let mut run = Run {
            file: &file,
            offset: 0,
            there: 5,
            bytes: &mut bytes,
        };
        let mut runs = [&mut run];
        let (_, mut shares) = question(&runs);
        let taken = take_row(row(&[0; 4], Some(&[1; 6])), &mut runs, &mut shares);
        assert!(taken.is_err() && !shares[0].answered);
        assert!(take_row([None, None], &mut runs, &mut shares).is_err());
    }

    #[test]
    fn without_sessions_nobody_waits_for_one() {
        let none = Sessions::new(Vec::new(), Cancel::new());
        assert!(none.ask(|_| Ok(())).is_err());
    }
}
