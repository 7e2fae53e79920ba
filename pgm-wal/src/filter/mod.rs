//! A copy of WAL without some transactions, which PostgreSQL replays like the original.
//!
//! [`filter`] finds the transactions, looks at everything that follows them, and writes the segments: the commit of each
//! becomes an abort of the same length, so that recovery goes the way it would have gone if the transaction had been
//! rolled back. Its changes of pages stay, since later records name rows by their places; the rows are those of an aborted
//! transaction, which nobody sees and vacuum removes. Positions, lengths and links between records stay; checksums are
//! made anew.
//!
//! What the server did later because it took the transaction for committed is looked for in every record, and undone where
//! that can be done; else nothing is written: a filtered archive that would lead to a damaged database does not come into
//! being.
//!
//! Memory grows with the pages that the transactions have changed, not with the WAL. The caller must restore from a backup
//! that had ended before the first of the transactions was committed; whether it did cannot be seen from the WAL.
//!
//! Not here: what only the meaning of data says. Rows that come back may break unique and foreign keys with later ones, and
//! their entries in indexes may have been removed: [`Filtered::reindex`] names the tables.

mod error;
mod heap;
mod image;
mod output;
mod recompress;
mod replacement;
mod rows;
mod survey;
#[cfg(test)]
mod tests;

mod transaction;

use std::collections::BTreeSet;
use std::path::Path;

use pgm_proto::Lsn;

pub use error::{FilterError, Obstacle, ObstacleKind};
pub use output::Changes;
pub use transaction::Transaction;

use crate::History;
use crate::files::Run;
use crate::record::{Record, RecordReader, RelationFile, RelationNames, SegmentSource};
use survey::Survey;
use transaction::LeftOut;

/// WAL without a hole, to be read more than once.
pub struct Wal<'a> {
    /// Opens it from its beginning.
    pub open: &'a dyn Fn() -> Box<dyn SegmentSource + 'a>,
    /// The way through its timelines.
    pub history: &'a History,
    /// From where to where.
    pub run: Run,
}

/// What is to be left out, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// The transactions, or parts of them.
    pub xids: BTreeSet<u32>,
    /// What becomes of transactions that depend on them.
    pub dependents: Dependents,
}

/// What becomes of transactions that depend on those that are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependents {
    /// They are an error.
    Refuse,
    /// They are left out, too.
    LeaveOut,
}

/// Why a transaction cannot be kept when another one is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependence {
    /// The record that shows it.
    pub lsn: Lsn,
    /// The relation concerned.
    pub relation: RelationFile,
    /// What it is.
    pub kind: DependenceKind,
}

/// In what way one transaction depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependenceKind {
    /// It changed or deleted a row version that the other one had written.
    ChangesRow,
    /// It wrote to a relation or database that the other one had made.
    UsesRelation,
    /// It rewrote or truncated a relation in which the other one had changed rows.
    Rewrites,
}

impl DependenceKind {
    /// The kind in words that a relation's name follows.
    pub const fn words(self) -> &'static str {
        match self {
            Self::ChangesRow => "it changed a row in",
            Self::UsesRelation => "it wrote to",
            Self::Rewrites => "it rewrote or truncated",
        }
    }
}

/// A transaction that depends on one that is to be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependent {
    /// The transaction.
    pub transaction: Transaction,
    /// In what it depends.
    pub why: Dependence,
}

/// What was left out, and what it means.
#[derive(Debug)]
pub struct Filtered {
    /// The transactions that are left out, in the order of their commits.
    pub transactions: Vec<Transaction>,
    /// Those among them that nobody named.
    pub dependents: Vec<Dependent>,
    /// The names of relations that were learned.
    pub names: RelationNames,
    /// Rows that were written and are not seen.
    pub written_rows: u64,
    /// Rows that were removed and come back.
    pub removed_rows: u64,
    /// Files that were removed and come back; an index among them lacks what was written since.
    pub files_back: Vec<RelationFile>,
    /// Databases and files that were made and that nothing names.
    pub files_left_behind: Vec<(u32, u32)>,
    /// Tables in which rows come back, the entries of which may be missing in indexes.
    pub reindex: Vec<RelationFile>,
    /// A backup must have ended before this position, at which the first of them was committed.
    pub backup_before: Lsn,
    /// What was changed and written.
    pub changes: Changes,
}

