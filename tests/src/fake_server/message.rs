//! A server's messages, written.

/// A message of this type.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = u32::try_from(body.len() + 4).unwrap();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A result set: RowDescription, its rows, CommandComplete.
pub fn result_set(columns: &[&str], rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let mut description = count(columns.len()).to_vec();
    for column in columns {
        description.extend_from_slice(column.as_bytes());
        description.push(0);
        // Table, column, type text, size, modifier, text format.
        description.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 25]);
        description.extend_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0]);
    }
    let mut bytes = message(b'T', &description);
    for row in rows {
        let mut body = count(row.len()).to_vec();
        for field in *row {
            match field {
                None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(field) => {
                    let length = u32::try_from(field.len()).unwrap();
                    body.extend_from_slice(&length.to_be_bytes());
                    body.extend_from_slice(field);
                }
            }
        }
        bytes.extend(message(b'D', &body));
    }
    bytes.extend(complete("SELECT"));
    bytes
}

/// A CommandComplete.
pub fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), b"\0"].concat())
}

/// A ReadyForQuery.
pub fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// An ErrorResponse.
pub fn error(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    let body = format!("S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0");
    message(b'E', body.as_bytes())
}

fn count(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap().to_be_bytes()
}
