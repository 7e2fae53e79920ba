//! The kinds of values that settings have.
//!
//! A value has one canonical text, `10s` or `zstd:3`, which is what `conf ls` shows, what can be typed after
//! `conf set KEY`, and by which a reload sees whether it has changed. In the file most of them stand in quotes.

mod choice;
mod command;
mod conninfo;
mod duration;
mod list;
mod number;
mod path;
mod retention;
mod size;
mod text;

use std::path::Path;

use super::error::nearest_hint;
use super::quoted;

pub use choice::{BackupSource, JobPriority, LogLevel, LogMode, LogType, ServerMode, VerifyDepth};
pub use command::{HookCommand, MasterKeySource};
pub use conninfo::ConninfoText;
pub use list::{ProgramFolders, Statements, TablespacePlaces};
pub use path::PathTemplate;
pub use size::ByteSize;

/// A type whose values can stand in the configuration.
pub(super) trait Value: Sized + Clone + PartialEq {
    /// What its values look like.
    const KIND: Kind;

    /// The value that is written.
    fn read(written: &Literal, cx: &Surroundings<'_>) -> Result<Self, Wrong>;

    /// The canonical text; [`Form::literal`] of it reads back to the same value.
    fn text(&self) -> String;

    /// The text for everybody to see; none for no value.
    fn shown(&self) -> Option<String> {
        Some(self.text())
    }

    /// Whether it lies between two values of its kind; everything does where there is no order.
    fn is_within(&self, _low: &Self, _high: &Self) -> bool {
        true
    }
}

/// What values of a kind look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name: `duration`.
    pub name: &'static str,
    /// How they are written in the file.
    pub form: Form,
    /// What a plain number counts.
    pub unit: Option<&'static str>,
    /// All of them, where they can be counted.
    pub choices: &'static [&'static str],
}

impl Kind {
    const fn new(name: &'static str, form: Form) -> Self {
        Self {
            name,
            form,
            unit: None,
            choices: &[],
        }
    }

    /// Whether a value can hold a password or a key.
    pub(crate) fn may_hold_secrets(&self) -> bool {
        self.runs_commands() || self.name == ConninfoText::KIND.name
    }

    /// Whether a value can name a command that the daemon will run.
    pub(crate) fn runs_commands(&self) -> bool {
        // SQL runs as a superuser, who may run programs.
        [
            HookCommand::KIND.name,
            MasterKeySource::KIND.name,
            Statements::KIND.name,
            ProgramFolders::KIND.name,
        ]
        .contains(&self.name)
    }
}

/// How values are written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In double quotes.
    Text,
    /// As they are: numbers, true and false.
    Word,
    /// In double quotes; plain numbers and words may do without.
    Either,
    /// In double quotes, or a list of such texts in brackets.
    TextOrList,
}

/// A value as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Literal {
    /// In double quotes.
    Text(String),
    /// A number, a word, or anything else without quotes.
    Word(String),
    /// Texts in brackets.
    List(Vec<String>),
}

impl Form {
    /// What was typed, as if it were written in the file.
    pub(super) fn literal(self, typed: &str) -> Literal {
        match self {
            _ if is_unset(typed) => Literal::Word("None".to_owned()),
            Self::Word => Literal::Word(typed.to_owned()),
            Self::TextOrList => {
                list(typed).map_or_else(|| Literal::Text(typed.to_owned()), Literal::List)
            }
            Self::Text | Self::Either => Literal::Text(typed.to_owned()),
        }
    }
}

impl Literal {
    /// As it is written in the file.
    pub(super) fn ron(&self, form: Form) -> String {
        match self {
            Self::Text(text)
                if form == Form::Either
                    && !text.is_empty()
                    && text.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                text.clone()
            }
            Self::Text(text) => quoted(text),
            Self::Word(word) => word.clone(),
            Self::List(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                format!("[{}]", texts.join(", "))
            }
        }
    }
}

/// Whether this stands for no value.
fn is_unset(typed: &str) -> bool {
    typed.eq_ignore_ascii_case("none")
}

/// The texts of a list in brackets.
fn list(typed: &str) -> Option<Vec<String>> {
    typed
        .trim_start()
        .starts_with('[')
        .then(|| ron::from_str(typed).ok())
        .flatten()
}

/// What a value's meaning depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// Where relative paths start.
    pub(super) folder: &'a Path,
    /// Looks up an environment variable.
    pub(super) environment: fn(&str) -> Option<String>,
}

/// Why a value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What follows the setting's name: ` is a whole number`, `: unknown unit`.
    pub(super) text: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl Wrong {
    /// `KEY is WHAT`.
    pub(super) fn is(what: &str) -> Self {
        Self {
            text: format!(" is {what}"),
            hint: None,
        }
    }

    /// `KEY is a text in double quotes`.
    fn is_text() -> Self {
        Self::is("a text in double quotes").hint("write it as \"…\"")
    }

    /// `KEY: WHAT`.
    fn because(what: impl std::fmt::Display) -> Self {
        Self {
            text: format!(": {what}"),
            hint: None,
        }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;

    fn read(written: &Literal, cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        match written {
            Literal::Word(word) if is_unset(word) => Ok(None),
            value => T::read(value, cx).map(Some),
        }
    }

    fn text(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), T::text)
    }

    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(T::shown)
    }

    fn is_within(&self, low: &Self, high: &Self) -> bool {
        match (self, low, high) {
            (Some(value), Some(low), Some(high)) => value.is_within(low, high),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests;
