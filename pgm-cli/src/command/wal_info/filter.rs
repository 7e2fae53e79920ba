//! Which records are shown.

use jiff::Timestamp;
use pgm_wal::record::{Record, TransactionEnd};

use crate::arguments::WalFilterArguments;

/// Lets records through that every option lets through.
pub(super) struct Filter<'a> {
    arguments: &'a WalFilterArguments,
    /// When the last transaction ended that was seen.
    now: Option<Timestamp>,
}

impl<'a> Filter<'a> {
    pub(super) const fn new(arguments: &'a WalFilterArguments) -> Self {
        Self {
            arguments,
            now: None,
        }
    }

    pub(super) fn lets_through(&mut self, record: &Record<'_>) -> bool {
        let arguments = self.arguments;
        let timed = arguments.since.is_some() || arguments.until.is_some();
        if timed && let Some(end) = TransactionEnd::of(record) {
            self.now = Some(end.time);
        }
        let managers = &arguments.rmgr;
        let by_manager = managers.is_empty() || managers.contains(&record.resource_manager);
        let by_xid = arguments.xid.is_empty() || arguments.xid.contains(&record.xid);
        by_manager
            && by_xid
            && (!timed || self.in_time())
            && arguments.relation.is_none_or(|wanted| wanted.is_in(record))
    }

    fn in_time(&self) -> bool {
        let (since, until) = (self.arguments.since, self.arguments.until);
        match self.now {
            Some(now) => {
                since.is_none_or(|since| now >= since) && until.is_none_or(|until| now <= until)
            }
            None => since.is_none(),
        }
    }
}
