//! The lock of a server: one writer at a time, across processes and hosts.
//!
//! A lock is the folder `SERVER/lock/PURPOSE` of numbered generations. **The highest generation counts**: its object
//! says who holds the lock and until when, or that it was released. Whoever wants the lock puts the next generation
//! with put-if-absent, so of any number of contenders one wins, and then looks whether it still is the highest, so a
//! contender that slept over several generations notices. The highest generation is never deleted, hence numbers never
//! come again; lower ones are removed by the next holder.
//!
//! ```text
//! free ──put n+1──▶ held: renewed by a thread ──drop──▶ released (generation stays)
//!                     │ owner's process is dead, or its lease ran out
//!                     └──▶ anybody may put n+2; the old holder's next `check` fails
//! ```
//!
//! Nothing of it needs to outlive the machine: its holders do not. So generations are put and removed as what only concerns processes that run
//! ([`Storage::put_transient`]), which spares a disk most of its syncs; after the machine died a lower one may be the highest again, and
//! counts until its lease is over.
//!
//! On a full disk a lock can still be taken: an empty object takes no room. It says nothing of its holder, so others
//! respect it as long as it is young, and the holder puts its record as soon as there is room.
//!
//! A holder calls [`Lock::check`] before each step that others could not forgive: it fails once the lease was not
//! renewed in time, by a clock that counts while the process stands still.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use pgm_proto::ServerName;
use pgm_storage::{ObjectPath, PutMode, Storage, StorageError};
use serde::{Deserialize, Serialize};

use super::layout;
use super::owner::{HeldHere, Life, LockOwner};
use crate::error::{Error, Result};
use crate::record::{self, RECORD_BYTES_MAX};

const FORMAT: u32 = 1;
/// How often a contender tries again when another one was faster by a moment.
const ATTEMPTS_MAX: u32 = 16;

/// Every so many renewals all generations are listed, which costs at some stores ten times what a look at one object does.
const LIST_EVERY: u32 = 3;

/// What a lock is for; different purposes do not exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Taking backups and removing leftovers.
    Backup,
    /// Removing backups and WAL.
    Retention,
    /// Writing to the WAL archive.
    Archive,
}

/// How long a lock lives without being renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) length: Duration,
    pub(super) renew_every: Duration,
}

/// A held lock; released when it is dropped.
#[derive(Debug)]
pub struct Lock {
    server: ServerName,
    purpose: Purpose,
    held: Arc<Held>,
    renewer: Option<JoinHandle<()>>,
}

/// How a holder that renews looks whether somebody took over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// At the next generation: whoever takes over puts that one.
    AtNext,
    /// At all of them: it may have been put, and removed again by the one behind it.
    AtAll,
}

/// What the holder and its renewing thread share.
#[derive(Debug)]
struct Held {
    storage: Arc<dyn Storage>,
    folder: ObjectPath,
    generation: u64,
    owner: LockOwner,
    _held_here: HeldHere,
    lease: Lease,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    renewed: Instant,
    lost: Option<String>,
    stop: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct LockRecord {
    format: u32,
    state: LockState,
}

#[derive(Debug, Serialize, Deserialize)]
enum LockState {
    Held { owner: LockOwner, until: Timestamp },
    Released,
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            length: Duration::from_mins(1),
            renew_every: Duration::from_secs(20),
        }
    }
}

impl Lock {
    /// Takes the lock, or fails with [`Error::LockHeld`].
    pub(super) fn take(
        storage: &Arc<dyn Storage>,
        server: &ServerName,
        purpose: Purpose,
        lease: Lease,
    ) -> Result<Self> {
        let folder = layout::lock(server, purpose);
        let owner = LockOwner::this_process()?;
        for _ in 0..ATTEMPTS_MAX {
            let newest = generations(&**storage, &folder)?
                .last()
                .copied()
                .unwrap_or(0);
            match holder(&**storage, &folder, newest, lease)? {
                Holder::Nobody => {}
                Holder::Changed => continue,
                Holder::Somebody(owner) => {
                    let owner = Box::new(owner);
                    return Err(Error::LockHeld {
                        server: server.clone(),
                        purpose,
                        owner,
                    });
                }
            }
            let held = Held {
                storage: Arc::clone(storage),
                folder: folder.clone(),
                generation: newest.saturating_add(1),
                owner: owner.clone(),
                _held_here: owner.hold(),
                lease,
                state: Mutex::new(State {
                    renewed: Instant::now(),
                    lost: None,
                    stop: false,
                }),
                changed: Condvar::new(),
            };
            if held.win()? {
                return Self::start(server.clone(), purpose, held);
            }
        }
        let owner = Box::new(owner);
        Err(Error::LockHeld {
            server: server.clone(),
            purpose,
            owner,
        })
    }

