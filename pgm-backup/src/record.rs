//! Small RON objects with a checksum: `repository.ron`, `server.ron`, `backup.ron`, lock objects.
//!
//! ```text
//! (                        RON, UTF-8; the first field is the format version
//!     format: 1,
//!     …
//! )
//! // crc32c 1a2b3c4d       last line, 19 bytes with its newline: CRC-32C of every byte before it
//! ```
//!
//! The checksum is looked at first, so a flipped bit anywhere is damage and never a strange value; then the format
//! version, so a newer format is told apart from damage.

use pgm_storage::ObjectPath;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// The largest record that is read.
pub(crate) const RECORD_BYTES_MAX: u64 = 16 << 20;

const SEAL_PREFIX: &str = "// crc32c ";
const SEAL_BYTES: usize = SEAL_PREFIX.len() + 8 + 1;

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// `value` as a sealed record.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let pretty = ron::ser::PrettyConfig::new();
    let mut text = ron::ser::to_string_pretty(value, pretty)
        .expect("records are plain structs of numbers, texts and lists");
    text.push('\n');
    let seal = format!(
        "{SEAL_PREFIX}{:08x}\n",
        pgm_storage::crc32c(text.as_bytes())
    );
    text.push_str(&seal);
    text.into_bytes()
}

/// The value in the sealed record `bytes` of `object`, whose format version is at most `format_newest`.
pub(crate) fn decode<T: DeserializeOwned>(
    object: &ObjectPath,
    bytes: &[u8],
    format_newest: u32,
) -> Result<T> {
    let damaged = |reason: String| Error::damaged(object, reason);
    let body_bytes = bytes
        .len()
        .checked_sub(SEAL_BYTES)
        .ok_or_else(|| damaged("it is cut short".into()))?;
    let (body, seal) = bytes.split_at(body_bytes);
    let expected = format!("{SEAL_PREFIX}{:08x}\n", pgm_storage::crc32c(body));
    if seal != expected.as_bytes() {
        return Err(damaged("its checksum line does not match its bytes".into()));
    }
    let text = std::str::from_utf8(body).map_err(|error| damaged(error.to_string()))?;
    let Format { format } = ron::from_str(text).map_err(|error| damaged(error.to_string()))?;
    if format > format_newest {
        return Err(Error::UnknownFormat {
            object: object.clone(),
            found: format,
            newest: format_newest,
        });
    }
    ron::from_str(text).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        format: u32,
        name: String,
        sizes: Vec<u64>,
    }

    fn path() -> ObjectPath {
        ObjectPath::parse("a/sample.ron").unwrap()
    }

    fn sample(format: u32) -> Sample {
        Sample {
            format,
            name: "ä \"b\"\n// crc32c 00000000".into(),
            sizes: vec![0, u64::MAX],
        }
    }

    #[test]
    fn record_is_read_back_as_written() {
        let bytes = encode(&sample(1));
        assert_eq!(decode::<Sample>(&path(), &bytes, 1).unwrap(), sample(1));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_damage() {
        let bytes = encode(&sample(1));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = decode::<Sample>(&path(), &flipped, 1).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "bit {bit}: {error}");
        }
        for length in 0..bytes.len() {
            let error = decode::<Sample>(&path(), &bytes[..length], 1).unwrap_err();
            assert!(error.to_string().contains("a/sample.ron"), "{error}");
        }
    }

    #[test]
    fn newer_format_is_refused_as_such_also_with_unknown_fields() {
        #[derive(Serialize)]
        struct Newer {
            format: u32,
            keys: Vec<(u8, String)>,
            kind: Option<Kind>,
        }
        #[derive(Serialize)]
        enum Kind {
            Sealed { with: String },
        }
        let newer = Newer {
            format: 2,
            keys: vec![(1, "k".into())],
            kind: Some(Kind::Sealed { with: "x".into() }),
        };
        let error = decode::<Sample>(&path(), &encode(&newer), 1).unwrap_err();
        assert!(
            matches!(
                error,
                Error::UnknownFormat {
                    found: 2,
                    newest: 1,
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.hint().is_some());
    }
}
