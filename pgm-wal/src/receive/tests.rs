//! The receiver against a scripted server: what is acknowledged is on disk, and what is on disk is the server's WAL.

mod peer;

use std::fs;
use std::path::Path;
use std::time::Duration;

use pgm_proto::{Lsn, SystemId, TimelineId};
use pgm_storage::Cancel;
use proptest::prelude::*;
use rustix::io::Errno;

use self::peer::{Misbehaviour, Peer};
use super::*;
use crate::error::SpoolError;
use crate::fault::{Fault, arm};
use crate::record::fixture::{SIZE, Wal};
use crate::segment::{SegmentName, WalFileName};
use crate::spool::SpoolEnd;

const SEGMENT: usize = 1 << 20;
const START: Lsn = Lsn::new(3 << 20);

fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

/// Bytes without a pattern, some of them zero.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let bytes = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    });
    bytes.take(length).collect()
}

/// A receiver from `peer` into a folder, which begins at the beginning of the peer's WAL.
fn receiver(peer: Peer, folder: &Path) -> Receiver<Peer> {
    let start = peer.branches[&1].start;
    let hint = StartHint {
        timeline: TimelineId::FIRST,
        lsn: start,
    };
    let options = ReceiveOptions {
        start_hint: Some(hint),
        ..ReceiveOptions::default()
    };
    Receiver::new(peer, Spool::open(folder).unwrap(), options)
}

/// Runs until everything was received, or to an error.
fn run(receiver: &mut Receiver<Peer>) -> Result<Stopped, ReceiveError> {
    receiver.transport.cancel = Cancel::new();
    let cancel = receiver.transport.cancel.clone();
    receiver.run(&cancel, &mut ())
}

fn segment(timeline_number: u32, number: u64) -> SegmentName {
    SegmentName::new(timeline(timeline_number), crate::SegmentNumber::new(number))
}

fn partial_path(receiver: &Receiver<Peer>, name: SegmentName) -> std::path::PathBuf {
    receiver.spool.path(WalFileName::Partial(name))
}

/// What the spool holds of a timeline from segment `first` on, the unfinished segment included.
fn spooled(receiver: &Receiver<Peer>, timeline_number: u32, first: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in first.. {
        let name = segment(timeline_number, number);
        let finished = receiver.spool.path(WalFileName::Segment(name));
        if let Ok(content) = fs::read(finished) {
            assert_eq!(content.len(), SEGMENT);
            bytes.extend(content);
            continue;
        }
        bytes.extend(fs::read(partial_path(receiver, name)).unwrap_or_default());
        break;
    }
    bytes
}

