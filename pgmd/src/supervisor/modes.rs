//! Which servers are online and which are left alone: `modes.ron` in the base directory.
//!
//! ```text
//! {"prod":offline,"test":online}
//! ```
//!
//! It holds what was ordered with `pgm-cli mode`; a server that is not in it has the mode that the configuration gives it.
//! The file is written anew for each change (`modes.ron.new`, synced, then renamed), so that it is always whole. One that
//! cannot be read orders nothing: a server whose WAL is received needlessly costs less than one that is forgotten.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pgm_mgmt::ServerMode;
use pgm_proto::ServerName;
use tracing::warn;

use super::daemon::lock;

/// The name of the file in the base directory.
const FILE_NAME: &str = "modes.ron";
/// A larger file is something else.
const BYTES_MAX: u64 = 1 << 20;

/// What was ordered.
#[derive(Debug)]
pub(super) struct Modes {
    path: PathBuf,
    ordered: Mutex<BTreeMap<ServerName, ServerMode>>,
}

impl Modes {
    /// What was ordered before, in the base directory `folder`.
    pub(super) fn open(folder: &Path) -> Self {
        let path = folder.join(FILE_NAME);
        let ordered = match read(&path) {
            Ok(ordered) => ordered,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                let path = path.display();
                warn!("cannot read {path}, modes are those of the configuration: {error}");
                BTreeMap::new()
            }
        };
        Self {
            path,
            ordered: Mutex::new(ordered),
        }
    }

    /// What was ordered for `server`.
    pub(super) fn ordered(&self, server: &ServerName) -> Option<ServerMode> {
        lock(&self.ordered).get(server).copied()
    }

    /// From now on, and after a restart, `server` is in this mode. Nothing has changed after an error.
    pub(super) fn order(&self, server: &ServerName, mode: ServerMode) -> io::Result<()> {
        let mut ordered = lock(&self.ordered);
        let mut new = ordered.clone();
        new.insert(server.clone(), mode);
        write(&self.path, &new)?;
        *ordered = new;
        Ok(())
    }

    /// The file, for errors.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<ServerName, ServerMode>> {
    let mut text = String::new();
    File::open(path)?
        .take(BYTES_MAX)
        .read_to_string(&mut text)?;
    ron::from_str(&text).map_err(io::Error::other)
}

fn write(path: &Path, modes: &BTreeMap<ServerName, ServerMode>) -> io::Result<()> {
    let text = ron::to_string(modes).map_err(io::Error::other)?;
    let new = path.with_extension("ron.new");
    let _ = std::fs::remove_file(&new);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ordered_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let server: ServerName = "prod".parse().unwrap();
        let modes = Modes::open(folder.path());
        assert_eq!(modes.ordered(&server), None);
        modes.order(&server, ServerMode::Offline).unwrap();
        let again = Modes::open(folder.path());
        assert_eq!(again.ordered(&server), Some(ServerMode::Offline));
        assert_eq!(
            std::fs::read_to_string(modes.path()).unwrap(),
            "{\"prod\":offline}"
        );
    }

    #[test]
    fn a_file_that_is_something_else_orders_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let server: ServerName = "prod".parse().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "{\"prod\":offl").unwrap();
        let modes = Modes::open(folder.path());
        assert_eq!(modes.ordered(&server), None);
        modes.order(&server, ServerMode::Online).unwrap();
        let again = Modes::open(folder.path());
        assert_eq!(again.ordered(&server), Some(ServerMode::Online));
    }

    #[test]
    fn an_order_that_cannot_be_written_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let server: ServerName = "prod".parse().unwrap();
        let modes = Modes::open(&folder.path().join("gone"));
        assert!(modes.order(&server, ServerMode::Offline).is_err());
        assert_eq!(modes.ordered(&server), None);
    }
}
