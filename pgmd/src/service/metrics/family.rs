//! What a family of metrics is, and how its samples are handed over.

use crate::service::facts::Facts;
use crate::shared_state::Observations;

/// One family: everything that is to be known about it, and how it is computed.
#[derive(Debug, Clone, Copy)]
pub(in crate::service) struct Family {
    /// Its name, with the unit, and `_total` for counters.
    pub(in crate::service) name: &'static str,
    /// What its values are.
    pub(in crate::service) kind: Kind,
    /// One sentence for people.
    pub(in crate::service) help: &'static str,
    /// The names of its labels, in order.
    pub(in crate::service) labels: &'static [&'static str],
    /// Hands its samples over.
    pub(in crate::service) samples: fn(&Facts, &mut dyn Samples),
}

/// What the values of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Kind {
    /// A number that goes up and down.
    Gauge,
    /// A number that only grows while pgmd lives.
    Counter,
    /// Observations in buckets.
    Histogram,
}

impl Kind {
    /// The name in the exposition: `gauge`.
    pub(in crate::service) const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// Takes samples. The label values come in the order of [`Family::labels`].
pub(in crate::service) trait Samples {
    /// A sample of a gauge or counter.
    fn add(&mut self, labels: &[&str], value: Value);

    /// The samples of a histogram.
    fn histogram(&mut self, labels: &[&str], observations: &Observations);
}

/// A number as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::service) enum Value {
    /// A whole number, exactly.
    Whole(u64),
    /// Any number.
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

/// As 0 and 1.
impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<std::time::Duration> for Value {
    fn from(value: std::time::Duration) -> Self {
        Self::Real(value.as_secs_f64())
    }
}

/// As seconds of Unix time.
impl From<jiff::Timestamp> for Value {
    fn from(value: jiff::Timestamp) -> Self {
        Self::Real(value.as_millisecond() as f64 / 1000.0)
    }
}

impl From<pgm_proto::Lsn> for Value {
    fn from(value: pgm_proto::Lsn) -> Self {
        Self::Whole(value.bytes())
    }
}
