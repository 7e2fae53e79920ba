//! A transport that notes who answered, for the status.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use pgm_proto::{
    Error, Incoming, Outgoing, PostgresTransport, ServerIdentity, WalTransport, Woken,
};

use crate::shared_state::Slot;

/// [`PostgresTransport`], whose server's identity goes into the shared state.
#[derive(Debug)]
pub(super) struct Identified<'a> {
    transport: PostgresTransport,
    slot: &'a Slot,
}

impl<'a> Identified<'a> {
    pub(super) fn new(transport: PostgresTransport, slot: &'a Slot) -> Self {
        Self { transport, slot }
    }
}

impl WalTransport for Identified<'_> {
    fn connect(&mut self) -> Result<ServerIdentity, Error> {
        let identity = self.transport.connect()?;
        self.slot.set_identity(identity.system_id, identity.version);
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
