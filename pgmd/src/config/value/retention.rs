//! Retention policies.

use pgm_backup::retention::RetentionPolicy;

use super::{Form, Kind, Literal, Surroundings, Value, Wrong};

impl Value for RetentionPolicy {
    const KIND: Kind = Kind::new("retention policy", Form::Text);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        let Literal::Text(text) = written else {
            return Err(Wrong::is(
                "a text such as \"last 3, window 14d, days 7\", or \"everything\"",
            ));
        };
        text.parse()
            .map_err(|error: pgm_backup::retention::ParsePolicyError| Wrong::because(error))
    }

    fn text(&self) -> String {
        self.to_string()
    }
}
