//! A result set: typed columns, rows, and their bytes in PostgreSQL's protocol.

use jiff::Timestamp;

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: ColumnType,
}

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnType {
    Text,
    Int8,
    Bool,
    TimestampTz,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Text(String),
    Int8(i64),
    Bool(bool),
    Time(Timestamp),
}

/// How values are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

/// Seconds from Unix time's beginning to that of PostgreSQL, 2000-01-01.
const EPOCH_SECONDS: i64 = 946_684_800;

impl ColumnType {
    /// Its OID and size in `pg_type`.
    const fn oid_and_size(self) -> (u32, i16) {
        match self {
            Self::Text => (25, -1),
            Self::Int8 => (20, 8),
            Self::Bool => (16, 1),
            Self::TimestampTz => (1184, 8),
        }
    }
}

/// RowDescription. `formats` as in Bind: none, one for all, or one for each column.
pub(super) fn description(columns: &[Column], formats: &[Format]) -> Vec<u8> {
    let mut body = count(columns.len());
    for (number, column) in columns.iter().enumerate() {
        let (oid, size) = column.kind.oid_and_size();
        body.extend(column.name.as_bytes());
        body.push(0);
        body.extend([0; 6]);
        body.extend(oid.to_be_bytes());
        body.extend(size.to_be_bytes());
        body.extend((-1_i32).to_be_bytes());
        let format: i16 = match format_of(formats, number) {
            Format::Text => 0,
            Format::Binary => 1,
        };
        body.extend(format.to_be_bytes());
    }
    message(b'T', &body)
}

/// DataRow.
pub(super) fn row(cells: &[Cell], formats: &[Format]) -> Vec<u8> {
    let mut body = count(cells.len());
    for (number, cell) in cells.iter().enumerate() {
        let value = match format_of(formats, number) {
            Format::Text => cell.text(),
            Format::Binary => cell.binary(),
        };
        match value {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(value) => {
                body.extend(length(value.len()).to_be_bytes());
                body.extend(value);
            }
        }
    }
    message(b'D', &body)
}

/// A message: tag, length, body.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(body.len() + 5);
    message.push(tag);
    message.extend((length(body.len()) + 4).to_be_bytes());
    message.extend(body);
    message
}

fn format_of(formats: &[Format], number: usize) -> Format {
    match formats {
        [] => Format::Text,
        [all] => *all,
        each => each.get(number).copied().unwrap_or(Format::Text),
    }
}

fn count(number: usize) -> Vec<u8> {
    i16::try_from(number)
        .unwrap_or(i16::MAX)
        .to_be_bytes()
        .to_vec()
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

impl Cell {
    fn text(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Null => return None,
            // A zero byte is no character in PostgreSQL.
            Self::Text(text) => text.replace('\0', "\u{FFFD}").into_bytes(),
            Self::Int8(number) => number.to_string().into_bytes(),
            Self::Bool(value) => if *value { "t" } else { "f" }.into(),
            Self::Time(at) => at.strftime("%Y-%m-%d %H:%M:%S+00").to_string().into_bytes(),
        })
    }

    fn binary(&self) -> Option<Vec<u8>> {
        Some(match self {
            Self::Int8(number) => number.to_be_bytes().to_vec(),
            Self::Bool(value) => vec![u8::from(*value)],
            Self::Time(at) => {
                let since = at
                    .as_microsecond()
                    .saturating_sub(EPOCH_SECONDS * 1_000_000);
                since.to_be_bytes().to_vec()
            }
            Self::Null | Self::Text(_) => return self.text(),
        })
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Int8(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A moment that an answer carries as text; what is none is absent.
pub(super) fn moment(text: &str) -> Cell {
    text.parse().map_or(Cell::Null, Cell::Time)
}

/// Anything that is shown as text.
pub(super) fn shown(value: &impl ToString) -> Cell {
    Cell::Text(value.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The values of a DataRow, as a client reads them.
    fn read(row: &[u8]) -> Vec<Option<Vec<u8>>> {
        assert_eq!(row[0], b'D');
        let size = u32::from_be_bytes(row[1..5].try_into().unwrap()) as usize;
        assert_eq!(size, row.len() - 1);
        let count = u16::from_be_bytes(row[5..7].try_into().unwrap());
        let mut rest = &row[7..];
        let mut next = || {
            let length = i32::from_be_bytes(rest[..4].try_into().unwrap());
            rest = &rest[4..];
            let length = usize::try_from(length).ok()?;
            let (value, left) = rest.split_at(length);
            rest = left;
            Some(value.to_vec())
        };
        let values = (0..count).map(|_| next()).collect();
        assert!(rest.is_empty());
        values
    }

    proptest! {
        #[test]
        fn rows_come_back(text: String, number: u64, flag: bool) {
            let cells = [text.as_str().into(), number.into(), Cell::Null, flag.into()];
            let values = read(&row(&cells, &[]));
            prop_assert_eq!(&values[0], &Some(text.replace('\0', "\u{FFFD}").into_bytes()));
            let expected = i64::try_from(number).unwrap_or(i64::MAX);
            prop_assert_eq!(&values[1], &Some(expected.to_string().into_bytes()));
            prop_assert_eq!(&values[2], &None);
            let values = read(&row(&cells, &[Format::Binary]));
            prop_assert_eq!(values[1].as_deref(), Some(&expected.to_be_bytes()[..]));
            prop_assert_eq!(values[3].as_deref(), Some(&[u8::from(flag)][..]));
        }
    }

    #[test]
    fn moments_are_written_as_postgresql_writes_them() {
        let cell = moment("2026-03-04T12:00:01Z");
        assert_eq!(cell.text().unwrap(), b"2026-03-04 12:00:01+00");
        let since = i64::from_be_bytes(cell.binary().unwrap().try_into().unwrap());
        assert_eq!(since, 825_940_801_000_000);
        assert_eq!(moment(""), Cell::Null);
    }
}
