//! The lock of a server's WAL archive: one daemon writes to it at a time.
//!
//! Two daemons that are configured for one server and one repository are told apart here: the second keeps what it receives in its
//! spool, says who is at work, and goes on from there when the first is gone. The lock is taken before the first write and
//! held while its lease can be renewed; a daemon whose store stands still stops archiving before another may begin.

use std::path::PathBuf;

use pgm_backup::repository::Lock;
use pgm_backup::{Error, Purpose};
use pgm_proto::ServerName;
use pgm_wal::archive::{ArchiveError, AskPermit};
use tracing::{info, warn};

use super::message::Description;
use crate::known_repository;
use crate::place::RepositoryPlace;
use crate::repository::chain;

/// The lock, or the attempt to get it.
struct ArchiveLock {
    place: RepositoryPlace,
    spool: PathBuf,
    server: ServerName,
    held: Option<Lock>,
}

/// What the archiver of the repository at `place` asks before it writes.
pub(super) fn permit(place: &RepositoryPlace, description: &Description) -> Box<AskPermit> {
    let mut lock = ArchiveLock {
        place: place.clone(),
        spool: description.spool.clone(),
        server: description.server.clone(),
        held: None,
    };
    Box::new(move || lock.ask().map_err(not_permitted))
}

impl ArchiveLock {
    fn ask(&mut self) -> Result<(), Error> {
        if let Some(held) = &self.held {
            match held.check_lease() {
                Ok(()) => return Ok(()),
                Err(error) => warn!("archiving pauses: {}", chain(&error)),
            }
        }
        self.held = None;
        let repository = known_repository::open_beside(&self.place, &self.spool)?;
        self.held = Some(repository.lock(&self.server, Purpose::Archive)?);
        info!("this process writes to the wal archive now");
        Ok(())
    }
}

fn not_permitted(error: Error) -> ArchiveError {
    match error {
        Error::Storage(error) => ArchiveError::Storage(error),
        error => ArchiveError::NotPermitted {
            reason: chain(&error),
            advice: error.hint(),
        },
    }
}
