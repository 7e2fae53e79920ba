//! The repository that the WAL of this host goes to, remembered beside the spool.
//!
//! ```text
//! SPOOL/repository.known            (id: "0c8c…", path: "/mnt/backup/repository")
//! SPOOL/repository.offsite.known    the same of the further repository «offsite»
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
use pgm_proto::RepositoryName;
use serde::{Deserialize, Serialize};

use crate::place::RepositoryPlace;
use crate::repository;

/// The file of a repository. No server's spool has such a name: there are no dots in names of servers.
fn file_name(name: &RepositoryName) -> String {
    if *name == RepositoryName::default() {
        "repository.known".to_owned()
    } else {
        format!("repository.{name}.known")
    }
}

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

/// What is remembered in the folder `spool` of the repository `name`.
pub fn read(spool: &Path, name: &RepositoryName) -> Result<Option<KnownRepository>> {
    let path = spool.join(file_name(name));
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
    let Some(known) = read(spool, &place.name)? else {
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

/// Opens the repository at `place`, or makes it when none was used before.
///
/// That it is another one than before, not there, or out of reach is no reason for a daemon not to start: the WAL that it
/// receives is what is left to protect then. One that is far and was used before is not even asked, because it may take
/// minutes not to answer; the workers ask it again and again.
pub fn open_at_start(place: &RepositoryPlace, spool: &Path) -> Result<Found> {
    if read(spool, &place.name)?.is_none() {
        accept(place, spool)?;
        return Ok(Found::Right);
    }
    if place.folder().is_none() {
        return Ok(Found::Right);
    }
    match open(place, spool) {
        Ok(_) => Ok(Found::Right),
        Err(error @ Error::OtherRepository { .. }) => Ok(Found::Wrong(error)),
        Err(error) => Err(error),
    }
}

/// Makes the repository at `place` the one that is used from now on; makes one if there is none.
pub fn accept(place: &RepositoryPlace, spool: &Path) -> Result<KnownRepository> {
    let repository = repository::open_or_create(place)?;
    let known = KnownRepository {
        id: repository.id().clone(),
        path: place.to_string(),
    };
    write(spool, &place.name, &known).map_err(|source| Error::System {
        operation: "writing repository.known in the spool",
        source,
    })?;
    Ok(known)
}

fn write(spool: &Path, name: &RepositoryName, known: &KnownRepository) -> io::Result<()> {
    let text = ron::to_string(known).map_err(io::Error::other)?;
    let file_name = file_name(name);
    let temporary = spool.join(format!(".{file_name}.{}", std::process::id()));
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    let mut file = open.open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, spool.join(file_name))?;
    File::open(spool)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn at_start(config: &Config) -> Result<Found> {
        open_at_start(&config.repository.place(), &config.spool)
    }

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
        assert!(matches!(at_start(&config).unwrap(), Found::Right));
        assert!(matches!(at_start(&config).unwrap(), Found::Right));
        // Its file system is not mounted.
        fs::rename(&config.repository.path, folder.path().join("elsewhere")).unwrap();
        fs::create_dir(&config.repository.path).unwrap();
        let Found::Wrong(error) = at_start(&config).unwrap() else {
            panic!("the empty folder was taken for the repository");
        };
        assert!(matches!(&error, Error::OtherRepository { found: None, .. }));
        assert!(error.hint().unwrap().contains("repository accept"));
        assert!(open(&config.repository.place(), &config.spool).is_err());
        assert_eq!(fs::read_dir(&config.repository.path).unwrap().count(), 0);
        fs::remove_dir(&config.repository.path).unwrap();
        fs::rename(folder.path().join("elsewhere"), &config.repository.path).unwrap();
        assert!(matches!(at_start(&config).unwrap(), Found::Right));
    }

    #[test]
    fn another_repository_is_refused_until_it_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        at_start(&config(folder.path(), "first")).unwrap();
        let second = config(folder.path(), "second");
        repository::open_or_create(&second.repository.place()).unwrap();
        let found = at_start(&second).unwrap();
        assert!(matches!(
            found,
            Found::Wrong(Error::OtherRepository { found: Some(_), .. })
        ));
        let spool_of_server = second.spool.join("main");
        assert!(open_beside(&second.repository.place(), &spool_of_server).is_err());
        accept(&second.repository.place(), &second.spool).unwrap();
        assert!(matches!(at_start(&second).unwrap(), Found::Right));
        assert!(open_beside(&second.repository.place(), &spool_of_server).is_ok());
    }
}