/// That the spool holds exactly `source`, and zeros behind it.
fn assert_spooled(receiver: &Receiver<Peer>, timeline_number: u32, first: u64, source: &[u8]) {
    let bytes = spooled(receiver, timeline_number, first);
    assert_eq!(bytes.len(), (source.len() / SEGMENT + 1) * SEGMENT);
    assert!(
        bytes.starts_with(source),
        "the spool differs from the source"
    );
    assert!(bytes[source.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn everything_is_received_and_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let source = noise(3 * SEGMENT + 12345);
    let mut receiver = receiver(Peer::new(START, source.clone()), folder.path());
    let stopped = run(&mut receiver).unwrap();
    let end = START + source.len() as u64;
    assert_eq!(stopped.durable.unwrap().lsn(), end);
    assert_spooled(&receiver, 1, 3, &source);
    let statuses = receiver.transport.statuses();
    assert_eq!(statuses.last().unwrap().flush, end);
    assert!(statuses.iter().all(|status| status.flush <= status.write));
    assert!(statuses.iter().all(|status| !status.apply.is_valid()));
    assert!(statuses.len() <= 3, "{statuses:?}");
}

#[test]
fn nothing_is_asked_for_again_after_an_orderly_stop_but_the_unfinished_segment() {
    let folder = tempfile::tempdir().unwrap();
    let source = noise(2 * SEGMENT + 100);
    let mut receiver = receiver(Peer::new(START, source.clone()), folder.path());
    run(&mut receiver).unwrap();
    receiver.transport.sent.clear();
    run(&mut receiver).unwrap();
    let start = pgm_proto::Outgoing::Start {
        timeline: timeline(1),
        lsn: START + 2 * SEGMENT as u64,
    };
    assert_eq!(receiver.transport.sent[0], start);
    assert_spooled(&receiver, 1, 3, &source);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn however_the_stream_is_cut_the_spool_equals_the_source(
        lengths in prop::collection::vec(1_usize..300_000, 1..8),
        total in 1_usize..(2 * SEGMENT + SEGMENT / 2),
        cuts in prop::collection::vec(0_usize..12, 0..3),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let source = noise(total);
        let mut peer = Peer::new(START, source.clone());
        // Tiny messages alone would take long.
        peer.lengths = lengths.into_iter().chain([100_000]).collect();
        let mut receiver = receiver(peer, folder.path());
        let mut messages = 0;
        for cut in cuts {
            messages += cut;
            receiver.transport.misbehaviour = Misbehaviour::CutAfter(messages);
            let _ = run(&mut receiver);
        }
        receiver.transport.misbehaviour = Misbehaviour::None;
        let stopped = run(&mut receiver).unwrap();
        prop_assert_eq!(stopped.durable.unwrap().lsn(), START + total as u64);
        assert_spooled(&receiver, 1, 3, &source);
    }
}

#[test]
fn a_message_longer_than_a_segment_fills_several() {
    let folder = tempfile::tempdir().unwrap();
    let source = noise(4 * SEGMENT);
    let mut peer = Peer::new(START, source.clone());
    peer.lengths = vec![3 * SEGMENT + 7];
    let mut receiver = receiver(peer, folder.path());
    run(&mut receiver).unwrap();
    assert_spooled(&receiver, 1, 3, &source);
}

#[test]
fn zeros_are_acknowledged_without_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = noise(256 << 10);
    source.resize(SEGMENT + (128 << 10), 0);
    let mut receiver = receiver(Peer::new(START, source.clone()), folder.path());
    // The two messages that are not zeros are written, no further one.
    arm(Fault::Write, 2, Errno::IO);
    let stopped = run(&mut receiver).unwrap();
    assert_eq!(stopped.durable.unwrap().lsn(), START + source.len() as u64);
    assert_spooled(&receiver, 1, 3, &source);
    // Into a file that is there already none is written either.
    source.extend(noise(100));
    receiver.transport = Peer::new(START, source.clone());
    arm(Fault::Write, 1, Errno::IO);
    run(&mut receiver).unwrap();
    assert_spooled(&receiver, 1, 3, &source);
}

#[test]
fn a_gap_and_a_repetition_are_errors_and_the_next_connection_mends_them() {
    for misbehaviour in [Misbehaviour::SkipAfter(3), Misbehaviour::RepeatAfter(3)] {
        let folder = tempfile::tempdir().unwrap();
        let source = noise(2 * SEGMENT);
        let mut peer = Peer::new(START, source.clone());
        peer.misbehaviour = misbehaviour;
        let mut receiver = receiver(peer, folder.path());
        let error = run(&mut receiver).unwrap_err();
        assert!(
            matches!(error, ReceiveError::NotContinuous { .. }),
            "{error}"
        );
        run(&mut receiver).unwrap();
        assert_spooled(&receiver, 1, 3, &source);
    }
}

#[test]
fn what_was_received_before_a_cut_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(START, noise(SEGMENT));
    peer.misbehaviour = Misbehaviour::CutAfter(3);
    let mut receiver = receiver(peer, folder.path());
    let mut durable = LastDurable::default();
    receiver.run(&Cancel::new(), &mut durable).unwrap_err();
    assert_eq!(durable.0, Some(START + 3 * (128 << 10)));
}

#[derive(Default)]
struct LastDurable(Option<Lsn>);

impl ReceiveObserver for LastDurable {
    fn durable(&mut self, lsn: DurableLsn) {
        self.0 = Some(lsn.lsn());
    }
}

