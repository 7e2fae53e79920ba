//! Connection strings, which may hold a password.

use pgm_proto::{ConnInfo, Secret};

use super::{Form, Kind, Literal, Surroundings, Value, Wrong};

/// A connection string as it is written, and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct ConninfoText {
    text: Secret,
    parsed: ConnInfo,
}

impl ConninfoText {
    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// What it says, without any defaults.
    pub fn parsed(&self) -> &ConnInfo {
        &self.parsed
    }
}

impl Value for ConninfoText {
    const KIND: Kind = Kind::new("connection string", Form::Text);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        let Literal::Text(text) = written else {
            return Err(Wrong::is_text());
        };
        let parsed = text.parse().map_err(|error: pgm_proto::ConnInfoError| {
            Wrong::because(error)
                .hint("as libpq's: \"host=db1 user=backup\" or \"postgresql://backup@db1\"")
        })?;
        Ok(Self {
            text: Secret::new(text.as_str()),
            parsed,
        })
    }

    fn text(&self) -> String {
        self.text.expose().to_owned()
    }

    fn shown(&self) -> Option<String> {
        Some(if self.parsed.has_password() {
            self.parsed.redacted()
        } else {
            self.text()
        })
    }
}
