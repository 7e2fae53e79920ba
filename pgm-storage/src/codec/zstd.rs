//! zstd, one independent zstd frame per pgm frame, through contexts that are kept.
//!
//! Bulk compression of about 1 MiB at a time costs a quarter to a third less CPU than the streaming encoder and loses
//! at most 3 % of the ratio.
//!
//! A level from 2 to 9 is a promise about size, not about the way there. On many pages of PostgreSQL level 1 makes no more bytes than
//! level 3 does: what repeats on a page is near, and the smaller tables of level 1 stay in the processor's first cache. Where what repeats
//! is also short, as in the entries of an index, it has to look for five equal bytes rather than seven. So from time to time a frame is
//! compressed in each of these ways, and the following ones with level 1, in the way of the two that made less, for as long as that costs
//! at most a sixty-fourth of the size.
//!
//! The first of the two is level 1 with a table that leaves room for other things in that cache, with a window of 32 pages, and without the
//! search for borders at which a block of 128 KiB could be split, because pages of a file are alike. On tables it takes an eighth to a
//! quarter less time than level 1 does, for as many bytes.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;

use ::zstd::bulk::{Compressor, Decompressor};
use ::zstd::zstd_safe::CParameter;

const QUICK: i32 = 1;
/// The logarithms of the entries of the first quick way's table, and of the bytes of its window.
const LONG_HASH_LOG: u32 = 13;
const LONG_WINDOW_LOG: u32 = 18;
/// How much the first quick way puts into one block: whole pages, and less than what zstd looks for borders in.
const LONG_BLOCK_BYTES: u32 = 15 * 8192;
/// How many equal bytes the second quick way looks for.
const SHORT_MATCH: u32 = 5;
/// The levels instead of which the quick one is used where it is as good.
const REPLACEABLE: RangeInclusive<i32> = 2..=9;
/// Frames smaller than this tell nothing about others.
const TRIAL_BYTES_MIN: usize = 64 << 10;
/// Frames between two trials: this many at first, and four times as many each time that a trial decides as the one before.
const FIRST_PAUSE: u32 = 2;
const LONGEST_PAUSE: u32 = 256;

pub(crate) struct ZstdEncoder {
    level: Compressor<'static>,
    quick: Option<Quick>,
}

/// The quick ways beside the level that was asked for.
struct Quick {
    long: Compressor<'static>,
    short: Compressor<'static>,
    choice: Choice,
    /// For the other results of a trial.
    scratch: [Vec<u8>; 2],
}

/// How a frame is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// With the level that was asked for.
    Asked,
    /// With level 1, made for pages.
    Long,
    /// With level 1 and short matches.
    Short,
}

/// In which way frames are made, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    way: Way,
    /// Frames until all are tried again.
    left: u32,
    /// What `left` began with.
    pause: u32,
    /// How many bytes became how many in the last trial.
    raw: usize,
    encoded: usize,
}

impl ZstdEncoder {
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        let quick = if REPLACEABLE.contains(&level) {
            let mut long = Compressor::new(QUICK)?;
            long.set_parameter(CParameter::HashLog(LONG_HASH_LOG))?;
            long.set_parameter(CParameter::WindowLog(LONG_WINDOW_LOG))?;
            long.set_parameter(CParameter::MaxBlockSize(LONG_BLOCK_BYTES))?;
            let mut short = Compressor::new(QUICK)?;
            short.set_parameter(CParameter::MinMatch(SHORT_MATCH))?;
            Some(Quick {
                long,
                short,
                choice: Choice::NONE,
                scratch: [Vec::new(), Vec::new()],
            })
        } else {
            None
        };
        Ok(Self {
            level: Compressor::new(level)?,
            quick,
        })
    }

    /// How large `out` must be to hold whatever `raw_bytes` bytes become.
    pub(crate) fn bound(raw_bytes: usize) -> usize {
        ::zstd::zstd_safe::compress_bound(raw_bytes)
    }

    pub(crate) fn encode(&mut self, raw: &[u8], out: &mut [u8]) -> io::Result<usize> {
        let Some(quick) = &mut self.quick else {
            return self.level.compress_to_buffer(raw, out);
        };
        if raw.len() < TRIAL_BYTES_MIN {
            return self.level.compress_to_buffer(raw, out);
        }
        if quick.choice.left == 0 {
            return quick.try_all(&mut self.level, raw, out);
        }
        let machine = match quick.choice.way {
            Way::Asked => &mut self.level,
            Way::Long => &mut quick.long,
            Way::Short => &mut quick.short,
        };
        let encoded = machine.compress_to_buffer(raw, out)?;
        quick.choice.after(raw.len(), encoded);
        Ok(encoded)
    }
}

