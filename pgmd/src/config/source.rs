//! The text of a configuration, and the way from an error back to its line and column.
//!
//! Values are read in two steps, both with RON: first the shape, which leaves each value as a piece of the text; then
//! each piece as what its field needs. So every error, also one about the meaning of a value, knows where it stands.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use ron::error::Error as RonError;
use ron::extensions::Extensions;
use ron::value::RawValue;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::error::{ConfigError, nearest_hint};
use super::value::Literal;

/// A piece of the text: one value.
pub(super) type Piece<'a> = &'a RawValue;

/// One field of a section.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    /// Its name, as a slice of the text.
    pub(super) name: &'a str,
    /// Its value.
    pub(super) value: Piece<'a>,
}

/// The fields in a pair of parentheses, in their order, whatever their names.
struct Fields<'a>(Vec<Field<'a>>);

/// The entries of a map in their order, so that a name given twice is seen.
pub(super) struct Entries<'a>(pub(super) Vec<(Piece<'a>, Piece<'a>)>);

/// A configuration's text and where it comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    /// The fields of the whole text; `what` names it in errors.
    pub(super) fn whole_fields(&self, what: &str) -> Result<Vec<Field<'a>>, ConfigError> {
        self.read(self.text, what).map(|Fields(fields)| fields)
    }

    /// The fields of a piece.
    pub(super) fn fields(
        &self,
        piece: Piece<'a>,
        what: &str,
    ) -> Result<Vec<Field<'a>>, ConfigError> {
        self.value(piece, what).map(|Fields(fields)| fields)
    }

    /// A piece as it is written.
    pub(super) fn literal(&self, piece: Piece<'a>, what: &str) -> Result<Literal, ConfigError> {
        let written = piece.trim().get_ron();
        let text =
            written.starts_with(['"']) || written.starts_with("r\"") || written.starts_with("r#");
        if text {
            self.value(piece, what).map(Literal::Text)
        } else if written.starts_with('[') {
            self.value(piece, what).map(Literal::List)
        } else {
            Ok(Literal::Word(written.to_owned()))
        }
    }

    /// The line on which a piece begins, from 1.
    pub(super) fn line(&self, piece: Piece<'a>) -> usize {
        let before = self.text.get(..self.offset(piece.trim().get_ron()));
        before.unwrap_or(self.text).matches('\n').count() + 1
    }

    /// A piece as a `T`.
    pub(super) fn value<T: Deserialize<'a>>(
        &self,
        piece: Piece<'a>,
        what: &str,
    ) -> Result<T, ConfigError> {
        self.read(piece.trim().get_ron(), what)
    }

    /// Where a piece is in the text, without the white space and comments around it.
    pub(super) fn span(&self, piece: Piece<'a>) -> Range<usize> {
        let written = piece.trim().get_ron();
        let start = self.offset(written);
        start..start + written.len()
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

    /// An error about `part`, a slice of the text.
    pub(super) fn error_in(&self, part: &str, text: String, hint: Option<String>) -> ConfigError {
        self.error_at(self.offset(part), text, hint)
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
    pub(super) fn offset(&self, part: &str) -> usize {
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

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Vec<Field<'de>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("fields in parentheses: ( … )")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    fields.push(Field { name, value });
                }
                Ok(fields)
            }
        }

        deserializer
            .deserialize_struct("", &[], FieldsVisitor)
            .map(Fields)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Vec<(Piece<'de>, Piece<'de>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("entries in braces: { \"name\": ( … ), }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_map(EntriesVisitor).map(Entries)
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
