//! `pgmd worker receive SERVER`: WAL from the server into the spool, and from the spool into the repository.
//!
//! A round is one receiver and one archiver beside it. The receiver connects again by itself; a round ends when the
//! worker shall end, when the server has removed the WAL that comes next ([`super::gap`]), or when something needs a
//! person's attention, and then the next round begins after a pause, because persons mend things.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use pgm_proto::{Lsn, PostgresTransport, SlotPolicy, TimelineId, TransportOptions};
use pgm_storage::Cancel;
use pgm_wal::archive::{BacklogWatch, SpoolRelease};
use pgm_wal::{
    DurableLsn, ReceiveError, ReceiveObserver, ReceiveOptions, ReceiveState, Receiver, SegmentName,
    Spool,
};
use tracing::{debug, error, info, warn};

use super::archive::{self, Bell, Lane};
use super::gap;
use super::identity::Identified;
use super::link::Link;
use super::message::{Description, Task, WorkerEvent};
use crate::repository::chain;
use crate::shared_state::{Phase, SharedState, Slot};

/// The pause before something is tried again that a person has to mend.
const MENDING_PAUSE: Duration = Duration::from_secs(5);
/// The same error is logged again after this time.
const REPEAT_LOG_AFTER: Duration = Duration::from_mins(1);

/// Why a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoundEnd {
    /// The worker shall end.
    Stopped,
    /// The server no longer has the WAL from here on.
    WalRemoved(TimelineId, Lsn),
    /// The replication slot has been invalidated.
    SlotLost,
    /// Something a person has to mend; it was told.
    Broken,
}

/// Receives and archives until the worker shall end.
pub(super) fn receive(link: &Link, description: &Description, state: &SharedState) {
    let Some(slot) = state.slot(description.slot) else {
        return;
    };
    let mut gap = None;
    while !link.stop().is_cancelled() {
        let end = match round(link, description, slot, &mut gap) {
            Ok(end) => end,
            Err(Trouble { text, hint }) => {
                slot.set_phase(Phase::Error);
                error!("{text}{}", hint_line(hint.as_deref()));
                link.tell(WorkerEvent::Problem { text, hint });
                RoundEnd::Broken
            }
        };
        match end {
            RoundEnd::Stopped => break,
            RoundEnd::Broken => link.pause(MENDING_PAUSE),
            RoundEnd::SlotLost => gap::renew_slot(link, description),
            RoundEnd::WalRemoved(timeline, lsn) => {
                slot.set_phase(Phase::Error);
                gap = gap::clear_spool(link, description, timeline, lsn);
                if gap.is_none() {
                    link.pause(MENDING_PAUSE);
                }
            }
        }
    }
    slot.set_phase(Phase::Stopping);
}

/// What keeps a round from beginning.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

