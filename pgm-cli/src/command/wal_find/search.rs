//! Looking for the ends of transactions by what the transactions did.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use pgm_proto::Lsn;
use pgm_wal::record::{
    MadeRelation, Record, RecordError, RecordReader, RelationFile, RelationNames, TransactionEnd,
    TransactionKind, drops_relation, removed_relations, subtransactions,
};

use crate::arguments::WalSourceArguments;
use crate::command::wal_source::WalSource;
use crate::error::{CliError, Failure, chain};

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(in crate::command) enum What<'a> {
    /// The end of a transaction.
    Transaction(u32),
    /// The first commit behind a moment.
    CommitAfter(Timestamp),
    /// Drops of tables of this name.
    Drop(&'a str),
    /// Truncations and rewritings of tables of this name.
    Truncation(&'a str),
    /// The removal of the file with this number.
    FileRemoval(u32),
}

/// Something that was looked for.
#[derive(Debug)]
pub(in crate::command) struct Found {
    pub(in crate::command) what: String,
    pub(in crate::command) lsn: Lsn,
    pub(in crate::command) xid: u32,
    pub(in crate::command) time: Timestamp,
    /// When the last transaction before had ended.
    pub(in crate::command) before: Option<Timestamp>,
}

/// Everything in the WAL that is `what`.
pub(in crate::command) fn search(
    wal: &WalSource,
    source: &WalSourceArguments,
    what: What<'_>,
) -> Result<Vec<Found>, CliError> {
    let mut search = Search {
        what,
        names: RelationNames::default(),
        deeds: HashMap::new(),
        last_end: None,
        found: Vec::new(),
    };
    let failed = |error: RecordError| CliError::new(Failure::Failed, chain(&error), error.hint());
    for run in wal.runs(source) {
        let mut reader =
            RecordReader::seek(wal.source(run), wal.history.clone(), run.start).map_err(failed)?;
        while let Some(record) = reader.next().map_err(failed)? {
            if record.lsn >= run.end {
                break;
            }
            search.look(&record);
        }
    }
    Ok(search.found)
}

/// What a transaction, or a part of one, that has not ended did to `pg_class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Deed {
    /// It deleted a row: it drops a relation, or the old place of one that it rewrites.
    Drops,
    /// It made the new place of a relation that it rewrites.
    Rewrites,
}

struct Search<'a> {
    what: What<'a>,
    names: RelationNames,
    deeds: HashMap<u32, HashSet<Deed>>,
    last_end: Option<Timestamp>,
    found: Vec<Found>,
}

impl Search<'_> {
    fn look(&mut self, record: &Record<'_>) {
        self.names.observe(record);
        if drops_relation(record) {
            self.note(record, Deed::Drops);
        }
        if MadeRelation::of(record).is_some_and(|made| made.transient) {
            self.note(record, Deed::Rewrites);
        }
        let Some(end) = TransactionEnd::of(record) else {
            return;
        };
        for part in subtransactions(record) {
            let deeds = self.deeds.remove(&part).unwrap_or_default();
            self.deeds.entry(end.xid).or_default().extend(deeds);
        }
        for what in self.wanted(record, &end) {
            self.found.push(Found {
                what,
                lsn: record.lsn,
                xid: end.xid,
                time: end.time,
                before: self.last_end,
            });
        }
        self.deeds.remove(&end.xid);
        self.last_end = Some(end.time);
    }

    fn note(&mut self, record: &Record<'_>, deed: Deed) {
        self.deeds.entry(record.xid).or_default().insert(deed);
    }

    /// What the end of a transaction is in the words of the search, if it is looked for.
    fn wanted(&self, record: &Record<'_>, end: &TransactionEnd) -> Vec<String> {
        let commits = end.kind == TransactionKind::Commit;
        match self.what {
            What::Transaction(xid)
                if xid == end.xid || subtransactions(record).any(|part| part == xid) =>
            {
                let ended = if commits { "commit" } else { "rollback" };
                vec![format!("{ended} of transaction {}", end.xid)]
            }
            What::CommitAfter(after) if commits && end.time > after && self.found.is_empty() => {
                vec![format!("the first commit after {after}")]
            }
            What::Drop(_) | What::Truncation(_) | What::FileRemoval(_) if commits => {
                self.removals(record, end.xid)
            }
            _ => Vec::new(),
        }
    }

    fn removals(&self, record: &Record<'_>, xid: u32) -> Vec<String> {
        let deeds = self.deeds.get(&xid);
        let did = |deed| deeds.is_some_and(|deeds| deeds.contains(&deed));
        // Who rewrites a relation drops its old place, too: then both are possible.
        let (drops, rewrites) = (did(Deed::Drops), did(Deed::Rewrites));
        let action = match (drops, rewrites) {
            (true, false) => "drop",
            (true, true) => "rewriting or drop",
            (false, _) => "truncation or rewriting",
        };
        let is_wanted = |relation: RelationFile| match self.what {
            What::FileRemoval(number) => relation.number == number,
            What::Drop(name) => drops && self.is_named(relation, name),
            What::Truncation(name) => (!drops || rewrites) && self.is_named(relation, name),
            What::Transaction(_) | What::CommitAfter(_) => false,
        };
        removed_relations(record)
            .filter(|relation| is_wanted(*relation))
            .map(|relation| {
                let name = self.names.name(relation).unwrap_or("a relation");
                format!("{action} of {name} (file {relation})")
            })
            .collect()
    }

    fn is_named(&self, relation: RelationFile, wanted: &str) -> bool {
        // Schemas are not known: their names may be given all the same.
        let wanted = wanted.rsplit('.').next().unwrap_or(wanted);
        self.names.name(relation) == Some(wanted)
    }
}
