//! Compresses a changed page image into exactly as many bytes as the image had before: records keep their lengths.
//!
//! The page is parsed into the cheapest sequence of literals and matches, which is cheaper than what the server, in a
//! hurry, found; then matches are given up one by one, each of which costs a byte or so, until the length is met. For zstd
//! there is a simpler way: a frame that is skipped fills what is left over. Where the length cannot be met, nothing is
//! given.
//!
//! ```text
//! pglz   control byte for 8 items | literal u8 | match: length - 3 and offset, 2 bytes, or 3 from a length of 18 on
//! lz4    token: literals 4 bits, length - 4 4 bits | more of the first | literals | offset u16 | more of the second
//! zstd   frame | magic 0x184D2A50 u32 | length u32 | zeros
//! ```
//!
//! Follows `common/pg_lzcompress.c` and the descriptions of LZ4's block format and of zstd's frame format.

use std::collections::{BTreeMap, HashMap};

use crate::record::ImageCompression;

const SKIPPABLE_MAGIC: u32 = 0x184D_2A50;
const SKIPPABLE_BYTES: usize = 8;
const ZSTD_LEVEL_MAX: i32 = 22;

/// How many earlier places with the same beginning are tried for a match.
const CHAIN_MAX: usize = 64;

/// `page` compressed into exactly `len` bytes.
pub(super) fn recompress(
    page: &[u8],
    compression: ImageCompression,
    len: usize,
) -> Option<Vec<u8>> {
    match compression {
        ImageCompression::Pglz => fit(page, &PGLZ, len),
        ImageCompression::Lz4 => fit(page, &LZ4, len),
        ImageCompression::Zstd => (1..=ZSTD_LEVEL_MAX).rev().find_map(|level| {
            let mut out = zstd::bulk::compress(page, level).ok()?;
            let left = len.checked_sub(out.len())?;
            if left == 0 {
                return Some(out);
            }
            let filling = left.checked_sub(SKIPPABLE_BYTES)?;
            out.extend(SKIPPABLE_MAGIC.to_le_bytes());
            out.extend((filling as u32).to_le_bytes());
            out.resize(len, 0);
            Some(out)
        }),
        ImageCompression::None | ImageCompression::Unknown => None,
    }
}

/// Literals, and what follows them: a match, but at the page's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sequence {
    literals: usize,
    found: Option<Match>,
}

/// The same bytes as `offset` bytes before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Match {
    offset: usize,
    len: usize,
}

/// What a format can express, and what it costs.
struct Format {
    match_min: usize,
    match_max: usize,
    offset_max: usize,
    /// No match may begin so near the page's end, or reach nearer to it than the second.
    tail: (usize, usize),
    literal_bits: usize,
    match_bits: fn(usize) -> usize,
    /// The bytes of a sequence.
    bytes: fn(Sequence) -> usize,
    /// How many literals and matches have one more byte between them; 0 for none.
    group: usize,
    encode: fn(&[u8], &[Sequence]) -> Vec<u8>,
}

const PGLZ: Format = Format {
    match_min: 3,
    match_max: 273,
    offset_max: 0x0FFF,
    tail: (0, 0),
    literal_bits: 9,
    match_bits: |len| if len < 18 { 17 } else { 25 },
    bytes: |sequence| {
        let found = sequence
            .found
            .map_or(0, |found| 2 + usize::from(found.len >= 18));
        sequence.literals + found
    },
    group: 8,
    encode: encode_pglz,
};

const LZ4: Format = Format {
    match_min: 4,
    match_max: 8192,
    offset_max: 0xFFFF,
    tail: (12, 5),
    literal_bits: 8,
    match_bits: |len| 24 + 8 * lz4_rest(len - 4),
    bytes: |sequence| {
        let found = sequence
            .found
            .map_or(0, |found| 2 + lz4_rest(found.len - 4));
        1 + lz4_rest(sequence.literals) + sequence.literals + found
    },
    group: 0,
    encode: encode_lz4,
};

/// The gap at which every byte is counted.
const GAP_NARROW: usize = 10;

/// Changes that cost the same bytes and items, each with the place of the sequence.
type Kind = ((usize, usize), Vec<(usize, Sequence)>);

