//! The tar archives that BASE_BACKUP sends, read as they come.
//!
//! A [`TarReader`] takes pieces of any size and gives headers and runs of content that point into the piece: nothing is
//! copied but a header that is split over pieces, and nothing is allocated per piece. It knows what PostgreSQL writes
//! (`src/port/tar.c`, `tarCreateHeader`) and refuses everything else:
//!
//! ```text
//! offset  size  field                              a block of 512 bytes, then the content padded to 512
//!      0   100  name; with a slash at the end for directories and links
//!    100     8  mode, octal
//!    124    12  size, octal or base-256 (first bit set, then big endian)
//!    136    12  time of last change, likewise
//!    148     8  sum of all 512 bytes with these eight as spaces, octal
//!    156     1  0 or NUL file, 2 symbolic link, 5 directory
//!    157   100  target of a link
//!    257     6  "ustar"
//!    345   155  prefix of the name
//! ```
//!
//! An archive ends with two blocks of zeros, which PostgreSQL 14 leaves away: it may end wherever a header may begin.
//! Names are given as they are; whether they are safe is checked by [`crate::manifest::FilePath`].

#[cfg(test)]
mod tests;

const BLOCK_BYTES: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Reads one archive.
#[derive(Debug)]
pub(super) struct TarReader {
    state: State,
    /// The header so far.
    header: [u8; BLOCK_BYTES],
    header_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Content { left: u64, padding: usize },
    Padding { left: usize },
    End,
}

/// What comes next in an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TarItem<'a> {
    /// A header; exactly its size in content follows.
    Entry(TarEntry),
    /// A run of the entry's content, not empty.
    Content(&'a [u8]),
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TarEntry {
    /// The name, without a slash at the end.
    pub(super) name: Vec<u8>,
    pub(super) kind: TarKind,
    /// Permission bits.
    pub(super) mode: u32,
    /// Time of last change in seconds since 1970.
    pub(super) mtime: u64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TarKind {
    File { size: u64 },
    Directory,
    Symlink { target: Vec<u8> },
}

/// Why the bytes are not an archive that PostgreSQL would send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TarError {
    #[error("a tar header has a wrong checksum")]
    Checksum,
    #[error("a tar header has no ustar magic")]
    Magic,
    #[error("a tar header has no number in its field `{0}`")]
    Number(&'static str),
    #[error("tar entry `{name}` has type `{kind}`, which PostgreSQL never sends")]
    Kind { name: String, kind: char },
    #[error("tar entry `{name}` has a name with a zero byte in it")]
    ZeroByte { name: String },
    #[error("tar entry `{name}` is a directory or a link, but has content")]
    UnexpectedContent { name: String },
    #[error("a tar archive goes on after its end")]
    AfterEnd,
    #[error("a tar archive is cut short")]
    Truncated,
}

impl TarReader {
    pub(super) fn new() -> Self {
        Self {
            state: State::Header,
            header: [0; BLOCK_BYTES],
            header_bytes: 0,
        }
    }

    /// The next item of the archive, taken from the front of `input`; `None` when more input is needed.
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<TarItem<'a>>, TarError> {
        while !input.is_empty() {
            match self.state {
                State::Header => {
                    if let Some(entry) = self.take_header(input)? {
                        return Ok(Some(TarItem::Entry(entry)));
                    }
                }
                State::Content { left, padding } => {
                    let run = take(input, left);
                    let left = left - run.len() as u64;
                    self.state = after_content(left, padding);
                    return Ok(Some(TarItem::Content(run)));
                }
                State::Padding { left } => {
                    let skipped = take(input, left as u64).len();
                    self.state = after_content(0, left - skipped);
                }
                State::End => {
                    if input.iter().any(|&byte| byte != 0) {
                        return Err(TarError::AfterEnd);
                    }
                    *input = &[];
                }
            }
        }
        Ok(None)
    }

    /// Says that the archive is over: nothing may be missing.
    pub(super) fn finish(&self) -> Result<(), TarError> {
        match self.state {
            State::Header if self.header_bytes == 0 => Ok(()),
            State::End => Ok(()),
            _ => Err(TarError::Truncated),
        }
    }

    /// Collects a header; `None` when it is not whole yet or marks the end.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<Option<TarEntry>, TarError> {
        let part = take(input, (BLOCK_BYTES - self.header_bytes) as u64);
        self.header[self.header_bytes..self.header_bytes + part.len()].copy_from_slice(part);
        self.header_bytes += part.len();
        if self.header_bytes < BLOCK_BYTES {
            return Ok(None);
        }
        self.header_bytes = 0;
        if self.header.iter().all(|&byte| byte == 0) {
            self.state = State::End;
            return Ok(None);
        }
        let entry = parse_header(&self.header)?;
        if let TarKind::File { size } = entry.kind {
            let past_block = (size % BLOCK_BYTES as u64) as usize;
            self.state = after_content(size, (BLOCK_BYTES - past_block) % BLOCK_BYTES);
        }
        Ok(Some(entry))
    }
}

