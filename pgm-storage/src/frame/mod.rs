//! Frames: runs of up to 1 MiB that are compressed, checked and read each on its own.
//!
//! All integers are little endian. A frame is a header of 32 bytes and a payload:
//!
//! ```text
//! offset  size  field
//!      0     4  magic "PGMF"
//!      4     1  format version, 1
//!      5     1  codec: 0 none, 1 zstd, 2 lz4 block, 3 gzip
//!      6     2  zero
//!      8     4  seal: 0 = not encrypted; other values are reserved
//!     12     4  raw bytes, at most 1048576
//!     16     4  payload bytes, at most the raw bytes; equal to them exactly when the codec is none
//!     20     4  CRC-32C of the raw bytes
//!     24     4  CRC-32C of the payload
//!     28     4  CRC-32C of the 28 bytes before
//!     32     …  payload
//! ```
//!
//! Invariants: every flipped bit is found, also one that a codec would not notice (hence two checksums of the data);
//! the header alone says how long a frame is, and is trusted only after its own checksum; nothing that a header says
//! makes anyone allocate more than a frame's maximum. When compression does not make the bytes fewer, they are kept raw.
//!
//! Not here: what the bytes mean, where frames rest (that is a pack), encryption.

mod decoder;
mod encoder;
mod header;
#[cfg(test)]
mod tests;

pub use decoder::FrameDecoder;
pub(crate) use decoder::check_frame;
pub use encoder::FrameEncoder;
pub use header::{FRAME_HEADER_BYTES, FrameHeader};

/// The most raw bytes in a frame.
pub const FRAME_RAW_MAX: usize = 1 << 20;

/// The most bytes that a whole frame has, header included.
pub const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + FRAME_RAW_MAX;

/// Why bytes do not become a frame, or a frame does not become bytes.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// More raw bytes than a frame holds.
    #[error("{raw_bytes} bytes are more than the {FRAME_RAW_MAX} of a frame")]
    TooLarge {
        /// How many there were.
        raw_bytes: usize,
    },
    /// The pack holds as many frames as it may.
    #[error("a pack holds at most {frames_max} frames")]
    PackFull {
        /// That many.
        frames_max: u32,
    },
    /// The compressor failed or could not be set up.
    #[error("compression with {codec} failed")]
    Compress {
        /// The codec's name.
        codec: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// This build does not know the format: it is newer, or it is encrypted.
    #[error("it has {what} {value}, which this version of pgm cannot read")]
    Unsupported {
        /// The field: `format version`, `codec`, `seal`, `pack format version`.
        what: &'static str,
        /// What it says.
        value: u32,
    },
    /// The bytes are not what was written.
    #[error("{0}")]
    Damaged(FrameDamage),
}

/// How a frame is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameDamage {
    /// There are fewer bytes than the header needs or announces, or more.
    #[error("the frame has {found} bytes instead of {wanted}")]
    Length {
        /// Bytes there.
        found: usize,
        /// Bytes that there should be.
        wanted: usize,
    },
    /// The first four bytes are not a frame's.
    #[error("this is not the beginning of a frame")]
    Magic,
    /// The header does not match its checksum.
    #[error("the frame's header does not match its checksum")]
    HeaderChecksum,
    /// The header matches its checksum and says what no header may.
    #[error("the frame's header contradicts itself")]
    Header,
    /// The payload does not match its checksum.
    #[error("the frame's payload does not match its checksum")]
    PayloadChecksum,
    /// The payload is intact and does not decode to the bytes that the header announces.
    #[error("the frame's payload does not decode to what its header says")]
    Payload,
    /// The decoded bytes do not match their checksum.
    #[error("the frame's decoded bytes do not match their checksum")]
    RawChecksum,
    /// It is an intact frame, and not the one that was asked for.
    #[error("another frame is here than the one that was written")]
    OtherFrame,
}

impl From<FrameDamage> for FrameError {
    fn from(damage: FrameDamage) -> Self {
        Self::Damaged(damage)
    }
}

impl FrameError {
    /// The next thing to do, for a person.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { .. } => {
                Some("use the version of pgm that wrote the repository, or a newer one".to_owned())
            }
            Self::TooLarge { .. } | Self::PackFull { .. } | Self::Compress { .. } => None,
            Self::Damaged(_) => Some(
                "check the disk, and restore the object from another copy of the repository"
                    .to_owned(),
            ),
        }
    }
}
