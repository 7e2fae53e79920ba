//! `pgm-cli wal info`: shows records of the write-ahead log as `pg_waldump` does, or counts them.

mod filter;
mod json;
mod stats;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use pgm_proto::Lsn;
use pgm_wal::files::Run;
use pgm_wal::record::describe::write_line;
use pgm_wal::record::{Record, RecordError, RecordReader};

use super::Cx;
use super::wal_source::WalSource;
use crate::arguments::{Format, WalInfoArguments};
use crate::error::{CliError, Failure, chain};
use crate::relation_names::RelationLabels;
use filter::Filter;
pub(super) use stats::Stats;

/// How much is written at once.
const OUTPUT_BYTES: usize = 256 * 1024;

pub(super) fn run(cx: &Cx, arguments: &WalInfoArguments) -> Result<ExitCode, CliError> {
    let wal = WalSource::open(cx, &arguments.source)?;
    let mut output = Output {
        out: BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock()),
        format: cx.format,
        show: match (arguments.stats, arguments.quiet) {
            (Some(by), _) => Show::Stats(Stats::new(by)),
            (None, true) => Show::Nothing,
            (None, false) => Show::Records,
        },
        left: arguments.limit.unwrap_or(u64::MAX),
        line: String::new(),
        labelled: String::new(),
        labels: RelationLabels::read(arguments.conninfo.as_deref())?,
    };
    let mut filter = Filter::new(&arguments.filter);
    let runs = wal.runs(&arguments.source);
    let mut before: Option<Lsn> = None;
    for run in runs {
        if let Some(before) = before {
            eprintln!("pgm-cli: there is no WAL from {before} to {}", run.start);
        }
        before = Some(run.end);
        let ended = show(&wal, run, &mut filter, &mut output)?;
        if ended == Ended::Reader {
            break;
        }
    }
    output.finish()
}

/// Why a run was left.
#[derive(PartialEq, Eq)]
enum Ended {
    /// All of it was read.
    Run,
    /// Nobody wants more.
    Reader,
}

fn show(
    wal: &WalSource,
    run: Run,
    filter: &mut Filter,
    output: &mut Output<'_>,
) -> Result<Ended, CliError> {
    let mut reader =
        RecordReader::seek(wal.source(run), wal.history.clone(), run.start).map_err(failed)?;
    while output.left > 0 {
        let Some(record) = reader.next().map_err(failed)? else {
            break;
        };
        if record.lsn >= run.end {
            break;
        }
        if filter.lets_through(&record) {
            match output.write(&record) {
                Ok(()) => output.left -= 1,
                // Whoever reads the output has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(Ended::Reader);
                }
                Err(error) => return Err(unwritten(&error)),
            }
        }
    }
    if let Some(end) = reader.end() {
        tracing::info!("the WAL ends at {}: {}", end.lsn, end.reason);
    }
    Ok(if output.left == 0 {
        Ended::Reader
    } else {
        Ended::Run
    })
}

/// What becomes of records.
struct Output<'a> {
    out: BufWriter<io::StdoutLock<'a>>,
    format: Format,
    show: Show,
    left: u64,
    line: String,
    /// The line with names in it.
    labelled: String,
    labels: RelationLabels,
}

enum Show {
    Records,
    Stats(Stats),
    Nothing,
}

impl Output<'_> {
    fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        match (&mut self.show, self.format) {
            (Show::Nothing, _) => Ok(()),
            (Show::Stats(stats), _) => {
                stats.count(record);
                Ok(())
            }
            (Show::Records, Format::Text) => {
                self.line.clear();
                write_line(record, &mut self.line);
                self.line.push('\n');
                if self.labels.is_empty() {
                    return self.out.write_all(self.line.as_bytes());
                }
                self.labelled.clear();
                self.labels.annotate(&self.line, &mut self.labelled);
                self.out.write_all(self.labelled.as_bytes())
            }
            (Show::Records, Format::Json) => {
                json::write(record, &self.labels, &mut self.line, &mut self.out)
            }
        }
    }

    fn finish(mut self) -> Result<ExitCode, CliError> {
        let written = match (&self.show, self.format) {
            (Show::Stats(stats), Format::Text) => stats.write_table(&mut self.out),
            (Show::Stats(stats), Format::Json) => stats.write_json(&mut self.out),
            _ => Ok(()),
        };
        match written.and_then(|()| self.out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritten(&error)),
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: RecordError) -> CliError {
    CliError::new(Failure::Failed, chain(&error), error.hint())
}

fn unwritten(error: &io::Error) -> CliError {
    let text = format!("cannot write to standard output: {error}");
    CliError::new(Failure::Failed, text, None)
}
