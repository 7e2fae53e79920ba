//! Counts the records that are listed, of the whole WAL.

use pgm_proto::Lsn;
use pgm_wal::record::RecordError;

use super::log::{Counter, Log};
use super::query::Query;
use crate::arguments::WalStats;
use crate::command::wal_info::Stats;

/// A count that goes on.
pub(super) struct Counting<'a> {
    counter: Counter<'a>,
    stats: Stats,
}

impl Counting<'_> {
    pub(super) fn new() -> Self {
        Self {
            counter: Counter::new(),
            stats: Stats::new(WalStats::Record),
        }
    }

    /// How far it is.
    pub(super) fn at(&self) -> Lsn {
        self.counter.at()
    }
}

impl<'a> Counting<'a> {
    /// Counts a portion; gives the lines of the table when all is counted.
    pub(super) fn step(
        &mut self,
        log: &Log<'a>,
        query: &Query,
    ) -> Result<Option<Vec<String>>, RecordError> {
        let stats = &mut self.stats;
        let more = self
            .counter
            .step(log, query, &mut |record| stats.count(record))?;
        Ok((!more).then(|| self.stats.lines()))
    }
}
