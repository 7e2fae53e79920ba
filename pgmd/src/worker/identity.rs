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

/// Notes in the repository who the server is, or fails if it knows another one under the name. A repository that is away
/// is no reason not to receive.
///
/// One that is far is asked only until the spool is the server's: later it would hold up each connection for as long as it
/// does not answer. [`check_spool`] looks at it on the archiver's thread.
fn register(description: &Description, identity: &ServerIdentity) -> Result<(), pgm_backup::Error> {
    let is_far = description.repository.folder().is_none();
    if is_far && is_spool_of(description, identity) {
        return Ok(());
    }
    let opened = crate::known_repository::open_beside(&description.repository, &description.spool);
    let Ok(repository) = opened else {
        return Ok(());
    };
    let facts = ServerFacts {
        system_id: identity.system_id,
        version: identity.version,
        segment_bytes: identity.segment_bytes,
    };
    let registered = repository.register(&description.server, &facts).map(|_| ());
    registered.or_else(only_strangers)
}

/// Whether the spool has been this server's before.
fn is_spool_of(description: &Description, identity: &ServerIdentity) -> bool {
    let spool = Spool::find(&description.spool).ok().flatten();
    let known = spool.and_then(|spool| spool.identity().ok().flatten());
    known.is_some_and(|known| known.system_id == identity.system_id)
}

/// Fails if the WAL in the spool is not that of the server in the repository. It was received while the repository was
/// away, for example.
pub(super) fn check_spool(
    description: &Description,
    spool: &Spool,
) -> Result<(), pgm_backup::Error> {
    let repository =
        crate::known_repository::open_beside(&description.repository, &description.spool)?;
    let Some(record) = repository.server(&description.server)? else {
        return Ok(());
    };
    let Ok(Some(identity)) = spool.identity() else {
        return Ok(());
    };
    let facts = ServerFacts {
        system_id: identity.system_id,
        version: record.version,
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