/// At most `count` bytes from the front of `input`.
fn take<'a>(input: &mut &'a [u8], count: u64) -> &'a [u8] {
    let count = usize::try_from(count)
        .unwrap_or(usize::MAX)
        .min(input.len());
    let (taken, rest) = input.split_at(count);
    *input = rest;
    taken
}

fn after_content(left: u64, padding: usize) -> State {
    match (left, padding) {
        (0, 0) => State::Header,
        (0, left) => State::Padding { left },
        (left, padding) => State::Content { left, padding },
    }
}

fn parse_header(header: &[u8; BLOCK_BYTES]) -> Result<TarEntry, TarError> {
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(at, &byte)| {
            if CHECKSUM.contains(&at) {
                u32::from(b' ')
            } else {
                u32::from(byte)
            }
        })
        .sum();
    if number(&header[CHECKSUM]) != Some(u64::from(sum)) {
        return Err(TarError::Checksum);
    }
    if &header[257..262] != b"ustar" {
        return Err(TarError::Magic);
    }
    let name = name(header)?;
    let field =
        |range: std::ops::Range<usize>, what| number(&header[range]).ok_or(TarError::Number(what));
    let size = field(124..136, "size")?;
    let mode = u32::try_from(field(100..108, "mode")? & 0o7777).unwrap_or(0);
    // PostgreSQL writes a time before 1970 as a huge number.
    let mtime = Some(field(136..148, "mtime")?)
        .filter(|&time| i64::try_from(time).is_ok())
        .unwrap_or(0);
    let shown = || name.escape_ascii().to_string();
    let kind = match header[156] {
        b'0' | 0 => TarKind::File { size },
        b'2' | b'5' if size != 0 => return Err(TarError::UnexpectedContent { name: shown() }),
        b'5' => TarKind::Directory,
        b'2' => TarKind::Symlink {
            target: text(&header[157..257])
                .ok_or_else(|| TarError::ZeroByte { name: shown() })?
                .to_vec(),
        },
        other => {
            return Err(TarError::Kind {
                name: shown(),
                kind: char::from(other),
            });
        }
    };
    Ok(TarEntry {
        name,
        kind,
        mode,
        mtime,
    })
}

fn name(header: &[u8; BLOCK_BYTES]) -> Result<Vec<u8>, TarError> {
    let zero_byte = |field: &[u8]| TarError::ZeroByte {
        name: field.escape_ascii().to_string(),
    };
    let (last, prefix) = (&header[..100], &header[345..500]);
    let mut name = text(prefix).ok_or_else(|| zero_byte(prefix))?.to_vec();
    if !name.is_empty() {
        name.push(b'/');
    }
    name.extend_from_slice(text(last).ok_or_else(|| zero_byte(last))?);
    let is_file = matches!(header[156], b'0' | 0);
    if !is_file && name.len() > 1 && name.ends_with(b"/") {
        name.pop();
    }
    Ok(name)
}

/// The text of a field up to its padding; `None` if something follows its first zero byte.
fn text(field: &[u8]) -> Option<&[u8]> {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    field[end..]
        .iter()
        .all(|&byte| byte == 0)
        .then_some(&field[..end])
}

/// A number in octal digits, or in base 256 when the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let first = u64::from(field[0] & 0x7F);
        return field[1..].iter().try_fold(first, |value, &byte| {
            value.checked_mul(256).map(|value| value | u64::from(byte))
        });
    }
    let digits = field.trim_ascii_start();
    let end = digits
        .iter()
        .position(|byte| matches!(byte, 0 | b' '))
        .unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if digits.is_empty() || rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &byte| {
        let digit = char::from(byte).to_digit(8)?;
        value.checked_mul(8).map(|value| value | u64::from(digit))
    })
}
