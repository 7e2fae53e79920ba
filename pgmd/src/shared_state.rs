//! The memory that the supervisor shares with its workers: one slot of atomics a worker.
//!
//! Status and progress are read here without asking a worker, so a worker that hangs cannot hold them up, and what a
//! dead worker last said is still there. Each number stands for itself: a reader may see a newer received position
//! beside an older durable one, never a torn number. Positions and counters only grow while a worker lives.
//!
//! ```text
//! memfd, sealed against shrinking and growing
//! +-----------------------------+--------+--------+-----
//! | magic, layout, slot count   | slot 0 | slot 1 | …      each 256 bytes
//! +-----------------------------+--------+--------+-----
//! ```
//!
//! The supervisor makes the segment, clears close-on-exec and names the descriptor in [`FD_VARIABLE`]; a worker finds
//! it there. This is the one module of pgmd with unsafe code.

#![allow(unsafe_code)] // maps memory that other processes write, through atomics only
#![allow(clippy::cast_ptr_alignment)] // a mapping is page aligned, and places are 256 bytes apart

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use memmap2::{MmapOptions, MmapRaw};
use pgm_proto::{Lsn, ServerVersion, SystemId, TimelineId};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::FdFlags;

/// How many workers there can be at once.
pub const SLOTS: usize = 256;
/// The environment variable that names the inherited descriptor.
pub const FD_VARIABLE: &str = "PGMD_SHARED_STATE";

const MAGIC: u64 = u64::from_le_bytes(*b"pgmd-mem");
const LAYOUT: u64 = 1;
const SLOT_BYTES: usize = 256;
const SEGMENT_BYTES: usize = SLOT_BYTES * (SLOTS + 1);

/// The first bytes of the segment.
#[repr(C, align(256))]
struct Header {
    magic: AtomicU64,
    layout: AtomicU64,
    slots: AtomicU64,
}

/// What one worker tells, and what the supervisor notes about it.
#[repr(C, align(256))]
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
    /// How often the worker was started again.
    pub restarts: Counter,
    /// Bytes that a job has done in its phase.
    pub job_done: Counter,
    /// Bytes of the job's phase; 0 when unknown.
    pub job_total: Counter,
}

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

    fn numbers(&self) -> [&AtomicU64; 17] {
        [
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
            &self.restarts.0,
            &self.job_done.0,
            &self.job_total.0,
        ]
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
mod tests {
    use super::*;

    /// What a worker does: another mapping of the same memory, found by number.
    fn inherited(state: &SharedState) -> SharedState {
        let fd = rustix::io::fcntl_dupfd_cloexec(&state.fd, 100).unwrap();
        SharedState::inherit(std::os::fd::IntoRawFd::into_raw_fd(fd)).unwrap()
    }

    #[test]
    fn what_a_worker_writes_the_supervisor_reads() {
        let supervisor = SharedState::create().unwrap();
        let worker = inherited(&supervisor);
        let slot = worker.slot(SLOTS - 1).unwrap();
        slot.set_received(Lsn::new(30));
        slot.set_server_end(Lsn::new(30));
        slot.set_durable(Lsn::new(20));
        slot.set_timeline(TimelineId::FIRST);
        slot.set_phase(Phase::Streaming);
        slot.received_bytes.add(7);
        let seen = supervisor.slot(SLOTS - 1).unwrap();
        assert_eq!(seen.received(), Some(Lsn::new(30)));
        assert_eq!(seen.durable(), Some(Lsn::new(20)));
        assert_eq!(seen.timeline(), Some(TimelineId::FIRST));
        assert_eq!(seen.phase(), Phase::Streaming);
        assert_eq!(seen.received_bytes.load(), 7);
        assert!(seen.last_message.age_ms().is_some());
        assert!(seen.caught_up.age_ms().is_none());
        slot.set_durable(Lsn::new(30));
        assert!(seen.caught_up.age_ms().is_some());
        assert!(supervisor.slot(0).unwrap().received().is_none());
    }

    #[test]
    fn a_reset_slot_knows_nothing() {
        let state = SharedState::create().unwrap();
        let slot = state.slot(3).unwrap();
        for number in slot.numbers() {
            number.store(u64::MAX, Ordering::Relaxed);
        }
        assert_eq!(slot.phase(), Phase::Starting);
        slot.reset();
        assert!(slot.received().is_none() && slot.identity().is_none());
        assert_eq!(
            slot.numbers().len() * 8,
            std::mem::offset_of!(Slot, job_total) + 8
        );
    }

    #[test]
    fn slots_end() {
        assert!(SharedState::create().unwrap().slot(SLOTS).is_none());
    }

    #[test]
    fn the_size_is_sealed() {
        let state = SharedState::create().unwrap();
        assert!(rustix::fs::ftruncate(&state.fd, 0).is_err());
        assert!(rustix::fs::ftruncate(&state.fd, SEGMENT_BYTES as u64 * 2).is_err());
    }

    #[test]
    fn another_file_is_not_taken_for_the_segment() {
        let file = tempfile::tempfile().unwrap();
        let fd = rustix::io::fcntl_dupfd_cloexec(&file, 100).unwrap();
        assert!(SharedState::inherit(std::os::fd::IntoRawFd::into_raw_fd(fd)).is_err());
        assert!(SharedState::inherit(999_999).is_err());
    }

    #[test]
    fn a_process_that_was_started_sees_the_same_memory() {
        let state = SharedState::create().unwrap();
        state.slot(0).unwrap().pid.store(4711);
        let number = state.fd_number();
        let output = std::process::Command::new("od")
            .args([
                "-An",
                "-td8",
                "-j",
                "256",
                "-N",
                "8",
                &format!("/proc/self/fd/{number}"),
            ])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "4711");
    }
}
