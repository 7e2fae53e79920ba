//! The blocks that were noted lately: most records change a block that a record not long before has changed, too.
//!
//! One place for each of a few hundred; a block drives out the one that was there. What is in it has been noted and not been
//! taken back since, so it need not be looked for in the summary.

use super::RelationFork;

/// A power of two; all of it stays in the processor's nearest cache.
const PLACES: usize = 512;

#[derive(Debug, Clone, Default)]
pub(super) struct Recent(Vec<Option<(RelationFork, u32)>>);

impl Recent {
    /// Puts the block in; says whether it was not there.
    #[inline]
    pub(super) fn is_new(&mut self, fork: RelationFork, block: u32) -> bool {
        let place = block
            .wrapping_add(fork.relation.number.wrapping_mul(37))
            .wrapping_add(fork.fork.number() << 7);
        let noted = Some((fork, block));
        match self.0.get_mut(place as usize % PLACES) {
            Some(known) if *known == noted => false,
            Some(known) => {
                *known = noted;
                true
            }
            None => {
                self.0.resize(PLACES, None);
                true
            }
        }
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
