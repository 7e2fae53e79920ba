//! Where the server's data directory is, and whether it really is that of the server.
//!
//! A session has a process at the server, and the number that the server gives it is one of this host if the server runs here: then the
//! process is one of PostgreSQL's, its parent is the postmaster, and it works in the data directory. So without a question to the server, and
//! without a line in its log, it is known whether its files can be read. As anybody may be at the other end of a connection, all of it is
//! compared with what the server says once it is asked.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use pgm_proto::{Peer, SystemId};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::control_file::ControlFile;
use super::local::LocalDirectory;
use super::session::{Facts, Session};

/// The postmaster notes when it began to start, and says when it had started.
const START_SECONDS_MAX: i64 = 300;
/// Checkpoints may come between two looks.
const CHECKPOINT_LOOKS: usize = 5;

/// A data directory of this host.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    folder: OwnedFd,
    pub(super) catalog_version: u32,
    postmaster: u32,
    pid_file: PidFile,
    control_file: File,
}

/// What `postmaster.pid` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PidFile {
    pid: u32,
    started: i64,
    port: u16,
}

impl Place {
    /// The data directory in which the process `backend` works, if it is one of the server with this identifier; else why not.
    pub(super) fn find(
        peer: &Peer,
        backend: Option<u32>,
        system_id: SystemId,
    ) -> Result<Self, String> {
        if !is_here(peer) {
            return Err(format!("{peer} is not on this host"));
        }
        let backend = backend.ok_or("the server does not say which process serves it")?;
        let postmaster = parent(backend)
            .ok_or("the server's process for the session cannot be seen on this host")?;
        let path = folder_of(backend, postmaster).ok_or(
            "the server's data directory cannot be found from here: its processes are another user's",
        )?;
        let said = |what: &str, error: std::io::Error| {
            format!("{what} in {} cannot be read: {error}", path.display())
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|error| said("what is", error.into()))?;
        let open = |name: &str| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let opened = rustix::fs::openat2(&folder, name, flags, Mode::empty(), resolve);
            opened
                .map(File::from)
                .map_err(|error| said(name, error.into()))
        };
        let text = std::io::read_to_string(open("postmaster.pid")?)
            .map_err(|error| said("postmaster.pid", error))?;
        let pid_file = PidFile::parse(&text)
            .filter(|file| file.pid == postmaster)
            .ok_or_else(|| format!("postmaster.pid in {} is another server's", path.display()))?;
        let control_file = open("global/pg_control")?;
        let control = ControlFile::read(&control_file).map_err(|error| error.to_string())?;
        if control.system_id() != system_id {
            return Err(format!("{} is another server's", path.display()));
        }
        Ok(Self {
            catalog_version: control.catalog_version(),
            path,
            folder,
            postmaster,
            pid_file,
            control_file,
        })
    }

    /// Compares all of it with what the server says.
    pub(super) fn compare(&self, facts: &Facts, session: &mut Session) -> Result<(), String> {
        let path = self.path.display();
        if parent(facts.own.process) != Some(self.postmaster) || facts.port != self.pid_file.port {
            return Err(format!(
                "{path} is that of another server than the one that answers"
            ));
        }
        let late = facts.started - self.pid_file.started;
        if !(-1..=START_SECONDS_MAX).contains(&late) {
            return Err(format!(
                "the server in {path} was started at another time than it says"
            ));
        }
        for _ in 0..CHECKPOINT_LOOKS {
            let control =
                ControlFile::read(&self.control_file).map_err(|error| error.to_string())?;
            let checkpoint = session.checkpoint().map_err(|error| error.to_string())?;
            if (control.system_id(), control.checkpoint()) == (facts.system_id, checkpoint) {
                return Ok(());
            }
        }
        Err(format!(
            "pg_control in {path} is not the one that the server has"
        ))
    }

    /// What is in it.
    pub(super) fn directory(&self) -> LocalDirectory<'_> {
        LocalDirectory::new(self.folder.as_fd(), Some(&self.control_file))
    }
}

