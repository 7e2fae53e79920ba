//! How long something took, counted in buckets that several processes can read.
//!
//! Recording is two additions to shared memory: nothing is allocated and nobody waits, so the WAL path can afford it.
//! Each bucket stands for itself; a reader may see an observation in its bucket before it is in the sum.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets: half a millisecond, which a good disk takes for a sync, to ten seconds, which is
/// an outage. One more bucket counts what took longer.
pub const BOUNDS: [Duration; 14] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// Observations of one duration.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observations {
    /// How many took at most the bound of the same place in [`BOUNDS`], those in the places before included.
    pub cumulative: [u64; BOUNDS.len()],
    /// How many there were.
    pub count: u64,
    /// How long all of them took together.
    pub sum: Duration,
}

impl Histogram {
    /// It took so long.
    pub fn observe(&self, took: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What there was so far.
    pub fn observations(&self) -> Observations {
        let mut count = 0;
        let mut cumulative = [0; BOUNDS.len()];
        for (total, bucket) in cumulative.iter_mut().zip(&self.buckets) {
            count += bucket.load(Ordering::Relaxed);
            *total = count;
        }
        count += self.buckets[BOUNDS.len()].load(Ordering::Relaxed);
        Observations {
            cumulative,
            count,
            sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)),
        }
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = &AtomicU64> {
        self.buckets.iter().chain([&self.sum_ns])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_in_its_bucket_and_in_those_above() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(500));
        histogram.observe(Duration::from_micros(501));
        histogram.observe(Duration::from_mins(1));
        let seen = histogram.observations();
        assert_eq!(seen.cumulative[..3], [1, 2, 2]);
        assert_eq!(seen.cumulative[13], 2);
        assert_eq!(seen.count, 3);
        assert_eq!(
            seen.sum,
            Duration::from_micros(1001) + Duration::from_mins(1)
        );
    }

    #[test]
    fn the_bounds_rise() {
        assert!(BOUNDS.is_sorted_by(|one, next| one < next));
    }
}
