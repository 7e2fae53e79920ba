//! Golden scripts: events go in, and what the machine does is compared with what is written here.

use std::fmt::Write;
use std::fs::File;

use pgm_proto::{ServerIdentity, ServerVersion, SlotPosition, SystemId};

use super::super::StartHint;
use super::*;
use crate::segment::SegmentName;
use crate::spool::SpoolListing;

const SECOND: Duration = Duration::from_secs(1);

fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn lsn(text: &str) -> Lsn {
    text.parse().unwrap()
}

fn name(timeline_number: u32, at: &str) -> SegmentName {
    SegmentName::at(timeline(timeline_number), lsn(at), SegmentSize::DEFAULT)
}

fn history(of: u32, lines: &str) -> History {
    History::parse(timeline(of), lines.as_bytes()).unwrap()
}

/// A server on a timeline, and an empty spool.
fn facts(server_timeline: u32, flush_lsn: &str) -> Facts {
    let server = ServerIdentity {
        system_id: SystemId::new(7),
        timeline: timeline(server_timeline),
        flush_lsn: lsn(flush_lsn),
        version: ServerVersion::from_number(170_000),
        segment_bytes: 16 << 20,
        slot: None,
    };
    Facts::new(
        &server,
        SegmentSize::DEFAULT,
        &SpoolListing::default(),
        None,
    )
}

fn with_spool(facts: Facts, segments: &[SegmentName], partials: &[SegmentName]) -> Facts {
    let mut listing = SpoolListing::default();
    listing.segments = segments.to_vec();
    listing.partials = partials.to_vec();
    Facts {
        spool_end: listing.end(),
        ..facts
    }
}

struct Script {
    machine: Machine,
    file: File,
    log: String,
    written: Lsn,
    now: Instant,
}

impl Script {
    fn new() -> Self {
        Self {
            machine: Machine::new(&ReceiveOptions::default()),
            file: tempfile::tempfile().unwrap(),
            log: String::from("\n"),
            written: Lsn::INVALID,
            now: Instant::now(),
        }
    }

    fn event(&mut self, what: &str, event: Event<'_>) {
        writeln!(self.log, "{what}").unwrap();
        if let Err(error) = self.machine.handle(event) {
            writeln!(self.log, "  error: {error}").unwrap();
        }
        while let Some(action) = self.machine.next_action() {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        let text = match action {
            Action::Send(Outgoing::TimelineHistory(timeline)) => format!("ask history {timeline}"),
            Action::Send(Outgoing::Start { timeline, lsn }) => format!("start {timeline} {lsn}"),
            Action::Send(Outgoing::EndStream) => "end stream".to_owned(),
            Action::Send(other) => format!("send {other:?}"),
            Action::Begin(start) => {
                self.written = start.lsn;
                format!("begin {} {}", start.timeline, start.lsn)
            }
            Action::Sync => {
                let durable = DurableLsn::sync(&self.file, self.written).unwrap();
                writeln!(self.log, "  sync {durable}").unwrap();
                self.machine.handle(Event::Synced(durable)).unwrap();
                return;
            }
            Action::Report(ask) => match self.machine.status(ask) {
                Some(Outgoing::Status(status)) => {
                    let ask = if status.reply_requested {
                        " reply!"
                    } else {
                        ""
                    };
                    format!("status {} {}{ask}", status.write, status.flush)
                }
                other => format!("{other:?}"),
            },
            Action::Leave {
                timeline,
                next,
                switch,
            } => format!("leave {timeline} for {next} at {switch}"),
            Action::Wait(timeout) => format!("wait {timeout:?}"),
            Action::Stop(stop) => format!("stop {stop:?}"),
        };
        writeln!(self.log, "  {text}").unwrap();
    }

    fn connected(&mut self, facts: &Facts) {
        self.event("connected", Event::Connected(facts));
    }

    fn history(&mut self, history: &History) {
        self.machine.expect_history(history.timeline()).unwrap();
        self.event("history", Event::HistoryStored(history));
    }

    fn started(&mut self) {
        self.event("started", Event::Started);
    }

    fn wal(&mut self, start: &str, bytes: u64, server_end: &str) {
        let start = lsn(start);
        self.written = start + bytes;
        let what = format!("wal {start} +{bytes}");
        self.event(
            &what,
            Event::Wal {
                start,
                server_end: lsn(server_end),
                bytes,
            },
        );
    }

    fn drained(&mut self) {
        self.event("drained", Event::Drained(self.now));
    }

    fn end_of_timeline(&mut self, next: u32, switch: &str) {
        let event = Event::EndOfTimeline {
            next: timeline(next),
            switch: lsn(switch),
        };
        self.event("end of timeline", event);
    }

    fn cancelled(&mut self) {
        self.event("cancelled", Event::Cancelled(self.now));
    }

    fn expect(&self, expected: &str) {
        let trimmed: Vec<_> = expected
            .lines()
            .map(|line| line.strip_prefix("        ").unwrap_or(line))
            .collect();
        assert_eq!(self.log.trim(), trimmed.join("\n").trim());
    }
}

#[test]
fn an_empty_spool_begins_at_the_segment_of_the_servers_end() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000148"));
    script.started();
    script.wal("0/3000000", 0x148, "0/3000148");
    script.drained();
    script.drained();
    script.expect(
        "
        connected
          begin 1 0/3000000
          start 1 0/3000000
        started
        wal 0/3000000 +328
        drained
          sync 0/3000148
          status 0/3000148 0/3000148
        drained
          wait 100ms",
    );
}

