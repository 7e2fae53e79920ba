//! SQL on the server of a trial.

use std::time::Duration;

use pgm_backup::Context;
use pgm_proto::{Client, ConnInfo, Error, QueryResult, Session};

use super::scratch::{PORT, Scratch};

/// A statement of the user may count a table for hours; whoever cancels ends it.
const SILENCE_MAX: Duration = Duration::from_hours(24);

/// Connects to `database` as `role`.
pub(super) fn connect(
    cx: &Context,
    scratch: &Scratch,
    role: &str,
    database: &str,
) -> Result<Client, Error> {
    let info = format!(
        "host={} port={PORT} user={} dbname={} sslmode=disable application_name=pgm",
        quoted(&scratch.socket_folder().to_string_lossy()),
        quoted(role),
        quoted(database)
    );
    let info: ConnInfo = info.parse()?;
    let mut client = Client::connect(&info, Session::Sql)?;
    client.set_silence_max(SILENCE_MAX);
    let cancel = cx.cancel.clone();
    client.set_interrupt(move || cancel.is_cancelled());
    Ok(client)
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// The fields of the only row.
pub(super) fn row(client: &mut Client, sql: &str) -> Result<Vec<Option<String>>, Error> {
    let results = client.query(sql)?;
    let row = results
        .into_iter()
        .next_back()
        .and_then(|result| result.rows.into_iter().next());
    Ok(row.unwrap_or_default())
}

/// The first column.
pub(super) fn column(client: &mut Client, sql: &str) -> Result<Vec<String>, Error> {
    let results = client.query(sql)?;
    let rows = results.into_iter().flat_map(|result| result.rows);
    Ok(rows
        .filter_map(|row| row.into_iter().next().flatten())
        .collect())
}

/// What is wrong with the answer to a statement that shall be true: it gives one column with `t` in every row, or nothing
/// of the kind.
pub(super) fn objection(results: &[QueryResult]) -> Option<String> {
    let result = results.last()?;
    if result.columns.len() != 1 {
        return None;
    }
    let field = |row: &Vec<Option<String>>| row.first().cloned().flatten();
    let is_true = |row| field(row).as_deref() == Some("t");
    let is_boolean = |row| matches!(field(row).as_deref(), Some("t" | "f") | None);
    if result.rows.is_empty() {
        return result
            .tag
            .starts_with("SELECT")
            .then(|| "it gives no row".to_owned());
    }
    if result.rows.iter().all(is_boolean) && !result.rows.iter().all(is_true) {
        return Some("it is not true".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(columns: &[&str], rows: &[&[Option<&str>]], tag: &str) -> Vec<QueryResult> {
        let row =
            |row: &&[Option<&str>]| row.iter().map(|field| field.map(str::to_owned)).collect();
        vec![QueryResult {
            columns: columns.iter().map(ToString::to_string).collect(),
            rows: rows.iter().map(row).collect(),
            tag: tag.to_owned(),
        }]
    }

    #[test]
    fn only_what_is_true_or_has_no_truth_passes() {
        let one = &["x"];
        assert_eq!(
            objection(&answer(one, &[&[Some("t")], &[Some("t")]], "SELECT 2")),
            None
        );
        assert_eq!(objection(&answer(one, &[&[Some("42")]], "SELECT 1")), None);
        assert_eq!(objection(&answer(&[], &[], "CREATE TABLE")), None);
        assert_eq!(
            objection(&answer(&["x", "y"], &[&[Some("f"), None]], "SELECT 1")),
            None
        );
        assert!(objection(&answer(one, &[&[Some("t")], &[Some("f")]], "SELECT 2")).is_some());
        assert!(objection(&answer(one, &[&[None]], "SELECT 1")).is_some());
        assert!(objection(&answer(one, &[], "SELECT 0")).is_some());
    }
}
