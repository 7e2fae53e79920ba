//! One job that waits or runs: its record, its speed, and who follows it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use pgm_mgmt::{
    Error, ErrorCode, JobId, JobMessage, JobProgress, JobRecord, JobState, MessageLevel, Response,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::super::slots::SlotLease;
use super::{JobRequest, Wish, now};

/// Rates are over the last five seconds.
const SAMPLES: usize = 10;
/// How many messages a record keeps.
const MESSAGES_MAX: usize = 20;
/// How long a text in a record may be.
const TEXT_BYTES_MAX: usize = 4096;

/// A job that has not ended.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) record: JobRecord,
    lease: Arc<SlotLease>,
    began: Instant,
    /// Bytes done, newest last.
    samples: VecDeque<(Instant, u64)>,
    wish: watch::Sender<Wish>,
    audience: Vec<Audience>,
}

/// Somebody who follows a job.
#[derive(Debug)]
pub(super) struct Audience {
    pub(super) messages: mpsc::UnboundedSender<(MessageLevel, String)>,
    pub(super) outcome: oneshot::Sender<Result<Response, Error>>,
    pub(super) wants: Wants,
}

/// What somebody wants to hear at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// The answer to the request that began the job.
    Answer,
    /// The record.
    Record,
}

impl Job {
    pub(super) fn new(
        id: JobId,
        asked: &JobRequest<'_>,
        lease: Arc<SlotLease>,
        wish: watch::Sender<Wish>,
        first: Audience,
    ) -> Self {
        let record = JobRecord {
            job: id,
            kind: asked.kind,
            server: asked.server.clone(),
            state: JobState::Waiting,
            asked_by: asked.caller.to_string(),
            asked: now(),
            started: None,
            ended: None,
            phase: "waiting for its turn".to_owned(),
            done_bytes: 0,
            total_bytes: None,
            outcome: None,
            error: None,
            messages: Vec::new(),
        };
        Self {
            record,
            lease,
            began: Instant::now(),
            samples: VecDeque::new(),
            wish,
            audience: vec![first],
        }
    }

    pub(super) fn begin(&mut self) {
        self.record.state = JobState::Running;
        self.record.started = Some(now());
        "starting".clone_into(&mut self.record.phase);
    }

    /// Asks for more than was asked for before, never for less.
    pub(super) fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|wished| {
            let more = wish > *wished;
            if more {
                *wished = wish;
            }
            more
        });
    }

    pub(super) fn set_phase(&mut self, phase: String) {
        if self.record.phase.split(':').next() != phase.split(':').next() {
            self.samples.clear();
        }
        self.record.phase = bounded(phase);
    }

    pub(super) fn sample(&mut self) {
        let done = self.lease.slot().job_done.load();
        self.samples.push_back((Instant::now(), done));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    pub(super) fn tell(&mut self, level: MessageLevel, text: &str) {
        for somebody in &self.audience {
            let _ = somebody.messages.send((level, text.to_owned()));
        }
        let messages = &mut self.record.messages;
        if messages.len() == MESSAGES_MAX {
            messages.remove(0);
        }
        messages.push(JobMessage {
            at: now(),
            level,
            text: bounded(text.to_owned()),
        });
    }

    /// One more who follows; those who have gone are forgotten.
    pub(super) fn admit(&mut self, somebody: Audience) {
        self.audience
            .retain(|somebody| !somebody.outcome.is_closed());
        self.audience.push(somebody);
    }

    /// The record with the bytes of this moment.
    pub(super) fn record_now(&self) -> JobRecord {
        let slot = self.lease.slot();
        JobRecord {
            done_bytes: slot.job_done.load(),
            total_bytes: Some(slot.job_total.load()).filter(|total| *total > 0),
            ..self.record.clone()
        }
    }

    pub(super) fn progress(&self) -> JobProgress {
        let JobRecord {
            job,
            kind,
            server,
            phase,
            asked,
            done_bytes,
            total_bytes,
            ..
        } = self.record_now();
        let rate_bytes = rate(self.samples.front(), self.samples.back());
        JobProgress {
            job,
            kind,
            server,
            phase,
            done_bytes,
            total_bytes,
            rate_bytes,
            eta_seconds: total_bytes
                .filter(|_| rate_bytes > 0)
                .map(|total| total.saturating_sub(done_bytes).div_ceil(rate_bytes)),
            started: asked,
            elapsed_seconds: self.began.elapsed().as_secs(),
        }
    }

    /// The job has ended.
    pub(super) fn end(&mut self, outcome: &Result<Response, Error>) {
        let mut record = self.record_now();
        record.ended = Some(now());
        match outcome {
            Ok(response) => {
                record.state = JobState::Done;
                record.outcome = response.outcome();
            }
            Err(error) => {
                record.state = match error.code {
                    ErrorCode::Cancelled | ErrorCode::ShuttingDown => JobState::Cancelled,
                    _ => JobState::Failed,
                };
                record.error = Some(Error {
                    code: error.code,
                    text: bounded(error.text.clone()),
                    hint: error.hint.clone().map(bounded),
                });
            }
        }
        self.record = record;
    }

    /// Tells everybody who follows how it ended.
    pub(super) fn report(self, outcome: &Result<Response, Error>) {
        for somebody in self.audience {
            let report = match somebody.wants {
                Wants::Answer => outcome.clone(),
                Wants::Record => Ok(Response::Job(self.record.clone())),
            };
            // Nobody may be waiting any more.
            let _ = somebody.outcome.send(report);
        }
    }
}

/// `text`, cut off where it is too long to be kept.
fn bounded(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Bytes a second between two samples.
fn rate(oldest: Option<&(Instant, u64)>, newest: Option<&(Instant, u64)>) -> u64 {
    let (Some((from, before)), Some((to, after))) = (oldest, newest) else {
        return 0;
    };
    let milliseconds = to.saturating_duration_since(*from).as_millis();
    let bytes = u128::from(after.saturating_sub(*before));
    (bytes * 1000)
        .checked_div(milliseconds)
        .and_then(|rate| u64::try_from(rate).ok())
        .unwrap_or(0)
}
