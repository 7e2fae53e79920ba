//! What the console says besides rows: errors, notices, and the small messages of the protocol.

use pgm_mgmt::{Error, ErrorCode};

use super::table::message;
use super::words::SyntaxError;

/// An error or a notice, field by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    severity: &'static str,
    sqlstate: &'static str,
    text: String,
    hint: Option<String>,
    /// The place in the query, in characters from 1.
    position: Option<usize>,
}

impl Report {
    pub(super) fn error(sqlstate: &'static str, text: impl Into<String>) -> Self {
        Self {
            severity: "ERROR",
            sqlstate,
            text: text.into(),
            hint: None,
            position: None,
        }
    }

    pub(super) fn fatal(sqlstate: &'static str, text: impl Into<String>) -> Self {
        Self {
            severity: "FATAL",
            ..Self::error(sqlstate, text)
        }
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// A line on the way.
    pub(super) fn notice(severity: &'static str, text: impl Into<String>) -> Self {
        Self {
            severity,
            sqlstate: "00000",
            ..Self::error("00000", text)
        }
    }

    /// Why `query` cannot be understood.
    pub(super) fn syntax(query: &str, error: SyntaxError) -> Self {
        let at = error.at.unwrap_or(query.trim_end().len());
        let before = query.char_indices().take_while(|(place, _)| *place < at);
        Self {
            hint: error.hint,
            position: Some(before.count() + 1),
            ..Self::error(error.sqlstate, error.text)
        }
    }

    /// ErrorResponse or NoticeResponse.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let position = self.position.map(|position| position.to_string());
        let fields = [
            (b'S', Some(self.severity)),
            (b'V', Some(self.severity)),
            (b'C', Some(self.sqlstate)),
            (b'M', Some(self.text.as_str())),
            (b'H', self.hint.as_deref()),
            (b'P', position.as_deref()),
        ];
        let mut body = Vec::new();
        for (name, value) in fields {
            if let Some(value) = value {
                body.push(name);
                // A zero byte would end the text, and the rest would be read as other fields.
                body.extend(value.replace('\0', "\u{FFFD}").bytes());
                body.push(0);
            }
        }
        body.push(0);
        let tag = match self.severity {
            "ERROR" | "FATAL" => b'E',
            _ => b'N',
        };
        message(tag, &body)
    }
}

impl From<Error> for Report {
    fn from(error: Error) -> Self {
        Self {
            hint: error.hint,
            ..Self::error(sqlstate(error.code), error.text)
        }
    }
}

/// PostgreSQL's code for one of ours.
fn sqlstate(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::BadRequest => "08P01",
        ErrorCode::BadValue | ErrorCode::TargetUnreachable => "22023",
        ErrorCode::NotAllowed => "42501",
        ErrorCode::TooBusy => "53300",
        ErrorCode::UnknownServer
        | ErrorCode::UnknownBackup
        | ErrorCode::UnknownJob
        | ErrorCode::UnknownSetting => "42704",
        ErrorCode::AlreadyRunning => "55006",
        ErrorCode::Cancelled => "57014",
        ErrorCode::ServerUnreachable => "08001",
        ErrorCode::Repository => "58030",
        ErrorCode::Configuration => "F0000",
        ErrorCode::ShuttingDown => "57P01",
        ErrorCode::Internal => "XX000",
        // The external routine failed.
        _ => "38000",
    }
}

/// CommandComplete: the tag, with the number of rows where there are any to count.
pub(super) fn complete(tag: &str, rows: Option<usize>) -> Vec<u8> {
    let mut body = rows
        .map_or_else(|| tag.to_owned(), |rows| format!("{tag} {rows}"))
        .into_bytes();
    body.push(0);
    message(b'C', &body)
}

/// ReadyForQuery, outside of a transaction.
pub(super) fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        let query = "show «ä» x";
        let error = SyntaxError {
            text: "no".to_owned(),
            hint: None,
            at: Some(query.find('x').unwrap()),
            sqlstate: "42601",
        };
        assert_eq!(Report::syntax(query, error.clone()).position, Some(10));
        let end = SyntaxError { at: None, ..error };
        assert_eq!(Report::syntax("show  ", end).position, Some(5));
    }
}
