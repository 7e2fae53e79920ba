//! The programs of PostgreSQL on this host.

use std::env;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::TrialError;

/// Where distributions put the programs of a major version.
const PLACES: [(&str, &str); 3] = [
    ("/usr/lib/postgresql/", "/bin"),
    ("/usr/pgsql-", "/bin"),
    ("/usr/local/pgsql-", "/bin"),
];

/// The folder with the programs of one major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Looks in `folders` and in their subfolders `MAJOR/bin`, then in `PATH`, then where distributions put them.
    pub(super) fn find(major: u32, folders: &[PathBuf]) -> Result<Self, TrialError> {
        let mut looked = Vec::new();
        for folder in folders {
            looked.push(folder.clone());
            looked.push(folder.join(major.to_string()).join("bin"));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        looked.extend(env::split_paths(&path).filter(|folder| folder.is_absolute()));
        looked
            .extend(PLACES.map(|(before, after)| PathBuf::from(format!("{before}{major}{after}"))));
        let found = looked
            .iter()
            .find(|folder| version(&folder.join("postgres")) == Some(major));
        match found {
            Some(folder) => Ok(Self {
                folder: folder.clone(),
            }),
            None => Err(TrialError::NoPrograms { major, looked }),
        }
    }

    /// The server itself.
    pub(super) fn server(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// Another program, if it is installed.
    pub(super) fn optional(&self, name: &str) -> Option<PathBuf> {
        let program = self.folder.join(name);
        is_program(&program).then_some(program)
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The major version that a program says it has.
fn version(program: &Path) -> Option<u32> {
    if !is_program(program) {
        return None;
    }
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// From `postgres (PostgreSQL) 17.2 (Debian 17.2-1)`, `… 18beta1`.
fn parse(text: &str) -> Option<u32> {
    let number = text.split_once("(PostgreSQL) ")?.1;
    let end = number.find(|letter: char| !letter.is_ascii_digit());
    number[..end.unwrap_or(number.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_a_server_says() {
        assert_eq!(
            parse("postgres (PostgreSQL) 17.2 (Debian 17.2-1)\n"),
            Some(17)
        );
        assert_eq!(parse("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse("postgres 17"), None);
    }

    #[test]
    fn where_it_was_looked_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let error = Programs::find(99, &[folder.path().to_owned()]).unwrap_err();
        let hint = error.hint().unwrap();
        assert!(
            hint.contains(&folder.path().display().to_string()),
            "{hint}"
        );
        assert!(hint.contains("/usr/lib/postgresql/99/bin"), "{hint}");
    }
}
