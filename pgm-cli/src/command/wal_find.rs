//! `pgm-cli wal find`: the place just before something happened, to be pasted into `restore`.

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;

use jiff::Timestamp;
use pgm_proto::Lsn;
use pgm_wal::record::{
    Record, RecordReader, RelationFile, RelationNames, TransactionEnd, TransactionKind,
    drops_relation, removed_relations,
};
use serde_json::json;

use super::Cx;
use super::wal_source::WalSource;
use crate::arguments::{Format, WalFindArguments};
use crate::error::{CliError, Failure, chain};
use crate::output::print_json_line;
use crate::output::stdout::out;

pub(super) fn run(cx: &Cx, arguments: &WalFindArguments) -> Result<ExitCode, CliError> {
    let wal = WalSource::open(cx, &arguments.source)?;
    let mut search = Search::new(arguments);
    for run in wal.runs(&arguments.source) {
        let failed = |error: pgm_wal::record::RecordError| {
            CliError::new(Failure::Failed, chain(&error), error.hint())
        };
        let mut reader =
            RecordReader::seek(wal.source(run), wal.history.clone(), run.start).map_err(failed)?;
        while let Some(record) = reader.next().map_err(failed)? {
            if record.lsn >= run.end {
                break;
            }
            search.look(&record);
        }
    }
    if search.found.is_empty() {
        let hint = "names of tables are learned from the WAL since a checkpoint: begin earlier with --start, or give the \
                    number of the table's file as --file";
        return Err(CliError::new(
            Failure::NotFound,
            "the WAL holds nothing of the kind",
            Some(hint.to_owned()),
        ));
    }
    for found in &search.found {
        match cx.format {
            Format::Text => found.print(),
            Format::Json => print_json_line(&found.document()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Something that was looked for.
#[derive(Debug)]
struct Found {
    what: String,
    lsn: Lsn,
    xid: u32,
    time: Timestamp,
    /// The last transaction that had ended before.
    before: Option<Timestamp>,
}

struct Search<'a> {
    arguments: &'a WalFindArguments,
    names: RelationNames,
    /// Transactions that drop a relation and have not ended.
    dropping: HashSet<u32>,
    /// Of a subtransaction, the transaction that it belongs to, as far as records say so.
    parents: HashMap<u32, u32>,
    last_end: Option<Timestamp>,
    found: Vec<Found>,
}

impl<'a> Search<'a> {
    fn new(arguments: &'a WalFindArguments) -> Self {
        Self {
            arguments,
            names: RelationNames::default(),
            dropping: HashSet::new(),
            parents: HashMap::new(),
            last_end: None,
            found: Vec::new(),
        }
    }

    fn look(&mut self, record: &Record<'_>) {
        self.names.observe(record);
        if let Some(parent) = record.top_level_xid {
            self.parents.insert(record.xid, parent);
        }
        if drops_relation(record) {
            let parent = self.parents.get(&record.xid).copied();
            self.dropping.insert(parent.unwrap_or(record.xid));
        }
        let Some(end) = TransactionEnd::of(record) else {
            return;
        };
        if let Some(what) = self.wanted(record, &end) {
            self.found.push(Found {
                what,
                lsn: record.lsn,
                xid: end.xid,
                time: end.time,
                before: self.last_end,
            });
        }
        self.dropping.remove(&end.xid);
        self.last_end = Some(end.time);
    }

    /// What the end of a transaction is in the words of the search, if it is looked for.
    fn wanted(&self, record: &Record<'_>, end: &TransactionEnd) -> Option<String> {
        let ended = match end.kind {
            TransactionKind::Commit => "commit",
            TransactionKind::Abort => "rollback",
        };
        if self.arguments.xid == Some(end.xid) {
            return Some(format!("{ended} of transaction {}", end.xid));
        }
        if end.kind != TransactionKind::Commit {
            return None;
        }
        if let Some(after) = self.arguments.commit_after
            && end.time > after
            && self.found.is_empty()
        {
            return Some(format!("the first commit after {after}"));
        }
        let drops = self.dropping.contains(&end.xid);
        let (wanted, action) = if drops {
            (&self.arguments.drop_table, "drop")
        } else {
            (&self.arguments.truncate, "truncation or rewriting")
        };
        let relation = removed_relations(record).find(|relation| {
            let named = wanted
                .as_deref()
                .is_some_and(|wanted| self.is_named(*relation, wanted));
            named || self.arguments.file == Some(relation.number)
        })?;
        let name = self.names.name(relation).unwrap_or("a table");
        Some(format!("{action} of {name} (file {relation})"))
    }

    fn is_named(&self, relation: RelationFile, wanted: &str) -> bool {
        // Schemas are not known: their names may be given all the same.
        let wanted = wanted.rsplit('.').next().unwrap_or(wanted);
        self.names.name(relation) == Some(wanted)
    }
}

impl Found {
    fn print(&self) {
        out!("{}, transaction {} at {}", self.what, self.xid, self.time);
        out!("  just before it: --target-lsn {} --exclusive", self.lsn);
        if let Some(before) = self.before {
            out!("  the transaction before it ended at {before}");
        }
    }

    fn document(&self) -> serde_json::Value {
        json!({
            "what": self.what,
            "lsn": self.lsn.to_string(),
            "xid": self.xid,
            "time": self.time.to_string(),
            "previous_end": self.before.map(|time| time.to_string()),
            "restore": format!("--target-lsn {} --exclusive", self.lsn),
        })
    }
}
