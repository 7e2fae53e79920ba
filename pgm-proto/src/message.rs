//! The bodies of the server's messages, read in place.
//!
//! Follows the manual's 55.7, "Message Formats". Every read is checked against the end of the body, nothing is
//! allocated by a number that the server claims, and whatever is wrong is an [`Error::Protocol`] that names the message.

use crate::Error;

/// The rest of a message's body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a> {
    rest: &'a [u8],
    /// The message's name, for errors.
    message: &'static str,
}

impl<'a> Body<'a> {
    pub(crate) fn new(rest: &'a [u8], message: &'static str) -> Self {
        Self { rest, message }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Error> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (now, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.cut_off())?;
        self.rest = rest;
        Ok(now)
    }

    /// A text that a zero byte ends.
    pub(crate) fn text(&mut self) -> Result<&'a [u8], Error> {
        let end = self
            .rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or_else(|| self.cut_off())?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Ok(text)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (now, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| self.cut_off())?;
        self.rest = rest;
        Ok(*now)
    }

    fn cut_off(&self) -> Error {
        Error::Protocol(format!("message {} ends too early", self.message))
    }
}

/// The columns' names in a RowDescription.
pub(crate) fn columns(body: &[u8]) -> Result<Vec<String>, Error> {
    let mut body = Body::new(body, "RowDescription");
    let count = body.u16()?;
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(String::from_utf8_lossy(body.text()?).into_owned());
        // Table, column, type, size, modifier, format: everything arrives as text.
        body.bytes(4 + 2 + 4 + 2 + 4 + 2)?;
    }
    Ok(names)
}

/// The fields of a DataRow.
pub(crate) fn fields(body: &[u8]) -> Result<Vec<Option<&[u8]>>, Error> {
    let mut body = Body::new(body, "DataRow");
    let count = body.u16()?;
    let mut fields = Vec::new();
    for _ in 0..count {
        fields.push(match body.i32()? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| body.cut_off())?;
                Some(body.bytes(length)?)
            }
        });
    }
    Ok(fields)
}

/// The tag of a CommandComplete.
pub(crate) fn command_tag(body: &[u8]) -> Result<String, Error> {
    let tag = Body::new(body, "CommandComplete").text()?;
    Ok(String::from_utf8_lossy(tag).into_owned())
}

/// Name and value in a ParameterStatus.
pub(crate) fn parameter(body: &[u8]) -> Result<(String, String), Error> {
    let mut body = Body::new(body, "ParameterStatus");
    let name = String::from_utf8_lossy(body.text()?).into_owned();
    let value = String::from_utf8_lossy(body.text()?).into_owned();
    Ok((name, value))
}

/// A message that does not belong where it came.
pub(crate) fn unexpected(tag: u8, waiting_for: &str) -> Error {
    let tag = tag.escape_ascii();
    Error::Protocol(format!(
        "message `{tag}` came while waiting for {waiting_for}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = b"\0\x03\0\0\0\x02ab\xFF\xFF\xFF\xFF\0\0\0\0";
    const DESCRIPTION: &[u8] = b"\0\x01name\0\0\0\0\0\0\0\0\0\0\x19\xFF\xFF\xFF\xFF\xFF\xFF\0\0";

    #[test]
    fn a_row_keeps_null_and_empty_apart() {
        assert_eq!(
            fields(ROW).unwrap(),
            [Some(&b"ab"[..]), None, Some(&b""[..])]
        );
        assert_eq!(columns(DESCRIPTION).unwrap(), ["name"]);
    }

    #[test]
    fn a_body_cut_off_anywhere_is_an_error() {
        for end in 0..ROW.len() {
            assert!(fields(&ROW[..end]).is_err(), "{end}");
        }
        for end in 0..DESCRIPTION.len() {
            assert!(columns(&DESCRIPTION[..end]).is_err(), "{end}");
        }
        assert!(command_tag(b"SELECT 1").is_err());
        assert!(parameter(b"name\0value").is_err());
    }

    #[test]
    fn a_field_of_negative_length_is_an_error() {
        assert!(fields(b"\0\x01\xFF\xFF\xFF\xFEab").is_err());
        assert!(fields(b"\xFF\xFF").is_err());
    }
}