/// A parse, and what it costs.
struct Parse<'a> {
    format: &'a Format,
    sequences: Vec<Sequence>,
    bytes: usize,
    items: usize,
}

/// Parses, and gives up matches until the length is met.
fn fit(page: &[u8], format: &Format, len: usize) -> Option<Vec<u8>> {
    let sequences = sequences(page, format);
    let mut parse = Parse {
        format,
        bytes: sequences.iter().map(|one| (format.bytes)(*one)).sum(),
        items: sequences.iter().map(|one| one.items()).sum(),
        sequences,
    };
    parse.come_near(len);
    parse.meet(len)?;
    let out = (format.encode)(page, &parse.sequences);
    (out.len() == len).then_some(out)
}

impl Sequence {
    const fn items(self) -> usize {
        self.literals + self.found.is_some() as usize
    }

    /// `count` bytes of the match as literals before it; `None` when what is left would be too short.
    fn weaker(self, count: usize, format: &Format) -> Option<Self> {
        let Match { offset, len } = self.found?;
        let len = len.checked_sub(count)?;
        let found = Some(Match { offset, len }).filter(|_| len >= format.match_min);
        // Between two literals there must be something in one of the formats.
        let possible = found.is_some() || len == 0 && format.group > 0;
        possible.then_some(Self {
            literals: self.literals + count,
            found,
        })
    }
}

impl Parse<'_> {
    fn total(&self, bytes: usize, items: usize) -> usize {
        bytes
            + match self.format.group {
                0 => 0,
                group => items.div_ceil(group),
            }
    }

    fn gap(&self, len: usize) -> Option<usize> {
        len.checked_sub(self.total(self.bytes, self.items))
    }

    /// Shortens matches from the beginning on, until little is missing.
    fn come_near(&mut self, len: usize) {
        for index in 0..self.sequences.len() {
            let Some(gap) = self.gap(len).filter(|gap| *gap > GAP_NARROW) else {
                return;
            };
            let sequence = self.sequences[index];
            let spare = sequence
                .found
                .map_or(0, |found| found.len - self.format.match_min);
            // A literal costs up to a byte and an eighth.
            let count = spare.min((gap - GAP_NARROW / 2) * 8 / 9);
            if let Some(weaker) = sequence.weaker(count, self.format) {
                self.replace(index, weaker);
            }
        }
    }

    fn replace(&mut self, index: usize, sequence: Sequence) {
        let before = std::mem::replace(&mut self.sequences[index], sequence);
        self.bytes = self.bytes + (self.format.bytes)(sequence) - (self.format.bytes)(before);
        self.items = self.items + sequence.items() - before.items();
    }

    /// Finds a few changes that together cost exactly what is missing.
    fn meet(&mut self, len: usize) -> Option<()> {
        self.gap(len)?;
        // Changes by what they cost: bytes and items. All of one kind are as good as each other.
        let mut kinds: BTreeMap<(usize, usize), Vec<(usize, Sequence)>> = BTreeMap::new();
        for (index, sequence) in self.sequences.iter().enumerate() {
            let changes = (1..=5).filter_map(|count| sequence.weaker(count, self.format));
            // Each sequence is changed once at most: rare kinds come first.
            let cheap = changes.filter(|change| self.cost(*sequence, *change).0 <= 2);
            let change = cheap.min_by_key(|change| {
                let cost = self.cost(*sequence, *change);
                (kinds.get(&cost).map_or(0, Vec::len), cost)
            });
            if let Some(change) = change {
                let of_kind = kinds.entry(self.cost(*sequence, change)).or_default();
                if of_kind.len() < GAP_NARROW {
                    of_kind.push((index, change));
                }
            }
        }
        let kinds: Vec<_> = kinds.into_iter().collect();
        let mut chosen = Vec::new();
        self.choose(len, &kinds, (self.bytes, self.items), &mut chosen)
            .then_some(())?;
        for (index, change) in chosen {
            self.replace(index, change);
        }
        Some(())
    }

    fn cost(&self, before: Sequence, after: Sequence) -> (usize, usize) {
        let bytes = (self.format.bytes)(after).saturating_sub((self.format.bytes)(before));
        (bytes, after.items() - before.items())
    }

    /// Tries all numbers of changes of each kind.
    fn choose(
        &self,
        len: usize,
        kinds: &[Kind],
        (bytes, items): (usize, usize),
        chosen: &mut Vec<(usize, Sequence)>,
    ) -> bool {
        let Some(((cost, more), changes)) = kinds.first() else {
            return self.total(bytes, items) == len;
        };
        let before = chosen.len();
        for count in 0..=changes.len() {
            let state = (bytes + cost * count, items + more * count);
            if self.total(state.0, state.1) > len {
                break;
            }
            chosen.truncate(before);
            chosen.extend_from_slice(&changes[..count]);
            if self.choose(len, &kinds[1..], state, chosen) {
                return true;
            }
        }
        chosen.truncate(before);
        false
    }
}