/// Writes the WAL without what `request` names into `folder`, which must be empty or absent; into none it only looks.
///
/// # Errors
///
/// A [`FilterError`] when the WAL cannot be read, when a transaction is not there, and when leaving it out would damage
/// something. Nothing is then left in the folder.
pub fn filter(
    wal: &Wal<'_>,
    request: &Request,
    folder: Option<&Path>,
) -> Result<Filtered, FilterError> {
    let mut left_out = transaction::find(wal, &request.xids)?;
    let mut dependents: Vec<Dependent> = Vec::new();
    // Those that depend on dependents are found once those are known.
    let found = loop {
        let found = look(wal, &left_out)?;
        if found.dependents.is_empty() {
            break found;
        }
        if request.dependents == Dependents::Refuse {
            return Err(FilterError::Dependents {
                dependents: found.dependents,
                names: Box::new(found.names),
            });
        }
        for dependent in found.dependents {
            left_out.add(dependent.transaction.clone());
            dependents.push(dependent);
        }
    };
    let changes = match folder {
        Some(folder) => output::write(wal, &left_out, folder)?,
        None => output::count(wal, &left_out)?,
    };
    let mut transactions: Vec<Transaction> = left_out.transactions().cloned().collect();
    transactions.sort_by_key(|transaction| transaction.lsn);
    Ok(Filtered {
        backup_before: transactions
            .first()
            .map_or(wal.run.start, |first| first.lsn),
        transactions,
        dependents,
        names: found.names,
        written_rows: found.written_rows,
        removed_rows: found.removed_rows,
        files_back: found.files_back,
        files_left_behind: found.files_left_behind,
        reindex: found.reindex,
        changes,
    })
}

/// What one pass over the WAL found.
struct Found {
    dependents: Vec<Dependent>,
    names: RelationNames,
    written_rows: u64,
    removed_rows: u64,
    files_back: Vec<RelationFile>,
    files_left_behind: Vec<(u32, u32)>,
    reindex: Vec<RelationFile>,
}

fn look(wal: &Wal<'_>, left_out: &LeftOut) -> Result<Found, FilterError> {
    let mut survey = Survey::new(left_out);
    wal.each(&mut |record| {
        survey.look(record);
        Ok(())
    })?;
    for transaction in left_out.transactions() {
        let began_inside = |xid: u32| {
            // Numbers go round: the nearer half is before, the other behind.
            survey
                .next_xid
                .is_some_and(|next| xid.wrapping_sub(next) < 1 << 31)
        };
        if !transaction.xids().all(began_inside) {
            return Err(FilterError::BeganBefore {
                xid: transaction.xid,
                start: wal.run.start,
            });
        }
    }
    // Others may be in the way only because a dependent was not left out yet.
    if survey.dependents.is_empty() && !survey.obstacles.is_empty() {
        return Err(FilterError::Obstacles {
            obstacles: survey.obstacles,
            names: Box::new(survey.names),
        });
    }
    Ok(Found {
        reindex: survey.relations_with_removals(),
        files_left_behind: survey.made().iter().copied().collect(),
        dependents: survey.dependents,
        names: survey.names,
        written_rows: survey.written_rows,
        removed_rows: survey.removed_rows,
        files_back: survey.kept_files,
    })
}

impl Wal<'_> {
    /// Calls `each` for every record.
    fn each(
        &self,
        each: &mut dyn FnMut(&Record<'_>) -> Result<(), FilterError>,
    ) -> Result<(), FilterError> {
        let mut reader = RecordReader::seek((self.open)(), self.history.clone(), self.run.start)?;
        while let Some(record) = reader.next()? {
            if record.lsn >= self.run.end {
                break;
            }
            each(&record)?;
        }
        Ok(())
    }
}