impl Trouble {
    pub(super) fn new(error: &(dyn std::error::Error + 'static), hint: Option<String>) -> Self {
        Self {
            text: chain(error),
            hint,
        }
    }
}

/// One receiver and one archiver, until one of the reasons to end.
fn round(
    link: &Link,
    description: &Description,
    slot: &Slot,
    gap: &mut Option<(TimelineId, Lsn)>,
) -> Result<RoundEnd, Trouble> {
    let options = transport_options(description)?;
    let spool =
        Spool::open(&description.spool).map_err(|error| Trouble::new(&error, error.hint()))?;
    let hint = match *gap {
        // What lies before the hole is no place to begin.
        Some(_) => None,
        None if has_wal(&spool) => None,
        None => archive::start_hint(description),
    };
    let (bell, refused) = (Bell::default(), OnceLock::new());
    let release = SpoolRelease::new(description.repositories.len());
    let lanes = (0..description.repositories.len()).map(|number| Lane {
        link,
        description,
        spool: &spool,
        slot,
        bell: &bell,
        number,
        release: release.clone(),
        backlog: BacklogWatch::new(spool.clone()),
    });
    let lanes: Vec<Lane<'_>> = lanes.collect();
    let archiving = Cancel::new();
    let ended = thread::scope(|scope| {
        let archivers = lanes.iter().map(|lane| {
            let thread = thread::Builder::new().name("pgm-archive".to_owned());
            thread.spawn_scoped(scope, || lane.archive(&archiving))
        });
        let archivers = archivers
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Trouble::new(&error, None))?;
        let measuring = thread::Builder::new()
            .name("pgm-backlog".to_owned())
            .spawn_scoped(scope, || archive::measure(&lanes, &archiving))
            .map_err(|error| Trouble::new(&error, None))?;
        let transport = PostgresTransport::new(options);
        let transport = Identified::new(transport, slot, description, &refused);
        let receive = ReceiveOptions {
            start_hint: hint,
            wake: Some(link.wake()),
            ..ReceiveOptions::default()
        };
        let mut receiver = Receiver::new(transport, spool.clone(), receive);
        let mut watch = Watch::new(link, slot, &bell, &refused, gap.take());
        let ending = watch.ending.clone();
        let outcome = receiver.run_forever(&ending, &mut watch);
        let end = watch.end(outcome);
        archiving.cancel();
        measuring.thread().unpark();
        bell.ring();
        for (lane, archiver) in lanes.iter().zip(archivers) {
            if let Ok(Some(mut archiver)) = archiver.join() {
                let left = lane.rest(&mut archiver);
                if left > 0 {
                    warn!("{left} files of the spool are not archived yet; they stay there");
                }
            }
        }
        Ok(end)
    })?;
    if ended == RoundEnd::Stopped {
        let durable = slot
            .durable()
            .map_or_else(|| "nothing".to_owned(), |lsn| lsn.to_string());
        info!("stopped; durable and reported up to {durable}");
    }
    Ok(ended)
}

fn transport_options(description: &Description) -> Result<TransportOptions, Trouble> {
    let Task::Receive {
        connection,
        slot,
        create_slot,
    } = &description.task
    else {
        return Err(Trouble {
            text: "this is no task for a receiver".to_owned(),
            hint: None,
        });
    };
    let conninfo = connection
        .conninfo()
        .map_err(|error| Trouble::new(&error, None))?;
    Ok(TransportOptions {
        conninfo,
        slot: Some(slot.clone()),
        create_slot: if *create_slot {
            SlotPolicy::Create
        } else {
            SlotPolicy::Require
        },
    })
}

/// Whether the spool itself says where to go on. If not, and the archives do not say it either, the slot does, which
/// loses nothing.
fn has_wal(spool: &Spool) -> bool {
    let listing = spool.list();
    listing.is_ok_and(|listing| !listing.segments.is_empty() || !listing.partials.is_empty())
}

/// What a receiver does, into the shared state, the log and the supervisor's ear.
struct Watch<'a> {
    link: &'a Link,
    slot: &'a Slot,
    bell: &'a Bell,
    /// Why the server that answered is not the right one.
    refused: &'a OnceLock<Trouble>,
    /// Ends the round.
    ending: Cancel,
    why: Option<RoundEnd>,
    /// The end of what was received, to count bytes.
    received: Lsn,
    /// The hole that the next start closes off.
    gap: Option<(TimelineId, Lsn)>,
    logged: Option<(String, Instant)>,
}

impl<'a> Watch<'a> {
    fn new(
        link: &'a Link,
        slot: &'a Slot,
        bell: &'a Bell,
        refused: &'a OnceLock<Trouble>,
        gap: Option<(TimelineId, Lsn)>,
    ) -> Self {
        let (ending, received) = (Cancel::new(), Lsn::INVALID);
        Self {
            link,
            slot,
            bell,
            refused,
            ending,
            why: None,
            received,
            gap,
            logged: None,
        }
    }

    /// Why the round ended.
    fn end(self, outcome: Result<pgm_wal::Stopped, ReceiveError>) -> RoundEnd {
        match outcome {
            Ok(_) => self.why.unwrap_or(RoundEnd::Stopped),
            Err(error) => {
                self.slot.set_phase(Phase::Error);
                let (text, hint) = (chain(&error), error.hint());
                error!("{text}{}", hint_line(hint.as_deref()));
                self.link.tell(WorkerEvent::Problem { text, hint });
                RoundEnd::Broken
            }
        }
    }

    fn ring(&self) {
        self.bell.ring();
    }

