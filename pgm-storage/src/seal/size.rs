//! How large a sealed object is, and back: both sizes follow from each other.

use super::cipher::TAG_BYTES;
use super::header::{CHUNK_POWER, SEAL_HEADER_BYTES};

/// The raw bytes of a chunk, of the objects of a repository.
pub(crate) const CHUNK_BYTES: usize = 1 << CHUNK_POWER;
/// The same chunk sealed.
pub(crate) const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// The size of an object sealed in chunks of [`CHUNK_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedSize {
    /// The bytes before they were sealed.
    pub(crate) raw: u64,
    /// The number of the last chunk.
    pub(crate) last: u32,
}

impl SealedSize {
    /// The size of the sealed object whose raw size is `raw`.
    pub(crate) fn sealed(raw: u64) -> u64 {
        let chunks = raw.div_ceil(CHUNK_BYTES as u64).max(1);
        raw.saturating_add(chunks * TAG_BYTES as u64)
            .saturating_add(SEAL_HEADER_BYTES as u64)
    }

    /// What a sealed object of `sealed` bytes holds; `None` if none has this size.
    pub(crate) fn of(sealed: u64) -> Option<Self> {
        let body = sealed.checked_sub(SEAL_HEADER_BYTES as u64)?;
        let chunks = body.div_ceil(SEALED_CHUNK_BYTES as u64);
        let last = u32::try_from(chunks.checked_sub(1)?).ok()?;
        let raw = body.checked_sub(chunks * TAG_BYTES as u64)?;
        // The last chunk holds something, but for that of an empty object.
        let before = u64::from(last) * CHUNK_BYTES as u64;
        (raw > before || (raw == 0 && last == 0)).then_some(Self { raw, last })
    }

    /// Where a chunk begins in the sealed object.
    pub(crate) fn offset(chunk: u32) -> u64 {
        SEAL_HEADER_BYTES as u64 + u64::from(chunk) * SEALED_CHUNK_BYTES as u64
    }

    /// The raw bytes of the last chunk.
    pub(crate) fn last_bytes(self) -> usize {
        // At most a chunk, as `of` has checked.
        (self.raw - u64::from(self.last) * CHUNK_BYTES as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_that_no_object_can_have_are_refused() {
        let header = SEAL_HEADER_BYTES as u64;
        for sealed in [0, 1, header, header + 15, header + 65552 + 16, u64::MAX] {
            assert_eq!(SealedSize::of(sealed), None, "{sealed}");
        }
        assert_eq!(
            SealedSize::of(header + 16),
            Some(SealedSize { raw: 0, last: 0 })
        );
        let two = SealedSize::of(header + 65552 + 17).unwrap();
        assert_eq!((two.raw, two.last, two.last_bytes()), (65537, 1, 1));
    }

    proptest! {
        #[test]
        fn a_raw_size_comes_back_from_the_sealed_one(raw in 0..1_u64 << 47) {
            prop_assert_eq!(SealedSize::of(SealedSize::sealed(raw)).unwrap().raw, raw);
        }
    }
}
