//! The text of a configuration, and the way from an error back to its line and column.
//!
//! Values are read in two steps, both with RON: first the shape, which leaves each value as a piece of the text; then
//! each piece as what its field needs. So every error, also one about the meaning of a value, knows where it stands.

use std::path::Path;
use std::str::FromStr;

use ron::error::Error as RonError;
use ron::extensions::Extensions;
use ron::value::RawValue;
use serde::Deserialize;

use super::error::{ConfigError, nearest_hint};

/// A piece of the text: one value.
pub(super) type Piece<'a> = &'a RawValue;

/// A configuration's text and where it comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    /// The whole text as a `T`; `what` names it in errors.
    pub(super) fn whole<T: Deserialize<'a>>(&self, what: &str) -> Result<T, ConfigError> {
        self.read(self.text, what)
    }

    /// A piece as a `T`.
    pub(super) fn value<T: Deserialize<'a>>(
        &self,
        piece: Piece<'a>,
        what: &str,
    ) -> Result<T, ConfigError> {
        self.read(piece.trim().get_ron(), what)
    }

    /// A piece that is a string, parsed as a `T`; the parser's own words say what is wrong.
    pub(super) fn parsed<T>(&self, piece: Piece<'a>, what: &str) -> Result<T, ConfigError>
    where
        T: FromStr<Err: std::error::Error>,
    {
        let text: String = self.value(piece, what)?;
        text.parse()
            .map_err(|error: T::Err| self.error(piece, format!("{what}: {error}"), None))
    }

    /// An error about `piece`.
    pub(super) fn error(
        &self,
        piece: Piece<'a>,
        text: String,
        hint: Option<String>,
    ) -> ConfigError {
        self.error_at(self.offset(piece.trim().get_ron()), text, hint)
    }

    fn read<T: Deserialize<'a>>(&self, part: &'a str, what: &str) -> Result<T, ConfigError> {
        let options = ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME);
        options.from_str(part).map_err(|error| {
            let (line, column) = match &error.code {
                // RON stands behind the name by now; its beginning helps more.
                RonError::NoSuchStructField { found, .. } => (
                    error.span.end.line,
                    error.span.end.col.saturating_sub(found.chars().count()),
                ),
                _ => (error.span.start.line, error.span.start.col),
            };
            let (text, hint) = explain(&error.code, what);
            self.error_at(
                self.offset(part) + offset_of(part, line, column),
                text,
                hint,
            )
        })
    }

    /// Where `part`, which is a slice of the text, begins in it.
    fn offset(&self, part: &str) -> usize {
        (part.as_ptr() as usize)
            .saturating_sub(self.text.as_ptr() as usize)
            .min(self.text.len())
    }

    fn error_at(&self, offset: usize, text: String, hint: Option<String>) -> ConfigError {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        ConfigError::At {
            file: self.file.to_owned(),
            line,
            column,
            text,
            hint,
        }
    }
}

/// The byte offset of a line and column, both from 1, in `text`.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let lines_before = text.split_inclusive('\n').take(line.saturating_sub(1));
    let start: usize = lines_before.map(str::len).sum();
    let in_line = text[start..]
        .chars()
        .take(column.saturating_sub(1))
        .map(char::len_utf8);
    start + in_line.sum::<usize>()
}

/// RON's error in our words, with what to do.
fn explain(error: &RonError, what: &str) -> (String, Option<String>) {
    match error {
        RonError::NoSuchStructField {
            expected, found, ..
        } => (
            format!("{what} has no field `{found}`"),
            Some(nearest_hint(found, expected)),
        ),
        RonError::MissingStructField { field, .. } => {
            (format!("{what} needs the field `{field}`"), None)
        }
        RonError::DuplicateStructField { field, .. } => {
            (format!("{what} has the field `{field}` twice"), None)
        }
        RonError::InvalidValueForType { expected, found } => {
            (format!("{what} is {expected}, not {found}"), None)
        }
        RonError::ExpectedString => (
            format!("{what} is a text in double quotes"),
            Some("write it as \"…\"".to_owned()),
        ),
        RonError::ExpectedBoolean => (format!("{what} is true or false"), None),
        RonError::ExpectedInteger => (format!("{what} is a whole number"), None),
        RonError::IntegerOutOfBounds => (format!("{what} is too large"), None),
        RonError::ExpectedComma => (
            "expected a comma".to_owned(),
            Some("fields and entries are separated by commas".to_owned()),
        ),
        RonError::ExpectedMap => (
            format!("{what}: expected `{{`"),
            Some("servers are written as { \"name\": ( … ), }".to_owned()),
        ),
        RonError::ExpectedStructLike | RonError::ExpectedNamedStructLike(_) => (
            format!("{what}: expected `(`"),
            Some("fields stand in parentheses: ( … )".to_owned()),
        ),
        other => {
            let text = other.to_string();
            let mut letters = text.chars();
            let lower = letters
                .next()
                .map(|first| first.to_lowercase().chain(letters).collect());
            let lower: String = lower.unwrap_or_default();
            (format!("{what}: {lower}"), None)
        }
    }
}
