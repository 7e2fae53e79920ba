//! The memory that the supervisor shares with its workers: one slot of atomics a worker.
//!
//! Status and progress are read here without asking a worker, so a worker that hangs cannot hold them up, and what a
//! dead worker last said is still there. Each number stands for itself: a reader may see a newer received position
//! beside an older durable one, never a torn number. Positions and counters only grow while a worker lives.
//!
//! ```text
//! memfd, sealed against shrinking and growing
//! +-----------------------------+--------+--------+-----
//! | magic, layout, slot count   | slot 0 | slot 1 | …      each 1024 bytes
//! +-----------------------------+--------+--------+-----
//! ```
//!
//! The supervisor makes the segment, clears close-on-exec and names the descriptor in [`FD_VARIABLE`]; a worker finds
//! it there. This is the one module of pgmd with unsafe code.

#![allow(unsafe_code)] // maps memory that other processes write, through atomics only
#![allow(clippy::cast_ptr_alignment)] // a mapping is page aligned, and places are 1024 bytes apart

mod histogram;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use memmap2::{MmapOptions, MmapRaw};
use pgm_proto::{Lsn, ServerVersion, SystemId, TimelineId};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::FdFlags;

pub use histogram::{BOUNDS, Histogram, Observations};

/// How many workers there can be at once.
pub const SLOTS: usize = 256;
/// The environment variable that names the inherited descriptor.
pub const FD_VARIABLE: &str = "PGMD_SHARED_STATE";

const MAGIC: u64 = u64::from_le_bytes(*b"pgmd-mem");
const LAYOUT: u64 = 2;
const SLOT_BYTES: usize = 1024;
const SEGMENT_BYTES: usize = SLOT_BYTES * (SLOTS + 1);

/// The first bytes of the segment.
#[repr(C, align(1024))]
struct Header {
    magic: AtomicU64,
    layout: AtomicU64,
    slots: AtomicU64,
}

/// What one worker tells, and what the supervisor notes about it.
#[repr(C, align(1024))]
#[derive(Debug, Default)]
pub struct Slot {
    /// The process id of the worker, 0 without one.
    pub pid: Counter,
    /// A [`Phase`] of the worker.
    phase: AtomicU64,
    received: AtomicU64,
    durable: AtomicU64,
    archived: AtomicU64,
    server_end: AtomicU64,
    timeline: AtomicU64,
    system_id: AtomicU64,
    version: AtomicU64,
    /// When the server was last heard of.
    pub last_message: Moment,
    /// When everything that the server was known to have written was last durable here.
    pub caught_up: Moment,
    /// Bytes of WAL received.
    pub received_bytes: Counter,
    /// Segments archived.
    pub archived_segments: Counter,
    /// Bytes in the spool.
    pub spool_bytes: Counter,
    /// When something was last stored in the archive.
    pub last_stored: Moment,
    /// How often something could not be archived.
    pub store_errors: Counter,
    /// How often the worker was started again.
    pub restarts: Counter,
    /// How often a connection failed or was lost.
    pub connection_failures: Counter,
    /// Bytes that a job has done in its phase.
    pub job_done: Counter,
    /// Bytes of the job's phase; 0 when unknown.
    pub job_total: Counter,
    /// How long each sync of received WAL took.
    pub fsync: Histogram,
    /// How long it took to store each segment in the archive and to read it back.
    pub store: Histogram,
    /// How long received WAL waited until the server was told that it is durable.
    pub acknowledge: Histogram,
}

/// What a worker has counted, when its place is given up.
#[derive(Debug, Clone)]
pub struct Totals(Vec<u64>);

/// A number that several processes read.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number now.
    pub fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the number.
    pub fn store(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to the number.
    pub fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }
}

/// A moment in milliseconds of Unix time; 0 is never.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Moment(AtomicU64);

impl Moment {
    /// It is now.
    pub fn touch(&self) {
        self.0.store(unix_ms(), Ordering::Relaxed);
    }

    /// The moment in milliseconds of Unix time, `None` when it never was.
    pub fn unix_ms(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|then| *then != 0)
    }

    /// Milliseconds since then, `None` when it never was.
    pub fn age_ms(&self) -> Option<u64> {
        let then = self.0.load(Ordering::Relaxed);
        (then != 0).then(|| unix_ms().saturating_sub(then))
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a receive worker does right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is not there, or starts.
    Starting,
    /// It connects, or finds out where to go on.
    Connecting,
    /// WAL flows.
    Streaming,
    /// The connection is gone and will be tried again.
    Backoff,
    /// Something a person has to mend; tried again all the same.
    Error,
    /// It ends in order.
    Stopping,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Starting,
        Self::Connecting,
        Self::Streaming,
        Self::Backoff,
        Self::Error,
        Self::Stopping,
    ];
}

