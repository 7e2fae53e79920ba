//! When to report, and what.
//!
//! Write and flush positions are reported apart; flush is only ever a [`DurableLsn`], and apply is always invalid, since
//! nothing is replayed here (so `synchronous_commit = remote_apply` must not wait for us). The clock is read when the
//! socket is drained, not for each message.
//!
//! After WAL the reports that only the clock asks for begin with a short pause, which doubles up to the interval: since
//! PostgreSQL 16 a walsender that goes to sleep misses the wake-up of WAL that is flushed at that very moment
//! (`WalSndWait` enters the list of those to wake after the last look for WAL), and sleeps until something arrives. A
//! synchronous commit would wait for the whole interval; so it waits for a tenth of a second.

use std::time::{Duration, Instant};

use pgm_proto::{Lsn, Outgoing, StandbyStatus};

use crate::durable::DurableLsn;

/// The first pause after WAL.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Whether a status asks the server for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// It only reports.
    Nothing,
    /// The server is to answer at once.
    Reply,
}

/// What the clock asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing for so long.
    Nothing(Duration),
    /// A status.
    Status(Ask),
    /// To give the connection up.
    Silent,
}

/// The clock of a connection.
#[derive(Debug)]
pub(crate) struct Feedback {
    interval: Duration,
    /// The pause before the next report; grows to the interval.
    pause: Duration,
    silence_max: Duration,
    heard_at: Option<Instant>,
    sent_at: Option<Instant>,
    /// The server was asked for a sign of life since it was last heard.
    asked: bool,
}

impl Feedback {
    pub(crate) fn new(interval: Duration, silence_max: Duration) -> Self {
        Self {
            interval,
            pause: interval,
            silence_max,
            heard_at: None,
            sent_at: None,
            asked: false,
        }
    }

    /// The server said something.
    pub(crate) fn heard(&mut self) {
        self.heard_at = None;
        self.asked = false;
    }

    /// WAL came: more may be on its way that the server does not know it has to send.
    pub(crate) fn heard_wal(&mut self) {
        self.heard();
        self.pause = FIRST_PAUSE.min(self.interval);
    }

    /// A status was sent.
    pub(crate) fn sent(&mut self) {
        self.sent_at = None;
    }

    /// What is due at `now`. What happened since the last look counts as having happened now.
    pub(crate) fn look(&mut self, now: Instant) -> Due {
        let heard = now.saturating_duration_since(*self.heard_at.get_or_insert(now));
        let sent = now.saturating_duration_since(*self.sent_at.get_or_insert(now));
        let half = self.silence_max / 2;
        if heard >= self.silence_max {
            return Due::Silent;
        }
        if heard >= half && !self.asked {
            self.asked = true;
            return Due::Status(Ask::Reply);
        }
        if sent >= self.pause {
            self.pause = (self.pause * 2).min(self.interval);
            return Due::Status(Ask::Nothing);
        }
        let silence = if self.asked { self.silence_max } else { half };
        Due::Nothing(
            silence
                .saturating_sub(heard)
                .min(self.pause.saturating_sub(sent)),
        )
    }

    /// How long a silence is allowed.
    pub(crate) fn silence_max(&self) -> Duration {
        self.silence_max
    }
}

/// The message that reports these positions.
pub(crate) fn status(write: Lsn, flush: Option<DurableLsn>, ask: Ask) -> Outgoing {
    Outgoing::Status(StandbyStatus {
        write,
        flush: flush.map_or(Lsn::INVALID, DurableLsn::lsn),
        apply: Lsn::INVALID,
        reply_requested: ask == Ask::Reply,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn reports_at_the_interval_and_never_more_often() {
        let mut feedback = Feedback::new(10 * SECOND, 60 * SECOND);
        let start = Instant::now();
        assert_eq!(feedback.look(start), Due::Nothing(10 * SECOND));
        assert_eq!(feedback.look(start + 9 * SECOND), Due::Nothing(SECOND));
        assert_eq!(
            feedback.look(start + 10 * SECOND),
            Due::Status(Ask::Nothing)
        );
        feedback.sent();
        assert_eq!(
            feedback.look(start + 10 * SECOND),
            Due::Nothing(10 * SECOND)
        );
    }

    #[test]
    fn after_wal_the_pauses_grow_to_the_interval() {
        let mut feedback = Feedback::new(SECOND, 60 * SECOND);
        let mut now = Instant::now();
        feedback.heard_wal();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let Due::Nothing(pause) = feedback.look(now) else {
                panic!("nothing is due at once");
            };
            pauses.push(pause.as_millis());
            now += pause;
            assert_eq!(feedback.look(now), Due::Status(Ask::Nothing));
            feedback.sent();
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        feedback.heard_wal();
        assert_eq!(feedback.look(now), Due::Nothing(FIRST_PAUSE));
    }

    #[test]
    fn asks_once_at_half_the_silence_and_gives_up_at_the_whole() {
        let mut feedback = Feedback::new(100 * SECOND, 60 * SECOND);
        let start = Instant::now();
        assert_eq!(feedback.look(start), Due::Nothing(30 * SECOND));
        assert_eq!(feedback.look(start + 30 * SECOND), Due::Status(Ask::Reply));
        feedback.sent();
        assert_eq!(
            feedback.look(start + 31 * SECOND),
            Due::Nothing(29 * SECOND)
        );
        assert_eq!(feedback.look(start + 60 * SECOND), Due::Silent);
        feedback.heard();
        assert_eq!(
            feedback.look(start + 61 * SECOND),
            Due::Nothing(30 * SECOND)
        );
    }
}