    fn log_failure(&mut self, text: String, hint: Option<&str>, retry_in: Duration) {
        let same =
            |(last, at): &(String, Instant)| *last == text && at.elapsed() < REPEAT_LOG_AFTER;
        if self.logged.as_ref().is_some_and(same) {
            debug!("{text} (again); next try in {retry_in:?}");
            return;
        }
        error!("{text}{}; next try in {retry_in:?}", hint_line(hint));
        self.logged = Some((text, Instant::now()));
    }
}

impl ReceiveObserver for Watch<'_> {
    fn state(&mut self, state: ReceiveState) {
        let phase = match state {
            ReceiveState::Connecting | ReceiveState::Starting => Phase::Connecting,
            ReceiveState::Streaming => Phase::Streaming,
            ReceiveState::Stopping => Phase::Stopping,
            // `error` says which kind of pause it is.
            ReceiveState::Disconnected => return,
        };
        self.slot.set_phase(phase);
        if state == ReceiveState::Streaming {
            info!("streaming from {}", self.received);
            self.logged = None;
            self.link.tell(WorkerEvent::Streaming);
        }
    }

    fn received(&mut self, end: Lsn) {
        self.slot.received_bytes.add(end.bytes_since(self.received));
        self.received = end;
        self.slot.set_received(end);
        if self.link.stop().is_cancelled() {
            self.ending.cancel();
        }
    }

    fn server_end(&mut self, lsn: Lsn) {
        self.slot.set_server_end(lsn);
    }

    fn durable(&mut self, lsn: DurableLsn) {
        self.slot.set_durable(lsn.lsn());
    }

    fn synced(&mut self, took: Duration) {
        self.slot.fsync.observe(took);
    }

    fn acknowledged(&mut self, after: Duration) {
        self.slot.acknowledge.observe(after);
    }

    fn segment_finished(&mut self, _: SegmentName) {
        self.ring();
    }

    fn history_stored(&mut self, timeline: TimelineId) {
        info!("stored the history of timeline {timeline}");
        self.ring();
    }

    fn timeline(&mut self, timeline: TimelineId, start: Lsn) {
        self.received = start;
        self.slot.set_timeline(timeline);
        if let Some((before, from)) = self.gap.take() {
            gap::tell(self.link, before, from, timeline, start);
        }
    }

    fn error(&mut self, error: &ReceiveError, retry_in: Duration) {
        self.slot.connection_failures.add(1);
        let (text, hint) = match self.refused.get() {
            Some(trouble) => {
                self.why = Some(RoundEnd::Broken);
                self.ending.cancel();
                (trouble.text.clone(), trouble.hint.clone())
            }
            None => (chain(error), error.hint()),
        };
        self.slot
            .set_phase(if is_for_a_person(error) || self.refused.get().is_some() {
                Phase::Error
            } else {
                Phase::Backoff
            });
        match error {
            ReceiveError::WalRemoved { timeline, lsn, .. } => {
                self.why = Some(RoundEnd::WalRemoved(*timeline, *lsn));
                self.ending.cancel();
            }
            ReceiveError::Transport(error) if gap::is_lost_slot(error) => {
                self.why = Some(RoundEnd::SlotLost);
                self.ending.cancel();
            }
            _ => {}
        }
        self.log_failure(text.clone(), hint.as_deref(), retry_in);
        self.link.tell(WorkerEvent::Problem { text, hint });
        if self.link.stop().is_cancelled() {
            self.ending.cancel();
        }
    }
}

/// Whether waiting alone is unlikely to help.
fn is_for_a_person(error: &ReceiveError) -> bool {
    use pgm_proto::Error as Cause;
    match error {
        ReceiveError::Transport(error) => matches!(
            error,
            Cause::ConnInfo(_)
                | Cause::Tls { .. }
                | Cause::Authentication { .. }
                | Cause::Refused { .. }
                | Cause::Server(_)
                | Cause::SlotMissing { .. }
                | Cause::TooOld { .. }
        ),
        ReceiveError::Silent { .. } | ReceiveError::ServerBehind { .. } => false,
        _ => true,
    }
}

fn hint_line(hint: Option<&str>) -> String {
    hint.map(|hint| format!("; HINT: {hint}"))
        .unwrap_or_default()
}