/// The cheapest parse among those that take, at each place, the longest match or a shorter one at the same offset.
fn sequences(page: &[u8], format: &Format) -> Vec<Sequence> {
    let longest = matches(page, format);
    let mut costs = vec![0_usize; page.len() + 1];
    let mut chosen = vec![1_usize; page.len()];
    for at in (0..page.len()).rev() {
        costs[at] = costs[at + 1] + format.literal_bits;
        for len in format.match_min..=longest[at].len {
            let cost = costs[at + len] + (format.match_bits)(len);
            if cost < costs[at] {
                costs[at] = cost;
                chosen[at] = len;
            }
        }
    }
    let mut sequences = Vec::new();
    let (mut at, mut literals) = (0, 0);
    while at < page.len() {
        let len = chosen[at];
        if len == 1 {
            literals += 1;
        } else {
            let offset = longest[at].offset;
            let found = Some(Match { offset, len });
            sequences.push(Sequence { literals, found });
            literals = 0;
        }
        at += len;
    }
    sequences.push(Sequence {
        literals,
        found: None,
    });
    sequences
}

/// At each place the longest match, of length 0 where there is none.
fn matches(page: &[u8], format: &Format) -> Vec<Match> {
    let mut seen: HashMap<&[u8], Vec<usize>> = HashMap::new();
    let mut found = vec![Match { offset: 0, len: 0 }; page.len()];
    for at in 0..page.len() {
        let rest = &page[at..];
        let Some(beginning) = rest.get(..format.match_min) else {
            break;
        };
        let places = seen.entry(beginning).or_default();
        let (begin_before, end_before) = format.tail;
        if rest.len() > begin_before {
            let len_max = format.match_max.min(rest.len() - end_before);
            for before in places.iter().rev().take(CHAIN_MAX) {
                let offset = at - before;
                if offset > format.offset_max || found[at].len == len_max {
                    break;
                }
                let len = rest[..len_max]
                    .iter()
                    .zip(&page[*before..])
                    .take_while(|(one, other)| one == other)
                    .count();
                if len > found[at].len {
                    found[at] = Match { offset, len };
                }
            }
        }
        places.push(at);
    }
    found
}

fn encode_pglz(page: &[u8], sequences: &[Sequence]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut at, mut items, mut control) = (0, 0, 0);
    let mut begin_item = |out: &mut Vec<u8>, is_match: u8| {
        if items % 8 == 0 {
            control = out.len();
            out.push(0);
        }
        out[control] |= is_match << (items % 8);
        items += 1;
    };
    for sequence in sequences {
        for byte in &page[at..at + sequence.literals] {
            begin_item(&mut out, 0);
            out.push(*byte);
        }
        at += sequence.literals;
        if let Some(Match { offset, len }) = sequence.found {
            begin_item(&mut out, 1);
            out.push((offset >> 4 & 0xF0) as u8 | (len - 3).min(15) as u8);
            out.push((offset & 0xFF) as u8);
            if len >= 18 {
                out.push((len - 18) as u8);
            }
            at += len;
        }
    }
    out
}

fn encode_lz4(page: &[u8], sequences: &[Sequence]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    let nibble = |len: usize| len.min(15) as u8;
    for Sequence { literals, found } in sequences.iter().copied() {
        out.push(nibble(literals) << 4 | found.map_or(0, |found| nibble(found.len - 4)));
        put_lz4_rest(&mut out, literals);
        out.extend_from_slice(&page[at..at + literals]);
        at += literals;
        if let Some(Match { offset, len }) = found {
            out.extend((offset as u16).to_le_bytes());
            put_lz4_rest(&mut out, len - 4);
            at += len;
        }
    }
    out
}

