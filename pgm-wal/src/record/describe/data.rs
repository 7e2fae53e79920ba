//! Reading the fields of PostgreSQL's structures, and writing values as `printf` and PostgreSQL do.

use std::fmt::Write as _;

use crate::record::block::{Fork, RelationFile};
use crate::record::page::WalVersion;

/// 2000-01-01 in microseconds since 1970.
const POSTGRESQL_EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;
const GLOBAL_TABLESPACE: u32 = 1664;
const DEFAULT_TABLESPACE: u32 = 1663;

/// Bytes of a structure, read by the offsets of its fields. `None` behind the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data<'a>(pub(crate) &'a [u8]);

impl<'a> Data<'a> {
    fn bytes<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    pub(crate) fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(crate) fn bool(self, at: usize) -> Option<bool> {
        self.u8(at).map(|byte| byte != 0)
    }

    pub(crate) fn u16(self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    pub(crate) fn i32(self, at: usize) -> Option<i32> {
        self.bytes(at).map(i32::from_le_bytes)
    }

    pub(crate) fn u64(self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    pub(crate) fn i64(self, at: usize) -> Option<i64> {
        self.bytes(at).map(i64::from_le_bytes)
    }

    pub(crate) fn f64(self, at: usize) -> Option<f64> {
        self.bytes(at).map(f64::from_le_bytes)
    }

    /// The bytes from `at` on.
    pub(crate) fn from(self, at: usize) -> Option<Data<'a>> {
        self.0.get(at..).map(Data)
    }

    /// A `RelFileLocator`.
    pub(crate) fn relation(self, at: usize) -> Option<RelationFile> {
        Some(RelationFile {
            tablespace: self.u32(at)?,
            database: self.u32(at + 4)?,
            number: self.u32(at + 8)?,
        })
    }

    /// A `BlockIdData`: the upper half comes first.
    pub(super) fn block_id(self, at: usize) -> Option<u32> {
        Some(u32::from(self.u16(at)?) << 16 | u32::from(self.u16(at + 2)?))
    }

    /// A text that ends with a zero byte, or with the data.
    pub(super) fn text(self, at: usize) -> Option<&'a [u8]> {
        let rest = self.0.get(at..)?;
        rest.split(|byte| *byte == 0).next()
    }

    /// A number of elements: `None` also when it is negative.
    pub(crate) fn count(self, at: usize) -> Option<usize> {
        usize::try_from(self.i32(at)?).ok()
    }
}

/// Writes ` [a, b]` of `count` elements, each written by `element` for its index.
pub(super) fn array(
    out: &mut String,
    count: usize,
    mut element: impl FnMut(&mut String, usize) -> Option<()>,
) -> Option<()> {
    out.push_str(" [");
    for index in 0..count {
        if index > 0 {
            out.push_str(", ");
        }
        element(out, index)?;
    }
    out.push(']');
    Some(())
}

/// Writes ` [a, b]` of the 16-bit numbers at the beginning of `data`.
pub(super) fn offsets(out: &mut String, data: Data<'_>, count: usize) -> Option<()> {
    array(out, count, |out, index| {
        put(out, format_args!("{}", data.u16(index * 2)?))
    })
}

/// Appends formatted text.
pub(super) fn put(out: &mut String, text: std::fmt::Arguments<'_>) -> Option<()> {
    out.write_fmt(text).ok()
}

/// `T` or `F`.
pub(super) const fn letter(value: bool) -> char {
    if value { 'T' } else { 'F' }
}

/// Writes `epoch:xid`.
pub(super) fn full_xid(out: &mut String, xid: u64) -> Option<()> {
    put(out, format_args!("{}:{}", xid >> 32, xid & 0xFFFF_FFFF))
}

/// Writes an LSN as `%X/%X`.
pub(super) fn lsn(out: &mut String, lsn: u64) -> Option<()> {
    put(out, format_args!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF))
}

/// Writes a time in microseconds since 2000 as PostgreSQL's programs do, in UTC.
pub(super) fn time(out: &mut String, microseconds: i64) -> Option<()> {
    let moment = microseconds
        .checked_add(POSTGRESQL_EPOCH_MICROSECONDS)
        .and_then(|moment| jiff::Timestamp::from_microsecond(moment).ok());
    match moment {
        Some(moment) => {
            let civil = jiff::tz::Offset::UTC.to_datetime(moment);
            put(
                out,
                format_args!(
                    "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06} UTC",
                    civil.year(),
                    civil.month(),
                    civil.day(),
                    civil.hour(),
                    civil.minute(),
                    civil.second(),
                    civil.subsec_nanosecond() / 1000
                ),
            )
        }
        None => put(out, format_args!("(timestamp out of range)")),
    }
}

/// Writes the path of a relation's fork below the data directory (`relpathperm`).
pub(super) fn path(
    out: &mut String,
    relation: RelationFile,
    fork: u32,
    version: WalVersion,
) -> Option<()> {
    let RelationFile {
        tablespace,
        database,
        number,
    } = relation;
    match tablespace {
        GLOBAL_TABLESPACE => put(out, format_args!("global/{number}"))?,
        DEFAULT_TABLESPACE => put(out, format_args!("base/{database}/{number}"))?,
        _ => put(
            out,
            format_args!(
                "pg_tblspc/{tablespace}/PG_{}_{}/{database}/{number}",
                version.major(),
                version.catalog()
            ),
        )?,
    }
    match Fork::from_number(fork) {
        Some(Fork::Main) => Some(()),
        Some(fork) => put(out, format_args!("_{}", fork.name())),
        None => put(out, format_args!("_{fork}")),
    }
}

/// Writes a text that may not be UTF-8.
pub(super) fn lossy(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Writes a number as `%g` does: six significant digits, no zeros at the end.
pub(super) fn general(out: &mut String, value: f64) -> Option<()> {
    if !value.is_finite() {
        return put(out, format_args!("{}", value.to_string().to_lowercase()));
    }
    let scientific = format!("{value:.5e}");
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if (-4..6).contains(&exponent) {
        let decimals = usize::try_from(5 - exponent).ok()?;
        let fixed = format!("{value:.decimals$}");
        out.push_str(without_zeros(&fixed));
        return Some(());
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    put(
        out,
        format_args!(
            "{}e{sign}{:02}",
            without_zeros(mantissa),
            exponent.unsigned_abs()
        ),
    )
}

fn without_zeros(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_printf_does() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (40000.0, "40000"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.23457e+06"),
            (0.25, "0.25"),
            (0.000_012_5, "1.25e-05"),
            (-3.5, "-3.5"),
        ] {
            let mut text = String::new();
            general(&mut text, value).unwrap();
            assert_eq!(text, expected);
        }
    }
}
