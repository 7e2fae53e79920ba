//! A transport that notes who answered, for the status, and refuses a stranger.
//!
//! The repository knows each server by its system identifier. Another server that answers under the same name, because
//! a connection string was changed or a cluster was made anew, must not have its WAL mixed with that of the first.

use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::time::Duration;

use pgm_backup::repository::ServerFacts;
use pgm_proto::{
    Error, Incoming, Outgoing, PostgresTransport, ServerIdentity, WalTransport, Woken,
};
use pgm_wal::Spool;

use super::message::Description;
use super::receive::Trouble;
use crate::place::RepositoryTarget;
use crate::shared_state::Slot;

/// [`PostgresTransport`], whose server's identity goes into the shared state.
#[derive(Debug)]
pub(super) struct Identified<'a> {
    transport: PostgresTransport,
    slot: &'a Slot,
    description: &'a Description,
    refused: &'a OnceLock<Trouble>,
}

impl<'a> Identified<'a> {
    /// A server that is refused ends the connection with [`Error::Interrupted`], and why is in `refused`.
    pub(super) fn new(
        transport: PostgresTransport,
        slot: &'a Slot,
        description: &'a Description,
        refused: &'a OnceLock<Trouble>,
    ) -> Self {
        Self {
            transport,
            slot,
            description,
            refused,
        }
    }
}

impl WalTransport for Identified<'_> {
    fn connect(&mut self) -> Result<ServerIdentity, Error> {
        let identity = self.transport.connect()?;
        self.slot.set_identity(identity.system_id, identity.version);
        if let Err(error) = register(self.description, &identity) {
            self.transport.disconnect();
            let _ = self.refused.set(Trouble::new(&error, error.hint()));
            return Err(Error::Interrupted);
        }
        Ok(identity)
    }

    fn send(&mut self, message: Outgoing) -> Result<(), Error> {
        self.transport.send(message)
    }

    fn receive(&mut self) -> Result<Incoming<'_>, Error> {
        self.transport.receive()
    }

    fn wait(&mut self, timeout: Duration, wake: Option<BorrowedFd<'_>>) -> Result<Woken, Error> {
        self.transport.wait(timeout, wake)
    }

    fn disconnect(&mut self) {
        self.transport.disconnect();
    }
}

/// Notes in the repositories who the server is, or fails if one of them knows another one under the name. A repository that
/// is away is no reason not to receive: its archiver looks again.
///
/// The spool belongs to one server, and was compared with the repositories when it was empty. So they are only asked as
/// long as it is nobody's: one that is far and does not answer must not hold up each connection.
fn register(description: &Description, identity: &ServerIdentity) -> Result<(), pgm_backup::Error> {
    let spool = Spool::find(&description.spool).ok().flatten();
    let known = spool.and_then(|spool| spool.identity().ok().flatten());
    if known.is_some_and(|known| known.system_id == identity.system_id) {
        return Ok(());
    }
    let facts = ServerFacts {
        system_id: identity.system_id,
        version: identity.version,
        segment_bytes: identity.segment_bytes,
    };
    for target in &description.repositories {
        let opened = crate::known_repository::open_beside(&target.place, &description.spool);
        let Ok(repository) = opened else {
            continue;
        };
        let registered = repository.register(&description.server, &facts).map(|_| ());
        registered.or_else(only_strangers)?;
    }
    Ok(())
}

/// Fails if the WAL in the spool is not that of the server in the repository: it was received while the repository was
/// away, for example. Notes the server in a repository that does not know it.
pub(super) fn check_spool(
    description: &Description,
    target: &RepositoryTarget,
    spool: &Spool,
    slot: &Slot,
) -> Result<(), pgm_backup::Error> {
    let repository = crate::known_repository::open_beside(&target.place, &description.spool)?;
    let Ok(Some(identity)) = spool.identity() else {
        return Ok(());
    };
    let record = repository.server(&description.server)?;
    let seen = slot.identity().map(|(_, version)| version);
    let Some(version) = record.map(|record| record.version).or(seen) else {
        return Ok(());
    };
    let facts = ServerFacts {
        system_id: identity.system_id,
        version,
        segment_bytes: u32::try_from(identity.segment_size.bytes()).unwrap_or(u32::MAX),
    };
    let known = repository.register(&description.server, &facts).map(|_| ());
    known.or_else(only_strangers)
}

fn only_strangers(error: pgm_backup::Error) -> Result<(), pgm_backup::Error> {
    use pgm_backup::Error as Cause;
    match error {
        Cause::OtherSystem { .. } | Cause::OtherSegmentSize { .. } => Err(error),
        _ => Ok(()),
    }
}
