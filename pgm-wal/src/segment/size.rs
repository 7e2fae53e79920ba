//! How large a server's WAL segments are.
//!
//! Follows `IsValidWalSegSize` in `access/xlog_internal.h`: a power of two from 1 MiB to 1 GiB, chosen at `initdb`.

use std::fmt;

use pgm_proto::Lsn;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SegmentNumber;

/// The size of a server's WAL segments in bytes: a power of two from 1 MiB to 1 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSize(u32);

/// The number is not a size that WAL segments can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a WAL segment size: a power of two from 1048576 to 1073741824 bytes")]
pub struct SegmentSizeError(u64);

impl SegmentSize {
    /// What `initdb` chooses unless told otherwise: 16 MiB.
    pub const DEFAULT: Self = Self(16 << 20);
    /// The smallest size: 1 MiB.
    pub const MIN: Self = Self(1 << 20);
    /// The largest size: 1 GiB.
    pub const MAX: Self = Self(1 << 30);

    /// The size of `bytes` bytes.
    pub fn new(bytes: u64) -> Result<Self, SegmentSizeError> {
        let valid = bytes.is_power_of_two()
            && (u64::from(Self::MIN.0)..=u64::from(Self::MAX.0)).contains(&bytes);
        match u32::try_from(bytes) {
            Ok(bytes) if valid => Ok(Self(bytes)),
            _ => Err(SegmentSizeError(bytes)),
        }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64
    }

    /// The number of the segment that holds the byte at `lsn` (`XLByteToSeg`).
    pub const fn number_at(self, lsn: Lsn) -> SegmentNumber {
        SegmentNumber::new(lsn.bytes() / self.bytes())
    }

    /// The number of the segment that holds the byte before `lsn` (`XLByteToPrevSeg`): the last one of a range that
    /// ends at `lsn`.
    pub const fn number_before(self, lsn: Lsn) -> SegmentNumber {
        SegmentNumber::new(lsn.bytes().saturating_sub(1) / self.bytes())
    }

    /// Where the byte at `lsn` lies in its segment (`XLogSegmentOffset`).
    pub const fn offset_of(self, lsn: Lsn) -> u64 {
        lsn.bytes() % self.bytes()
    }

    /// The beginning of the segment that holds the byte at `lsn`.
    pub const fn round_down(self, lsn: Lsn) -> Lsn {
        Lsn::new(lsn.bytes() - self.offset_of(lsn))
    }

    /// How many segments share the middle eight digits of their names (`XLogSegmentsPerXLogId`).
    pub(super) const fn per_id(self) -> u64 {
        (1 << 32) / self.bytes()
    }
}

impl Default for SegmentSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for SegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Self::MAX.0 {
            f.write_str("1GB")
        } else {
            write!(f, "{}MB", self.0 >> 20)
        }
    }
}

impl Serialize for SegmentSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for SegmentSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_from_1_mib_to_1_gib_are_sizes() {
        for power in 20..=30 {
            assert_eq!(SegmentSize::new(1 << power).unwrap().bytes(), 1 << power);
        }
        for bytes in [
            0,
            1,
            1 << 19,
            (16 << 20) + 1,
            24 << 20,
            1 << 31,
            1 << 32,
            u64::MAX,
        ] {
            assert!(SegmentSize::new(bytes).is_err(), "{bytes}");
        }
    }

    #[test]
    fn prints_as_postgresql_does() {
        assert_eq!(SegmentSize::DEFAULT.to_string(), "16MB");
        assert_eq!(SegmentSize::MAX.to_string(), "1GB");
    }

    #[test]
    fn positions_fall_into_segments() {
        let size = SegmentSize::DEFAULT;
        let lsn = Lsn::new(0x0300_0028);
        assert_eq!(size.number_at(lsn).value(), 3);
        assert_eq!(size.offset_of(lsn), 0x28);
        assert_eq!(size.round_down(lsn), Lsn::new(0x0300_0000));
        assert_eq!(size.number_before(Lsn::new(0x0300_0000)).value(), 2);
        assert_eq!(size.number_before(Lsn::INVALID).value(), 0);
    }
}
