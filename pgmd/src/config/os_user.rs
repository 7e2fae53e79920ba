//! The operating system's user, for the defaults of connections: what libpq takes from `getpwuid` and `HOME`.

use std::path::{Path, PathBuf};

/// The user that this process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsUser {
    /// The name, or the number where it has none.
    pub name: String,
    /// The home directory: `HOME`, or what the user database says.
    pub home: Option<PathBuf>,
}

impl OsUser {
    /// The user of this process.
    pub fn current() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let entry = entry(&users, uid);
        let home = std::env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from);
        Self {
            name: entry.map_or_else(|| uid.to_string(), |(name, _)| name.to_owned()),
            home: home.or_else(|| entry.map(|(_, home)| home.to_owned())),
        }
    }

    /// The name of the user with this number, or the number where it has none.
    pub fn name_of(uid: u32) -> String {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        entry(&users, uid).map_or_else(|| uid.to_string(), |(name, _)| name.to_owned())
    }
}

/// Name and home of `uid` in the text of a passwd file.
fn entry(users: &str, uid: u32) -> Option<(&str, &Path)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number: u32 = fields.nth(1)?.parse().ok()?;
        let home = fields.nth(2)?;
        (number == uid).then_some((name, Path::new(home)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/bash\nbroken\npostgres:x:105:110:PostgreSQL,,,:/var/lib/postgresql:/bin/sh\n";
        assert_eq!(
            entry(users, 105),
            Some(("postgres", Path::new("/var/lib/postgresql")))
        );
        assert_eq!(entry(users, 5), None);
    }
}
