//! The little of SQL that clients of PostgreSQL send by themselves, so that none of them breaks here.
//!
//! Drivers ask for the version, set the session up and begin transactions: that is answered, and changes nothing. psql
//! asks the catalog for words to complete: after `SHOW` and `SET` it gets the console's own; whatever else it asks the
//! catalog for is refused like any SQL, which psql does not show while it completes, and shows for `\d` and `\l`.

use super::command::{Command, SHOWN};
use super::lexer::Kind;
use super::words::{SyntaxError, Words};
use crate::config;

/// Parameters of a session that drivers set. They have no effect: there is one encoding, one zone and one style.
const SESSION: &[&str] = &[
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "application_name",
    "timezone",
    "time",
    "session",
    "local",
    "transaction",
    "search_path",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "standard_conforming_strings",
    "intervalstyle",
    "bytea_output",
    "names",
    "role",
];
/// Parameters that clients ask for, with their values.
const PARAMETERS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("standard_conforming_strings", "on"),
    ("transaction_isolation", "read committed"),
    ("default_transaction_isolation", "read committed"),
    ("transaction_read_only", "off"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("is_superuser", "off"),
    ("search_path", ""),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "140000"),
    ("max_identifier_length", "63"),
];
/// The version that clients are told at their login, too.
pub(in crate::service) const SERVER_VERSION: &str =
    concat!("14.0 (pgm ", env!("CARGO_PKG_VERSION"), ")");

/// What a statement of SQL asks for; `None` when it is none.
pub(super) fn command(mut words: Words<'_>) -> Option<Result<Command, SyntaxError>> {
    let whole = words;
    match words.keyword(&[
        "BEGIN",
        "START",
        "COMMIT",
        "END",
        "ROLLBACK",
        "ABORT",
        "DISCARD",
        "DEALLOCATE",
        "SET",
        "RESET",
        "SHOW",
        "SELECT",
        "WITH",
        "VALUES",
        "TABLE",
        "INSERT",
        "UPDATE",
        "CREATE",
        "DROP",
        "ALTER",
        "COPY",
        "LISTEN",
        "GRANT",
        "PREPARE",
        "EXECUTE",
        "TRUNCATE",
        "VACUUM",
        "DO",
    ])? {
        "BEGIN" | "START" => Some(Ok(Command::Nothing("BEGIN"))),
        "COMMIT" | "END" => Some(Ok(Command::Nothing("COMMIT"))),
        "ROLLBACK" | "ABORT" => Some(Ok(Command::Nothing("ROLLBACK"))),
        "DISCARD" => Some(Ok(Command::Nothing("DISCARD ALL"))),
        "DEALLOCATE" => Some(Ok(Command::Nothing("DEALLOCATE"))),
        "SET" | "RESET" => words.keyword(SESSION).map(|_| Ok(Command::Nothing("SET"))),
        "SHOW" => parameter(words).map(Ok),
        "SELECT" => Some(select(whole, words)),
        _ => Some(Err(refusal(whole))),
    }
}

/// `SHOW server_version`, and `SHOW TRANSACTION ISOLATION LEVEL` as drivers write it.
fn parameter(mut words: Words<'_>) -> Option<Command> {
    let name = words.optional_text()?.to_ascii_lowercase();
    let name = match name.as_str() {
        "transaction" => "transaction_isolation",
        name => name,
    };
    let known = PARAMETERS.iter().find(|(known, _)| *known == name)?;
    Some(Command::Constant(known.0, known.1.to_owned()))
}

fn select(whole: Words<'_>, mut words: Words<'_>) -> Result<Command, SyntaxError> {
    if let Some(names) = names_to_complete(words) {
        return Ok(Command::Names(names));
    }
    let asked = words.optional_text().unwrap_or_default().to_lowercase();
    let called = words.symbol('(') && words.symbol(')');
    let (name, value) = match (asked.as_str(), called) {
        ("1", false) => ("?column?", "1"),
        ("version" | "pg_catalog.version", true) => (
            "version",
            concat!("pgmd ", env!("CARGO_PKG_VERSION"), ", the console of pgm"),
        ),
        ("current_database" | "pg_catalog.current_database", true) => ("current_database", "pgm"),
        ("pg_is_in_recovery" | "pg_catalog.pg_is_in_recovery", true) => ("pg_is_in_recovery", "f"),
        _ => return Err(refusal(whole)),
    };
    if words.is_empty() {
        Ok(Command::Constant(name, value.to_owned()))
    } else {
        Err(refusal(whole))
    }
}

/// psql's query for what may stand behind `SHOW` or `SET`, and the words that fit.
///
/// ```text
/// SELECT pg_catalog.lower(name) FROM pg_catalog.pg_settings WHERE [context … AND] pg_catalog.lower(name) LIKE pg_catalog.lower('se%')
/// ```
fn names_to_complete(words: Words<'_>) -> Option<Vec<String>> {
    let tokens = words.tokens();
    let has_word = |text: &str| {
        tokens
            .iter()
            .any(|token| matches!(&token.kind, Kind::Word(word) if word.eq_ignore_ascii_case(text)))
    };
    if !has_word("pg_catalog.pg_settings") || !has_word("like") || has_word("vartype") {
        return None;
    }
    let pattern = tokens.iter().rev().find_map(|token| match &token.kind {
        Kind::Quoted(text) if text.ends_with('%') => Some(text),
        _ => None,
    })?;
    // A pattern escapes what stands for itself.
    let prefix = pattern[..pattern.len() - 1]
        .replace('\\', "")
        .to_lowercase();
    // What may be set, or everything: only the former asks for a context.
    let names: Vec<String> = if has_word("context") {
        config::settings()
            .into_iter()
            .map(|setting| setting.key.to_owned())
            .collect()
    } else {
        SHOWN.iter().map(|word| word.to_lowercase()).collect()
    };
    Some(
        names
            .into_iter()
            .filter(|name| name.starts_with(&prefix))
            .collect(),
    )
}

fn refusal(words: Words<'_>) -> SyntaxError {
    let hint = "SHOW HELP lists the commands of this console";
    SyntaxError {
        sqlstate: "0A000",
        ..words.error(
            "this is pgm's console: it has no tables and no SQL".to_owned(),
            Some(hint.to_owned()),
        )
    }
}
