//! PostgreSQL's own form of a summary: a block reference table, as in `pg_wal/summaries`.
//!
//! ```text
//! magic 0x652B137B u32
//! each fork   tablespace u32, database u32, relation u32, fork u32, limit u32, parts u32 |
//!             how many entries each part has, u16 each | the entries of each part, u16 each
//! 24 zeros | CRC-32C of everything before, u32
//! ```
//!
//! A part covers 65,536 blocks. With 4,096 entries it is a bitmap, with fewer a list of blocks counted from its first.
//! Little-endian; sorted by tablespace, database, relation, fork. Follows `common/blkreftable.c`.

use std::io::{self, Read, Write};

use pgm_proto::{Lsn, TimelineId};

use super::{Blocks, ForkChanges, RelationFork, Rules, Summary};
use crate::record::{Fork, RelationFile};

const MAGIC: u32 = 0x652B_137B;
const BITMAP_ENTRIES: usize = 4096;
const PART_BLOCKS: u32 = 1 << 16;

/// The name of a summary's file: timeline, start and end, five times eight hexadecimal digits and `.summary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SummaryFileName {
    /// The timeline.
    pub timeline: TimelineId,
    /// Where the range begins.
    pub start: Lsn,
    /// Where it ends.
    pub end: Lsn,
}

impl SummaryFileName {
    /// Reads a file's name; `None` when it is not a summary's.
    pub fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".summary").filter(|digits| {
            digits.len() == 40
                && digits
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
        })?;
        let lsn = |text| u64::from_str_radix(text, 16).ok().map(Lsn::new);
        Some(Self {
            timeline: TimelineId::from_file_prefix(&digits[..8])?,
            start: lsn(&digits[8..24])?,
            end: lsn(&digits[24..])?,
        })
    }
}

impl std::fmt::Display for SummaryFileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:08X}{:016X}{:016X}.summary",
            self.timeline.number(),
            self.start.bytes(),
            self.end.bytes()
        )
    }
}

impl Summary {
    /// The name that PostgreSQL would give the summary's file.
    pub const fn file_name(&self) -> SummaryFileName {
        SummaryFileName {
            timeline: self.timeline,
            start: self.start,
            end: self.end,
        }
    }

    /// Writes the summary as PostgreSQL does.
    pub fn write_postgresql(&self, out: &mut impl Write) -> io::Result<()> {
        let mut out = Checksummed { out, crc: 0 };
        out.word(MAGIC)?;
        for (fork, changes) in self.forks() {
            let RelationFork { relation, fork } = fork;
            let parts: Vec<(u16, Vec<u16>)> = changes.blocks().parts().collect();
            let count = parts.last().map_or(0, |(number, _)| u32::from(*number) + 1);
            for word in [
                relation.tablespace,
                relation.database,
                relation.number,
                fork.number(),
                changes.limit,
                count,
            ] {
                out.word(word)?;
            }
            let mut sizes = vec![0; count as usize];
            for (number, blocks) in &parts {
                sizes[usize::from(*number)] = blocks.len().min(BITMAP_ENTRIES) as u16;
            }
            out.entries(&sizes)?;
            for (_, blocks) in parts {
                if blocks.len() < BITMAP_ENTRIES {
                    out.entries(&blocks)?;
                } else {
                    out.entries(&bitmap(&blocks))?;
                }
            }
        }
        out.write(&[0; 24])?;
        let crc = out.crc;
        out.word(crc)
    }
}

fn bitmap(blocks: &[u16]) -> Vec<u16> {
    let mut words = vec![0; BITMAP_ENTRIES];
    for block in blocks {
        words[usize::from(*block) / 16] |= 1 << (block % 16);
    }
    words
}

struct Checksummed<'a, W> {
    out: &'a mut W,
    crc: u32,
}

impl<W: Write> Checksummed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc = pgm_storage::crc32c_append(self.crc, bytes);
        self.out.write_all(bytes)
    }

    fn word(&mut self, word: u32) -> io::Result<()> {
        self.write(&word.to_le_bytes())
    }

    fn entries(&mut self, entries: &[u16]) -> io::Result<()> {
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|entry| entry.to_le_bytes())
            .collect();
        self.write(&bytes)
    }
}

/// Reads a summary that PostgreSQL wrote, of the range that its `name` tells.
pub fn read_postgresql(name: SummaryFileName, input: &mut impl Read) -> io::Result<Summary> {
    let mut input = Input { input, crc: 0 };
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if input.word()? != MAGIC {
        return Err(wrong("it does not begin as a WAL summary"));
    }
    let mut summary = Summary::new(name.timeline, name.start, Rules::PostgreSql);
    summary.end = name.end;
    loop {
        let mut words = [0; 6];
        for word in &mut words {
            *word = input.word()?;
        }
        if words == [0; 6] {
            break;
        }
        let [tablespace, database, number, fork, limit, parts] = words;
        let fork = Fork::from_number(fork).ok_or_else(|| wrong("a fork's number is wrong"))?;
        if parts > PART_BLOCKS {
            return Err(wrong("a fork has more blocks than there can be"));
        }
        let relation = RelationFile {
            tablespace,
            database,
            number,
        };
        let sizes = input.entries(parts as usize)?;
        let mut blocks = Blocks::default();
        for (part, size) in sizes.into_iter().enumerate() {
            if usize::from(size) > BITMAP_ENTRIES {
                return Err(wrong("a part has too many entries"));
            }
            let base = part as u32 * PART_BLOCKS;
            let entries = input.entries(usize::from(size))?;
            if usize::from(size) < BITMAP_ENTRIES {
                for block in entries {
                    blocks.insert(base + u32::from(block));
                }
                continue;
            }
            for (index, word) in entries.into_iter().enumerate() {
                for bit in (0..16).filter(|bit| word & 1 << bit != 0) {
                    blocks.insert(base + index as u32 * 16 + bit);
                }
            }
        }
        let changes = ForkChanges {
            limit,
            blocks,
            forgotten: Blocks::default(),
        };
        summary
            .forks
            .insert(RelationFork { relation, fork }, changes);
    }
    let crc = input.crc;
    if input.word()? != crc {
        return Err(wrong("its checksum does not match"));
    }
    Ok(summary)
}

struct Input<'a, R> {
    input: &'a mut R,
    crc: u32,
}

impl<R: Read> Input<'_, R> {
    fn word(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.input.read_exact(&mut bytes)?;
        self.crc = pgm_storage::crc32c_append(self.crc, &bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    /// Never more than 65,536.
    fn entries(&mut self, count: usize) -> io::Result<Vec<u16>> {
        let mut bytes = vec![0; count * 2];
        self.input.read_exact(&mut bytes)?;
        self.crc = pgm_storage::crc32c_append(self.crc, &bytes);
        let entries = bytes.chunks_exact(2);
        Ok(entries
            .map(|entry| u16::from_le_bytes([entry[0], entry[1]]))
            .collect())
    }
}