#[test]
fn the_slot_comes_before_the_servers_end_and_the_hint_before_the_slot() {
    let slot = SlotPosition {
        restart_lsn: Some(lsn("0/2000028")),
        timeline: Some(timeline(1)),
    };
    let with_slot = Facts {
        slot: Some(slot),
        ..facts(1, "0/5000000")
    };
    let hint = StartHint {
        timeline: timeline(1),
        lsn: lsn("0/1000028"),
    };
    let with_both = Facts {
        hint: Some(hint),
        ..with_slot.clone()
    };
    let root = History::root(timeline(1));
    assert_eq!(
        start::choose(&with_slot, &root).unwrap().lsn,
        lsn("0/2000000")
    );
    assert_eq!(
        start::choose(&with_both, &root).unwrap().lsn,
        lsn("0/1000000")
    );
    let with_all = with_spool(with_both, &[name(1, "0/3000000")], &[]);
    assert_eq!(
        start::choose(&with_all, &root).unwrap().lsn,
        lsn("0/4000000")
    );
}

/// Whoever moved the spool aside has decided to follow the server; the archive's end on the branch that it left must not
/// keep it from being received.
#[test]
fn a_hint_on_another_branch_does_not_count_when_the_spool_is_empty() {
    let at = |timeline_number, position| StartHint {
        timeline: timeline(timeline_number),
        lsn: lsn(position),
    };
    let slot = SlotPosition {
        restart_lsn: Some(lsn("0/4000028")),
        timeline: Some(timeline(3)),
    };
    let server = history(3, "1\t0/3500000\tx\n");
    for (hint, timeline_number, begin) in [
        (at(2, "0/9000000"), 3, "0/4000000"),
        (at(1, "0/5000028"), 3, "0/4000000"),
        (at(1, "0/3600000"), 1, "0/3000000"),
    ] {
        let facts = Facts {
            slot: Some(slot),
            hint: Some(hint),
            ..facts(3, "0/5000000")
        };
        let start = start::choose(&facts, &server).unwrap();
        let expected = (timeline(timeline_number), lsn(begin));
        assert_eq!((start.timeline, start.lsn), expected, "{hint:?}");
    }
}

#[test]
fn a_slot_on_an_older_timeline_begins_there() {
    let slot = SlotPosition {
        restart_lsn: Some(lsn("0/2000028")),
        timeline: None,
    };
    let facts = Facts {
        slot: Some(slot),
        ..facts(2, "0/5000000")
    };
    let start = start::choose(&facts, &history(2, "1\t0/3000000\tx\n")).unwrap();
    assert_eq!((start.timeline, start.lsn), (timeline(1), lsn("0/2000000")));
}