impl Quick {
    fn try_all(
        &mut self,
        level: &mut Compressor<'static>,
        raw: &[u8],
        out: &mut [u8],
    ) -> io::Result<usize> {
        let bound = ZstdEncoder::bound(raw.len());
        for scratch in &mut self.scratch {
            if scratch.len() < bound {
                scratch.resize(bound, 0);
            }
        }
        let [long, short] = &mut self.scratch;
        let sizes = Sizes {
            asked: level.compress_to_buffer(raw, out)?,
            long: self.long.compress_to_buffer(raw, long)?,
            short: self.short.compress_to_buffer(raw, short)?,
        };
        self.choice = self.choice.decide(raw.len(), sizes);
        let (made, encoded) = match self.choice.way {
            Way::Asked => return Ok(sizes.asked),
            Way::Long => (sizes.long, long),
            Way::Short => (sizes.short, short),
        };
        out[..made].copy_from_slice(&encoded[..made]);
        Ok(made)
    }
}

/// How many bytes a frame becomes, each way.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    asked: usize,
    long: usize,
    short: usize,
}

impl Sizes {
    /// The way to go, and what it makes.
    fn best(self) -> (Way, usize) {
        let (way, quick) = if self.short < self.long {
            (Way::Short, self.short)
        } else {
            (Way::Long, self.long)
        };
        if quick <= self.asked + self.asked / 64 {
            (way, quick)
        } else {
            (Way::Asked, self.asked)
        }
    }
}

impl Choice {
    const NONE: Self = Self {
        way: Way::Asked,
        left: 0,
        pause: 0,
        raw: 0,
        encoded: 0,
    };

    /// The choice after a trial in which `raw` bytes became `sizes`.
    fn decide(self, raw: usize, sizes: Sizes) -> Self {
        let (way, encoded) = sizes.best();
        let pause = match self.pause {
            0 => FIRST_PAUSE,
            // Between the two quick ways it does not matter much.
            pause if (way == Way::Asked) == (self.way == Way::Asked) => {
                (pause * 4).min(LONGEST_PAUSE)
            }
            _ => FIRST_PAUSE,
        };
        Self {
            way,
            left: pause,
            pause,
            raw,
            encoded,
        }
    }

    /// Counts a frame of which `raw` bytes became `encoded`. When it compresses quite differently from the one that was tried, these are other
    /// data; of pages with hardly anything in them nothing hangs on it.
    fn after(&mut self, raw: usize, encoded: usize) {
        self.left -= 1;
        let (now, then) = (encoded * self.raw, self.encoded * raw);
        if now.abs_diff(then) > (then / 8).max(raw * self.raw / 64) {
            self.left = 0;
            self.pause = 0;
        }
    }
}

impl fmt::Debug for ZstdEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdEncoder").finish_non_exhaustive()
    }
}

