//! `pgm-cli wal summary`: which blocks changed between two positions, as `pg_walsummary` prints it.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use pgm_wal::digest::{ChangesError, Exact};
use pgm_wal::files::Run;
use pgm_wal::record::RecordReader;
use pgm_wal::summary::{Rules, Summary, SummaryFileName, read_postgresql};
use serde_json::json;

use super::Cx;
use super::wal_source::WalSource;
use crate::arguments::{Format, WalSummaryArguments};
use crate::error::{CliError, Failure, chain};
use crate::output::stdout::out;

pub(super) fn run(cx: &Cx, arguments: &WalSummaryArguments) -> Result<ExitCode, CliError> {
    let summary = match summary_file(arguments) {
        Some((path, name)) => read(path, name)?,
        None => summarise(cx, arguments)?,
    };
    if let Some(minimal) = summary.minimal {
        eprintln!(
            "pgm-cli: from {minimal} on the server wrote WAL that does not tell all changes (wal_level = minimal)"
        );
    }
    match &arguments.output {
        Some(folder) => write(&summary, folder)?,
        None => print(cx, &summary)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The one path, if it is a summary that PostgreSQL wrote.
fn summary_file(arguments: &WalSummaryArguments) -> Option<(&Path, SummaryFileName)> {
    let [path] = arguments.source.paths.as_slice() else {
        return None;
    };
    let name = SummaryFileName::parse(path.file_name()?.to_str()?)?;
    Some((path, name))
}

fn read(path: &Path, name: SummaryFileName) -> Result<Summary, CliError> {
    let content = std::fs::read(path).map_err(|error| failed_at("read", path, &error))?;
    read_postgresql(name, &mut content.as_slice()).map_err(|error| failed_at("read", path, &error))
}

fn summarise(cx: &Cx, arguments: &WalSummaryArguments) -> Result<Summary, CliError> {
    let wal = WalSource::open(cx, &arguments.source)?;
    let runs = wal.runs(&arguments.source);
    let run = match runs.as_slice() {
        [run] => *run,
        [] => {
            let text = "there is no WAL in that range";
            return Err(CliError::new(Failure::NotFound, text, None));
        }
        [first, second, ..] => {
            return Err(CliError::new(
                Failure::Failed,
                format!("there is no WAL from {} to {}", first.end, second.start),
                Some("name a range without a hole with --start and --end".to_owned()),
            ));
        }
    };
    let mut summary = match wal.summary(run) {
        Some(found) => of_digests(found)?,
        None => of_records(&wal, run)?,
    };
    if arguments.complete {
        summary = summary.completed();
    }
    // Where the caller's range ends exactly, the name says so.
    if let Some(end) = arguments.source.end
        && summary.end >= end
    {
        summary.end = end;
    }
    Ok(summary)
}

/// What the digests of an archive say; tells how much of the WAL had to be read besides.
fn of_digests(found: Result<Exact, ChangesError>) -> Result<Summary, CliError> {
    let exact = found.map_err(|error| failed(&error, None))?;
    eprintln!(
        "pgm-cli: from the digests of {} segments; of {} segments the WAL was read",
        exact.digests, exact.segments_read
    );
    Ok(exact.summary)
}

fn of_records(wal: &WalSource, run: Run) -> Result<Summary, CliError> {
    let mut reader = RecordReader::seek(wal.source(run), wal.history.clone(), run.start)
        .map_err(|error| failed(&error, error.hint()))?;
    let timeline = wal.history.timeline_at(run.start);
    let mut summary = Summary::new(timeline, run.start, Rules::Complete);
    while let Some(record) = reader
        .next()
        .map_err(|error| failed(&error, error.hint()))?
    {
        if record.lsn >= run.end {
            summary.end = run.end;
            break;
        }
        summary.add(&record).map_err(|error| failed(&error, None))?;
    }
    Ok(summary)
}

fn failed(error: &dyn std::error::Error, hint: Option<String>) -> CliError {
    CliError::new(Failure::Failed, chain(error), hint)
}

/// Writes the summary in PostgreSQL's form, under PostgreSQL's name.
fn write(summary: &Summary, folder: &Path) -> Result<(), CliError> {
    let path = folder.join(summary.file_name().to_string());
    let file =
        std::fs::File::create_new(&path).map_err(|error| failed_at("make", &path, &error))?;
    let mut out = BufWriter::new(file);
    summary
        .write_postgresql(&mut out)
        .and_then(|()| out.flush())
        .map_err(|error| failed_at("write", &path, &error))?;
    out!("{}", path.display());
    Ok(())
}

fn print(cx: &Cx, summary: &Summary) -> Result<(), CliError> {
    let mut text = String::new();
    match cx.format {
        Format::Text => lines(summary, &mut text),
        Format::Json => documents(summary, &mut text),
    }
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::new(
            Failure::Failed,
            format!("cannot write to standard output: {error}"),
            None,
        )),
        _ => Ok(()),
    }
}

/// In the words of `pg_walsummary`.
fn lines(summary: &Summary, text: &mut String) {
    for (fork, changes) in summary.forks() {
        let relation = fork.relation;
        let which = format!(
            "TS {}, DB {}, REL {}, FORK {}",
            relation.tablespace,
            relation.database,
            relation.number,
            fork.fork.name()
        );
        // Writing to a string does not fail.
        if let Some(limit) = changes.limit() {
            let _ = writeln!(text, "{which}: limit {limit}");
        }
        for (first, last) in changes.blocks().runs() {
            let _ = if first == last {
                writeln!(text, "{which}: block {first}")
            } else {
                writeln!(text, "{which}: blocks {first}..{last}")
            };
        }
    }
}

/// One document a fork.
fn documents(summary: &Summary, text: &mut String) {
    for (fork, changes) in summary.forks() {
        let runs: Vec<[u32; 2]> = changes
            .blocks()
            .runs()
            .map(|(first, last)| [first, last])
            .collect();
        let document = json!({
            "relation": fork.relation.to_string(),
            "fork": fork.fork.name(),
            "limit": changes.limit(),
            "blocks": runs,
        });
        let _ = writeln!(text, "{document}");
    }
}

fn failed_at(action: &str, path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(
        Failure::Failed,
        format!("cannot {action} {}: {error}", path.display()),
        None,
    )
}
