//! How much a job makes way for others on its host: the nice value, and the priority at the disk.
//!
//! Both belong to threads, and threads inherit them: they are set before the first one is made. See `ioprio_set(2)` and `setpriority(2)`.

#![allow(unsafe_code)] // one system call that no library offers; it takes numbers only

use std::io;

use rustix::process::{getpriority_process, setpriority_process};

use crate::config::JobPriority;

/// `IOPRIO_WHO_PROCESS`; 0 is the calling thread.
const WHO_PROCESS: libc::c_int = 1;
/// The classes, above the level (`IOPRIO_CLASS_SHIFT`).
const CLASS_SHIFT: libc::c_int = 13;
const BEST_EFFORT: libc::c_int = 2;
const IDLE: libc::c_int = 3;
/// The last of the class.
const LAST: libc::c_int = 7;

/// Gives the calling thread, and all that it will start, this priority. Nobody gets ahead by it: who runs behind others already stays there.
pub(super) fn make_way(priority: JobPriority) -> io::Result<()> {
    let (nice, disk) = match priority {
        JobPriority::Normal => return Ok(()),
        JobPriority::Low => (10, BEST_EFFORT << CLASS_SHIFT | LAST),
        JobPriority::Idle => (19, IDLE << CLASS_SHIFT),
    };
    if getpriority_process(None)? < nice {
        setpriority_process(None, nice)?;
    }
    // SAFETY: three integers, no memory.
    let set = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, disk) };
    if set == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> libc::c_long {
        // SAFETY: two integers, no memory.
        unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) }
    }

    #[test]
    fn a_thread_and_those_that_it_starts_make_way() {
        for (priority, nice, class) in [(JobPriority::Low, 10, 2), (JobPriority::Idle, 19, 3)] {
            let seen = std::thread::spawn(move || {
                make_way(priority).unwrap();
                std::thread::spawn(|| (getpriority_process(None).unwrap(), disk() >> CLASS_SHIFT))
                    .join()
                    .unwrap()
            });
            assert_eq!(seen.join().unwrap(), (nice, class), "{priority:?}");
        }
        let before = (getpriority_process(None).unwrap(), disk());
        make_way(JobPriority::Normal).unwrap();
        assert_eq!((getpriority_process(None).unwrap(), disk()), before);
    }
}