#[test]
fn a_failed_sync_is_never_acknowledged_and_its_wal_comes_again_into_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let source = noise(2 * SEGMENT + 500);
    let mut receiver = receiver(Peer::new(START, source.clone()), folder.path());
    arm(Fault::Sync, 1, Errno::IO);
    let error = run(&mut receiver).unwrap_err();
    assert!(matches!(error, ReceiveError::SyncFailed { .. }), "{error}");
    let acknowledged = receiver
        .transport
        .statuses()
        .iter()
        .map(|status| status.flush)
        .max();
    assert!(acknowledged.unwrap_or_default() <= START + SEGMENT as u64);
    let aside = folder
        .path()
        .join("000000010000000000000004.partial.failed-1");
    assert!(aside.exists());
    assert!(!partial_path(&receiver, segment(1, 4)).exists());
    let end = receiver.spool.end().unwrap().unwrap();
    assert_eq!(end, SpoolEnd::Unfinished(segment(1, 4)));
    run(&mut receiver).unwrap();
    assert_spooled(&receiver, 1, 3, &source);
    assert!(!aside.exists());
}

#[test]
fn dead_files_are_bounded_and_the_first_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = receiver(Peer::new(START, noise(500)), folder.path());
    for _ in 0..6 {
        arm(Fault::Sync, 0, Errno::IO);
        run(&mut receiver).unwrap_err();
    }
    let dead = fs::read_dir(folder.path()).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .contains(".failed-")
    });
    assert_eq!(dead.count(), 4);
}

#[test]
fn a_full_disk_names_the_file_and_receiving_goes_on_when_there_is_room() {
    for (fault, nth) in [
        (Fault::Write, 0),
        (Fault::Write, 9),
        (Fault::Allocate, 0),
        (Fault::Allocate, 1),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let source = noise(2 * SEGMENT + 500);
        let mut receiver = receiver(Peer::new(START, source.clone()), folder.path());
        arm(fault, nth, Errno::NOSPC);
        let error = run(&mut receiver).unwrap_err();
        assert!(
            matches!(&error, ReceiveError::Spool(SpoolError::Full { .. })),
            "{error}"
        );
        assert!(error.to_string().contains(".partial"), "{error}");
        assert!(error.hint().is_some() && !error.is_final());
        run(&mut receiver).unwrap();
        assert_spooled(&receiver, 1, 3, &source);
    }
}

#[test]
fn an_unfinished_segment_of_odd_size_is_repaired() {
    for length in [0, 1, 8191, 300_000, SEGMENT + 5000] {
        let folder = tempfile::tempdir().unwrap();
        let source = noise(400_000);
        let mut receiver = receiver(Peer::new(START, source.clone()), folder.path());
        run(&mut receiver).unwrap();
        let path = partial_path(&receiver, segment(1, 3));
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length as u64)
            .unwrap();
        run(&mut receiver).unwrap();
        assert_spooled(&receiver, 1, 3, &source);
    }
}

#[test]
fn sectors_that_a_power_cut_lost_are_filled_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = noise(400_000);
    let mut receiver = receiver(Peer::new(START, source.clone()), folder.path());
    run(&mut receiver).unwrap();
    let path = partial_path(&receiver, segment(1, 3));
    let mut content = fs::read(&path).unwrap();
    content[8192..8192 + 512].fill(0);
    content[16384..32768].fill(0);
    content[399_872..].fill(0);
    fs::write(&path, content).unwrap();
    receiver.transport.lengths = vec![1000, 7, 4096];
    run(&mut receiver).unwrap();
    assert_spooled(&receiver, 1, 3, &source);
}

