//! The way from the configuration to the repository, and from its failures to what clients are told.

use std::sync::Arc;

use pgm_backup::catalog::BackupEntry;
use pgm_backup::marks::AnnotationError;
use pgm_backup::{BackupLabel, Repository};
use pgm_mgmt::{BackupChoice, Error, ErrorCode};
use pgm_proto::ServerName;
use pgm_storage::seal::MasterKey;

use crate::place::RepositoryPlace;
use crate::seal_key::PlaceKey;
use crate::secrets::SecretsError;

pub use crate::listing::{backups, details, summary};

/// Opens the repository at `place`, or makes it.
pub fn open_or_create(place: &RepositoryPlace) -> pgm_backup::Result<Repository> {
    let storage = place.create()?;
    match &place.key {
        None => Repository::open_or_create(storage),
        Some(key) => with_key(key, |key| {
            Repository::open_or_create_sealed(Arc::clone(&storage), key)
        }),
    }
}

/// Opens the repository at `place`, which must be sealed if there is a key for it, and plain otherwise.
pub fn open(place: &RepositoryPlace) -> pgm_backup::Result<Repository> {
    let storage = match place.open() {
        Ok(storage) => storage,
        Err(error) if error.is_not_found() => {
            return Err(pgm_backup::Error::RepositoryMissing {
                location: place.to_string(),
            });
        }
        Err(error) => return Err(error.into()),
    };
    match &place.key {
        None => Repository::open(storage),
        Some(key) => with_key(key, |key| {
            Repository::open_sealed(Arc::clone(&storage), key)
        }),
    }
}

/// Opens with the key at hand, and once more with a fresh one if the one that was remembered is out of date.
fn with_key(
    key: &PlaceKey,
    open: impl Fn(&MasterKey) -> pgm_backup::Result<Repository>,
) -> pgm_backup::Result<Repository> {
    match open(&key.key().map_err(|error| no_key(&error))?) {
        Err(wrong @ pgm_backup::Error::WrongMasterKey { .. }) => {
            match key.fresh_key().map_err(|error| no_key(&error))? {
                Some(fresh) => open(&fresh),
                None => Err(wrong),
            }
        }
        opened => opened,
    }
}

fn no_key(error: &SecretsError) -> pgm_backup::Error {
    pgm_backup::Error::NoMasterKey {
        hint: error.hint(),
        reason: chain(error),
    }
}

/// The entry that `choice` names.
pub fn find(
    repository: &Repository,
    server: &ServerName,
    choice: &BackupChoice,
) -> Result<BackupEntry, Error> {
    let name = match choice {
        BackupChoice::Newest => "newest",
        BackupChoice::Oldest => "oldest",
        BackupChoice::Label(label) => label,
    };
    let catalog = repository
        .catalog(server)
        .map_err(|error| failure(&error))?;
    catalog.find(name).cloned().map_err(|error| failure(&error))
}

/// The label that a client wrote.
pub fn label(text: &str) -> Result<BackupLabel, Error> {
    text.parse().map_err(|error: pgm_backup::ParseLabelError| {
        Error::new(ErrorCode::UnknownBackup, error.to_string())
            .with_hint("pgm-cli list-backup lists the labels; newest and oldest do too")
    })
}

/// What a client is told of a failure of the repository or of a backup.
pub fn failure(error: &pgm_backup::Error) -> Error {
    use pgm_backup::Error as Cause;
    let code = match error {
        Cause::Cancelled | Cause::Server(pgm_proto::Error::Interrupted) => ErrorCode::Cancelled,
        Cause::Server(_) => ErrorCode::ServerUnreachable,
        Cause::UnknownServer { .. } => ErrorCode::UnknownServer,
        Cause::NoSuchBackup { .. } => ErrorCode::UnknownBackup,
        Cause::LockHeld { .. } => ErrorCode::AlreadyRunning,
        Cause::BackupRetained { .. } => ErrorCode::BackupRetained,
        Cause::LastRestorable { .. } => ErrorCode::LastBackup,
        Cause::Annotation(AnnotationError::Exists(_)) => ErrorCode::AnnotationExists,
        Cause::Annotation(AnnotationError::Unknown(_)) => ErrorCode::UnknownAnnotation,
        Cause::Annotation(_) => ErrorCode::BadValue,
        Cause::Storage(_)
        | Cause::RepositoryMissing { .. }
        | Cause::RepositoryExists { .. }
        | Cause::RepositorySealed { .. }
        | Cause::RepositoryPlain { .. }
        | Cause::WrongMasterKey { .. }
        | Cause::NoMasterKey { .. }
        | Cause::KeysMissing { .. }
        | Cause::Keys { .. }
        | Cause::KeysChanged { .. }
        | Cause::OtherRepository { .. }
        | Cause::UnknownFormat { .. }
        | Cause::Damaged { .. }
        | Cause::DoubtfulBackup { .. } => ErrorCode::Repository,
        _ => ErrorCode::BackupFailed,
    };
    Error {
        code,
        text: chain(error),
        hint: error.hint(),
    }
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors print their source themselves.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A moment as clients see it: RFC 3339, UTC, whole seconds.
pub fn second(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