#[test]
fn a_restart_in_a_segment_begins_at_its_beginning() {
    let mut script = Script::new();
    let facts = facts(1, "0/5000200");
    script.connected(&with_spool(
        facts,
        &[name(1, "0/4000000")],
        &[name(1, "0/5000000")],
    ));
    script.expect(
        "
        connected
          begin 1 0/5000000
          start 1 0/5000000",
    );
}

#[test]
fn the_history_is_stored_before_any_wal_of_the_timeline() {
    let mut script = Script::new();
    script.connected(&facts(2, "0/5000200"));
    script.history(&history(2, "1\t0/5000100\tx\n"));
    script.expect(
        "
        connected
          ask history 2
        history
          begin 2 0/5000000
          start 2 0/5000000",
    );
}

#[test]
fn a_timeline_switch_is_followed() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000100"));
    script.started();
    script.wal("0/3000000", 0x100, "0/3000100");
    script.end_of_timeline(2, "0/3000100");
    script.history(&history(2, "1\t0/3000100\tx\n"));
    script.started();
    script.expect(
        "
        connected
          begin 1 0/3000000
          start 1 0/3000000
        started
        wal 0/3000000 +256
        end of timeline
          sync 0/3000100
          leave 1 for 2 at 0/3000100
          ask history 2
        history
          begin 2 0/3000000
          start 2 0/3000000
        started",
    );
}

#[test]
fn a_switch_from_timeline_9_to_10_while_we_were_away_is_followed() {
    let mut script = Script::new();
    let ten = history(10, "8\t0/2000000\tx\n9\t0/5000100\tx\n");
    let facts = with_spool(facts(10, "0/7000000"), &[name(9, "0/4000000")], &[]);
    script.connected(&facts);
    script.history(&ten);
    script.history(&history(9, "8\t0/2000000\tx\n"));
    script.started();
    script.wal("0/5000000", 0x100, "0/5000100");
    script.end_of_timeline(10, "0/5000100");
    script.history(&ten);
    script.expect(
        "
        connected
          ask history 10
        history
          ask history 9
        history
          begin 9 0/5000000
          start 9 0/5000000
        started
        wal 0/5000000 +256
        end of timeline
          sync 0/5000100
          leave 9 for 10 at 0/5000100
          ask history 10
        history
          begin 10 0/5000000
          start 10 0/5000000",
    );
}

#[test]
fn a_timeline_that_ended_where_we_ask_is_left_at_once() {
    let mut script = Script::new();
    let two = history(2, "1\t0/5000000\tx\n");
    script.connected(&with_spool(
        facts(2, "0/7000000"),
        &[name(1, "0/4000000")],
        &[],
    ));
    script.history(&two);
    script.end_of_timeline(2, "0/5000000");
    script.history(&two);
    script.expect(
        "
        connected
          ask history 2
        history
          begin 1 0/5000000
          start 1 0/5000000
        end of timeline
          leave 1 for 2 at 0/5000000
          ask history 2
        history
          begin 2 0/5000000
          start 2 0/5000000",
    );
}

#[test]
fn a_server_behind_us_is_refused() {
    let mut script = Script::new();
    script.connected(&with_spool(
        facts(1, "0/3000000"),
        &[name(1, "0/4000000")],
        &[],
    ));
    script.expect(
        "
        connected
          error: the server's WAL ends at 0/3000000 on timeline 1, but the spool's goes on to 0/5000000",
    );
}

#[test]
fn a_branch_before_our_end_is_refused() {
    let mut script = Script::new();
    script.connected(&with_spool(
        facts(2, "0/9000000"),
        &[name(1, "0/6000000")],
        &[],
    ));
    script.history(&history(2, "1\t0/5000100\tx\n"));
    script.expect(
        "
        connected
          ask history 2
        history
          error: the server is on timeline 2, which left timeline 1 at 0/5000100, but the spool has its WAL up to 0/7000000",
    );
}

