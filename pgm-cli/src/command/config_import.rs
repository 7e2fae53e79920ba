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
            keys: &imported.lines,
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
        let mut lines = imported
            .lines
            .iter()
            .filter(|line| line.outcome == outcome)
            .peekable();
        if lines.peek().is_some() {
            println!("{heading}:");
            lines.for_each(print_line);
            println!();
        }
    }
    let Some(output) = output else {
        println!("nothing was written; -o DIR/pgmd.ron writes the configuration");
        return;
    };
    let servers = imported.servers;
    println!("wrote {}, servers: {servers}\n\nNext:", output.display());
    let folder = output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).display();
    println!(
        "  stop pgmoneta: a replication slot has one user, and the first full backup of pgm starts afresh"
    );
    println!("  pgm-cli -c {} check", output.display());
    println!("  pgmd -c {}      # or pgmd -D {folder}", output.display());
}

fn print_line(line: &Finding) {
    let place = line
        .line
        .map_or_else(String::new, |number| format!(" (line {number})"));
    let key = match (line.key.as_str(), &line.value) {
        ("", _) => String::new(),
        (key, Some(value)) => format!(" {key} = {value}"),
        (key, None) => format!(" {key}"),
    };
    let becomes = match line.becomes.as_slice() {
        [] => String::new(),
        several => format!(" -> {}", several.join(", ")),
    };
    let note = line
        .note
        .as_ref()
        .map_or_else(String::new, |note| format!(": {note}"));
    let text = format!("[{}]{key}{place}{becomes}{note}", line.section);
    println!("  {}", pgmd::log::escaped(&text));
}