impl PidFile {
    /// Lines: process, data directory, time of the start, port (`miscadmin.h`).
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let started = lines.nth(1)?.trim().parse().ok()?;
        let port = lines.next()?.trim().parse().ok()?;
        Some(Self { pid, started, port })
    }
}

/// Whether the other end of a connection is on this host: only its own addresses can be listened on.
fn is_here(peer: &Peer) -> bool {
    match peer {
        Peer::Unix(_) => true,
        Peer::Tcp { address, .. } => {
            address.is_some_and(|address| UdpSocket::bind((address, 0)).is_ok())
        }
    }
}

/// The parent of a process of this host that is PostgreSQL's.
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    parent_in(&stat)
}

/// `1234 (postgres) S 1200 …`
fn parent_in(stat: &str) -> Option<u32> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    if !["postgres", "postmaster"].contains(&name) {
        return None;
    }
    after.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The data directory, where the server's processes work, or as its command says to those who cannot see that.
fn folder_of(backend: u32, postmaster: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{backend}/cwd"))
        .ok()
        .or_else(|| {
            let command = fs::read(format!("/proc/{postmaster}/cmdline")).ok()?;
            folder_in(&command)
        })
}

/// What follows `-D`.
fn folder_in(command: &[u8]) -> Option<PathBuf> {
    let mut words = command.split(|byte| *byte == 0);
    let word = words.find(|word| word.starts_with(b"-D"))?;
    let path = match &word[2..] {
        b"" => words.next()?,
        path => path,
    };
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    path.is_absolute().then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_a_process_of_postgresql_is_found_and_of_no_other() {
        assert_eq!(parent_in("77 (postgres) S 70 70 0"), Some(70));
        for other in [
            "77 (bash) S 70 70",
            "77 (x) (postgres) S",
            "77 (a(postgres) S 70",
            "",
        ] {
            assert_eq!(parent_in(other), None, "{other}");
        }
        assert_eq!(parent(std::process::id()), None);
    }

    #[test]
    fn the_command_of_a_postmaster_names_its_data_directory() {
        let of = |text: &str| folder_in(text.replace(' ', "\0").as_bytes());
        let expected = Some(PathBuf::from("/data"));
        assert_eq!(of("postgres -D /data -p 5432"), expected);
        assert_eq!(of("postgres -p 5432 -D/data"), expected);
        assert_eq!(of("postgres -D data"), None);
        assert_eq!(of("postgres -D"), None);
        assert_eq!(of("postgres"), None);
    }

    #[test]
    fn postmaster_pid_says_which_process_on_which_port_since_when() {
        let text = "4711\n/data\n1763778896\n5433\n/tmp\n*\n  5433001 98304\nready   \n";
        let expected = PidFile {
            pid: 4711,
            started: 1_763_778_896,
            port: 5433,
        };
        assert_eq!(PidFile::parse(text), Some(expected));
        assert_eq!(PidFile::parse("4711\n/data\n"), None);
    }

    #[test]
    fn a_process_of_another_program_leads_nowhere() {
        let find = |peer: &Peer, backend| Place::find(peer, backend, SystemId::new(7)).unwrap_err();
        let here = Peer::Unix("/tmp/.s.PGSQL.5432".into());
        let error = find(&here, Some(std::process::id()));
        assert!(error.contains("cannot be seen on this host"), "{error}");
        assert!(find(&here, None).contains("does not say which process"));
        let tcp = |address: [u8; 4]| Peer::Tcp {
            host: "db".into(),
            address: Some(address.into()),
            port: 5432,
        };
        assert!(is_here(&tcp([127, 0, 0, 1])));
        let error = find(&tcp([192, 0, 2, 1]), Some(std::process::id()));
        assert!(error.contains("is not on this host"), "{error}");
    }
}
