//! Sizes: `16MiB`, `1GB`, `512k`; a plain number counts bytes.
//!
//! Units are powers of 1024 however they are written, as in PostgreSQL's own settings.

use std::fmt;

use super::{Form, Kind, Literal, Surroundings, Value, Wrong};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(u64);

const UNITS: [(&str, u32); 5] = [
    ("PiB", 50),
    ("TiB", 40),
    ("GiB", 30),
    ("MiB", 20),
    ("KiB", 10),
];
const EXPECTED: &str = "a size such as \"512k\", \"16MiB\", \"1GB\" or a number of bytes";

impl ByteSize {
    /// This many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift));
        match unit {
            Some((name, shift)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Value for ByteSize {
    const KIND: Kind = Kind {
        unit: Some("bytes"),
        ..Kind::new("size", Form::Either)
    };

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        let (Literal::Text(text) | Literal::Word(text)) = written else {
            return Err(Wrong::is(EXPECTED));
        };
        let digits = text.trim();
        let letters = digits.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let number = &digits[..digits.len() - letters.len()];
        let shift = shift(letters.trim_start());
        let (Some(shift), false) = (shift, number.is_empty()) else {
            return Err(Wrong {
                text: format!(" is {EXPECTED}, not {text:?}"),
                hint: None,
            });
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| Wrong::because(format_args!("{text:?} is too large")))
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn is_within(&self, low: &Self, high: &Self) -> bool {
        (low..=high).contains(&self)
    }
}

/// The power of two that a unit stands for.
fn shift(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_lowercase();
    let letter = match unit.as_str() {
        "" | "b" => return Some(0),
        unit => unit
            .strip_suffix("ib")
            .or(unit.strip_suffix('b'))
            .unwrap_or(unit),
    };
    let found = UNITS
        .iter()
        .find(|(name, _)| name[..1].eq_ignore_ascii_case(letter));
    found.map(|(_, shift)| *shift)
}
