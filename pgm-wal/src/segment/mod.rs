//! Segments: the files of fixed size that the WAL is cut into.

mod name;
mod number;
mod size;

pub use name::{ParseWalFileNameError, SegmentName, WalFileName};
pub use number::SegmentNumber;
pub use size::{SegmentSize, SegmentSizeError};
