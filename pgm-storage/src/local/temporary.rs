//! The files of writers at work, and what is left of writers that died.
//!
//! Two witnesses say whether a temporary file's writer lives: the lock that it holds on the file, which the kernel drops
//! with the process, and the process id and start time in the name. Only a file for which both say no is removed.

use std::fs::{self, File};
use std::process;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::folder::Folder;
use super::list::each_name;
use crate::error::{Result, StorageError};

/// How often a new name is tried; a name is only taken if random numbers repeat or a sweep meets it half made.
const NAME_TRIES_MAX: usize = 16;

/// Makes a new temporary file in `folder`, locked, and gives its name.
pub(super) fn create(folder: &Folder) -> Result<(String, File)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut tries = 0;
    loop {
        tries += 1;
        let name = new_name()
            .map_err(|error| StorageError::from_io("name a file in", folder.place(""), error))?;
        let fd = match rustix::fs::openat(folder.fd(), &name, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) if tries < NAME_TRIES_MAX => continue,
            opened => opened.map_err(|error| folder.error("create", &name, error))?,
        };
        // A sweep may have seen the file before it was locked: then it holds the lock, or the file is gone.
        let locked = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)
            .and_then(|()| rustix::fs::fstat(&fd));
        match locked {
            Ok(stat) if stat.st_nlink > 0 => return Ok((name, File::from(fd))),
            Ok(_) | Err(Errno::WOULDBLOCK) if tries < NAME_TRIES_MAX => {}
            // A file system without locks: the process in the name is then the only witness.
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return Ok((name, File::from(fd)));
            }
            Ok(_) => return Err(folder.error("lock", &name, Errno::NOENT)),
            Err(error) => return Err(folder.error("lock", &name, error)),
        }
    }
}

/// Removes what dead writers left in `folder` and below, and folders that are empty then. Gives the number of files.
pub(super) fn sweep(folder: &Folder) -> Result<u64> {
    let (mut leftovers, mut folders) = (Vec::new(), Vec::new());
    each_name(folder, |name, kind| {
        if let Some(owner) = Owner::parse(name) {
            leftovers.push((name.to_owned(), owner));
        } else if !name.starts_with('.') && matches!(kind, FileType::Directory | FileType::Unknown)
        {
            folders.push(name.to_owned());
        }
        Ok(())
    })?;
    let mut swept = 0;
    for (name, owner) in leftovers {
        if !owner.lives_elsewhere() && remove_unless_locked(folder, &name)? {
            tracing::info!(
                file = folder.place(&name),
                "removed what a dead writer left"
            );
            swept += 1;
        }
    }
    for name in folders {
        match folder.child(&name) {
            Ok(child) => swept += sweep(&child)?,
            Err(StorageError::NotFound { .. } | StorageError::Misplaced { .. }) => continue,
            Err(error) => return Err(error),
        }
        // Refused by the system unless it is empty; a writer that needs it makes it again.
        let _ = rustix::fs::unlinkat(folder.fd(), &name, AtFlags::REMOVEDIR);
    }
    Ok(swept)
}

/// Removes a temporary file unless a writer holds its lock; tells whether it was removed.
fn remove_unless_locked(folder: &Folder, name: &str) -> Result<bool> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(folder.fd(), name, flags, Mode::empty()) {
        // Finished or swept meanwhile, or not a file of ours.
        Err(Errno::NOENT | Errno::LOOP) => return Ok(false),
        opened => opened.map_err(|error| folder.error("open", name, error))?,
    };
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(false),
        Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(folder.error("lock", name, error)),
    }
    match rustix::fs::unlinkat(folder.fd(), name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(folder.error("remove", name, error)),
    }
}

/// The process that a temporary file's name tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    process: u32,
    start_time: u64,
}

impl Owner {
    /// `.pgm-PROCESS-STARTTIME-RANDOM.tmp`
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(".pgm-")?.strip_suffix(".tmp")?.split('-');
        let process = parts.next()?.parse().ok()?;
        let start_time = parts.next()?.parse().ok()?;
        let random = parts.next()?;
        let is_ours = parts.next().is_none() && u64::from_str_radix(random, 16).is_ok();
        is_ours.then_some(Self {
            process,
            start_time,
        })
    }

    /// Whether another process with this id and start time runs. Of this process's own files the lock says it all.
    fn lives_elsewhere(self) -> bool {
        self.process != process::id() && start_time(self.process) == Some(self.start_time)
    }
}

fn new_name() -> std::io::Result<String> {
    static START_TIME: OnceLock<u64> = OnceLock::new();
    let own = *START_TIME.get_or_init(|| start_time(process::id()).unwrap_or(0));
    let random = getrandom::u64().map_err(std::io::Error::other)?;
    Ok(format!(".pgm-{}-{own}-{random:016x}.tmp", process::id()))
}

/// When a running process started, in clock ticks since the machine did; see `proc_pid_stat(5)`. One that is dead and that its
/// parent has not asked for yet writes nothing any more.
fn start_time(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything; start time is the 22nd.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(22 - 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_process() {
        let name = new_name().unwrap();
        let owner = Owner::parse(&name).unwrap();
        assert_eq!(owner.process, process::id());
        assert_eq!(Some(owner.start_time), start_time(process::id()));
        for foreign in [
            ".pgm-1-2.tmp",
            ".pgm-1-2-3-4.tmp",
            ".pgm-x-2-3.tmp",
            ".tmp",
            "a",
        ] {
            assert_eq!(Owner::parse(foreign), None, "{foreign}");
        }
    }
}
