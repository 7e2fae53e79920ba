//! The clients that are connected, so that a shutdown can tell them and wait until they have gone.

use std::time::Duration;

use tokio::sync::watch;

/// Whether clients are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hours {
    Open,
    Closing,
}

/// All clients, of every kind.
#[derive(Debug)]
pub struct Guests(watch::Sender<Hours>);

/// One client; gone when dropped.
#[derive(Debug)]
pub struct Guest(watch::Receiver<Hours>);

impl Guests {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Hours::Open))
    }

    /// One client more.
    pub fn enter(&self) -> Guest {
        Guest(self.0.subscribe())
    }

    /// Tells everybody that it is time to go, also those who come from here on.
    pub(super) fn close(&self) {
        self.0.send_replace(Hours::Closing);
    }

    /// Waits until everybody has gone, but not longer than this.
    pub(super) async fn gone(&self, patience: Duration) {
        // Those who stay are dropped with the daemon.
        let _ = tokio::time::timeout(patience, self.0.closed()).await;
    }
}

impl Guest {
    /// Returns when the daemon shuts down.
    pub async fn dismissed(&mut self) {
        // The sender goes with the daemon, and then it is time, too.
        let _ = self.0.wait_for(|hours| *hours == Hours::Closing).await;
    }
}