impl Slot {
    /// Everything as at the beginning.
    pub fn reset(&self) {
        for number in self.numbers() {
            number.store(0, Ordering::Relaxed);
        }
    }

    /// What the worker does.
    pub fn phase(&self) -> Phase {
        let number = self.phase.load(Ordering::Relaxed);
        let known = usize::try_from(number)
            .ok()
            .and_then(|number| Phase::ALL.get(number));
        known.copied().unwrap_or(Phase::Starting)
    }

    /// The worker does this now.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u64, Ordering::Relaxed);
    }

    /// How far WAL has arrived.
    pub fn received(&self) -> Option<Lsn> {
        lsn(&self.received)
    }

    /// WAL has arrived up to here.
    pub fn set_received(&self, position: Lsn) {
        self.received.store(position.bytes(), Ordering::Relaxed);
    }

    /// How far WAL is safe on our disk.
    pub fn durable(&self) -> Option<Lsn> {
        // Acquire pairs with the release of `set_durable`: whoever sees the position sees the file behind it.
        let position = self.durable.load(Ordering::Acquire);
        (position != 0).then(|| Lsn::new(position))
    }

    /// WAL is safe up to here.
    pub fn set_durable(&self, position: Lsn) {
        self.durable.store(position.bytes(), Ordering::Release);
        if position.bytes() >= self.server_end.load(Ordering::Relaxed) {
            self.caught_up.touch();
        }
    }

    /// How far WAL is in the repository.
    pub fn archived(&self) -> Option<Lsn> {
        lsn(&self.archived)
    }

    /// WAL is in the repository up to here.
    pub fn set_archived(&self, position: Lsn) {
        self.archived.store(position.bytes(), Ordering::Relaxed);
    }

    /// How far the server had written when it was last heard of.
    pub fn server_end(&self) -> Option<Lsn> {
        lsn(&self.server_end)
    }

    /// The server had written up to here.
    pub fn set_server_end(&self, position: Lsn) {
        self.server_end.store(position.bytes(), Ordering::Relaxed);
        self.last_message.touch();
        if self.durable.load(Ordering::Relaxed) >= position.bytes() {
            self.caught_up.touch();
        }
    }

    /// The timeline that is received.
    pub fn timeline(&self) -> Option<TimelineId> {
        u32::try_from(self.timeline.load(Ordering::Relaxed))
            .ok()
            .and_then(TimelineId::new)
    }

    /// This timeline is received.
    pub fn set_timeline(&self, timeline: TimelineId) {
        self.timeline
            .store(timeline.number().into(), Ordering::Relaxed);
    }

    /// Which server it is, once it has said so.
    pub fn identity(&self) -> Option<(SystemId, ServerVersion)> {
        let system_id = self.system_id.load(Ordering::Relaxed);
        let version = u32::try_from(self.version.load(Ordering::Relaxed)).ok()?;
        (system_id != 0).then(|| {
            (
                SystemId::new(system_id),
                ServerVersion::from_number(version),
            )
        })
    }

    /// The server has said who it is.
    pub fn set_identity(&self, system_id: SystemId, version: ServerVersion) {
        self.version
            .store(version.number().into(), Ordering::Relaxed);
        self.system_id.store(system_id.number(), Ordering::Relaxed);
    }

    fn numbers(&self) -> impl Iterator<Item = &AtomicU64> {
        let plain = [
            &self.pid.0,
            &self.phase,
            &self.received,
            &self.durable,
            &self.archived,
            &self.server_end,
            &self.timeline,
            &self.system_id,
            &self.version,
            &self.last_message.0,
            &self.caught_up.0,
            &self.received_bytes.0,
            &self.archived_segments.0,
            &self.spool_bytes.0,
            &self.last_stored.0,
            &self.store_errors.0,
            &self.restarts.0,
            &self.connection_failures.0,
            &self.job_done.0,
            &self.job_total.0,
        ];
        plain.into_iter().chain(self.histograms())
    }

    /// What only grows while pgmd lives, whichever worker counts it.
    fn totals(&self) -> impl Iterator<Item = &AtomicU64> {
        let plain = [
            &self.received_bytes.0,
            &self.archived_segments.0,
            &self.store_errors.0,
            &self.restarts.0,
            &self.connection_failures.0,
        ];
        plain.into_iter().chain(self.histograms())
    }

    fn histograms(&self) -> impl Iterator<Item = &AtomicU64> {
        [&self.fsync, &self.store, &self.acknowledge]
            .into_iter()
            .flat_map(Histogram::numbers)
    }

    /// The totals, for whoever counts on in another place.
    pub fn take_totals(&self) -> Totals {
        Totals(
            self.totals()
                .map(|total| total.load(Ordering::Relaxed))
                .collect(),
        )
    }

    /// Counts on from what was counted in another place.
    pub fn go_on_from(&self, totals: &Totals) {
        for (total, before) in self.totals().zip(&totals.0) {
            total.store(*before, Ordering::Relaxed);
        }
    }
}

