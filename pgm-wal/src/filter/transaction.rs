//! The transactions that are to be left out, with all that belongs to them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;
use pgm_proto::Lsn;

use super::{FilterError, Wal};
use crate::record::{
    RESOURCE_MANAGER_TRANSACTION, Record, TransactionEnd, TransactionKind, subtransactions,
};

/// A transaction that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its number.
    pub xid: u32,
    /// The transactions within it that were committed with it.
    pub subtransactions: Vec<u32>,
    /// Where its commit is recorded.
    pub lsn: Lsn,
    /// When it was committed, by the server's clock.
    pub time: Timestamp,
}

impl Transaction {
    /// The transaction that `record` commits.
    pub(super) fn committed_by(record: &Record<'_>) -> Option<Self> {
        if record.resource_manager != RESOURCE_MANAGER_TRANSACTION {
            return None;
        }
        let end = TransactionEnd::of(record)?;
        (end.kind == TransactionKind::Commit).then_some(())?;
        Some(Self {
            xid: end.xid,
            subtransactions: subtransactions(record).collect(),
            lsn: end.lsn,
            time: end.time,
        })
    }

    /// Its number and those of its parts.
    pub(super) fn xids(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.xid).chain(self.subtransactions.iter().copied())
    }
}

/// Transactions to leave out.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOut {
    transactions: BTreeMap<u32, Transaction>,
    xids: HashSet<u32>,
}

impl LeftOut {
    pub(super) fn add(&mut self, transaction: Transaction) {
        self.xids.extend(transaction.xids());
        self.transactions.insert(transaction.xid, transaction);
    }

    /// Whether `xid` is one of them or a part of one.
    pub(super) fn has(&self, xid: u32) -> bool {
        self.xids.contains(&xid)
    }

    /// The numbers of all and of their parts.
    pub(super) const fn xids(&self) -> &HashSet<u32> {
        &self.xids
    }

    /// By their numbers.
    pub(super) fn transactions(&self) -> impl Iterator<Item = &Transaction> {
        self.transactions.values()
    }

    /// Whether `record` commits one of them.
    pub(super) fn is_committed_by(&self, record: &Record<'_>) -> bool {
        record.resource_manager == RESOURCE_MANAGER_TRANSACTION
            && TransactionEnd::of(record).is_some_and(|end| {
                end.kind == TransactionKind::Commit && self.transactions.contains_key(&end.xid)
            })
    }
}

/// Finds the commits of the transactions with these numbers; a number of a part of a transaction means the transaction.
pub(super) fn find(wal: &Wal<'_>, wanted: &BTreeSet<u32>) -> Result<LeftOut, FilterError> {
    let mut left_out = LeftOut::default();
    let mut rolled_back = BTreeSet::new();
    wal.each(&mut |record| {
        if record.resource_manager != RESOURCE_MANAGER_TRANSACTION {
            return Ok(());
        }
        match Transaction::committed_by(record) {
            Some(transaction) if transaction.xids().any(|xid| wanted.contains(&xid)) => {
                left_out.add(transaction);
            }
            Some(_) => {}
            None => rolled_back.extend(
                TransactionEnd::of(record)
                    .map(|end| end.xid)
                    .filter(|xid| wanted.contains(xid)),
            ),
        }
        Ok(())
    })?;
    match wanted.iter().copied().find(|xid| !left_out.has(*xid)) {
        Some(xid) if rolled_back.contains(&xid) => Err(FilterError::RolledBack { xid }),
        Some(xid) => Err(FilterError::NotCommitted { xid }),
        None => Ok(left_out),
    }
}
