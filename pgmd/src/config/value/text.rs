//! Values that have a type of their own, with a parser and a text.

use std::str::FromStr;

use pgm_proto::{ServerCompression, ServerName, SlotName};
use pgm_storage::{Compression, StoreAddress};

use super::{Form, Kind, Literal, Surroundings, Value, Wrong, nearest_hint};

impl Value for String {
    const KIND: Kind = Kind::new("text", Form::Text);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        match written {
            Literal::Text(text) if text.trim().is_empty() => Err(Wrong::because("it is empty")),
            Literal::Text(text) if text.chars().any(char::is_control) => {
                Err(Wrong::because("it holds a control character"))
            }
            Literal::Text(text) => Ok(text.clone()),
            _ => Err(Wrong::is_text()),
        }
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Value for SlotName {
    const KIND: Kind = Kind::new("slot name", Form::Text);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        match written {
            Literal::Text(text) => text.parse().map_err(Wrong::because),
            _ => Err(Wrong::is_text()),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for ServerName {
    const KIND: Kind = Kind::new("server", Form::Text);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        match written {
            Literal::Text(text) => text.parse().map_err(Wrong::because),
            _ => Err(Wrong::is_text()),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for StoreAddress {
    const KIND: Kind = Kind::new("address", Form::Text);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        match written {
            Literal::Text(text) => text.parse().map_err(Wrong::because),
            _ => Err(Wrong::is_text()),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for Compression {
    const KIND: Kind = Kind::new("compression", Form::Text);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        compression(written)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Value for ServerCompression {
    const KIND: Kind = Kind::new("compression", Form::Text);

    fn read(written: &Literal, _cx: &Surroundings<'_>) -> Result<Self, Wrong> {
        compression(written)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

fn compression<T: FromStr<Err: std::error::Error>>(written: &Literal) -> Result<T, Wrong> {
    let text = match written {
        Literal::Text(text) => text.as_str(),
        // Typed, `none` is no value; here it is one.
        Literal::Word(word) if word == "None" => "none",
        _ => return Err(Wrong::is_text()),
    };
    text.parse().map_err(|error| {
        let codec = text.split(':').next().unwrap_or("");
        let known = ["zstd", "lz4", "gzip", "none"];
        Wrong::because(error).hint(if known.contains(&codec) {
            "a level follows a colon: zstd:3, gzip:6".to_owned()
        } else {
            nearest_hint(codec, &known)
        })
    })
}
