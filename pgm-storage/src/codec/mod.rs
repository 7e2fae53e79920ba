//! Compression: which kinds there are, how a user writes them, and the machines that do it.
//!
//! A [`Compression`] is what a user chooses (`zstd:3`); a [`Codec`] is what a frame's header says. The machines behind
//! them compress one frame at a time, independent of every other, with contexts that are made once and used again: in
//! steady state a frame costs no allocation.

mod compression;
mod gzip;
mod lz4;
mod lz4_frames;
mod stream;
mod zstd;

pub use compression::{Compression, ParseCompressionError};
pub(crate) use gzip::{GzipDecoder, GzipEncoder};
pub(crate) use lz4::{Lz4Encoder, lz4_decode};
pub use stream::{FileFormat, StreamDecoder, StreamEncoder};
pub(crate) use zstd::{ZstdDecoder, ZstdEncoder};

/// How the bytes of a frame are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As they are.
    None,
    /// One zstd frame ([RFC 8878](https://www.rfc-editor.org/rfc/rfc8878)).
    Zstd,
    /// One LZ4 block, without a frame or a length in front.
    Lz4,
    /// One gzip member ([RFC 1952](https://www.rfc-editor.org/rfc/rfc1952)).
    Gzip,
}

impl Codec {
    /// The number that stands for it on disk.
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Zstd => 1,
            Self::Lz4 => 2,
            Self::Gzip => 3,
        }
    }

    /// The codec with that number on disk.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Zstd),
            2 => Some(Self::Lz4),
            3 => Some(Self::Gzip),
            _ => None,
        }
    }

    /// The name by which a user chooses it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
        }
    }
}
