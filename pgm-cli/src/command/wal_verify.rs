//! `pgm-cli wal verify`: checks every record's checksum and place, and that no WAL is missing in between.

use std::process::ExitCode;

use pgm_proto::Lsn;
use pgm_wal::files::Run;
use pgm_wal::record::{Stretches, Verified, verify};
use serde_json::json;

use super::Cx;
use super::wal_source::WalSource;
use crate::arguments::{Format, WalVerifyArguments};
use crate::error::{CliError, Failure, chain};
use crate::output::stdout::out;
use crate::output::{self, print_json};

/// How much one reader takes at a time, at least.
const STRETCH_BYTES: u64 = 32 << 20;

pub(super) fn run(cx: &Cx, arguments: &WalVerifyArguments) -> Result<ExitCode, CliError> {
    let wal = WalSource::open(cx, &arguments.source)?;
    let mut checked = Vec::new();
    for run in wal.runs(&arguments.source) {
        let stretches = Stretches {
            history: wal.history.clone(),
            size: wal.size,
            from: run.start,
            to: run.end,
            readers: usize::from(arguments.jobs),
            bytes_min: STRETCH_BYTES,
        };
        let verified = verify(&stretches, || wal.source(run))
            .map_err(|error| CliError::new(Failure::Failed, chain(&error), error.hint()))?;
        checked.push((run, verified));
    }
    let gaps: Vec<(Lsn, Lsn)> = checked
        .windows(2)
        .map(|pair| (pair[0].0.end, pair[1].0.start))
        .collect();
    match cx.format {
        Format::Text => print_text(&checked, &gaps),
        Format::Json => print_json(&document(&checked, &gaps)),
    }
    let intact = gaps.is_empty() && checked.iter().all(|(_, one)| one.damages.is_empty());
    Ok(if intact {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_text(checked: &[(Run, Verified)], gaps: &[(Lsn, Lsn)]) {
    for (index, (run, verified)) in checked.iter().enumerate() {
        if index > 0 {
            let (from, to) = gaps[index - 1];
            out!("missing: the WAL from {from} to {to}");
        }
        let end = verified.end.as_ref().map_or(run.end, |end| end.lsn);
        out!(
            "{} to {end}: {} records, {}",
            verified.first.unwrap_or(run.start),
            verified.records,
            output::bytes(verified.record_bytes)
        );
        for damage in &verified.damages {
            out!(
                "damaged: {} in segment {}: {}",
                damage.lsn,
                damage.segment,
                damage.reason
            );
        }
        if let Some(end) = &verified.end {
            out!("ends at {}: {}", end.lsn, end.reason);
        }
    }
}

fn document(checked: &[(Run, Verified)], gaps: &[(Lsn, Lsn)]) -> serde_json::Value {
    let runs: Vec<_> = checked
        .iter()
        .map(|(run, verified)| {
            let damages: Vec<_> = verified
                .damages
                .iter()
                .map(|damage| {
                    json!({
                        "lsn": damage.lsn.to_string(),
                        "segment": damage.segment,
                        "reason": damage.reason.to_string(),
                    })
                })
                .collect();
            json!({
                "from": verified.first.unwrap_or(run.start).to_string(),
                "to": verified.end.as_ref().map_or(run.end, |end| end.lsn).to_string(),
                "records": verified.records,
                "bytes": verified.record_bytes,
                "damages": damages,
                "end": verified.end.as_ref().map(|end| end.reason.to_string()),
            })
        })
        .collect();
    let gaps: Vec<_> = gaps
        .iter()
        .map(|(from, to)| json!({ "from": from.to_string(), "to": to.to_string() }))
        .collect();
    json!({ "runs": runs, "gaps": gaps })
}
