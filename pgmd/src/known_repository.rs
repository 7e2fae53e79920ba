//! The repository that the WAL of this host goes to, remembered beside the spool.
//!
//! ```text
//! SPOOL/repository.known      (id: "0c8c…", path: "/mnt/backup/repository")
//! ```
//!
//! A file system that is not mounted looks like an empty folder. A daemon that made a new repository there would archive
//! into it and let go of the spool's copies. So once a repository was used, only that one is used: if none is at the
//! configured place, or another one, nothing is written to it and nothing leaves the spool until it is back, or until a
//! person says that the change is meant (`pgm-cli repository accept`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use pgm_backup::repository::RepositoryId;
use pgm_backup::{Error, Repository, Result};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::place::RepositoryPlace;
use crate::repository;

/// The file. No server's spool has such a name: there are no dots in names of servers.
const FILE: &str = "repository.known";
/// The longest content that is read.
const BYTES_MAX: u64 = 64 << 10;

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRepository {
    /// Which it is.
    pub id: RepositoryId,
    /// Where it was, for people: a folder, or an address.
    pub path: String,
}

/// How a start found the repository.
#[derive(Debug)]
pub enum Found {
    /// It is the one that was used before, or the first; or nothing is known against it.
    Right,
    /// It is not, and must not be written to.
    Wrong(Error),
}

/// What is remembered in the folder `spool`.
pub fn read(spool: &Path) -> Result<Option<KnownRepository>> {
    let path = spool.join(FILE);
    let text = match File::open(&path) {
        Ok(file) => io::read_to_string(io::Read::take(file, BYTES_MAX)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    };
    let failed = |source| Error::System {
        operation: "reading repository.known in the spool",
        source,
    };
    let text = text.map_err(failed)?;
    ron::from_str(&text)
        .map(Some)
        .map_err(|error| failed(io::Error::other(format!("{}: {error}", path.display()))))
}

/// Opens the repository at `place` for somebody who writes to it, or gives its WAL away; refuses one that is not the one
/// that `spool` knows.
pub fn open(place: &RepositoryPlace, spool: &Path) -> Result<Repository> {
    let Some(known) = read(spool)? else {
        return repository::open(place);
    };
    let other = |found: Option<String>| Error::OtherRepository {
        location: place.to_string(),
        known: known.id.to_string(),
        found,
    };
    match repository::open(place) {
        Ok(repository) if *repository.id() == known.id => Ok(repository),
        Ok(repository) => Err(other(Some(repository.id().to_string()))),
        Err(Error::RepositoryMissing { .. }) => Err(other(None)),
        Err(error) => Err(error),
    }
}

/// [`open`] for a worker, which knows the spool of its server: a folder in the spool.
pub fn open_beside(place: &RepositoryPlace, server_spool: &Path) -> Result<Repository> {
    open(place, server_spool.parent().unwrap_or(server_spool))
}

/// Opens the repository of `config`, or makes the first one.
///
/// That it is another one than before, not there, or out of reach is no reason for a daemon not to start: the WAL that it
/// receives is what is left to protect then. One that is far and was used before is not even asked, because it may take
/// minutes not to answer; the workers ask it again and again.
pub fn open_at_start(config: &Config) -> Result<Found> {
    if read(&config.spool)?.is_none() {
        accept(config)?;
        return Ok(Found::Right);
    }
    let place = config.repository.place();
    if place.folder().is_none() {
        return Ok(Found::Right);
    }
    match open(&place, &config.spool) {
        Ok(_) => Ok(Found::Right),
        Err(error @ Error::OtherRepository { .. }) => Ok(Found::Wrong(error)),
        Err(error) => Err(error),
    }
}

/// Makes the repository of `config` the one that is used from now on; makes one if there is none.
pub fn accept(config: &Config) -> Result<KnownRepository> {
    let place = config.repository.place();
    let repository = repository::open_or_create(&place)?;
    let known = KnownRepository {
        id: repository.id().clone(),
        path: place.to_string(),
    };
    write(&config.spool, &known).map_err(|source| Error::System {
        operation: "writing repository.known in the spool",
        source,
    })?;
    Ok(known)
}

fn write(spool: &Path, known: &KnownRepository) -> io::Result<()> {
    let text = ron::to_string(known).map_err(io::Error::other)?;
    let temporary = spool.join(format!(".{FILE}.{}", std::process::id()));
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    let mut file = open.open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, spool.join(FILE))?;
    File::open(spool)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, repository: &str) -> Config {
        let text = format!("(repository: (path: {repository:?}), servers: {{}})");
        let config = Config::parse(&folder.join("pgmd.ron"), &text).unwrap();
        fs::create_dir_all(&config.spool).unwrap();
        config
    }

    #[test]
    fn a_repository_that_went_away_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), "repository");
        assert!(matches!(open_at_start(&config).unwrap(), Found::Right));
        assert!(matches!(open_at_start(&config).unwrap(), Found::Right));
        // Its file system is not mounted.
        fs::rename(&config.repository.path, folder.path().join("elsewhere")).unwrap();
        fs::create_dir(&config.repository.path).unwrap();
        let Found::Wrong(error) = open_at_start(&config).unwrap() else {
            panic!("the empty folder was taken for the repository");
        };
        assert!(matches!(&error, Error::OtherRepository { found: None, .. }));
        assert!(error.hint().unwrap().contains("repository accept"));
        assert!(open(&config.repository.place(), &config.spool).is_err());
        assert_eq!(fs::read_dir(&config.repository.path).unwrap().count(), 0);
        fs::remove_dir(&config.repository.path).unwrap();
        fs::rename(folder.path().join("elsewhere"), &config.repository.path).unwrap();
        assert!(matches!(open_at_start(&config).unwrap(), Found::Right));
    }

    #[test]
    fn another_repository_is_refused_until_it_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        open_at_start(&config(folder.path(), "first")).unwrap();
        let second = config(folder.path(), "second");
        repository::open_or_create(&second.repository.place()).unwrap();
        let found = open_at_start(&second).unwrap();
        assert!(matches!(
            found,
            Found::Wrong(Error::OtherRepository { found: Some(_), .. })
        ));
        let spool_of_server = second.spool.join("main");
        assert!(open_beside(&second.repository.place(), &spool_of_server).is_err());
        accept(&second).unwrap();
        assert!(matches!(open_at_start(&second).unwrap(), Found::Right));
        assert!(open_beside(&second.repository.place(), &spool_of_server).is_ok());
    }
}