#[test]
fn other_bytes_in_the_unfinished_segment_are_a_split_brain_and_stay() {
    for position in [0, 511, 8192, 399_999] {
        let folder = tempfile::tempdir().unwrap();
        let source = noise(400_000);
        let mut receiver = receiver(Peer::new(START, source.clone()), folder.path());
        run(&mut receiver).unwrap();
        let path = partial_path(&receiver, segment(1, 3));
        let mut ours = fs::read(&path).unwrap();
        ours[position] = ours[position].wrapping_add(1).max(1);
        fs::write(&path, &ours).unwrap();
        receiver.transport.lengths = vec![1000, 7, 4096];
        let error = run(&mut receiver).unwrap_err();
        let ReceiveError::SplitBrain { lsn, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*lsn, START + position as u64);
        assert!(error.is_final());
        assert_eq!(fs::read(&path).unwrap(), ours);
    }
}

#[test]
fn what_a_standby_sends_behind_a_segment_switch_is_no_split_brain() {
    let folder = tempfile::tempdir().unwrap();
    let mut wal = Wal::new(3, timeline(1));
    wal.filler(30_000);
    wal.switch();
    let switched = wal.bytes.iter().rposition(|byte| *byte == 0xAB).unwrap() + 100;
    let mut peer = Peer::new(Lsn::new(3 * SIZE.bytes()), wal.bytes.clone());
    peer.misbehaviour = Misbehaviour::CutAfter(4);
    let mut receiver = receiver(peer, folder.path());
    run(&mut receiver).unwrap_err();
    let path = partial_path(&receiver, segment(1, 3));
    let mut ours = fs::read(&path).unwrap();
    // A recycled file of the standby showed through.
    ours[40_000..400_000].copy_from_slice(&noise(360_000));
    fs::write(&path, &ours).unwrap();
    run(&mut receiver).unwrap();
    assert!(switched < 40_000);
    assert_spooled(&receiver, 1, 3, &wal.bytes);
}

#[test]
fn other_bytes_before_a_segment_switch_are_a_split_brain() {
    let folder = tempfile::tempdir().unwrap();
    let mut wal = Wal::new(3, timeline(1));
    wal.filler(30_000);
    wal.switch();
    let mut peer = Peer::new(Lsn::new(3 * SIZE.bytes()), wal.bytes.clone());
    peer.misbehaviour = Misbehaviour::CutAfter(4);
    let mut receiver = receiver(peer, folder.path());
    run(&mut receiver).unwrap_err();
    let path = partial_path(&receiver, segment(1, 3));
    let mut ours = fs::read(&path).unwrap();
    ours[20_000] ^= 1;
    fs::write(&path, &ours).unwrap();
    let error = run(&mut receiver).unwrap_err();
    assert!(matches!(error, ReceiveError::SplitBrain { .. }), "{error}");
}

#[test]
fn a_finished_segment_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let source = noise(SEGMENT + 100);
    let mut receiver = receiver(Peer::new(START, source.clone()), folder.path());
    let cancel = Cancel::new();
    receiver.transport.misbehaviour = Misbehaviour::CutAfter(2);
    receiver.run(&cancel, &mut ()).unwrap_err();
    let path = receiver.spool.path(WalFileName::Segment(segment(1, 3)));
    let mut other = source[..SEGMENT].to_vec();
    other[7777] ^= 1;
    // As if another process had finished it meanwhile.
    let mut appears = Appears {
        path: path.clone(),
        content: other.clone(),
    };
    receiver.transport.cancel = Cancel::new();
    let error = receiver.run(&cancel, &mut appears).unwrap_err();
    assert!(
        matches!(error, ReceiveError::SplitBrain { lsn, .. } if lsn == START + 7777),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), other);

    // The same bytes are fine.
    fs::remove_file(&path).unwrap();
    let mut appears = Appears {
        path: path.clone(),
        content: source[..SEGMENT].to_vec(),
    };
    let cancel = receiver.transport.cancel.clone();
    receiver.run(&cancel, &mut appears).unwrap();
    assert_spooled(&receiver, 1, 3, &source);
}

/// Makes a file appear as soon as WAL is received.
struct Appears {
    path: std::path::PathBuf,
    content: Vec<u8>,
}

