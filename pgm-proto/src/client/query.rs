//! The simple query protocol: one text, any number of result sets, everything as text.
//!
//! An answer ends with ReadyForQuery, never with CommandComplete: one text may hold several statements, and
//! replication commands complete more than once. The first error of an answer is its outcome. What an answer may hold in
//! memory is bounded by [`ANSWER_BYTES_MAX`].

use super::Client;
use crate::message::{columns, command_tag, fields, unexpected};
use crate::{Error, ServerError};

/// The most memory that the rows of one answer may take, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Counted for each row and each field beside its bytes.
const OVERHEAD_BYTES: usize = 32;

/// One result set, or the outcome of one statement without rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryResult {
    /// The columns' names, in order.
    pub columns: Vec<String>,
    /// The rows; a field is `None` for NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// What the server says was done: `SELECT 3`.
    pub tag: String,
}

/// A field of a row as it came, in no particular encoding.
pub(crate) type RawField = Option<Vec<u8>>;

/// A result set as it came.
#[derive(Debug, Default)]
pub(crate) struct RawResult {
    columns: Vec<String>,
    pub(crate) rows: Vec<Vec<RawField>>,
    tag: String,
}

impl Client {
    /// Runs one or several statements, separated by semicolons, and collects their results.
    ///
    /// Text that is not UTF-8 is replaced where it is not. Rows of more than [`ANSWER_BYTES_MAX`] in all are an error, as is
    /// a COPY statement.
    pub fn query(&mut self, sql: &str) -> Result<Vec<QueryResult>, Error> {
        let results = self.query_raw(sql)?;
        Ok(results.into_iter().map(QueryResult::from).collect())
    }

    /// Runs a command and gives its results as they came.
    pub(crate) fn query_raw(&mut self, sql: &str) -> Result<Vec<RawResult>, Error> {
        self.exchange(|client| {
            client.send_query(sql)?;
            client.collect_answer()
        })
    }

    fn collect_answer(&mut self) -> Result<Vec<RawResult>, Error> {
        let mut answer = Answer::default();
        let silence_max = self.exchange.silence_max;
        loop {
            match self.advance(silence_max) {
                // After a fatal error the server hangs up without another word.
                Err(Error::Closed) if answer.failure.is_some() => break,
                advanced => advanced?,
            }
            let frame = self.current()?;
            if answer.take(frame.tag, frame.body)? == Progress::Complete {
                break;
            }
        }
        match answer.failure {
            Some(failure) => Err(failure.into()),
            None => Ok(answer.results),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Incomplete,
    Complete,
}

/// An answer on its way in.
#[derive(Debug, Default)]
struct Answer {
    results: Vec<RawResult>,
    /// The result set whose rows arrive.
    open: Option<RawResult>,
    failure: Option<ServerError>,
    bytes: usize,
}

impl Answer {
    fn take(&mut self, tag: u8, body: &[u8]) -> Result<Progress, Error> {
        match tag {
            b'T' => {
                self.account(body, 1)?;
                let columns = columns(body)?;
                self.open = Some(RawResult {
                    columns,
                    ..RawResult::default()
                });
            }
            b'D' => {
                let fields = fields(body)?;
                self.account(body, fields.len())?;
                let Some(result) = &mut self.open else {
                    return Err(unexpected(tag, "a row description"));
                };
                let row = fields.into_iter().map(|field| field.map(<[u8]>::to_vec));
                result.rows.push(row.collect());
            }
            b'C' => {
                self.account(body, 1)?;
                let tag = command_tag(body)?;
                let result = self.open.take().unwrap_or_default();
                self.results.push(RawResult { tag, ..result });
            }
            b'I' => {}
            b'E' => {
                self.open = None;
                self.failure
                    .get_or_insert_with(|| ServerError::from_body(body));
            }
            b'Z' => return Ok(Progress::Complete),
            _ => return Err(unexpected(tag, "the result of a query")),
        }
        Ok(Progress::Incomplete)
    }

    fn account(&mut self, body: &[u8], fields: usize) -> Result<(), Error> {
        self.bytes += body.len() + OVERHEAD_BYTES * (fields + 1);
        if self.bytes > ANSWER_BYTES_MAX {
            let text = format!("the answer takes more than {ANSWER_BYTES_MAX} bytes");
            return Err(Error::Protocol(text));
        }
        Ok(())
    }
}

impl From<RawResult> for QueryResult {
    fn from(raw: RawResult) -> Self {
        let text = |field: RawField| field.map(lossy);
        let row = |row: Vec<RawField>| row.into_iter().map(text).collect();
        Self {
            columns: raw.columns,
            rows: raw.rows.into_iter().map(row).collect(),
            tag: raw.tag,
        }
    }
}

/// Text of bytes that should be UTF-8, without a copy when they are.
pub(crate) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTION: &[u8] = b"\0\x01n\0\0\0\0\0\0\0\0\0\0\x19\xFF\xFF\xFF\xFF\xFF\xFF\0\0";

    fn run(script: &[(u8, &[u8])]) -> Result<Answer, Error> {
        let mut answer = Answer::default();
        for (index, (tag, body)) in script.iter().enumerate() {
            let complete = answer.take(*tag, body)? == Progress::Complete;
            assert_eq!(complete, index + 1 == script.len(), "message {index}");
        }
        Ok(answer)
    }

    #[test]
    fn several_results_are_collected_until_ready_for_query() {
        let answer = run(&[
            (b'T', DESCRIPTION),
            (b'D', b"\0\x01\0\0\0\x01a"),
            (b'D', b"\0\x01\xFF\xFF\xFF\xFF"),
            (b'C', b"SELECT 2\0"),
            (b'C', b"DO\0"),
            (b'I', b""),
            (b'Z', b"I"),
        ]);
        let results: Vec<_> = answer
            .unwrap()
            .results
            .into_iter()
            .map(QueryResult::from)
            .collect();
        assert_eq!(results[0].rows, [[Some("a".to_owned())], [None]]);
        assert_eq!(
            (results[0].tag.as_str(), results[1].tag.as_str()),
            ("SELECT 2", "DO")
        );
    }

    #[test]
    fn the_first_error_is_the_outcome_and_the_answer_goes_on_to_ready() {
        let script: &[(u8, &[u8])] = &[
            (b'E', b"C42601\0Mone\0\0"),
            (b'E', b"Mtwo\0\0"),
            (b'Z', b"I"),
        ];
        let answer = run(script).unwrap();
        assert_eq!(answer.failure.unwrap().message, "one");
    }

    #[test]
    fn rows_without_description_and_copies_are_refused() {
        for tag in [b'D', b'G', b'H', b'W', b'x', 0] {
            assert!(run(&[(tag, b"\0\0")]).is_err(), "{}", tag.escape_ascii());
        }
    }

    #[test]
    fn an_endless_answer_is_refused() {
        let mut answer = Answer::default();
        answer.take(b'T', DESCRIPTION).unwrap();
        let row = [b"\0\x01\0\x0F\0\0".to_vec(), vec![b'x'; 0x000F_0000]].concat();
        let accepted = (0..1000)
            .take_while(|_| answer.take(b'D', &row).is_ok())
            .count();
        assert!(accepted < 70, "{accepted}");
        let mut answer = Answer::default();
        assert!((0..10_000_000).any(|_| answer.take(b'C', b"\0").is_err()));
    }
}