    fn start(server: ServerName, purpose: Purpose, held: Held) -> Result<Self> {
        let held = Arc::new(held);
        let renewing = Arc::clone(&held);
        let renewer = std::thread::Builder::new()
            .name("lock".into())
            .spawn(move || renewing.renew_until_stopped())
            .map_err(|source| Error::System {
                operation: "starting a thread",
                source,
            })?;
        Ok(Self {
            server,
            purpose,
            held,
            renewer: Some(renewer),
        })
    }

    /// Makes the folder of a lock that nobody has taken yet, by a first generation that is released: on a full disk
    /// there would be no room for a folder.
    pub(super) fn prepare(
        storage: &dyn Storage,
        server: &ServerName,
        purpose: Purpose,
    ) -> Result<()> {
        let folder = layout::lock(server, purpose);
        if !generations(storage, &folder)?.is_empty() {
            return Ok(());
        }
        let bytes = record::encode(&LockRecord {
            format: FORMAT,
            state: LockState::Released,
        });
        // Durable, because it takes the room.
        match storage.put(&object(&folder, 1)?, &bytes, PutMode::Create) {
            Err(error) if !error.is_already_exists() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The server.
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Fails with [`Error::LockLost`] unless the lock certainly is still ours.
    pub fn check(&self) -> Result<()> {
        self.check_lease()?;
        if self.held.is_highest()? {
            Ok(())
        } else {
            Err(self.lost("another process took it over".into()))
        }
    }

    /// Fails with [`Error::LockLost`] once the lease was not renewed in time, or somebody was seen to have taken it over. Asks
    /// the storage nothing: for steps that come often, and that others could forgive.
    pub fn check_lease(&self) -> Result<()> {
        let state = self
            .held
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &state.lost {
            return Err(self.lost(reason.clone()));
        }
        if state.renewed.elapsed() >= self.held.lease.length {
            return Err(self.lost("its lease ran out".into()));
        }
        Ok(())
    }

    fn lost(&self, reason: String) -> Error {
        Error::LockLost {
            server: self.server.clone(),
            purpose: self.purpose,
            reason,
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.held
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stop = true;
        self.held.changed.notify_all();
        if let Some(renewer) = self.renewer.take() {
            // A panic there was printed already.
            let _ = renewer.join();
        }
        if let Err(error) = self.held.release() {
            tracing::warn!(server = %self.server, purpose = %self.purpose, %error, "lock not released");
        }
    }
}

impl Held {
    /// Puts our generation; true if it is in force.
    fn win(&self) -> Result<bool> {
        match self.put(PutMode::Create) {
            Ok(()) => {}
            Err(Error::Storage(error)) if error.is_already_exists() => return Ok(false),
            Err(error) => return Err(error),
        }
        if !self.is_highest()? {
            self.storage
                .delete_transient(&object(&self.folder, self.generation)?)?;
            return Ok(false);
        }
        for lower in generations(&*self.storage, &self.folder)? {
            if lower < self.generation {
                self.storage
                    .delete_transient(&object(&self.folder, lower)?)?;
            }
        }
        Ok(true)
    }

    fn is_highest(&self) -> Result<bool> {
        let newest = generations(&*self.storage, &self.folder)?.last().copied();
        Ok(newest == Some(self.generation))
    }

    /// Whether the next generation is there.
    fn is_followed(&self) -> Result<bool> {
        let next = object(&self.folder, self.generation.saturating_add(1))?;
        match self.storage.head(&next) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn put(&self, mode: PutMode) -> Result<()> {
        let length = SignedDuration::try_from(self.lease.length).unwrap_or(SignedDuration::MAX);
        let until = Timestamp::now()
            .saturating_add(length)
            .unwrap_or(Timestamp::MAX);
        let state = LockState::Held {
            owner: self.owner.clone(),
            until,
        };
        match self.put_state(state, mode) {
            Err(Error::Storage(StorageError::NoSpace { .. })) => Ok(self.storage.put_transient(
                &object(&self.folder, self.generation)?,
                &[],
                mode,
            )?),
            put => put,
        }
    }

    fn put_state(&self, state: LockState, mode: PutMode) -> Result<()> {
        let bytes = record::encode(&LockRecord {
            format: FORMAT,
            state,
        });
        Ok(self
            .storage
            .put_transient(&object(&self.folder, self.generation)?, &bytes, mode)?)
    }

    fn renew_until_stopped(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut renewals = 0_u32;
        loop {
            let every = self.lease.renew_every;
            let waited = self
                .changed
                .wait_timeout_while(state, every, |state| !state.stop);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.stop || state.lost.is_some() {
                return;
            }
            renewals = renewals.wrapping_add(1);
            // Nobody takes over from a lease that runs, unless its clock is wrong.
            let ran_out = state.renewed.elapsed() >= self.lease.length;
            let look = if ran_out || renewals.is_multiple_of(LIST_EVERY) {
                Look::AtAll
            } else {
                Look::AtNext
            };
            drop(state);
            // Taken before the write: the lease counts from the earliest moment that its record can have been made.
            let moment = Instant::now();
            let renewed = self.renew(look);
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match renewed {
                Ok(true) => state.renewed = moment,
                Ok(false) => state.lost = Some("another process took it over".into()),
                // The storage may come back before the lease is over; `check` looks at the time.
                Err(error) => tracing::warn!(lock = %self.folder, %error, "lock not renewed"),
            }
        }
    }

    fn renew(&self, look: Look) -> Result<bool> {
        let ours = match look {
            Look::AtNext => !self.is_followed()?,
            Look::AtAll => self.is_highest()?,
        };
        if !ours {
            return Ok(false);
        }
        self.put(PutMode::Replace)?;
        Ok(true)
    }

    fn release(&self) -> Result<()> {
        if self.is_highest()? {
            return self.put_state(LockState::Released, PutMode::Replace);
        }
        Ok(self
            .storage
            .delete_transient(&object(&self.folder, self.generation)?)?)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Backup => "backup",
            Self::Retention => "retention",
            Self::Archive => "archive",
        })
    }
}

/// The generations of a lock, in order.
fn generations(storage: &dyn Storage, folder: &ObjectPath) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    storage.list(folder, &mut |meta| {
        found.extend(meta.path.name().parse::<u64>());
        ControlFlow::Continue(())
    })?;
    found.sort_unstable();
    Ok(found)
}

fn object(folder: &ObjectPath, generation: u64) -> Result<ObjectPath> {
    folder
        .join(&format!("{generation:020}"))
        .map_err(|error| Error::damaged(folder, error.to_string()))
}

/// What the highest generation of a lock says.
enum Holder {
    Nobody,
    Somebody(LockOwner),
    /// It went away while we looked.
    Changed,
}

fn holder(storage: &dyn Storage, folder: &ObjectPath, newest: u64, lease: Lease) -> Result<Holder> {
    if newest == 0 {
        return Ok(Holder::Nobody);
    }
    let path = object(folder, newest)?;
    let got = match storage.get(&path, RECORD_BYTES_MAX) {
        Err(error) if error.is_not_found() => return Ok(Holder::Changed),
        got => got.map_err(|error| Error::reading(&path, error)),
    };
    let is_empty = got.as_ref().is_ok_and(Vec::is_empty);
    let record: LockRecord = match got.and_then(|bytes| record::decode(&path, &bytes, FORMAT)) {
        Ok(record) => record,
        Err(error @ Error::Damaged { .. }) => {
            // Nobody renews a record that stays damaged: it runs out like any other.
            let age = storage.head(&path)?.modified.elapsed().unwrap_or_default();
            return if age >= lease.length {
                Ok(Holder::Nobody)
            } else if is_empty {
                Ok(Holder::Somebody(LockOwner::unnamed()))
            } else {
                Err(error)
            };
        }
        Err(error) => return Err(error),
    };
    let LockState::Held { owner, until } = record.state else {
        return Ok(Holder::Nobody);
    };
    let over = owner.life() == Life::Dead || until <= Timestamp::now();
    Ok(if over {
        Holder::Nobody
    } else {
        Holder::Somebody(owner)
    })
}