/// How many bytes hold what of a length does not fit into the token.
const fn lz4_rest(len: usize) -> usize {
    match len.checked_sub(15) {
        Some(rest) => 1 + rest / 255,
        None => 0,
    }
}

fn put_lz4_rest(out: &mut Vec<u8>, len: usize) {
    let Some(rest) = len.checked_sub(15) else {
        return;
    };
    out.resize(out.len() + rest / 255, 255);
    out.push((rest % 255) as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{BLOCK_BYTES, Image};

    /// As a server in a hurry does it: the first match that is found is taken.
    fn hurried(page: &[u8], format: &Format) -> Vec<u8> {
        let longest = matches(page, format);
        let mut sequences = Vec::new();
        let (mut at, mut literals) = (0, 0);
        while at < page.len() {
            let found = longest[at];
            if found.len < format.match_min {
                literals += 1;
                at += 1;
            } else {
                let found = Some(found);
                sequences.push(Sequence { literals, found });
                literals = 0;
                at += longest[at].len;
            }
        }
        let found = None;
        sequences.push(Sequence { literals, found });
        (format.encode)(page, &sequences)
    }

    fn page_of(rows: &[(u8, u16)]) -> Vec<u8> {
        let mut page: Vec<u8> = rows
            .iter()
            .flat_map(|(length, seed)| {
                let mut row = vec![0xEE, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                row.extend([(*seed >> 8) as u8, *seed as u8, 2, 0, 2, 9, 24, 0]);
                row.extend((0..*length).map(|index| index.wrapping_mul(*seed as u8) % 23));
                row
            })
            .collect();
        page.truncate(BLOCK_BYTES);
        page
    }

    fn restored(bytes: &[u8], compression: ImageCompression, len: usize) -> Vec<u8> {
        let mut page = [0; BLOCK_BYTES];
        let image = Image {
            bytes,
            hole_offset: len as u16,
            hole_len: (BLOCK_BYTES - len) as u16,
            compression,
            applied: true,
        };
        image.restore(&mut page).unwrap();
        page[..len].to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_changed_page_takes_as_much_room_as_before(
            rows in proptest::collection::vec((0_u8..120, any::<u16>()), 20..120),
            changed in proptest::collection::vec(any::<proptest::sample::Index>(), 1..20),
        ) {
            let before = page_of(&rows);
            let mut page = before.clone();
            for index in changed {
                let at = index.index(page.len());
                page[at] &= !0x01;
            }
            for (compression, stored) in [
                (ImageCompression::Pglz, hurried(&before, &PGLZ)),
                (ImageCompression::Lz4, lz4_flex::block::compress(&before)),
                (ImageCompression::Zstd, zstd::bulk::compress(&before, 3).unwrap()),
            ] {
                prop_assert_eq!(&restored(&stored, compression, page.len()), &before);
                // Rarely a page is so hard to compress that nothing can be gained.
                if let Some(fitted) = recompress(&page, compression, stored.len()) {
                    prop_assert_eq!(fitted.len(), stored.len());
                    prop_assert_eq!(&restored(&fitted, compression, page.len()), &page);
                }
            }
        }
    }

    #[test]
    fn pages_of_similar_rows_fit_in_every_format() {
        let rows: Vec<(u8, u16)> = (0..90).map(|row| (40, 1000 + row * 7)).collect();
        let before = page_of(&rows);
        let mut page = before.clone();
        for row in 0..40 {
            page[row * 60 + 17] &= !0x01;
        }
        for (compression, stored) in [
            (ImageCompression::Pglz, hurried(&before, &PGLZ)),
            (ImageCompression::Lz4, lz4_flex::block::compress(&before)),
        ] {
            // What the change costs is gained elsewhere, or was given to it here.
            for more in 0..40 {
                let len = stored.len() + 60 + more;
                let fitted = recompress(&page, compression, len);
                let fitted = fitted.unwrap_or_else(|| panic!("{compression:?} {len}"));
                assert_eq!(fitted.len(), len);
                assert_eq!(
                    restored(&fitted, compression, page.len()),
                    page,
                    "{compression:?}"
                );
            }
        }
    }
}
