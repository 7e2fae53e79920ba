//! `pgm-cli wal filter`: a copy of WAL without some transactions, which PostgreSQL replays.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use pgm_wal::files::Run;
use pgm_wal::filter::{Dependents, FilterError, Filtered, Request, Wal, filter};
use pgm_wal::record::RelationFile;
use serde_json::json;

use super::Cx;
use super::wal_find::{self, What};
use super::wal_source::WalSource;
use crate::arguments::{Format, WalFilterOutArguments};
use crate::error::{CliError, Failure, chain};
use crate::output::print_json;
use crate::output::stdout::out;

/// `FirstNormalObjectId`: what is below belongs to PostgreSQL itself.
const FIRST_OF_USERS: u32 = 16_384;

pub(super) fn run(cx: &Cx, arguments: &WalFilterOutArguments) -> Result<ExitCode, CliError> {
    let wal = WalSource::open(cx, &arguments.source)?;
    let run = only_run(&wal, arguments)?;
    let request = Request {
        xids: wanted(&wal, arguments)?,
        dependents: if arguments.with_dependents {
            Dependents::LeaveOut
        } else {
            Dependents::Refuse
        },
    };
    let open = || wal.source(run);
    let whole = Wal {
        open: &open,
        history: &wal.history,
        run,
    };
    let folder = arguments.output.as_deref();
    let filtered = filter(&whole, &request, folder).map_err(|error| {
        let failure = match error {
            FilterError::NotCommitted { .. } => Failure::NotFound,
            _ => Failure::Failed,
        };
        CliError::new(failure, chain(&error), error.hint())
    })?;
    match cx.format {
        Format::Text => print(&filtered, arguments),
        Format::Json => print_json(&document(&filtered)),
    }
    Ok(ExitCode::SUCCESS)
}

fn only_run(wal: &WalSource, arguments: &WalFilterOutArguments) -> Result<Run, CliError> {
    match wal.runs(&arguments.source).as_slice() {
        [run] => Ok(*run),
        [] => {
            let text = "there is no WAL in that range";
            Err(CliError::new(Failure::NotFound, text, None))
        }
        [first, second, ..] => Err(CliError::new(
            Failure::Failed,
            format!("there is no WAL from {} to {}", first.end, second.start),
            Some("name a range without a hole with --start and --end".to_owned()),
        )),
    }
}

/// The transactions that were named, by number or by what they did.
fn wanted(wal: &WalSource, arguments: &WalFilterOutArguments) -> Result<BTreeSet<u32>, CliError> {
    let mut xids: BTreeSet<u32> = arguments.without_xid.iter().copied().collect();
    let drops = arguments
        .without_drop_table
        .iter()
        .map(|name| What::Drop(name));
    let truncations = arguments
        .without_truncate
        .iter()
        .map(|name| What::Truncation(name));
    for what in drops.chain(truncations) {
        let found = wal_find::search(wal, &arguments.source, what)?;
        if found.is_empty() {
            return Err(wal_find::nothing());
        }
        xids.extend(found.iter().map(|found| found.xid));
    }
    Ok(xids)
}

fn print(filtered: &Filtered, arguments: &WalFilterOutArguments) {
    for transaction in &filtered.transactions {
        let why = filtered
            .dependents
            .iter()
            .find(|dependent| dependent.transaction.xid == transaction.xid)
            .map(|dependent| {
                let relation = name(dependent.why.relation, filtered);
                format!(", because {} {relation}", dependent.why.kind.words())
            });
        out!(
            "left out: transaction {}, committed at {} ({}){}",
            transaction.xid,
            transaction.time,
            transaction.lsn,
            why.unwrap_or_default()
        );
    }
    out!(
        "rows that are not seen: {}; rows that come back: {}",
        filtered.written_rows,
        filtered.removed_rows
    );
    if !filtered.files_back.is_empty() {
        out!(
            "files that come back: {}; an index among them lacks what was written since: REINDEX it",
            names(&filtered.files_back, filtered)
        );
    }
    let (tables, catalogs): (Vec<RelationFile>, Vec<RelationFile>) = filtered
        .reindex
        .iter()
        .partition(|relation| relation.number >= FIRST_OF_USERS);
    if !tables.is_empty() {
        out!(
            "REINDEX after recovery, for entries of rows that come back: {}",
            names(&tables, filtered)
        );
    }
    if !catalogs.is_empty() {
        out!("rows of system catalogs come back: REINDEX SYSTEM after recovery");
    }
    if !filtered.files_left_behind.is_empty() {
        let files = filtered.files_left_behind.iter();
        let files: Vec<String> = files
            .map(|(database, file)| format!("base/{database}/{file}"))
            .collect();
        out!(
            "files that stay and belong to nothing: {}",
            files.join(", ")
        );
    }
    out!(
        "restore a backup that ended before {}",
        filtered.backup_before
    );
    let changes = filtered.changes;
    let changed = format!(
        "commits made aborts: {}, records made void: {}, page images changed in: {}",
        changes.aborts, changes.noops, changes.images
    );
    match &arguments.output {
        Some(folder) => out!(
            "wrote {} segments to {}; {changed}",
            changes.segments,
            folder.display()
        ),
        None => out!("nothing is written; {changed}"),
    }
}

fn name(relation: RelationFile, filtered: &Filtered) -> String {
    match filtered.names.name(relation) {
        Some(name) => format!("{name} ({relation})"),
        None => relation.to_string(),
    }
}

fn names(relations: &[RelationFile], filtered: &Filtered) -> String {
    let mut text = String::new();
    for (index, relation) in relations.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}{}", name(*relation, filtered));
    }
    text
}

fn document(filtered: &Filtered) -> serde_json::Value {
    let transactions: Vec<_> = filtered
        .transactions
        .iter()
        .map(|transaction| {
            let why = filtered
                .dependents
                .iter()
                .find(|dependent| dependent.transaction.xid == transaction.xid)
                .map(|dependent| {
                    json!({
                        "lsn": dependent.why.lsn.to_string(),
                        "relation": dependent.why.relation.to_string(),
                        "reason": dependent.why.kind.words(),
                    })
                });
            json!({
                "xid": transaction.xid,
                "subtransactions": transaction.subtransactions,
                "lsn": transaction.lsn.to_string(),
                "time": transaction.time.to_string(),
                "depends": why,
            })
        })
        .collect();
    let relations = |relations: &[RelationFile]| -> Vec<_> {
        relations
            .iter()
            .map(|relation| {
                json!({
                    "relation": relation.to_string(),
                    "name": filtered.names.name(*relation),
                })
            })
            .collect()
    };
    json!({
        "transactions": transactions,
        "written_rows": filtered.written_rows,
        "removed_rows": filtered.removed_rows,
        "files_back": relations(&filtered.files_back),
        "reindex": relations(&filtered.reindex),
        "files_left_behind": filtered.files_left_behind,
        "backup_before": filtered.backup_before.to_string(),
        "segments": filtered.changes.segments,
        "aborts": filtered.changes.aborts,
        "noops": filtered.changes.noops,
        "images": filtered.changes.images,
    })
}
