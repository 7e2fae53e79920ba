//! Errors and notices in the server's own words.
//!
//! Follows the manual's 55.8, "Error and Notice Message Fields". Only the fields that people read are kept.

use std::fmt;

/// An error that the server reported.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`, in English.
    pub severity: String,
    /// The five characters of the SQLSTATE.
    pub sqlstate: String,
    /// What happened.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
    /// What to do, in the server's words.
    pub hint: Option<String>,
    /// Where in the server it happened.
    pub context: Option<String>,
}

/// A warning or notice that the server sent on the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerNotice(pub ServerError);

impl ServerError {
    /// Makes one of the body of an ErrorResponse or NoticeResponse: pairs of a letter and a text ending in a zero
    /// byte, then one more zero byte. What is missing stays empty; a body that is cut off gives what it has.
    pub(crate) fn from_body(body: &[u8]) -> Self {
        let mut error = Self::default();
        let mut localized_severity = String::new();
        for field in body.split(|byte| *byte == 0) {
            let Some((letter, text)) = field.split_first() else {
                break;
            };
            let text = printable(text);
            match letter {
                b'S' => localized_severity = text,
                b'V' => error.severity = text,
                b'C' => error.sqlstate = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'W' => error.context = Some(text),
                _ => {}
            }
        }
        if error.severity.is_empty() {
            error.severity = localized_severity;
        }
        error
    }
}

/// Control characters except line breaks and tabs could drive a terminal: they are replaced.
fn printable(text: &[u8]) -> String {
    let safe = |c: char| {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            '\u{FFFD}'
        } else {
            c
        }
    };
    String::from_utf8_lossy(text).chars().map(safe).collect()
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        if !self.sqlstate.is_empty() {
            write!(f, " [{}]", self.sqlstate)?;
        }
        Ok(())
    }
}

impl fmt::Display for ServerNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_any_order_and_unknown_ones_are_skipped() {
        let error = ServerError::from_body(b"SFEHLER\0VERROR\0Zx\0C42501\0Mno\x1b[31m\0Hask\0\0");
        assert_eq!(
            (error.severity.as_str(), error.sqlstate.as_str()),
            ("ERROR", "42501")
        );
        assert_eq!(error.message, "no\u{FFFD}[31m");
        assert_eq!(error.hint.as_deref(), Some("ask"));
        assert_eq!(error.to_string(), "ERROR: no\u{FFFD}[31m [42501]");
    }

    #[test]
    fn a_cut_off_body_is_no_panic() {
        for body in [&b""[..], b"M", b"\0", b"Mabc", b"M\0", &[0xFF; 40]] {
            ServerError::from_body(body);
        }
    }
}
