//! Frames on their way: filled by one thread, compressed and stored by several.
//!
//! ```text
//! feeder ──full──▶ worker 1: compress, append to its own pack in each target ──▶ places of pieces ──▶ collectors
//!    ▲             worker 2: …
//!    └────free─────────┘
//! ```
//!
//! A fixed number of 1 MiB buffers goes round; that is the bound of memory and of the queue, however many targets there
//! are. Each worker owns the packs it writes, so no worker waits for another one. A target that is slow slows everyone
//! down; one that fails is left out. Whoever else fails stops everyone; the first error is the one reported. When it is the
//! feeder that cannot go on, what has come is stored and the packs are finished, unless nobody wants them.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgm_storage::{Cancel, FRAME_RAW_MAX};

use super::lane::Lane;
use super::lanes::Lanes;
use super::read::Planned;
use super::worker::Worker;
use crate::context::Context;
use crate::error::{Error, Result};

/// The most pieces in a frame: a bound for what millions of tiny files keep in memory.
pub(super) const PIECES_MAX: usize = 4096;
/// How often a waiting feeder looks whether it was cancelled.
const CANCEL_EVERY: Duration = Duration::from_millis(100);

/// The raw bytes of a frame, and of which files they are.
#[derive(Debug)]
pub(super) struct FrameBuffer {
    pub(super) bytes: Vec<u8>,
    pub(super) pieces: Vec<Piece>,
    /// What the worker puts behind `bytes` before it compresses them.
    pub(super) planned: Vec<Planned>,
}

/// A run of a file's bytes within a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The feeder's number of the file.
    pub(super) file: u64,
    pub(super) file_offset: u64,
    pub(super) start: u32,
    pub(super) length: u32,
}

/// How frames become packs.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackOptions {
    pub(super) workers: NonZeroUsize,
    pub(super) pack_bytes: u64,
}

/// The buffers, and what everyone must know.
#[derive(Debug)]
pub(super) struct Exchange {
    state: Mutex<State>,
    freed: Condvar,
    filled: Condvar,
}

#[derive(Debug)]
struct State {
    /// How many there are.
    buffers: usize,
    free: Vec<FrameBuffer>,
    full: VecDeque<FrameBuffer>,
    phase: Phase,
    error: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// No more frames will come.
    Closed,
    /// Somebody failed.
    Stopped,
}

/// Runs `feed` on this thread and the workers beside it; gives what `feed` gave. On an error no pack that is not finished
/// is left, and none is finished once `discard` is set. If no lane is left, the error says nothing, and the lanes have the one that does.
pub(super) fn run<T>(
    cx: &Context,
    lanes: &Lanes<Lane>,
    options: PackOptions,
    discard: &Cancel,
    feed: impl FnOnce(&Exchange) -> Result<T>,
) -> Result<T> {
    let exchange = Exchange::new(4 + 3 * options.workers.get());
    let fed = std::thread::scope(|scope| {
        let work = || {
            let _guard = StopOnPanic(&exchange);
            let worked = Worker::new(lanes, options.pack_bytes)
                .and_then(|mut worker| worker.work(&exchange));
            if let Err(error) = worked {
                exchange.stop(Some(error));
            }
        };
        for _ in 0..options.workers.get() {
            let spawned = std::thread::Builder::new()
                .name("compress".into())
                .spawn_scoped(scope, work);
            if let Err(source) = spawned {
                exchange.stop(Some(Error::System {
                    operation: "starting a thread",
                    source,
                }));
            }
        }
        let _guard = StopOnPanic(&exchange);
        match feed(&exchange) {
            Ok(fed) => {
                exchange.close();
                Some(fed)
            }
            Err(error) => {
                if discard.is_cancelled() {
                    exchange.stop(Some(error));
                } else {
                    exchange.break_off(error);
                }
                None
            }
        }
    });
    if let Some(error) = exchange.into_error() {
        return Err(error);
    }
    cx.check_cancel()?;
    fed.ok_or(Error::Cancelled)
}

/// A thread that dies must not leave the others waiting.
struct StopOnPanic<'a>(&'a Exchange);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(None);
        }
    }
}

impl FrameBuffer {
    /// An empty one, without memory yet.
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            pieces: Vec::new(),
            planned: Vec::new(),
        }
    }

    /// How many bytes it has with those that are planned.
    pub(super) fn length(&self) -> usize {
        let last = self.pieces.last();
        last.map_or(0, |piece| piece.start as usize + piece.length as usize)
    }
}

impl Exchange {
    fn new(buffers: usize) -> Self {
        let buffer = || FrameBuffer {
            bytes: Vec::with_capacity(FRAME_RAW_MAX),
            ..FrameBuffer::new()
        };
        let state = State {
            buffers,
            free: std::iter::repeat_with(buffer).take(buffers).collect(),
            full: VecDeque::with_capacity(buffers),
            phase: Phase::Running,
            error: None,
        };
        Self {
            state: Mutex::new(state),
            freed: Condvar::new(),
            filled: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer, as soon as there is one.
    pub(super) fn take_free(&self, cx: &Context) -> Result<FrameBuffer> {
        self.wait_until(cx, |state| state.free.pop())
    }

    /// Waits until all that was handed on is stored; who calls it has no buffer.
    pub(super) fn wait_stored(&self, cx: &Context) -> Result<()> {
        self.wait_until(cx, |state| {
            (state.free.len() == state.buffers).then_some(())
        })
    }

    fn wait_until<T>(&self, cx: &Context, ready: impl Fn(&mut State) -> Option<T>) -> Result<T> {
        let mut state = self.lock();
        loop {
            cx.check_cancel()?;
            if state.phase == Phase::Stopped {
                // The worker's error is the one that is reported.
                return Err(Error::Cancelled);
            }
            if let Some(found) = ready(&mut state) {
                return Ok(found);
            }
            let waited = self.freed.wait_timeout(state, CANCEL_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Hands a filled buffer to the workers.
    pub(super) fn give_full(&self, frame: FrameBuffer) {
        self.lock().full.push_back(frame);
        self.filled.notify_one();
    }

    pub(super) fn take_full(&self) -> Option<FrameBuffer> {
        let mut state = self.lock();
        loop {
            match state.phase {
                Phase::Stopped => return None,
                Phase::Running | Phase::Closed => {}
            }
            if let Some(frame) = state.full.pop_front() {
                return Some(frame);
            }
            if state.phase == Phase::Closed {
                return None;
            }
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn give_free(&self, frame: FrameBuffer) {
        self.lock().free.push(frame);
        self.freed.notify_one();
    }

    fn close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Running {
            state.phase = Phase::Closed;
        }
        self.filled.notify_all();
    }

    /// No more frames will come, because of `error`.
    fn break_off(&self, error: Error) {
        let mut state = self.lock();
        if state.error.is_none() && state.phase == Phase::Running {
            state.error = Some(error);
        }
        drop(state);
        self.close();
    }

    /// Stops everyone; the first error is kept.
    fn stop(&self, error: Option<Error>) {
        let mut state = self.lock();
        state.phase = Phase::Stopped;
        if state.error.is_none() {
            state.error = error;
        }
        self.filled.notify_all();
        self.freed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().phase == Phase::Stopped
    }

    /// Whether all frames have come, and nobody failed.
    pub(super) fn is_complete(&self) -> bool {
        let state = self.lock();
        state.phase == Phase::Closed && state.error.is_none()
    }

    fn into_error(self) -> Option<Error> {
        self.state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .error
    }
}