pub(crate) struct ZstdDecoder(Decompressor<'static>);

impl ZstdDecoder {
    pub(crate) fn new() -> io::Result<Self> {
        Decompressor::new().map(Self)
    }

    /// Decodes all of `stored` into `out` and gives how many bytes that were; fails if they do not fit.
    pub(crate) fn decode(&mut self, stored: &[u8], out: &mut [u8]) -> io::Result<usize> {
        self.0.decompress_to_buffer(stored, out)
    }
}

impl fmt::Debug for ZstdDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZstdDecoder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encoder: &mut ZstdEncoder, raw: &[u8]) -> usize {
        let mut out = vec![0; ZstdEncoder::bound(raw.len())];
        let bytes = encoder.encode(raw, &mut out).unwrap();
        let mut decoded = vec![0; raw.len()];
        let length = ZstdDecoder::new()
            .unwrap()
            .decode(&out[..bytes], &mut decoded)
            .unwrap();
        assert!(decoded[..length] == *raw, "other bytes come out");
        bytes
    }

    fn alone(level: i32, raw: &[u8]) -> usize {
        ::zstd::bulk::compress(raw, level).unwrap().len()
    }

    fn way(encoder: &ZstdEncoder) -> Way {
        encoder.quick.as_ref().unwrap().choice.way
    }

    /// Words in no order: what longer searches find pays here.
    fn words(seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut text = Vec::new();
        while text.len() < 512 << 10 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let word = (state >> 33) % 5_000;
            text.extend_from_slice(
                format!("{:x} ", word.wrapping_mul(2_654_435_761) % 99_991).as_bytes(),
            );
        }
        text
    }

    #[test]
    fn the_quick_level_takes_over_where_it_costs_no_bytes_and_hands_back() {
        let mut encoder = ZstdEncoder::new(3).unwrap();
        let same = vec![7; 512 << 10];
        for _ in 0..10 {
            encoded(&mut encoder, &same);
        }
        assert_ne!(way(&encoder), Way::Asked);
        // A frame that is quite different ends it: at the latest the one after it is tried with both.
        let text = words(1);
        assert!(
            alone(3, &text) * 65 < alone(1, &text) * 64,
            "the test needs bytes on which the level matters"
        );
        encoded(&mut encoder, &text);
        for seed in 2..20 {
            let text = words(seed);
            assert_eq!(encoded(&mut encoder, &text), alone(3, &text), "{seed}");
        }
    }

    #[test]
    fn the_highest_levels_and_the_lowest_are_what_they_say() {
        let text = words(3);
        for level in [-5, 1, 10, 12] {
            let mut encoder = ZstdEncoder::new(level).unwrap();
            assert_eq!(encoded(&mut encoder, &text), alone(level, &text), "{level}");
        }
        // Little says nothing of what comes.
        let mut encoder = ZstdEncoder::new(3).unwrap();
        assert_eq!(
            encoded(&mut encoder, &text[..1000]),
            alone(3, &text[..1000])
        );
        assert_eq!(encoder.quick.unwrap().choice, Choice::NONE);
    }

    #[test]
    fn entries_of_an_index_are_made_with_short_matches_and_are_smaller() {
        // Tuples of an index of numbers (`IndexTupleData` and a key): block, offset, flags and size, key, padding.
        let mut pages = Vec::new();
        for row in (1_000_000_u32..).take(32 << 10) {
            let block = row / 55;
            pages.extend_from_slice(&(block >> 16).to_le_bytes()[..2]);
            pages.extend_from_slice(&block.to_le_bytes()[..2]);
            pages.extend_from_slice(&(row % 55 + 1).to_le_bytes()[..2]);
            pages.extend_from_slice(&16_u16.to_le_bytes());
            pages.extend_from_slice(&u64::from(row).to_le_bytes());
        }
        let mut encoder = ZstdEncoder::new(3).unwrap();
        for _ in 0..10 {
            assert!(encoded(&mut encoder, &pages) <= alone(3, &pages) * 65 / 64);
        }
        assert_eq!(way(&encoder), Way::Short);
        assert!(encoded(&mut encoder, &pages) * 20 < alone(1, &pages) * 19);
    }

    #[test]
    fn trials_become_rare_while_they_agree_and_frequent_when_they_do_not() {
        let sizes = |long, asked| Sizes {
            asked,
            long,
            short: long,
        };
        let mut choice = Choice::NONE.decide(1000, sizes(102, 100));
        assert!(choice.way == Way::Asked && choice.left == FIRST_PAUSE);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            choice = choice.decide(1000, sizes(102, 100));
            pauses.push(choice.left);
        }
        assert_eq!(pauses, [8, 32, 128, 256, 256, 256, 256, 256]);
        choice = choice.decide(1000, sizes(100, 100));
        assert!(choice.way == Way::Long && choice.left == FIRST_PAUSE);
        let short = Sizes {
            asked: 100,
            long: 100,
            short: 99,
        };
        choice = choice.decide(1000, short);
        assert!(choice.way == Way::Short && choice.left == 4 * FIRST_PAUSE);
        choice = choice.decide(1000, sizes(101, 100));
        assert!(choice.way == Way::Long && choice.left == 16 * FIRST_PAUSE);
        let left = choice.left;
        choice.after(500, 55);
        assert_eq!(choice.left, left - 1);
        choice.after(500, 57);
        assert_eq!(choice.left, left - 2);
        choice.after(500, 80);
        assert_eq!(choice.left, 0);
    }
}
