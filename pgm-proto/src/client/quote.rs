//! Names and texts in commands.
//!
//! The replication grammar (`replication/repl_scanner.l`) knows no backslash escapes: a quote is doubled, nothing else.
//! The same holds for SQL with `standard_conforming_strings` on.

/// A name in double quotes.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in single quotes.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The name of a setting, each part quoted: an extension's settings have two.
pub(crate) fn setting(name: &str) -> String {
    let parts: Vec<_> = name.split('.').map(identifier).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_nothing_else_changes() {
        assert_eq!(identifier(r#"a"b\"#), r#""a""b\""#);
        assert_eq!(literal(r"it's \"), r"'it''s \'");
        assert_eq!(setting("pg_stat.x"), r#""pg_stat"."x""#);
    }
}
