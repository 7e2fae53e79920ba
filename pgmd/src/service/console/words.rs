//! The words of one statement, taken one after the other, and what is said when one does not fit.

use std::str::FromStr;

use super::lexer::{Kind, Token, Unclosed};
use crate::config::nearest_hint;

/// A statement that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) text: String,
    pub(super) hint: Option<String>,
    /// Where, in bytes of the query; `None` at its end.
    pub(super) at: Option<usize>,
    /// `42601` for what is no command, `0A000` for what is SQL, `22023` for a value.
    pub(super) sqlstate: &'static str,
}

impl From<Unclosed> for SyntaxError {
    fn from(error: Unclosed) -> Self {
        Self {
            text: format!("unterminated {}", error.what),
            hint: None,
            at: Some(error.at),
            sqlstate: "42601",
        }
    }
}

/// What is left of a statement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a>(&'a [Token]);

impl<'a> Words<'a> {
    pub(super) fn new(tokens: &'a [Token]) -> Self {
        Self(tokens)
    }

    /// The next word as one of `keywords`, if it is one; keywords are in capitals.
    pub(super) fn keyword(&mut self, keywords: &[&'static str]) -> Option<&'static str> {
        let Kind::Word(word) = &self.0.first()?.kind else {
            return None;
        };
        let found = keywords.iter().find(|of| of.eq_ignore_ascii_case(word))?;
        self.0 = &self.0[1..];
        Some(found)
    }

    /// The next word must be one of `keywords`.
    pub(super) fn one_of(
        &mut self,
        keywords: &[&'static str],
    ) -> Result<&'static str, SyntaxError> {
        self.keyword(keywords)
            .ok_or_else(|| self.unexpected(keywords))
    }

    /// A symbol, if it comes next.
    pub(super) fn symbol(&mut self, symbol: char) -> bool {
        let is_next = self
            .0
            .first()
            .is_some_and(|token| token.kind == Kind::Symbol(symbol));
        if is_next {
            self.0 = &self.0[1..];
        }
        is_next
    }

    /// The next word or quoted text, whatever it is.
    pub(super) fn text(&mut self, what: &str) -> Result<String, SyntaxError> {
        self.optional_text()
            .ok_or_else(|| self.error(format!("{what} is missing"), None))
    }

    /// The same, if there is one.
    pub(super) fn optional_text(&mut self) -> Option<String> {
        let (Kind::Word(text) | Kind::Quoted(text)) = &self.0.first()?.kind else {
            return None;
        };
        self.0 = &self.0[1..];
        Some(text.clone())
    }

    /// The next word as a value.
    pub(super) fn value<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        what: &str,
    ) -> Result<T, SyntaxError> {
        let before = *self;
        let text = self.text(what)?;
        text.parse().map_err(|error: T::Err| SyntaxError {
            sqlstate: "22023",
            ..before.error(format!("\"{text}\" is no {what}: {error}"), None)
        })
    }

    /// The same, if there is one.
    pub(super) fn optional<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        what: &str,
    ) -> Result<Option<T>, SyntaxError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.value(what).map(Some)
    }

    /// Nothing may come any more.
    pub(super) fn end(&self) -> Result<(), SyntaxError> {
        match self.next() {
            None => Ok(()),
            Some(word) => Err(self.error(format!("syntax error at or near \"{word}\""), None)),
        }
    }

    /// Whether nothing comes any more.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The words that are left.
    pub(super) fn tokens(&self) -> &'a [Token] {
        self.0
    }

    /// An error at the next word.
    pub(super) fn error(&self, text: String, hint: Option<String>) -> SyntaxError {
        SyntaxError {
            text,
            hint,
            at: self.0.first().map(|token| token.at),
            sqlstate: "42601",
        }
    }

    /// The next word is none of these.
    pub(super) fn unexpected(&self, keywords: &[&'static str]) -> SyntaxError {
        let (text, word) = match self.next() {
            Some(word) => (format!("syntax error at or near \"{word}\""), word),
            None => ("syntax error at end of input".to_owned(), String::new()),
        };
        self.error(text, Some(nearest_hint(&word, keywords)))
    }

    fn next(&self) -> Option<String> {
        Some(match &self.0.first()?.kind {
            Kind::Word(text) | Kind::Quoted(text) => text.clone(),
            Kind::Symbol(symbol) => symbol.to_string(),
        })
    }
}
