//! Lengths of time: `10s`, `5min`, `2h`, `1d`, `1h 30min`; a plain number counts seconds.

use std::time::Duration;

use super::{Form, Kind, Literal, Surroundings, Value, Wrong};

/// Units and their milliseconds, largest first; the first of each size is the canonical one.
const UNITS: [(&str, u64); 10] = [
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("m", 60_000),
    ("s", 1_000),
    ("sec", 1_000),
    ("hours", 3_600_000),
    ("days", 86_400_000),
    ("ms", 1),
];
const EXPECTED: &str =
    "a duration such as \"500ms\", \"10s\", \"5min\", \"2h\", \"1d\" or a number of seconds";

impl Value for Duration {
    const KIND: Kind = Kind {
        unit: Some("seconds"),
        ..Kind::new("duration", Form::Either)
    };

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        let (Literal::Text(text) | Literal::Word(text)) = written else {
            return Err(Wrong::is(EXPECTED));
        };
        parse(text).map_err(|problem| match problem {
            Problem::Shape => Wrong {
                text: format!(" is {EXPECTED}, not {text:?}"),
                hint: None,
            },
            Problem::TooLong => Wrong::because(format_args!("{text:?} is too long")),
        })
    }

    fn text(&self) -> String {
        let milliseconds = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        if milliseconds == 0 {
            return "0".to_owned();
        }
        // A week is only read, since nobody expects "2w" for "14d".
        let unit = UNITS[1..]
            .iter()
            .find(|(_, length)| milliseconds.is_multiple_of(*length));
        let (name, length) = unit.unwrap_or(&("ms", 1));
        format!("{}{name}", milliseconds / length)
    }

    fn is_within(&self, low: &Self, high: &Self) -> bool {
        (low..=high).contains(&self)
    }
}

enum Problem {
    Shape,
    TooLong,
}

fn parse(text: &str) -> Result<Duration, Problem> {
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<u64>() {
        return seconds
            .checked_mul(1_000)
            .map(Duration::from_millis)
            .ok_or(Problem::TooLong);
    }
    if rest.is_empty() {
        return Err(Problem::Shape);
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.len()
            - rest
                .trim_start_matches(|letter: char| letter.is_ascii_digit())
                .len();
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return Err(Problem::Shape);
        }
        let count: u64 = number.parse().map_err(|_| Problem::TooLong)?;
        let after = after.trim_start();
        let letters = after.len()
            - after
                .trim_start_matches(|letter: char| letter.is_alphabetic())
                .len();
        let (unit, after) = after.split_at(letters);
        let length = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(Problem::Shape)?
            .1;
        total = count
            .checked_mul(length)
            .and_then(|part| total.checked_add(part))
            .ok_or(Problem::TooLong)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(total))
}
