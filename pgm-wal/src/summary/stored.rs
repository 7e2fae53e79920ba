//! Our own form of a summary.
//!
//! ```text
//! "PGMS" | version 3, u16 | rules u8, 0 PostgreSQL's or 1 complete | 0 u8 | timeline u32 | start u64 | end u64 |
//! minimal u64, 0 for none | how many forks u32
//! each fork   tablespace u32, database u32, relation u32, fork u8 | limit + 1, number of runs |
//!             each run: blocks between it and the one before, its length |
//!             with rules 1: number of runs of blocks that were forgotten because of the limit | each run
//! how many forks have blocks that PostgreSQL does not list, u32
//! each of them   tablespace u32, database u32, relation u32, fork u8 | number of runs | each run as above
//! CRC-32C of everything before, u32
//! ```
//!
//! Little-endian. The numbers in the second line of a fork are of variable length, seven bits a byte from the lowest on,
//! the uppermost bit of a byte says that another follows; a limit of 0 stands for none. Sorted by tablespace, database,
//! relation, fork. A run is as many blocks as follow each other.

use pgm_proto::{Lsn, TimelineId};

use super::{Blocks, ForkChanges, NO_LIMIT, RelationFork, Rules, Summary};
use crate::record::{Fork, RelationFile};

const MAGIC: [u8; 4] = *b"PGMS";
const VERSION: u16 = 3;

/// The bytes are not a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the WAL summary is damaged: {0}")]
pub struct StoredError(&'static str);

const TOO_LARGE: StoredError = StoredError("a block's number is too large");

impl Summary {
    /// Appends the summary to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([u8::from(self.rules == Rules::Complete), 0]);
        out.extend(self.timeline.number().to_le_bytes());
        let minimal = self.minimal.unwrap_or(Lsn::INVALID);
        for lsn in [self.start, self.end, minimal] {
            out.extend(lsn.bytes().to_le_bytes());
        }
        out.extend((self.forks.len() as u32).to_le_bytes());
        for (fork, changes) in self.forks() {
            put_fork(out, fork);
            put(out, u64::from(changes.limit.wrapping_add(1)));
            put_blocks(out, &changes.blocks);
            if self.rules == Rules::Complete {
                put_blocks(out, &changes.forgotten);
            }
        }
        out.extend((self.unlisted.len() as u32).to_le_bytes());
        for (fork, blocks) in &self.unlisted {
            put_fork(out, *fork);
            put_blocks(out, blocks);
        }
        let crc = crc32c::crc32c(&out[begin..]);
        out.extend(crc.to_le_bytes());
    }

    /// Reads what [`Self::write`] wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, StoredError> {
        let (content, crc) = bytes
            .split_last_chunk()
            .ok_or(StoredError("it is too short"))?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return Err(StoredError("its checksum does not match"));
        }
        let mut rest = Rest(content);
        let summary = rest.summary()?;
        if !rest.0.is_empty() {
            return Err(StoredError("something follows it"));
        }
        Ok(summary)
    }
}

fn put_fork(out: &mut Vec<u8>, of: RelationFork) {
    let RelationFork { relation, fork } = of;
    for number in [relation.tablespace, relation.database, relation.number] {
        out.extend(number.to_le_bytes());
    }
    out.push(fork.number() as u8);
}

fn put_blocks(out: &mut Vec<u8>, blocks: &Blocks) {
    put(out, blocks.runs().count() as u64);
    let mut next = 0;
    for (first, last) in blocks.runs() {
        put(out, u64::from(first) - next);
        put(out, u64::from(last - first) + 1);
        next = u64::from(last) + 1;
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoredError> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(StoredError("it is too short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, StoredError> {
        self.take().map(u32::from_le_bytes)
    }

    fn lsn(&mut self) -> Result<Lsn, StoredError> {
        self.take().map(u64::from_le_bytes).map(Lsn::new)
    }

    /// A number of variable length; none is longer than ten bytes.
    fn number(&mut self) -> Result<u64, StoredError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(StoredError("a number is too long"))
    }

    fn summary(&mut self) -> Result<Summary, StoredError> {
        if self.take()? != MAGIC {
            return Err(StoredError("it does not begin as one"));
        }
        if u16::from_le_bytes(self.take()?) != VERSION {
            return Err(StoredError("its version is unknown"));
        }
        let rules = match self.take()? {
            [0, 0] => Rules::PostgreSql,
            [1, 0] => Rules::Complete,
            _ => return Err(StoredError("its rules are unknown")),
        };
        let timeline = TimelineId::new(self.u32()?).ok_or(StoredError("its timeline is zero"))?;
        let mut summary = Summary::new(timeline, self.lsn()?, rules);
        summary.end = self.lsn()?;
        summary.minimal = Some(self.lsn()?).filter(|lsn| *lsn != Lsn::INVALID);
        for _ in 0..self.u32()? {
            let fork = self.fork()?;
            let changes = self.changes(rules)?;
            summary.forks.insert(fork, changes);
        }
        for _ in 0..self.u32()? {
            let fork = self.fork()?;
            let blocks = self.blocks()?;
            summary.unlisted.insert(fork, blocks);
        }
        Ok(summary)
    }

    fn fork(&mut self) -> Result<RelationFork, StoredError> {
        let relation = RelationFile {
            tablespace: self.u32()?,
            database: self.u32()?,
            number: self.u32()?,
        };
        let [fork] = self.take()?;
        let fork = Fork::from_number(u32::from(fork)).ok_or(StoredError("a fork is unknown"))?;
        Ok(RelationFork { relation, fork })
    }

    fn changes(&mut self, rules: Rules) -> Result<ForkChanges, StoredError> {
        let limit = match self.number()? {
            0 => NO_LIMIT,
            more => u32::try_from(more - 1).map_err(|_| TOO_LARGE)?,
        };
        let blocks = self.blocks()?;
        let forgotten = match rules {
            Rules::Complete => self.blocks()?,
            Rules::PostgreSql => Blocks::default(),
        };
        Ok(ForkChanges {
            limit,
            blocks,
            forgotten,
        })
    }

    fn blocks(&mut self) -> Result<Blocks, StoredError> {
        let mut blocks = Blocks::default();
        let mut next: u64 = 0;
        for _ in 0..self.number()? {
            let first = next.checked_add(self.number()?).ok_or(TOO_LARGE)?;
            let end = first.checked_add(self.number()?).ok_or(TOO_LARGE)?;
            if end > u64::from(NO_LIMIT) {
                return Err(TOO_LARGE);
            }
            for block in first..end {
                blocks.insert(block as u32);
            }
            next = end;
        }
        Ok(blocks)
    }
}
