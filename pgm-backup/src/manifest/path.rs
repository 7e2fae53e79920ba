//! The path of a file within a data directory.
//!
//! PostgreSQL's file names are bytes. A [`FilePath`] is relative, and every component is checked where it enters, so
//! that no name from a server or a manifest can lead out of the directory that is restored into.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::de::Error as _;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A checked path below the data directory, such as `base/5/1259` or `pg_tblspc/16385/PG_17_202406281/5/16390`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(Vec<u8>);

/// The bytes are not the path of a file in a data directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("file name `{text}` {reason}")]
pub struct ParseFilePathError {
    text: String,
    reason: &'static str,
}

impl FilePath {
    /// The longest path.
    pub const BYTES_MAX: usize = 1024;

    /// Checks `bytes`: relative, no empty component, no `.` or `..`, no NUL.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, ParseFilePathError> {
        let bytes = bytes.into();
        match flaw(&bytes) {
            None => Ok(Self(bytes)),
            Some(reason) => {
                let shown = &bytes[..bytes.len().min(200)];
                Err(ParseFilePathError {
                    text: shown.escape_ascii().to_string(),
                    reason,
                })
            }
        }
    }

    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for the operating system, relative to the data directory.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/')
    }
}

fn flaw(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("is empty");
    }
    if bytes.len() > FilePath::BYTES_MAX {
        return Some("is longer than 1024 bytes");
    }
    if bytes[0] == b'/' {
        return Some("is absolute");
    }
    if bytes.contains(&0) {
        return Some("has a zero byte");
    }
    bytes
        .split(|&byte| byte == b'/')
        .find_map(|component| match component {
            b"" => Some("has an empty component"),
            b"." | b".." => Some("has a component `.` or `..`"),
            long if long.len() > 255 => Some("has a component longer than 255 bytes"),
            _ => None,
        })
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.contains(char::is_control) => f.pad(text),
            _ => f.pad(&self.0.escape_ascii().to_string()),
        }
    }
}

/// UTF-8 paths are a JSON string, others are `{"hex":"…"}`.
impl Serialize for FilePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let hex = to_hex(&self.0);
        let mut object = serializer.serialize_struct("FilePath", 1)?;
        object.serialize_field("hex", &hex)?;
        object.end()
    }
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelling {
            Text(String),
            Hex { hex: String },
        }
        let bytes = match Spelling::deserialize(deserializer)? {
            Spelling::Text(text) => text.into_bytes(),
            Spelling::Hex { hex } => {
                from_hex(&hex).ok_or_else(|| D::Error::custom("a path's hex is not hexadecimal"))?
            }
        };
        Self::new(bytes).map_err(D::Error::custom)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16);
    bytes
        .iter()
        .flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)])
        .flatten()
        .collect()
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_data_directory_are_refused() {
        let deep = [b"a".as_slice(); 600].join(&b'/');
        let hostile: [&[u8]; 13] = [
            b"",
            b"/",
            b"/etc/passwd",
            b"..",
            b"../x",
            b"a/../b",
            b"a/..",
            b"a//b",
            b"a/",
            b"./a",
            b"a\0b",
            &[b'x'; 256],
            &deep,
        ];
        for bytes in hostile {
            assert!(FilePath::new(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn every_other_byte_is_kept() {
        for bytes in [
            b"a\xff\xfe b".as_slice(),
            b"...",
            "ä/\u{1F418}".as_bytes(),
            b"a\nb\\\"",
            b"-rf",
        ] {
            let path = FilePath::new(bytes).unwrap();
            let json = serde_json::to_string(&path).unwrap();
            assert_eq!(
                serde_json::from_str::<FilePath>(&json).unwrap(),
                path,
                "{json}"
            );
            assert!(!json.contains('\n') && !path.to_string().contains('\n'));
        }
    }

    #[test]
    fn hostile_paths_are_refused_in_json_too() {
        for json in [
            r#""../x""#,
            r#"{"hex":"2e2e"}"#,
            r#"{"hex":"2"}"#,
            r#"{"hex":"zz"}"#,
            "1",
        ] {
            assert!(serde_json::from_str::<FilePath>(json).is_err(), "{json}");
        }
    }
}