#[test]
fn a_branch_that_is_not_ours_is_refused() {
    let mut script = Script::new();
    script.connected(&with_spool(
        facts(3, "0/9000000"),
        &[name(2, "0/6000000")],
        &[],
    ));
    script.history(&history(3, "1\t0/5000100\tx\n"));
    script.connected(&with_spool(
        facts(1, "0/9000000"),
        &[name(2, "0/6000000")],
        &[],
    ));
    script.expect(
        "
        connected
          ask history 3
        history
          error: the server is on timeline 3, whose history does not include our timeline 2
        connected
          error: the server is on timeline 1, whose history does not include our timeline 2",
    );
}

#[test]
fn gaps_overlaps_and_a_short_timeline_end_the_conversation() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000000"));
    script.started();
    script.wal("0/3000000", 0x100, "0/3000100");
    script.wal("0/3000200", 0x100, "0/3000300");
    script.wal("0/3000080", 0x100, "0/3000300");
    script.end_of_timeline(2, "0/3000200");
    script.end_of_timeline(1, "0/3000100");
    script.expect(
        "
        connected
          begin 1 0/3000000
          start 1 0/3000000
        started
        wal 0/3000000 +256
        wal 0/3000200 +256
          error: the server sent WAL from 0/3000200 where 0/3000100 was due
        wal 0/3000080 +256
          error: the server sent WAL from 0/3000080 where 0/3000100 was due
        end of timeline
          error: the server sent WAL from 0/3000200 where 0/3000100 was due
        end of timeline
          error: unexpected answer of the server: a next timeline that is not newer",
    );
}

#[test]
fn a_request_is_answered_at_once_and_only_with_what_is_synced() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000000"));
    script.started();
    let keepalive = Event::Keepalive {
        server_end: lsn("0/3000400"),
        ask: Ask::Reply,
    };
    script.event("keepalive reply!", keepalive);
    script.wal("0/3000000", 0x100, "0/3000400");
    script.event(
        "keepalive",
        Event::Keepalive {
            server_end: lsn("0/3000400"),
            ask: Ask::Nothing,
        },
    );
    script.event("keepalive reply!", keepalive);
    script.expect(
        "
        connected
          begin 1 0/3000000
          start 1 0/3000000
        started
        keepalive reply!
          status 0/3000000 0/0
        wal 0/3000000 +256
        keepalive
        keepalive reply!
          sync 0/3000100
          status 0/3000100 0/3000100",
    );
}

#[test]
fn a_sync_waits_a_moment_for_what_the_server_still_has() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000000"));
    script.started();
    script.wal("0/3000000", 0x100, "0/3000400");
    script.drained();
    script.event("timed out", Event::TimedOut);
    script.event("timed out", Event::TimedOut);
    script.expect(
        "
        connected
          begin 1 0/3000000
          start 1 0/3000000
        started
        wal 0/3000000 +256
        drained
          wait 10ms
        timed out
          sync 0/3000100
          status 0/3000100 0/3000100
        timed out",
    );
}

#[test]
fn a_stream_without_a_pause_is_reported_every_16_mib() {
    let mut script = Script::new();
    let gib = Facts {
        segment_size: SegmentSize::MAX,
        ..facts(1, "1/0")
    };
    script.connected(&gib);
    script.started();
    for step in 0..5 {
        script.wal(&format!("1/{:X}", step * 0x40_0000), 0x40_0000, "2/0");
    }
    script.expect(
        "
        connected
          begin 1 1/0
          start 1 1/0
        started
        wal 1/0 +4194304
        wal 1/400000 +4194304
        wal 1/800000 +4194304
        wal 1/C00000 +4194304
          sync 1/1000000
          status 1/1000000 1/1000000
        wal 1/1000000 +4194304",
    );
}

