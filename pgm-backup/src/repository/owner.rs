//! Who holds a lock: a process, told apart from every other process of any host at any time.
//!
//! A process is named by its boot, its pid namespace, its pid and its start time, so a pid that was used again, a
//! reboot and another container are never mistaken for the owner. Follows `proc(5)`. A process knows its own locks by
//! their nonces, so a lock that it could not release does not stand in its own way.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// The nonces of the locks that this process holds.
static HELD_HERE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Says that this process holds a lock, as long as it lives.
#[derive(Debug)]
pub(super) struct HeldHere(String);

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOwner {
    /// The host's name, for people.
    pub host: String,
    /// The host's boot id and the process's pid namespace: pids mean something only within both.
    pub pid_space: String,
    /// The process.
    pub pid: u32,
    /// When the process began, in clock ticks since boot.
    pub started_ticks: u64,
    /// Told apart from other locks of the same process.
    pub nonce: String,
}

/// What is known about a lock's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It runs on this host.
    Alive,
    /// It ran on this boot of this host, and is gone.
    Dead,
    /// It is on another host or in another container, or was before a reboot.
    Unknown,
}

impl LockOwner {
    /// This process, with a new nonce.
    pub(super) fn this_process() -> Result<Self> {
        let pid = std::process::id();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(Self {
            host: host.trim().to_owned(),
            pid_space: pid_space(),
            pid,
            started_ticks: started_ticks(pid).unwrap_or(0),
            nonce: super::random_hex()?,
        })
    }

    /// A process that had no room to say who it is.
    pub(super) fn unnamed() -> Self {
        Self {
            host: "unknown (the repository is full)".to_owned(),
            pid_space: String::new(),
            pid: 0,
            started_ticks: 0,
            nonce: String::new(),
        }
    }

    /// Whether the owner still runs, as far as this process can tell.
    pub(super) fn life(&self) -> Life {
        if self.pid_space.is_empty() || self.pid_space != pid_space() || self.started_ticks == 0 {
            return Life::Unknown;
        }
        // A pid that belongs to a younger process has been used again.
        match started_ticks(self.pid) {
            Some(ticks) if ticks == self.started_ticks => {}
            _ => return Life::Dead,
        }
        if self.pid == std::process::id() && !held_here().contains(&self.nonce) {
            return Life::Dead;
        }
        Life::Alive
    }

    /// Notes that this process holds the lock.
    pub(super) fn hold(&self) -> HeldHere {
        held_here().insert(self.nonce.clone());
        HeldHere(self.nonce.clone())
    }

    pub(crate) fn hint(&self) -> String {
        match self.life() {
            Life::Alive => format!(
                "wait until process {} is done, or stop it with `kill {}`; the lock is released by itself",
                self.pid, self.pid
            ),
            Life::Dead | Life::Unknown => format!(
                "wait until the process on host `{}` is done; if that host is gone, the lock runs out by itself within \
                 a minute",
                self.host
            ),
        }
    }
}

impl Drop for HeldHere {
    fn drop(&mut self) {
        held_here().remove(&self.0);
    }
}

fn held_here() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    HELD_HERE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for LockOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on host `{}`", self.pid, self.host)
    }
}

/// Boot id and pid namespace; empty where the system does not tell, and then nobody is ever taken for dead.
fn pid_space() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (boot, namespace) {
        (Ok(boot), Ok(namespace)) => format!("{} {}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}

/// When a process began; `None` if there is none, or only its remains.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses: fields are counted from the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
