//! Which PostgreSQL versions the journeys run on, and where their programs are.
//!
//! `tests/postgresql` fetches them. A major that is not there is a failure, never a skip.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A major version of PostgreSQL that pgm promises to work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Major(u32);

impl Major {
    /// PostgreSQL 14.
    pub const V14: Self = Self(14);
    /// PostgreSQL 15.
    pub const V15: Self = Self(15);
    /// PostgreSQL 16.
    pub const V16: Self = Self(16);
    /// PostgreSQL 17: the one with every client program.
    pub const V17: Self = Self(17);
    /// PostgreSQL 18.
    pub const V18: Self = Self(18);

    /// Every major, oldest first.
    pub const ALL: [Self; 5] = [Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// The number: 17.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The path of one of its programs, such as `initdb`.
    ///
    /// Only 17 has the clients (`pg_basebackup`, `pg_receivewal`, `pg_verifybackup`, `pg_waldump`, `pgbench`,
    /// `pg_amcheck`, `psql`) for certain; they talk to all servers up to their own version.
    pub fn program(self, name: &str) -> PathBuf {
        let path = directory().join(self.0.to_string()).join("bin").join(name);
        assert!(
            path.exists(),
            "{} is missing\nHINT: run tests/postgresql, and the tests through tests/run",
            path.display()
        );
        path
    }

    /// A command that runs one of its programs.
    pub fn command(self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        // Nothing of the caller's environment may redirect a client to another server.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG")
                && !variable.to_string_lossy().starts_with("PGM_")
            {
                command.env_remove(variable);
            }
        }
        command.env("LC_ALL", "C").env("TZ", "UTC");
        command
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Every major that pgm promises to work with; fails the test if one of them is not installed.
pub fn majors() -> Vec<Major> {
    for major in Major::ALL {
        major.program("postgres");
    }
    Major::ALL.to_vec()
}

fn directory() -> PathBuf {
    if let Some(directory) = std::env::var_os("PGM_POSTGRESQL_DIR") {
        return PathBuf::from(directory);
    }
    let shared = Path::new("/var/cache/pgm/postgresql");
    match std::env::home_dir() {
        Some(home) if !shared.exists() => home.join(".cache/pgm/postgresql"),
        _ => shared.to_owned(),
    }
}