#[test]
fn silence_is_asked_about_and_then_ends_the_conversation() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000000"));
    script.started();
    script.drained();
    for _ in 0..6 {
        script.now += 10 * SECOND;
        script.drained();
        script.drained();
    }
    script.expect(
        "
        connected
          begin 1 0/3000000
          start 1 0/3000000
        started
        drained
          wait 10s
        drained
          status 0/3000000 0/0
        drained
          wait 10s
        drained
          status 0/3000000 0/0
        drained
          wait 10s
        drained
          status 0/3000000 0/0 reply!
        drained
          wait 10s
        drained
          status 0/3000000 0/0
        drained
          wait 10s
        drained
          status 0/3000000 0/0
        drained
          wait 10s
        drained
          error: nothing heard from the server for 60 s
        drained
          error: nothing heard from the server for 60 s",
    );
}

#[test]
fn a_stop_syncs_reports_and_ends_the_stream() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000000"));
    script.started();
    script.wal("0/3000000", 0x100, "0/3000400");
    script.cancelled();
    script.cancelled();
    script.wal("0/3000100", 0x100, "0/3000400");
    script.drained();
    script.event("closed", Event::Closed);
    script.cancelled();
    script.expect(
        "
        connected
          begin 1 0/3000000
          start 1 0/3000000
        started
        wal 0/3000000 +256
        cancelled
          sync 0/3000100
          status 0/3000100 0/3000100
          end stream
        cancelled
        wal 0/3000100 +256
        drained
          wait 5s
        closed
          sync 0/3000200
          stop Cancelled
        cancelled",
    );
}

#[test]
fn a_server_that_does_not_end_the_stream_is_left_after_5_s() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000000"));
    script.started();
    script.cancelled();
    script.now += 5 * SECOND;
    script.cancelled();
    script.expect(
        "
        connected
          begin 1 0/3000000
          start 1 0/3000000
        started
        cancelled
          status 0/3000000 0/0
          end stream
        cancelled
          stop Cancelled",
    );
}

#[test]
fn a_stop_before_the_stream_is_at_once() {
    let mut script = Script::new();
    script.connected(&facts(2, "0/3000000"));
    script.cancelled();
    script.expect(
        "
        connected
          ask history 2
        cancelled
          stop Cancelled",
    );
}

#[test]
fn a_server_that_shuts_down_ends_the_conversation_after_a_sync() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000000"));
    script.started();
    script.wal("0/3000000", 0x100, "0/3000400");
    script.event("closed", Event::Closed);
    script.expect(
        "
        connected
          begin 1 0/3000000
          start 1 0/3000000
        started
        wal 0/3000000 +256
        closed
          sync 0/3000100
          stop ServerClosed",
    );
}

#[test]
fn a_history_that_does_not_tell_of_the_switch_is_refused() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000000"));
    script.started();
    script.end_of_timeline(3, "0/3000000");
    script.history(&history(3, "1\t0/2000000\tx\n2\t0/3000000\tx\n"));
    assert!(
        script.log.ends_with("does not tell of the switch\n"),
        "{}",
        script.log
    );
}

#[test]
fn answers_that_nobody_asked_for_are_refused() {
    let mut machine = Machine::new(&ReceiveOptions::default());
    assert!(machine.expect_history(timeline(2)).is_err());
    assert!(machine.handle(Event::Started).is_err());
    let wal = Event::Wal {
        start: lsn("0/0"),
        server_end: lsn("0/0"),
        bytes: 1,
    };
    assert!(machine.handle(wal).is_err());
    let end = Event::EndOfTimeline {
        next: timeline(2),
        switch: lsn("0/0"),
    };
    assert!(machine.handle(end).is_err());
    machine.handle(Event::Connected(&facts(3, "0/1"))).unwrap();
    assert!(machine.expect_history(timeline(2)).is_err());
}

#[test]
fn a_stop_does_not_wait_first() {
    let mut script = Script::new();
    script.connected(&facts(1, "0/3000000"));
    script.started();
    script.machine.handle(Event::Drained(script.now)).unwrap();
    script.cancelled();
    script.expect(
        "
        connected
          begin 1 0/3000000
          start 1 0/3000000
        started
        cancelled
          status 0/3000000 0/0
          end stream",
    );
}
