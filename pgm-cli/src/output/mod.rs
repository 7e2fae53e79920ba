//! What is printed: tables and sentences for people, one JSON document for programs, progress bars on terminals.

pub(crate) mod progress;
pub(crate) mod stdout;
mod table;

use serde::Serialize;

use crate::arguments::Format;
use crate::error::CliError;
use crate::output::stdout::out;

pub(crate) use table::Table;

/// Prints an error: on standard error for people, and as a JSON document on standard output for programs.
pub(crate) fn print_error(format: Format, error: &CliError) {
    eprintln!("pgm-cli: error: {error}");
    if let Some(hint) = error.hint() {
        eprintln!("HINT: {hint}");
    }
    if format == Format::Json {
        let body = serde_json::json!({ "text": error.to_string(), "hint": error.hint() });
        print_json(&serde_json::json!({ "error": body }));
    }
}

/// Prints one JSON document.
pub(crate) fn print_json(document: &impl Serialize) {
    match serde_json::to_string_pretty(document) {
        Ok(text) => out!("{text}"),
        Err(error) => eprintln!("pgm-cli: error: the result cannot be written as JSON: {error}"),
    }
}

/// Prints one JSON document on a line of its own, for those who read one after the other.
pub(crate) fn print_json_line(document: &impl Serialize) {
    match serde_json::to_string(document) {
        Ok(text) => out!("{text}"),
        Err(error) => eprintln!("pgm-cli: error: the result cannot be written as JSON: {error}"),
    }
}

/// A number of bytes for people: `1.50 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.2} {}", UNITS[unit])
    }
}

/// A length of time for people: `2 h 03 min`, `4.2 s`.
pub(crate) fn seconds(seconds: f64) -> String {
    // Saturates at zero: a length of time is never negative.
    #[expect(clippy::cast_sign_loss)]
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86400 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86400, whole % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(u64::MAX), "16384.00 PiB");
        assert_eq!(seconds(4.24), "4.2 s");
        assert_eq!(seconds(7380.0), "2 h 03 min");
    }
}
