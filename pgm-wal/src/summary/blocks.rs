//! A set of block numbers: a list where few of 65,536 neighbours are in it, a bitmap where many are.

use std::collections::BTreeMap;
use std::ops::Range;

/// How many blocks one part of the set covers.
const PART_BLOCKS: u32 = 1 << 16;
/// With more blocks than this a part becomes a bitmap: at most 1 KiB is moved to insert one.
const LIST_MAX: usize = 512;
const WORDS: usize = PART_BLOCKS as usize / 64;

#[derive(Debug, Clone)]
enum Part {
    /// Sorted.
    List(Vec<u16>),
    Bitmap(Box<[u64; WORDS]>),
}

/// A set of block numbers.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    parts: BTreeMap<u16, Part>,
}

impl PartialEq for Blocks {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Blocks {}

impl Blocks {
    /// Adds a block.
    pub fn insert(&mut self, block: u32) {
        let part = self
            .parts
            .entry((block / PART_BLOCKS) as u16)
            .or_insert_with(|| Part::List(Vec::new()));
        part.insert((block % PART_BLOCKS) as u16);
    }

    /// Adds those of `others`.
    pub(super) fn extend(&mut self, others: &Self) {
        others.iter().for_each(|block| self.insert(block));
    }

    /// Removes the blocks from `limit` on.
    pub fn truncate(&mut self, limit: u32) {
        let (part, offset) = ((limit / PART_BLOCKS) as u16, (limit % PART_BLOCKS) as u16);
        let mut from = self.parts.split_off(&part);
        if let Some(mut boundary) = from.remove(&part) {
            boundary.truncate(offset);
            if boundary.len() > 0 {
                self.parts.insert(part, boundary);
            }
        }
    }

    /// Whether the block is in it.
    pub fn contains(&self, block: u32) -> bool {
        let offset = (block % PART_BLOCKS) as u16;
        match self.parts.get(&((block / PART_BLOCKS) as u16)) {
            Some(Part::List(list)) => list.binary_search(&offset).is_ok(),
            Some(Part::Bitmap(words)) => words[usize::from(offset) / 64] & 1 << (offset % 64) != 0,
            None => false,
        }
    }

    /// How many blocks are in it.
    pub fn len(&self) -> u64 {
        self.parts.values().map(Part::len).sum()
    }

    /// Whether no block is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The blocks, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.parts.iter().flat_map(|(number, part)| {
            let base = u32::from(*number) * PART_BLOCKS;
            part.iter().map(move |offset| base + u32::from(offset))
        })
    }

    /// The blocks from the first of these on and before the last, in order.
    pub fn within(&self, range: Range<u32>) -> impl Iterator<Item = u32> + '_ {
        let part = |block: u32| (block / PART_BLOCKS) as u16;
        let parts = self
            .parts
            .range(part(range.start)..=part(range.end.max(range.start)));
        let blocks = parts.flat_map(|(number, part)| {
            let base = u32::from(*number) * PART_BLOCKS;
            part.iter().map(move |offset| base + u32::from(offset))
        });
        blocks.filter(move |block| range.contains(block))
    }

    /// Runs of blocks: the first and the last of each, in order.
    pub fn runs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut blocks = self.iter().peekable();
        std::iter::from_fn(move || {
            let first = blocks.next()?;
            let mut last = first;
            while let Some(next) = blocks.next_if(|next| Some(*next) == last.checked_add(1)) {
                last = next;
            }
            Some((first, last))
        })
    }

    /// The parts: the number of each, and its blocks counted from its first one on.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u16, Vec<u16>)> + '_ {
        self.parts
            .iter()
            .map(|(number, part)| (*number, part.iter().collect()))
    }
}

impl Part {
    fn insert(&mut self, offset: u16) {
        match self {
            Self::Bitmap(words) => words[usize::from(offset) / 64] |= 1 << (offset % 64),
            Self::List(list) => {
                // Blocks mostly change in order, or the same one again.
                match list.last() {
                    Some(last) if *last == offset => return,
                    Some(last) if *last < offset => list.push(offset),
                    None => list.push(offset),
                    Some(_) => {
                        if let Err(at) = list.binary_search(&offset) {
                            list.insert(at, offset);
                        }
                    }
                }
                if list.len() > LIST_MAX {
                    let mut words = Box::new([0; WORDS]);
                    for offset in list {
                        words[usize::from(*offset) / 64] |= 1 << (*offset % 64);
                    }
                    *self = Self::Bitmap(words);
                }
            }
        }
    }

    fn truncate(&mut self, limit: u16) {
        match self {
            Self::List(list) => list.truncate(list.partition_point(|offset| *offset < limit)),
            Self::Bitmap(words) => {
                let (word, bit) = (usize::from(limit) / 64, limit % 64);
                words[word] &= (1 << bit) - 1;
                words[word + 1..].fill(0);
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::List(list) => list.len() as u64,
            Self::Bitmap(words) => words.iter().map(|word| u64::from(word.count_ones())).sum(),
        }
    }

    fn iter(&self) -> Box<dyn Iterator<Item = u16> + '_> {
        match self {
            Self::List(list) => Box::new(list.iter().copied()),
            Self::Bitmap(words) => Box::new(words.iter().enumerate().flat_map(|(index, word)| {
                let mut rest = *word;
                std::iter::from_fn(move || {
                    let bit = rest.trailing_zeros();
                    if bit == 64 {
                        return None;
                    }
                    rest &= rest - 1;
                    Some((index * 64) as u16 + bit as u16)
                })
            })),
        }
    }
}
