//! The shared memory: what one process writes, another reads.

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
        slot.numbers().count() * 8,
        std::mem::offset_of!(Slot, acknowledge) + size_of::<Histogram>()
    );
}

#[test]
fn totals_go_on_in_another_place_and_nothing_else_does() {
    let state = SharedState::create().unwrap();
    let (one, other) = (state.slot(1).unwrap(), state.slot(2).unwrap());
    one.received_bytes.add(5);
    one.fsync.observe(std::time::Duration::from_mins(1));
    one.set_received(Lsn::new(9));
    other.go_on_from(&one.take_totals());
    assert_eq!(other.received_bytes.load(), 5);
    assert_eq!(other.fsync.observations(), one.fsync.observations());
    assert!(other.received().is_none());
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
            &SLOT_BYTES.to_string(),
            "-N",
            "8",
            &format!("/proc/self/fd/{number}"),
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "4711");
}
