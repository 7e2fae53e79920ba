//! `pgm-cli config import`: a configuration of pgmoneta becomes one of pgm, with a report on every key.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use pgmd::config::Config;
use serde::Serialize;

use super::{Cx, init};
use crate::arguments::{ConfImportArguments, Format};
use crate::error::{CliError, Failure};
use crate::import::{Finding, Imported, Outcome, import};
use crate::output::print_json;
use crate::output::stdout::out;

/// A configuration is small; a larger file is something else.
const BYTES_MAX: u64 = 4 << 20;

/// The document that is printed for programs.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// The file that was written; none when it was only looked at.
    output: Option<String>,
    /// How many servers are in it.
    servers: usize,
    /// What became of each key.
    keys: &'a [Finding],
}

pub(super) fn run(cx: &Cx, arguments: &ConfImportArguments) -> Result<ExitCode, CliError> {
    let text = read(&arguments.file)?;
    let users = arguments.users.as_deref().map(read).transpose()?;
    let name = arguments.file.display().to_string();
    let imported = import(&name, &text, users.as_deref());
    let output = arguments.output.as_deref();
    if let Some(output) = output {
        // What is written is what pgmd would read.
        Config::parse(output, &imported.text)?;
        init::write_configuration(output, &imported.text)?;
    }
    match cx.format {
        Format::Json => print_json(&Report {
            output: output.map(|output| output.display().to_string()),
            servers: imported.servers,
            keys: &imported.findings,
        }),
        Format::Text => print_report(&imported, output),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<String, CliError> {
    let unreadable = |why: String| {
        let text = format!("cannot read {}: {why}", file.display());
        CliError::new(Failure::NotFound, text, None)
    };
    let meta = fs::metadata(file).map_err(|error| unreadable(error.to_string()))?;
    if meta.len() > BYTES_MAX {
        return Err(unreadable("it is larger than 4 MiB".to_owned()));
    }
    let bytes = fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))
}

fn print_report(imported: &Imported, output: Option<&Path>) {
    for (outcome, heading) in Outcome::ALL {
        let of_it = imported
            .findings
            .iter()
            .filter(|finding| finding.outcome == outcome);
        let of_it: Vec<&Finding> = of_it.collect();
        if of_it.is_empty() {
            continue;
        }
        out!("{heading}:");
        // What there is the same to say about, stands in one line.
        for alike in of_it.chunk_by(|one, other| is_alike(one, other)) {
            out!("  {}", pgmd::log::escaped(&described(alike)));
        }
        out!();
    }
    match output {
        Some(output) => print_next_steps(imported, output),
        None => out!("nothing was written; -o DIR/pgmd.ron writes the configuration"),
    }
}

fn print_next_steps(imported: &Imported, output: &Path) {
    let file = output.display();
    out!("wrote {file}, servers: {}\n\nNext:", imported.servers);
    out!("  stop pgmoneta: a replication slot has one user");
    let mut findings = imported.findings.iter();
    if findings.any(|finding| finding.outcome == Outcome::EnterAgain) {
        out!("  pgm-cli -c {file} admin master-key");
        out!("  enter the passwords that are named above");
    }
    out!("  pgm-cli -c {file} check");
    out!("  pgmd -c {file}");
}

/// Whether both are left out for the same reason.
fn is_alike(one: &Finding, other: &Finding) -> bool {
    let reason = |finding: &Finding| (finding.section.clone(), finding.note.clone());
    one.becomes.is_empty()
        && !one.key.is_empty()
        && one.note.is_some()
        && reason(one) == reason(other)
}

/// `[pgmoneta] base_dir = /x (line 5) -> repository.path = /x/pgm`.
fn described(alike: &[&Finding]) -> String {
    let keys: Vec<String> = alike.iter().map(|finding| key(finding)).collect();
    let lines: Vec<String> = alike
        .iter()
        .filter_map(|finding| finding.line.map(|line| line.to_string()))
        .collect();
    let place = match lines.as_slice() {
        [] => String::new(),
        [line] => format!(" (line {line})"),
        [first, .., last] => format!(" (lines {first} to {last})"),
    };
    let becomes = match alike {
        [only] if !only.becomes.is_empty() => format!(" -> {}", only.becomes.join(", ")),
        _ => String::new(),
    };
    let first = alike.first().copied();
    let note = first.and_then(|finding| finding.note.as_ref());
    let note = note.map_or_else(String::new, |note| format!(": {note}"));
    let section = first.map_or("", |finding| finding.section.as_str());
    format!("[{section}]{}{place}{becomes}{note}", keys.join(","))
}

fn key(finding: &Finding) -> String {
    match (finding.key.as_str(), &finding.value) {
        ("", _) => String::new(),
        (key, Some(value)) => format!(" {key} = {value}"),
        (key, None) => format!(" {key}"),
    }
}
