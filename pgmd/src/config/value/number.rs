//! Counts and switches.

use super::{Form, Kind, Literal, Surroundings, Value, Wrong};

macro_rules! whole_numbers {
    ($($number:ty: $what:literal),+) => {$(
        impl Value for $number {
            const KIND: Kind = Kind::new($what, Form::Word);

            fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
                let Literal::Word(word) = written else {
                    return Err(Wrong::is("a whole number, without quotes"));
                };
                let digits = word.replace('_', "");
                let numeric = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                match digits.parse() {
                    Ok(number) if numeric => Ok(number),
                    Err(_) if numeric => Err(Wrong::is(&format!("at most {}, not {digits}", Self::MAX))),
                    _ => Err(Wrong::is(&format!("a whole number, not {word}"))),
                }
            }

            fn text(&self) -> String {
                self.to_string()
            }

            fn is_within(&self, low: &Self, high: &Self) -> bool {
                (low..=high).contains(&self)
            }
        }
    )+};
}

whole_numbers!(usize: "count", u32: "count", u16: "port", u8: "percent");

impl Value for bool {
    const KIND: Kind = Kind {
        choices: &["true", "false"],
        ..Kind::new("switch", Form::Word)
    };

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        match written {
            Literal::Word(word) if word == "true" => Ok(true),
            Literal::Word(word) if word == "false" => Ok(false),
            Literal::Word(_) => Err(Wrong::is("true or false")),
            Literal::Text(_) | Literal::List(_) => Err(Wrong::is("true or false, without quotes")),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}
