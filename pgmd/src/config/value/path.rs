//! Paths: relative ones start at the configuration's folder, `$NAME` and `${NAME}` are environment variables, and `$$`
//! is a dollar sign.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{Form, Kind, Literal, Surroundings, Value, Wrong};

impl Value for PathBuf {
    const KIND: Kind = Kind::new("path", Form::Text);

    fn read(written: &Literal, cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        match written {
            Literal::Text(text) => expand(text, cx),
            _ => Err(Wrong::is_text()),
        }
    }

    fn text(&self) -> String {
        written_path(self)
    }

    fn shown(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

/// A path whose `%Y`, `%m`, … become parts of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate(PathBuf);

impl PathTemplate {
    /// The path at `time`.
    pub fn at(&self, time: &Zoned) -> PathBuf {
        let path = self.0.to_string_lossy();
        jiff::fmt::strtime::format(path.as_bytes(), time)
            .map_or_else(|_| self.0.clone(), PathBuf::from)
    }

    /// The path as it is written, absolute.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Value for PathTemplate {
    const KIND: Kind = Kind::new("path with a time", Form::Text);

    fn read(written: &Literal, cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        let path = PathBuf::read(written, cx)?;
        let text = path.to_string_lossy();
        // Whether it can be written does not depend on the place; to look for the local time zone takes milliseconds.
        let now = Timestamp::now().to_zoned(TimeZone::UTC);
        jiff::fmt::strtime::format(text.as_bytes(), &now).map_err(|error| {
            Wrong::because(error)
                .hint("a time is written as strftime does: %Y-%m-%d; `%%` is a percent sign")
        })?;
        Ok(Self(path))
    }

    fn text(&self) -> String {
        written_path(&self.0)
    }

    fn shown(&self) -> Option<String> {
        Some(self.0.display().to_string())
    }
}

/// The path that `text` means.
pub(super) fn expand(text: &str, cx: &Surroundings<'_>) -> Result<PathBuf, Wrong> {
    if text.is_empty() {
        return Err(Wrong::because("it is empty"));
    }
    if text.contains('\0') {
        return Err(Wrong::because("a path cannot hold a zero byte"));
    }
    if text.starts_with('~') {
        let wrong = Wrong::because(format_args!("`~` is not expanded in {text}"));
        return Err(wrong.hint("write $HOME, or the whole path"));
    }
    let mut path = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        path.push_str(before);
        rest = if let Some(rest) = after.strip_prefix('$') {
            path.push('$');
            rest
        } else {
            let (name, rest) = variable(after)
                .ok_or_else(|| {
                    Wrong::because(format_args!("no variable's name follows `$` in {text}"))
                })
                .map_err(|wrong| {
                    wrong.hint("variables are $NAME or ${NAME}; `$$` is a dollar sign")
                })?;
            let value = (cx.environment)(name).filter(|value| !value.is_empty());
            path.push_str(&value.ok_or_else(|| {
                Wrong::because(format_args!("the environment variable {name} is not set")).hint(
                    format!("set {name} in pgmd's environment, or write the whole path"),
                )
            })?);
            rest
        };
    }
    path.push_str(rest);
    Ok(cx.folder.join(path))
}

/// The name at the beginning of what follows a `$`, and the rest.
fn variable(text: &str) -> Option<(&str, &str)> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let (name, rest) = if let Some(inner) = text.strip_prefix('{') {
        inner.split_once('}')?
    } else {
        let end = text.find(|letter| !plain(letter)).unwrap_or(text.len());
        text.split_at(end)
    };
    let usable = name.chars().all(plain) && name.starts_with(|first: char| !first.is_ascii_digit());
    usable.then_some((name, rest))
}

/// A path so that reading it gives the same.
pub(super) fn written_path(path: &Path) -> String {
    path.to_string_lossy().replace('$', "$$")
}