impl ReceiveObserver for Appears {
    fn received(&mut self, end: Lsn) {
        if end < START + SEGMENT as u64 {
            fs::write(&self.path, &self.content).unwrap();
        }
    }
}

#[test]
fn another_system_id_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = receiver(Peer::new(START, noise(1000)), folder.path());
    run(&mut receiver).unwrap();
    let before = spooled(&receiver, 1, 3);
    receiver.transport.identity.system_id = SystemId::new(8);
    let error = run(&mut receiver).unwrap_err();
    assert!(
        matches!(&error, ReceiveError::Spool(SpoolError::OtherSystem { .. })),
        "{error}"
    );
    assert!(error.is_final() && error.hint().is_some());
    assert_eq!(spooled(&receiver, 1, 3), before);
}

#[test]
fn timelines_are_followed_while_streaming_and_after_an_absence() {
    let folder = tempfile::tempdir().unwrap();
    let first = noise(SEGMENT + 5000);
    let mut peer = Peer::new(START, first.clone());
    let switch = START + first.len() as u64;
    peer.promote(2, switch, &noise(1000));
    let mut receiver = receiver(peer, folder.path());
    run(&mut receiver).unwrap();
    assert_spooled(&receiver, 1, 3, &first);
    let second = receiver.transport.branches[&2].bytes.clone();
    assert_spooled(&receiver, 2, 4, &second);
    assert!(receiver.spool.history(timeline(2)).unwrap().is_some());

    // Two more promotions while we are away; the second at the end of a segment.
    let end = receiver.transport.identity.flush_lsn;
    receiver.transport.promote(9, end, &noise(2 * SEGMENT));
    let boundary = Lsn::new(6 << 20);
    receiver.transport.promote(10, boundary, &noise(77));
    run(&mut receiver).unwrap();
    let ten = receiver.transport.branches[&10].bytes.clone();
    assert_spooled(&receiver, 10, 6, &ten);
    assert!(folder.path().join("0000000A.history").exists());
    assert!(folder.path().join("00000009.history").exists());
    assert!(
        folder
            .path()
            .join("000000020000000000000004.partial")
            .exists()
    );
    // Nothing of timeline 9 lies behind its end.
    assert!(!partial_path(&receiver, segment(9, 6)).exists());
}

/// A server with real records, and one that was promoted at its `switch`.
fn promoted(old: &Wal, switch: Lsn) -> Peer {
    let start = Lsn::new(3 * SIZE.bytes());
    let mut peer = Peer::new(start, old.bytes.clone());
    peer.promote(2, switch, &noise(100));
    peer
}

#[test]
fn a_whole_record_behind_the_switch_is_a_divergence() {
    let folder = tempfile::tempdir().unwrap();
    let mut wal = Wal::new(3, timeline(1));
    wal.filler(5000);
    let switch = wal.end();
    wal.filler(100);
    let peer = Peer::new(Lsn::new(3 * SIZE.bytes()), wal.bytes.clone());
    let mut receiver = receiver(peer, folder.path());
    run(&mut receiver).unwrap();
    let before = spooled(&receiver, 1, 3);
    receiver.transport = promoted(&wal, switch);
    let error = run(&mut receiver).unwrap_err();
    assert!(
        matches!(error, ReceiveError::Diverged { fork, ours, .. } if fork == switch && ours > fork),
        "{error}"
    );
    assert!(error.is_final() && error.hint().is_some());
    assert_eq!(spooled(&receiver, 1, 3), before);
}

#[test]
fn the_beginning_of_a_record_behind_the_switch_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut wal = Wal::new(3, timeline(1));
    wal.filler(5000);
    let switch = wal.end();
    let whole = wal.bytes.len();
    wal.filler(9000);
    wal.bytes.truncate(whole + 4000);
    let peer = Peer::new(Lsn::new(3 * SIZE.bytes()), wal.bytes.clone());
    let mut receiver = receiver(peer, folder.path());
    run(&mut receiver).unwrap();
    let before = spooled(&receiver, 1, 3);
    receiver.transport = promoted(&wal, switch);
    run(&mut receiver).unwrap();
    assert_eq!(
        spooled(&receiver, 1, 3),
        before,
        "the old branch stays as it was"
    );
    let second = receiver.transport.branches[&2].bytes.clone();
    assert_spooled(&receiver, 2, 3, &second);
}

