//! Numbers that look random and come again with the same seed.

use std::time::SystemTime;

/// The variable that gives a seed.
const SEED: &str = "PGM_TEST_SEED";

/// A generator (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// One whose numbers follow from `seed`.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// One with the seed that `PGM_TEST_SEED` gives, else with a new one. It is printed, for whoever wants the same numbers again.
    pub fn announced(what: &str) -> Self {
        let given = std::env::var(SEED).ok();
        let seed = given.map_or_else(now, |text| text.parse().expect("PGM_TEST_SEED is a number"));
        eprintln!("{what}: {SEED}={seed}");
        Self(seed)
    }

    /// The next number below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((word ^ (word >> 31)) >> 1) as usize % limit
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, of_hundred: usize) -> bool {
        self.below(100) < of_hundred
    }

    /// One of them; `None` if there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() {
            return None;
        }
        of.get(self.below(of.len()))
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_one_others() {
        let numbers = |seed| {
            let mut random = Random::seeded(seed);
            std::iter::repeat_with(|| random.below(1000))
                .take(20)
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert!(numbers(7).iter().any(|number| *number > 500));
    }
}
