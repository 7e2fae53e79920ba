//! `COPY (query) TO STDOUT (FORMAT binary)`: rows of bytes, each taken while it is in the receive buffer.
//!
//! ```text
//! server  CopyOutResponse, CopyData*, CopyDone, CommandComplete, ReadyForQuery; or an error, also in the middle
//! bytes   PGCOPY\n\xFF\r\n\0 | flags u32 | length u32, that many bytes | rows | -1 as i16
//! a row   number of fields u16 | for each: length i32, -1 for NULL, that many bytes
//! ```
//!
//! Follows the manual's pages on COPY and 55.2, "COPY Operations": one CopyData for each row, the first one with the header in
//! front. So a row cannot be longer than the receive buffer ([`BUFFER_BYTES`](crate::frame::BUFFER_BYTES)), and nothing of it is kept.

use super::Client;
use crate::message::{Body, unexpected};
use crate::{Error, ServerError};

const SIGNATURE: &[u8] = b"PGCOPY\n\xFF\r\n\0";
/// `HAS_OIDS`, and whatever else changes what follows (`copyfromparse.c`): the upper half of the flags.
const CRITICAL_FLAGS: u32 = 0xFFFF_0000;

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a, const N: usize> {
    Skip,
    Row([Option<&'a [u8]>; N]),
    Ready,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Expect {
    #[default]
    Start,
    Header,
    Rows,
    /// The rows have ended.
    Done,
    Complete,
    Ready,
}

/// The state of an answer.
#[derive(Debug, Default)]
struct BinaryCopy {
    expect: Expect,
    failure: Option<ServerError>,
}

impl Client {
    /// Runs a query and gives each of its rows, which have `N` columns, to `take` as it comes: the fields as the types'
    /// own `send` functions make them.
    ///
    /// # Errors
    /// The server's, after which the session is good for more. One of `take`'s, or of the connection, closes it.
    pub fn copy_rows<const N: usize>(
        &mut self,
        query: &str,
        mut take: impl FnMut([Option<&[u8]>; N]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let silence_max = self.exchange.silence_max;
        let failure = self.exchange(|client| {
            client.send_query(&format!("COPY ({query}) TO STDOUT (FORMAT binary)"))?;
            let mut copy = BinaryCopy::default();
            loop {
                match client.advance(silence_max) {
                    // After a fatal error the server hangs up without another word.
                    Err(Error::Closed) if copy.failure.is_some() => break,
                    advanced => advanced?,
                }
                let frame = client.current()?;
                match copy.take(frame.tag, frame.body)? {
                    Step::Skip => {}
                    Step::Row(fields) => take(fields)?,
                    Step::Ready => break,
                }
            }
            Ok(copy.failure)
        })?;
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

impl BinaryCopy {
    fn take<'a, const N: usize>(&mut self, tag: u8, body: &'a [u8]) -> Result<Step<'a, N>, Error> {
        match (tag, self.expect) {
            (b'E', _) => {
                self.failure
                    .get_or_insert_with(|| ServerError::from_body(body));
            }
            (b'Z', Expect::Ready) => return Ok(Step::Ready),
            (b'Z', _) if self.failure.is_some() => return Ok(Step::Ready),
            // Between an error and the end of the answer nothing matters.
            _ if self.failure.is_some() => {}
            (b'H', Expect::Start) => {
                if Body::new(body, "CopyOutResponse").u8()? != 1 {
                    return Err(Error::Protocol("the copy is not binary".to_owned()));
                }
                self.expect = Expect::Header;
            }
            (b'd', Expect::Header) => {
                let rest = header(body)?;
                self.expect = Expect::Rows;
                return self.row(rest);
            }
            (b'd', Expect::Rows) => return self.row(Body::new(body, "CopyData")),
            (b'c', Expect::Done) => self.expect = Expect::Complete,
            (b'C', Expect::Complete) => self.expect = Expect::Ready,
            _ => return Err(unexpected(tag, "rows of a copy")),
        }
        Ok(Step::Skip)
    }

    fn row<'a, const N: usize>(&mut self, mut body: Body<'a>) -> Result<Step<'a, N>, Error> {
        let count = body.u16()?;
        if count == u16::MAX && body.rest().is_empty() {
            self.expect = Expect::Done;
            return Ok(Step::Skip);
        }
        if usize::from(count) != N {
            let text = format!("a row has {count} fields, not {N}");
            return Err(Error::Protocol(text));
        }
        let mut fields = [None; N];
        for field in &mut fields {
            let length = body.i32()?;
            if length != -1 {
                // A negative one is longer than any body.
                *field = Some(body.bytes(usize::try_from(length).unwrap_or(usize::MAX))?);
            }
        }
        match body.rest() {
            [] => Ok(Step::Row(fields)),
            _ => Err(Error::Protocol(
                "a row is longer than its fields".to_owned(),
            )),
        }
    }
}

/// What follows the header of a copy.
fn header(body: &[u8]) -> Result<Body<'_>, Error> {
    let mut body = Body::new(body, "CopyData");
    if body.bytes(SIGNATURE.len())? != SIGNATURE {
        return Err(Error::Protocol("a copy does not begin like one".to_owned()));
    }
    let flags = body.i32()?.cast_unsigned();
    if flags & CRITICAL_FLAGS != 0 {
        let text = format!("a copy has the flags {flags:#x}");
        return Err(Error::Protocol(text));
    }
    let more = body.i32()?;
    body.bytes(usize::try_from(more).unwrap_or(usize::MAX))?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0";
    const BINARY: &[u8] = b"\x01\0\x02\0\x01\0\x01";
    const ROW: &[u8] = b"\0\x02\0\0\0\x02ab\xFF\xFF\xFF\xFF";
    const END: &[u8] = b"\xFF\xFF";

    type Row = Vec<Option<Vec<u8>>>;

    /// The rows of an answer that comes to its end, or the error.
    fn run(script: &[(u8, &[u8])]) -> Result<(Vec<Row>, BinaryCopy), Error> {
        let (mut copy, mut rows) = (BinaryCopy::default(), Vec::new());
        for (at, (tag, body)) in script.iter().enumerate() {
            let is_last = at + 1 == script.len();
            match copy.take::<2>(*tag, body)? {
                Step::Row(fields) => {
                    rows.push(fields.map(|field| field.map(<[u8]>::to_vec)).to_vec());
                }
                step => assert_eq!(step == Step::Ready, is_last, "message {at}"),
            }
        }
        Ok((rows, copy))
    }

    #[test]
    fn rows_come_with_their_fields_and_the_header_before_the_first() {
        let first = [HEADER, ROW].concat();
        let with_extension = [&HEADER[..15], b"\0\0\0\x03xyz", ROW].concat();
        for first in [first, with_extension] {
            let script: &[(u8, &[u8])] = &[
                (b'H', BINARY),
                (b'd', &first),
                (b'd', b"\0\x02\xFF\xFF\xFF\xFF\0\0\0\0"),
                (b'd', END),
                (b'c', b""),
                (b'C', b"COPY 2\0"),
                (b'Z', b"I"),
            ];
            let (rows, copy) = run(script).unwrap();
            let text = |text: &[u8]| Some(text.to_vec());
            assert_eq!(rows, [[text(b"ab"), None], [None, text(b"")]]);
            assert!(copy.failure.is_none());
        }
    }

    #[test]
    fn no_rows_are_an_answer_too() {
        let end = [HEADER, END].concat();
        let script: &[(u8, &[u8])] = &[
            (b'H', BINARY),
            (b'd', &end),
            (b'c', b""),
            (b'C', b"COPY 0\0"),
            (b'Z', b"I"),
        ];
        assert!(run(script).unwrap().0.is_empty());
    }

    #[test]
    fn an_error_in_the_middle_ends_the_answer_with_it() {
        let first = [HEADER, ROW].concat();
        let script: &[(u8, &[u8])] = &[
            (b'H', BINARY),
            (b'd', &first),
            (b'E', b"C58030\0Mno disk\0\0"),
            (b'Z', b"I"),
        ];
        let (rows, copy) = run(script).unwrap();
        assert_eq!(
            (rows.len(), copy.failure.unwrap().message),
            (1, "no disk".into())
        );
        let (_, copy) = run(&[(b'E', b"Mrefused\0\0"), (b'Z', b"I")]).unwrap();
        assert_eq!(copy.failure.unwrap().message, "refused");
    }

    #[test]
    fn what_is_no_binary_copy_of_that_many_columns_is_refused() {
        let first = [HEADER, ROW].concat();
        let refused: &[&[(u8, &[u8])]] = &[
            &[(b'H', b"\0\0\x01\0\0")],
            &[(b'd', &first)],
            &[(b'H', BINARY), (b'd', ROW)],
            &[(b'H', BINARY), (b'd', &[HEADER, ROW, b"x"].concat())],
            &[
                (b'H', BINARY),
                (b'd', &[HEADER, b"\0\x01\0\0\0\0"].concat()),
            ],
            &[
                (b'H', BINARY),
                (b'd', &[HEADER, b"\0\x02\xFF\xFF\xFF\xFEab"].concat()),
            ],
            &[
                (b'H', BINARY),
                (b'd', &[&HEADER[..11], b"\0\x01\0\0\0\0\0\0"].concat()),
            ],
            &[
                (b'H', BINARY),
                (b'd', &[&HEADER[..15], b"\x7F\0\0\0"].concat()),
            ],
            &[(b'H', BINARY), (b'd', &first), (b'c', b"")],
            &[(b'H', BINARY), (b'd', &first), (b'Z', b"I")],
            &[(b'T', b"\0\0"), (b'Z', b"I")],
        ];
        for (at, script) in refused.iter().enumerate() {
            assert!(run(script).is_err(), "{at}");
        }
        for end in 0..first.len() {
            assert!(
                run(&[(b'H', BINARY), (b'd', &first[..end])]).is_err(),
                "{end}"
            );
        }
    }
}
