//! The thread on which the network libraries run.
//!
//! pgm's libraries are blocking; those that speak HTTP and SSH are not. Each opened store has one thread with an
//! executor for them, and callers wait for it as for a disk. Whoever calls may be anybody, also a task of another
//! executor: nothing here depends on where it is called.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// An executor on a thread of its own; the thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: Handle,
    /// Dropped with us: that is the sign to stop.
    _stop: oneshot::Sender<()>,
}

impl Runtime {
    pub(crate) fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _ = runtime.block_on(stopped);
                // Name resolution may be under way on a thread of its own, which nothing interrupts.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            handle,
            _stop: stop,
        })
    }

    /// Runs `future` there and waits for what it gives; an error if it died on the way.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        self.spawn(future).wait()
    }

    /// Runs `future` there meanwhile.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Running<T> {
        let (give, take) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // Nobody may be waiting any more.
            let _ = give.try_send(future.await);
        });
        Running(take)
    }
}

/// Work on the runtime's thread.
#[derive(Debug)]
pub(crate) struct Running<T>(mpsc::Receiver<T>);

impl<T> Running<T> {
    pub(crate) fn wait(self) -> io::Result<T> {
        self.0
            .recv()
            .map_err(|_| io::Error::other("the network thread has ended"))
    }

    /// Waits for a while; the work goes on behind our back if it takes longer.
    #[cfg_attr(
        not(feature = "cloud"),
        allow(dead_code, reason = "only uploads are given up")
    )]
    pub(crate) fn wait_at_most(&self, patience: Duration) {
        let _ = self.0.recv_timeout(patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_waited_for_also_from_within_another_executor() {
        let runtime = Runtime::start("test").unwrap();
        assert_eq!(runtime.wait(async { 42 }).unwrap(), 42);
        let other = Builder::new_current_thread().build().unwrap();
        other.block_on(async {
            assert_eq!(runtime.wait(async { 43 }).unwrap(), 43);
            drop(runtime);
        });
    }

    #[test]
    fn a_panic_there_is_an_error_here() {
        let runtime = Runtime::start("test").unwrap();
        let died = runtime.wait(async { assert!(std::hint::black_box(false), "on purpose") });
        assert!(died.is_err());
    }
}
