//! Texts in statements, and fields of binary rows.

use pgm_proto::Error;

/// A text, whatever its bytes are: statements are plain ASCII, so neither encoding nor escapes matter
/// (`standard_conforming_strings` is on).
pub(super) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| matches!(c, ' '..='~')) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        _ => {
            let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
            let hex: String = hex.collect();
            format!("pg_catalog.convert_from('\\x{hex}'::pg_catalog.bytea, 'SQL_ASCII')")
        }
    }
}

/// A field that cannot be NULL.
pub(super) fn bytes(field: Option<&[u8]>) -> Result<&[u8], Error> {
    field.ok_or_else(|| strange("NULL"))
}

pub(super) fn int4(field: Option<&[u8]>) -> Result<i32, Error> {
    let bytes = bytes(field)?.try_into().map_err(|_| strange("no int4"))?;
    Ok(i32::from_be_bytes(bytes))
}

pub(super) fn int8(field: Option<&[u8]>) -> Result<i64, Error> {
    let bytes = bytes(field)?.try_into().map_err(|_| strange("no int8"))?;
    Ok(i64::from_be_bytes(bytes))
}

fn strange(what: &str) -> Error {
    Error::Protocol(format!(
        "the server gave {what} where something else belongs"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_ascii_whatever_is_in_them() {
        assert_eq!(text(b"it's \\n"), r"'it''s \n'");
        let hex = |digits: &str| {
            format!("pg_catalog.convert_from('\\x{digits}'::pg_catalog.bytea, 'SQL_ASCII')")
        };
        assert_eq!(text("ä'".as_bytes()), hex("c3a427"));
        assert_eq!(text(b"\xFF\n"), hex("ff0a"));
    }

    #[test]
    fn fields_of_another_length_are_refused() {
        assert_eq!(int4(Some(&[0, 0, 1, 0])).unwrap(), 256);
        assert_eq!(int8(Some(&[255; 8])).unwrap(), -1);
        for wrong in [None, Some(&[0; 3][..]), Some(&[0; 9])] {
            assert!(int4(wrong).is_err() && int8(wrong).is_err());
        }
    }
}
