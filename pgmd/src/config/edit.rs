//! Changes one setting in the text of a configuration, and nothing else: comments, order and layout stay.
//!
//! The places come from the same reading that checks a configuration. A value that is there is replaced; one that is not
//! is added after the other fields of its section, in their manner: on a line of its own, or within the line. Whoever
//! edits reads the result as a whole before anything is written.

use std::ops::Range;

use super::error::ConfigError;
use super::member::{Member, MemberGroup};
use super::source::{Entries, Field, Piece, Source};

/// Where a setting stands: its section, if it is not at the top, and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'k> {
    pub(super) section: PlaceSection<'k>,
    pub(super) name: &'k str,
}

/// The section of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PlaceSection<'k> {
    /// Directly in the outer parentheses.
    Top,
    /// In the parentheses of this field.
    Group(&'k str),
    /// In those of this server or repository.
    Member(&'k Member),
}

/// The text with `value` (in RON) at `place`.
pub(super) fn set(
    source: Source<'_>,
    place: Place<'_>,
    value: &str,
) -> Result<String, ConfigError> {
    let top = source.whole_fields("the configuration")?;
    let entry = format!("{}: {value}", place.name);
    let fields = match section(source, &top, place.section)? {
        Found::Missing(group) => {
            let Some(neighbour) = neighbour(&top) else {
                return Err(unknown_place(source, place));
            };
            let layout = Layout::of(source, neighbour);
            return Ok(insert_after(
                source.text,
                &layout,
                &new_group(&layout, group, &entry),
            ));
        }
        Found::There { fields, piece } => {
            if fields.is_empty() {
                // Directly behind the opening parenthesis.
                let start = source.span(piece).start + 1;
                return Ok(replaced(source.text, start..start, &entry));
            }
            fields
        }
        Found::Top => top,
    };
    if let Some(field) = fields.iter().find(|field| field.name == place.name) {
        return Ok(replaced(source.text, source.span(field.value), value));
    }
    let neighbour = neighbour(&fields).ok_or_else(|| unknown_place(source, place))?;
    let layout = Layout::of(source, neighbour);
    Ok(insert_after(source.text, &layout, &entry))
}

/// The text without the setting at `place`; unchanged when it is not there.
pub(super) fn unset(source: Source<'_>, place: Place<'_>) -> Result<String, ConfigError> {
    let top = source.whole_fields("the configuration")?;
    let fields = match section(source, &top, place.section)? {
        Found::Missing(_) => return Ok(source.text.to_owned()),
        Found::There { fields, .. } => fields,
        Found::Top => top,
    };
    let Some(field) = fields.iter().find(|field| field.name == place.name) else {
        return Ok(source.text.to_owned());
    };
    Ok(without(source, field))
}

enum Found<'a, 'k> {
    Top,
    There {
        fields: Vec<Field<'a>>,
        piece: Piece<'a>,
    },
    Missing(&'k str),
}

fn section<'a, 'k>(
    source: Source<'a>,
    top: &[Field<'a>],
    wanted: PlaceSection<'k>,
) -> Result<Found<'a, 'k>, ConfigError> {
    let in_top = |name: &str| {
        top.iter()
            .find(|field| field.name == name)
            .map(|field| field.value)
    };
    let there = |piece, what: &str| {
        source
            .fields(piece, what)
            .map(|fields| Found::There { fields, piece })
    };
    match wanted {
        PlaceSection::Top => Ok(Found::Top),
        PlaceSection::Group(group) => match in_top(group) {
            Some(piece) => there(piece, &format!("`{group}`")),
            None => Ok(Found::Missing(group)),
        },
        PlaceSection::Member(member) => {
            let (field, word) = (member.group.field(), member.group.word());
            let members = match in_top(field) {
                Some(piece) => source.value(piece, &format!("`{field}`"))?,
                None => Entries(Vec::new()),
            };
            for (key, piece) in members.0 {
                if source.value::<String>(key, &format!("a {word}'s name"))? == member.name {
                    return there(piece, &member.to_string());
                }
            }
            let text = format!("there is no {word} `{}`", member.name);
            Err(source.error_in(source.text, text, None))
        }
    }
}

/// The field after which a new one goes: the last, but before servers and repositories, which are long.
fn neighbour<'a, 'f>(fields: &'f [Field<'a>]) -> Option<&'f Field<'a>> {
    let long = |name: &str| MemberGroup::ALL.iter().any(|group| group.field() == name);
    let last = fields.iter().rev().find(|field| !long(field.name));
    last.or(fields.last())
}

fn unknown_place(source: Source<'_>, place: Place<'_>) -> ConfigError {
    let text = format!("there is no place for `{}` in it", place.name);
    source.error_in(source.text, text, Some("edit the file".to_owned()))
}

/// How the field after which something goes is laid out.
#[derive(Debug)]
struct Layout<'a> {
    /// Where its value ends.
    end: usize,
    /// Where its comma ends, if it has one.
    comma: Option<usize>,
    /// The white space before it, when fields have lines of their own.
    indent: Option<&'a str>,
}

impl<'a> Layout<'a> {
    fn of(source: Source<'a>, field: &Field<'a>) -> Self {
        let text = source.text;
        let end = source.span(field.value).end;
        let after = skip_blank(text, end);
        let comma = text[after..].starts_with(',').then_some(after + 1);
        let start = start_of(source, field);
        let line = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let own_line = line > 0 && text[line..start].trim().is_empty();
        let ends_line = rest_of_line(text, comma.unwrap_or(end)).is_some();
        Self {
            end,
            comma,
            indent: (own_line && ends_line).then(|| &text[line..start]),
        }
    }
}

fn new_group(layout: &Layout<'_>, group: &str, entry: &str) -> String {
    match layout.indent {
        Some(indent) => format!("{group}: (\n{indent}    {entry},\n{indent})"),
        None => format!("{group}: ({entry})"),
    }
}

fn insert_after(text: &str, layout: &Layout<'_>, entry: &str) -> String {
    let mut result = text.to_owned();
    match (layout.indent, layout.comma) {
        (Some(indent), comma) => {
            // What a comment at the end of the line says belongs to the field before.
            let at = comma.unwrap_or(layout.end);
            let at = rest_of_line(text, at).unwrap_or(at);
            result.insert_str(at, &format!("\n{indent}{entry},"));
            if comma.is_none() {
                result.insert(layout.end, ',');
            }
        }
        (None, Some(comma)) => result.insert_str(comma, &format!(" {entry},")),
        (None, None) => result.insert_str(layout.end, &format!(", {entry}")),
    }
    result
}

/// The text without a field and its comma, and without its line when nothing else stands there.
fn without(source: Source<'_>, field: &Field<'_>) -> String {
    let text = source.text;
    let start = start_of(source, field);
    let value_end = source.span(field.value).end;
    let after = skip_blank(text, value_end);
    if !text[after..].starts_with(',') {
        return without_span(text, start..value_end);
    }
    if text[value_end..after].trim().is_empty() {
        return without_span(text, start..after + 1);
    }
    // A comment between the value and its comma stays.
    let text = replaced(text, after..after + 1, "");
    replaced(&text, start..value_end, "")
}

/// The text without a span, its line when nothing else stands there, and blanks that follow it.
fn without_span(text: &str, span: Range<usize>) -> String {
    let line = text[..span.start]
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    let own_line = line > 0 && text[line..span.start].trim().is_empty();
    let rest = &text[span.end..];
    if let Some(newline) = rest.find('\n')
        && own_line
        && rest[..newline].trim().is_empty()
    {
        return replaced(text, line..span.end + newline + 1, "");
    }
    let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    replaced(text, span.start..span.end + blanks, "")
}

fn start_of(source: Source<'_>, field: &Field<'_>) -> usize {
    let start = source.offset(field.name);
    if source.text[..start].ends_with("r#") {
        start - 2
    } else {
        start
    }
}

/// The end of the line, when nothing but a comment stands between `at` and it.
fn rest_of_line(text: &str, at: usize) -> Option<usize> {
    let end = at + text[at..].find('\n')?;
    let rest = text[at..end].trim();
    let comment = rest.starts_with("//")
        || (rest.starts_with("/*") && rest.find("*/").is_some_and(|close| close + 2 == rest.len()));
    let end = if text[..end].ends_with('\r') {
        end - 1
    } else {
        end
    };
    (rest.is_empty() || comment).then_some(end)
}

/// The first byte from `at` on that is neither white space nor in a comment.
fn skip_blank(text: &str, mut at: usize) -> usize {
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if trimmed.starts_with("//") {
            at += trimmed.find('\n').unwrap_or(trimmed.len());
        } else if trimmed.starts_with("/*") {
            at += block_comment(trimmed);
        } else {
            return at;
        }
    }
}

/// The length of the comment at the beginning of `text`; such comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn replaced(text: &str, range: Range<usize>, with: &str) -> String {
    let mut result = text.to_owned();
    result.replace_range(range, with);
    result
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
