//! Frames on their way: filled by one thread, compressed and stored by several.
//!
//! ```text
//! feeder ──full──▶ worker 1: compress, append to its own pack ──▶ places of pieces ──▶ collector
//!    ▲             worker 2: …
//!    └────free─────────┘
//! ```
//!
//! A fixed number of 1 MiB buffers goes round; that is the bound of memory and of the queue. Each worker owns the pack
//! it writes, so no worker waits for another one. Whoever fails stops everyone; the first error is the one reported.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgm_storage::{Compression, FRAME_RAW_MAX, PackWriter};

use super::collect::{Collector, Placed};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::manifest::PackRecord;
use crate::repository::{Staging, layout};

/// A pack is closed once it has this many bytes.
pub(super) const PACK_BYTES: u64 = 128 << 20;
/// The most pieces in a frame: a bound for what millions of tiny files keep in memory.
pub(super) const PIECES_MAX: usize = 4096;
/// How often a waiting feeder looks whether it was cancelled.
const CANCEL_EVERY: Duration = Duration::from_millis(100);

/// The raw bytes of a frame, and of which files they are.
#[derive(Debug)]
pub(super) struct FrameBuffer {
    pub(super) bytes: Vec<u8>,
    pub(super) pieces: Vec<Piece>,
}

/// A run of a file's bytes within a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The collector's number of the file.
    pub(super) file: u64,
    pub(super) file_offset: u64,
    pub(super) start: u32,
    pub(super) length: u32,
}

/// How frames become packs.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackOptions {
    pub(super) compression: Compression,
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

/// Runs `feed` on this thread and the workers beside it; gives what `feed` gave and the packs that were written, by
/// number. On an error no pack that is not finished is left.
pub(super) fn run<T>(
    cx: &Context,
    staging: &Staging,
    options: PackOptions,
    collector: &Collector,
    feed: impl FnOnce(&Exchange) -> Result<T>,
) -> Result<(T, Vec<PackRecord>)> {
    let exchange = Exchange::new(4 + 3 * options.workers.get());
    let numbers = AtomicU32::new(0);
    let (fed, packs) = std::thread::scope(|scope| {
        let worker = || {
            let _guard = StopOnPanic(&exchange);
            let mut worker = Worker {
                staging,
                options,
                collector,
                numbers: &numbers,
                pack: None,
                packs: Vec::new(),
            };
            if let Err(error) = worker.work(&exchange) {
                exchange.stop(Some(error));
            }
            worker.packs
        };
        let workers: Result<Vec<_>> = (0..options.workers.get())
            .map(|_| {
                std::thread::Builder::new()
                    .name("compress".into())
                    .spawn_scoped(scope, worker)
                    .map_err(|source| Error::System {
                        operation: "starting a thread",
                        source,
                    })
            })
            .collect();
        let fed = workers.and_then(|workers| {
            let _guard = StopOnPanic(&exchange);
            let fed = feed(&exchange)?;
            exchange.close();
            Ok((fed, workers))
        });
        match fed {
            Ok((fed, workers)) => {
                let packs = workers.into_iter().flat_map(|worker| {
                    worker
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                });
                (Ok(fed), packs.collect())
            }
            Err(error) => {
                exchange.stop(Some(error));
                (Err(()), Vec::new())
            }
        }
    });
    if let Some(error) = exchange.into_error() {
        return Err(error);
    }
    cx.check_cancel()?;
    let mut packs: Vec<PackRecord> = packs;
    packs.sort_unstable_by_key(|pack| pack.number);
    let fed = fed.map_err(|()| Error::Cancelled)?;
    Ok((fed, packs))
}

struct Worker<'a> {
    staging: &'a Staging,
    options: PackOptions,
    collector: &'a Collector,
    numbers: &'a AtomicU32,
    pack: Option<(u32, PackWriter)>,
    packs: Vec<PackRecord>,
}

impl Worker<'_> {
    fn work(&mut self, exchange: &Exchange) -> Result<()> {
        let mut placed = Vec::new();
        while let Some(mut frame) = exchange.take_full() {
            self.store(&frame, &mut placed)?;
            frame.bytes.clear();
            frame.pieces.clear();
            exchange.give_free(frame);
        }
        if exchange.is_stopped() {
            return Ok(());
        }
        self.finish_pack()
    }

    fn store(&mut self, frame: &FrameBuffer, placed: &mut Vec<Placed>) -> Result<()> {
        let (number, pack) = match &mut self.pack {
            Some(open) => open,
            none => {
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let object = self.staging.create_pack(number)?;
                none.insert((
                    number,
                    PackWriter::with_kind(object, self.options.compression, layout::DATA_PACK)?,
                ))
            }
        };
        let location = pack.append(&frame.bytes)?;
        placed.clear();
        placed.extend(frame.pieces.iter().map(|&piece| {
            let end = piece.start as usize + piece.length as usize;
            // A frame of one piece has its checksum already.
            let crc32c = match frame.pieces.len() {
                1 => location.crc,
                _ => pgm_storage::crc32c(&frame.bytes[piece.start as usize..end]),
            };
            Placed {
                piece,
                crc32c,
                pack: *number,
                frame_offset: location.offset,
            }
        }));
        let full = pack.bytes() >= self.options.pack_bytes;
        self.collector.placed(placed)?;
        if full { self.finish_pack() } else { Ok(()) }
    }

    fn finish_pack(&mut self) -> Result<()> {
        let Some((number, pack)) = self.pack.take() else {
            return Ok(());
        };
        let summary = pack.finish()?;
        self.packs.push(PackRecord {
            label: self.staging.label(),
            number,
            size: summary.size,
            raw_bytes: summary.raw_bytes,
            frames: u64::from(summary.frames),
        });
        Ok(())
    }
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

impl Exchange {
    fn new(buffers: usize) -> Self {
        let buffer = || FrameBuffer {
            bytes: Vec::with_capacity(FRAME_RAW_MAX),
            pieces: Vec::new(),
        };
        let state = State {
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
        let mut state = self.lock();
        loop {
            cx.check_cancel()?;
            if state.phase == Phase::Stopped {
                // The worker's error is the one that is reported.
                return Err(Error::Cancelled);
            }
            if let Some(buffer) = state.free.pop() {
                return Ok(buffer);
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

    fn take_full(&self) -> Option<FrameBuffer> {
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

    fn give_free(&self, frame: FrameBuffer) {
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

    fn is_stopped(&self) -> bool {
        self.lock().phase == Phase::Stopped
    }

    fn into_error(self) -> Option<Error> {
        self.state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .error
    }
}