fn lsn(number: &AtomicU64) -> Option<Lsn> {
    let position = number.load(Ordering::Relaxed);
    (position != 0).then(|| Lsn::new(position))
}

/// The mapped segment.
#[derive(Debug)]
pub struct SharedState {
    map: MmapRaw,
    /// Held by the supervisor, so that every worker inherits it.
    fd: OwnedFd,
}

impl SharedState {
    /// Makes the segment; processes started from here on inherit it.
    pub fn create() -> io::Result<Self> {
        let fd = rustix::fs::memfd_create("pgmd", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&fd, SEGMENT_BYTES as u64)?;
        // The size can never change again, so no access to the mapping can ever fault.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let state = Self::map(fd)?;
        let header = state.header();
        header.slots.store(SLOTS as u64, Ordering::Relaxed);
        header.layout.store(LAYOUT, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        rustix::io::fcntl_setfd(&state.fd, FdFlags::empty())?;
        Ok(state)
    }

    /// The number of the descriptor, for [`FD_VARIABLE`].
    pub fn fd_number(&self) -> i32 {
        self.fd.as_fd().as_raw_fd()
    }

    /// The segment that this worker inherited as descriptor `number`. To be called once.
    pub fn inherit(number: i32) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{number}");
        if number < 3 || !std::fs::exists(path)? {
            return Err(io::Error::other("the shared state was not inherited"));
        }
        // SAFETY: the descriptor is open (just seen), it was opened for us before this process began, and nobody else
        // in this process knows it, so it becomes ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
        let seals = rustix::fs::fcntl_get_seals(&fd)?;
        let size = rustix::fs::fstat(&fd)?.st_size;
        let sealed =
            seals.contains(SealFlags::SHRINK) && usize::try_from(size) == Ok(SEGMENT_BYTES);
        if !sealed {
            return Err(io::Error::other(
                "the inherited descriptor is not pgmd's shared state",
            ));
        }
        let state = Self::map(fd)?;
        let header = state.header();
        let known = header.magic.load(Ordering::Acquire) == MAGIC
            && header.layout.load(Ordering::Relaxed) == LAYOUT
            && header.slots.load(Ordering::Relaxed) == SLOTS as u64;
        if !known {
            return Err(io::Error::other(
                "the shared state belongs to another version of pgmd",
            ));
        }
        Ok(state)
    }

    /// The slot with this number, `None` past the last.
    pub fn slot(&self, number: usize) -> Option<&Slot> {
        if number >= SLOTS {
            return None;
        }
        // SAFETY: the segment has SLOTS + 1 places of SLOT_BYTES, the first is the header; its size is sealed and the
        // mapping lives as long as `self`. A Slot is nothing but atomics, valid for every bit pattern, and every
        // process reaches it through atomics only. The mapping is page aligned, so each place is aligned to 256.
        unsafe {
            let place = self.map.as_mut_ptr().add(SLOT_BYTES * (number + 1));
            Some(&*place.cast::<Slot>())
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: as in `slot`; the header is at the beginning of the mapping.
        unsafe { &*self.map.as_mut_ptr().cast::<Header>() }
    }

    fn map(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let map = MmapOptions::new().len(SEGMENT_BYTES).map_raw(&file)?;
        Ok(Self {
            map,
            fd: file.into(),
        })
    }
}

const _: () = assert!(size_of::<Slot>() == SLOT_BYTES && size_of::<Header>() == SLOT_BYTES);

#[cfg(test)]
mod tests;
