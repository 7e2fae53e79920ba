//! `pgm-cli wal find`: the place just before something happened, to be pasted into `restore`.

mod search;

use std::process::ExitCode;

use serde_json::json;

use super::Cx;
use super::wal_source::WalSource;
use crate::arguments::{Format, WalFindArguments};
use crate::error::{CliError, Failure};
use crate::output::print_json_line;
use crate::output::stdout::out;
pub(super) use search::{Found, What, search};

pub(super) fn run(cx: &Cx, arguments: &WalFindArguments) -> Result<ExitCode, CliError> {
    let wal = WalSource::open(cx, &arguments.source)?;
    let found = match what(arguments) {
        Some(what) => search(&wal, &arguments.source, what)?,
        None => Vec::new(),
    };
    if found.is_empty() {
        return Err(nothing());
    }
    for found in &found {
        match cx.format {
            Format::Text => print(found),
            Format::Json => print_json_line(&document(found)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn what(arguments: &WalFindArguments) -> Option<What<'_>> {
    let names = [
        arguments.drop_table.as_deref().map(What::Drop),
        arguments.truncate.as_deref().map(What::Truncation),
    ];
    arguments
        .xid
        .map(What::Transaction)
        .or(arguments.commit_after.map(What::CommitAfter))
        .or(arguments.file.map(What::FileRemoval))
        .or(names.into_iter().flatten().next())
}

/// The error when nothing was found.
pub(super) fn nothing() -> CliError {
    let hint = "names of tables are learned from the WAL since a checkpoint: begin earlier with --start, or give the \
                number of the table's file as --file";
    CliError::new(
        Failure::NotFound,
        "the WAL holds nothing of the kind",
        Some(hint.to_owned()),
    )
}

fn print(found: &Found) {
    out!(
        "{}, transaction {} at {}",
        found.what,
        found.xid,
        found.time
    );
    out!("  just before it: --target-lsn {} --exclusive", found.lsn);
    if let Some(before) = found.before {
        out!("  the transaction before it ended at {before}");
    }
}

fn document(found: &Found) -> serde_json::Value {
    json!({
        "what": found.what,
        "lsn": found.lsn.to_string(),
        "xid": found.xid,
        "time": found.time.to_string(),
        "previous_end": found.before.map(|time| time.to_string()),
        "restore": format!("--target-lsn {} --exclusive", found.lsn),
    })
}