#[test]
fn a_timeline_with_another_history_is_a_split_brain() {
    let folder = tempfile::tempdir().unwrap();
    let source = noise(1000);
    let mut peer = Peer::new(START, source);
    peer.promote(2, START + 1000, &noise(10));
    let mut receiver = receiver(peer, folder.path());
    run(&mut receiver).unwrap();
    receiver
        .transport
        .histories
        .insert(2, b"1\t0/3000100\tanother promotion\n".to_vec());
    let error = run(&mut receiver).unwrap_err();
    assert!(
        matches!(
            &error,
            ReceiveError::Spool(SpoolError::HistoryDiffers { .. })
        ),
        "{error}"
    );
    assert!(error.is_final());
}

#[test]
fn removed_wal_is_told_from_other_errors() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = receiver(Peer::new(START, noise(1000)), folder.path());
    run(&mut receiver).unwrap();
    let later = Lsn::new(9 << 20);
    receiver.transport = Peer::new(later, noise(1000));
    let error = run(&mut receiver).unwrap_err();
    assert!(
        matches!(error, ReceiveError::WalRemoved { lsn, .. } if lsn == START),
        "{error}"
    );
    assert!(error.hint().is_some());
}

#[test]
fn a_server_that_shuts_down_is_an_error_that_passes() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(START, noise(SEGMENT));
    peer.misbehaviour = Misbehaviour::CloseAfter(2);
    let mut receiver = receiver(peer, folder.path());
    let error = run(&mut receiver).unwrap_err();
    assert!(matches!(error, ReceiveError::ServerClosed), "{error}");
    assert!(!error.is_final());
}

#[test]
fn run_forever_connects_again_and_stops_only_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let source = noise(2 * SEGMENT);
    let mut peer = Peer::new(START, source.clone());
    peer.misbehaviour = Misbehaviour::CutAfter(5);
    let cancel = peer.cancel.clone();
    let mut receiver = receiver(peer, folder.path());
    receiver.options.retry_delay_max = Duration::from_millis(1);
    let mut errors = Errors::default();
    let stopped = receiver.run_forever(&cancel, &mut errors).unwrap();
    assert_eq!(stopped.durable.unwrap().lsn(), START + source.len() as u64);
    assert_eq!(errors.texts, ["the server closed the connection"]);
    assert_eq!(errors.states.first(), Some(&ReceiveState::Connecting));
    assert_eq!(errors.states.last(), Some(&ReceiveState::Disconnected));
    assert_eq!(receiver.transport.connections, 2);
    assert_spooled(&receiver, 1, 3, &source);
}

#[test]
fn run_forever_gives_up_on_what_only_a_person_can_mend() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = receiver(Peer::new(START, noise(1000)), folder.path());
    run(&mut receiver).unwrap();
    receiver.transport.identity.system_id = SystemId::new(8);
    assert!(
        receiver
            .run_forever(&Cancel::new(), &mut ())
            .unwrap_err()
            .is_final()
    );
}

#[derive(Default)]
struct Errors {
    texts: Vec<String>,
    states: Vec<ReceiveState>,
}

impl ReceiveObserver for Errors {
    fn state(&mut self, state: ReceiveState) {
        self.states.push(state);
    }

    fn error(&mut self, error: &ReceiveError, _: Duration) {
        self.texts.push(error.to_string());
    }
}

#[test]
fn two_receivers_never_share_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = receiver(Peer::new(START, noise(1000)), folder.path());
    let _lock = receiver.spool.lock().unwrap();
    let error = run(&mut receiver).unwrap_err();
    assert!(
        matches!(error, ReceiveError::Spool(SpoolError::Locked { .. })),
        "{error}"
    );
    assert_eq!(receiver.transport.connections, 0);
}
