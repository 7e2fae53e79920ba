//! Where a repository is, and where the credentials for it are found.
//!
//! A place is an address and perhaps the name of a file of credentials and of the source of a master key: it can be handed to
//! workers, written into a `restore_command`, and shown to everybody. The secrets themselves are read by whoever opens the
//! repository: from that file, and from the environment where the file does not say; the key as [`crate::seal_key`] says.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgm_proto::RepositoryName;
use pgm_storage::{
    Compression, Credentials, LocalStorage, RemoteMessage, RemoteProblem, Storage, StorageError,
    StoreAddress, StoreKind, StoreOptions,
};
use serde::{Deserialize, Serialize};

use crate::config::MasterKeySource;
use crate::seal_key::PlaceKey;

/// Seconds until an operation is given up that another repository can do.
const HURRIED_SECONDS: u64 = 15;

/// A repository's address, and the file with the credentials for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryPlace {
    /// How the configuration calls it; `default` for one that is in none.
    pub name: RepositoryName,
    /// Where it is.
    pub address: StoreAddress,
    /// The file with lines `NAME=value`.
    pub credentials: Option<PathBuf>,
    /// The master key of a sealed repository; without one it must be plain.
    pub key: Option<PlaceKey>,
}

/// A repository that is written to, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryTarget {
    /// Where it is.
    pub place: RepositoryPlace,
    /// How new objects are compressed there.
    pub compression: Compression,
}

impl RepositoryPlace {
    /// A folder of this host.
    pub fn local(folder: impl Into<PathBuf>) -> Self {
        Self {
            name: RepositoryName::default(),
            address: StoreAddress::local(folder),
            credentials: None,
            key: None,
        }
    }

    /// The same place, whose repository is sealed with the key that `source` gives.
    #[must_use]
    pub fn sealed(self, source: Option<MasterKeySource>) -> Self {
        Self {
            key: source.map(PlaceKey::new),
            ..self
        }
    }

    /// The same place, for what another one has too: an operation is given up after fifteen seconds, unless the address says when.
    #[must_use]
    pub fn hurried(&self) -> Self {
        let text = self.address.to_string();
        let joint = if text.contains('?') { '&' } else { '?' };
        let hurried = format!("{text}{joint}retry_timeout={HURRIED_SECONDS}");
        let address = match self.address.kind() {
            StoreKind::Local | StoreKind::Memory => None,
            _ if text.contains("retry_timeout=") => None,
            _ => hurried.parse().ok(),
        };
        Self {
            address: address.unwrap_or_else(|| self.address.clone()),
            ..self.clone()
        }
    }

    /// The folder, if it is one of this host.
    pub fn folder(&self) -> Option<PathBuf> {
        self.address.directory()
    }

    /// Opens the store there. A folder must exist; of a far store nothing is asked yet.
    pub fn open(&self) -> pgm_storage::Result<Arc<dyn Storage>> {
        let options = StoreOptions {
            credentials: self.credentials()?,
            ..StoreOptions::default()
        };
        pgm_storage::open(&self.address, &options)
    }

    /// Opens the store there, and makes the folder of a local one.
    pub fn create(&self) -> pgm_storage::Result<Arc<dyn Storage>> {
        match self.folder() {
            Some(folder) => Ok(Arc::new(LocalStorage::create(folder)?)),
            None => self.open(),
        }
    }

    /// What the file says, and the environment where it does not.
    fn credentials(&self) -> pgm_storage::Result<Credentials> {
        if matches!(self.address.kind(), StoreKind::Local | StoreKind::Memory) {
            return Ok(Credentials::new());
        }
        let own = Credentials::from_variables(variables());
        match &self.credentials {
            Some(file) => Ok(read(file)?.or(own)),
            None => Ok(own),
        }
    }
}

/// The variables of the environment that are text.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn read(file: &Path) -> pgm_storage::Result<Credentials> {
    let shown = file.display().to_string();
    let failed = |source| StorageError::from_io("read", shown.as_str(), source);
    let refused = |text: &str| StorageError::Remote {
        operation: "read",
        path: shown.clone(),
        problem: RemoteProblem::Settings,
        source: RemoteMessage::new(text),
    };
    let mode = std::fs::metadata(file)
        .map_err(failed)?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o037 != 0 {
        return Err(refused(&format!(
            "it holds secrets and its mode {mode:04o} lets others use it: chmod 600 {shown}"
        )));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    Credentials::parse(&text).map_err(|error| refused(&error.to_string()))
}

impl fmt::Display for RepositoryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_a_hurry_gives_up_early_unless_the_address_says_when() {
        let hurried = |address: &str| {
            let place = RepositoryPlace {
                address: address.parse().unwrap(),
                ..RepositoryPlace::local("/srv/pgm")
            };
            place.hurried().address.to_string()
        };
        assert_eq!(hurried("s3://bucket/x"), "s3://bucket/x?retry_timeout=15");
        let more = hurried("s3://bucket/x?region=y");
        assert_eq!(more, "s3://bucket/x?region=y&retry_timeout=15");
        for same in ["/srv/pgm?", "s3://bucket/x?retry_timeout=60"] {
            assert_eq!(hurried(same), same);
        }
    }

    #[test]
    fn a_file_of_credentials_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(
            &file,
            "AWS_ACCESS_KEY_ID=canary\nAWS_SECRET_ACCESS_KEY=canary\n",
        )
        .unwrap();
        let place = RepositoryPlace {
            name: RepositoryName::default(),
            address: "s3://bucket/x".parse().unwrap(),
            credentials: Some(file.clone()),
            key: None,
        };
        for (mode, accepted) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let opened = place.open();
            assert_eq!(opened.is_ok(), accepted, "{mode:o}");
            if let Err(error) = opened {
                assert!(error.hint().is_some() && !error.to_string().contains("canary"));
            }
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&file, "AWS_SECRET=canary\n").unwrap();
        let error = place.open().unwrap_err();
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}
