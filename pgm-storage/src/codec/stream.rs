//! Whole files in the formats that other programs know: `.zst`, `.lz4`, `.gz`, and `.bz2` to read.
//!
//! Unlike a frame, such a file is a stream of any length; memory is bounded by the codec's window. What is written carries
//! the format's own checksum. Reading takes several streams one after the other, as `cat a.gz b.gz` makes them.

use std::fmt;
use std::io::{self, BufRead, Read, Write};

use super::lz4_frames::Lz4Frames;
use super::{Codec, Compression};

/// A file format of compressed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// Zstandard frames ([RFC 8878](https://www.rfc-editor.org/rfc/rfc8878)).
    Zstd,
    /// The LZ4 frame format.
    Lz4,
    /// gzip members ([RFC 1952](https://www.rfc-editor.org/rfc/rfc1952)).
    Gzip,
    /// bzip2 streams; read only.
    Bzip2,
}

impl FileFormat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Zstd, Self::Lz4, Self::Gzip, Self::Bzip2];

    /// The format of a file that begins with `start`; six bytes are enough.
    pub fn detect(start: &[u8]) -> Option<Self> {
        match start {
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Self::Zstd),
            [0x04, 0x22, 0x4D, 0x18, ..] => Some(Self::Lz4),
            [0x1F, 0x8B, 0x08, ..] => Some(Self::Gzip),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// What its files' names end with: `.zst`.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Lz4 => ".lz4",
            Self::Gzip => ".gz",
            Self::Bzip2 => ".bz2",
        }
    }

    /// The format in which files of `codec` are written; none without compression.
    pub const fn of(codec: Codec) -> Option<Self> {
        match codec {
            Codec::None => None,
            Codec::Zstd => Some(Self::Zstd),
            Codec::Lz4 => Some(Self::Lz4),
            Codec::Gzip => Some(Self::Gzip),
        }
    }
}

/// Compresses what is written into it. Without [`StreamEncoder::finish`] the stream has no end.
pub struct StreamEncoder<W: Write>(Encoder<W>);

enum Encoder<W: Write> {
    None(W),
    Zstd(::zstd::stream::write::Encoder<'static, W>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<W>>),
    Gzip(flate2::write::GzEncoder<W>),
}

impl<W: Write> StreamEncoder<W> {
    /// Begins a stream.
    pub fn new(inner: W, compression: Compression) -> io::Result<Self> {
        Ok(Self(match compression.codec() {
            Codec::None => Encoder::None(inner),
            Codec::Zstd => {
                let mut encoder = ::zstd::stream::write::Encoder::new(inner, compression.level())?;
                encoder.include_checksum(true)?;
                Encoder::Zstd(encoder)
            }
            Codec::Lz4 => {
                let info = lz4_flex::frame::FrameInfo::new().content_checksum(true);
                let encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, inner);
                Encoder::Lz4(Box::new(encoder))
            }
            Codec::Gzip => {
                let level = flate2::Compression::new(compression.level().unsigned_abs());
                Encoder::Gzip(flate2::write::GzEncoder::new(inner, level))
            }
        }))
    }

    /// Ends the stream and gives back what it was written to.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Encoder::None(inner) => Ok(inner),
            Encoder::Zstd(encoder) => encoder.finish(),
            Encoder::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Encoder::Gzip(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for StreamEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Encoder::None(inner) => inner.write(bytes),
            Encoder::Zstd(encoder) => encoder.write(bytes),
            Encoder::Lz4(encoder) => encoder.write(bytes),
            Encoder::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Encoder::None(inner) => inner.flush(),
            Encoder::Zstd(encoder) => encoder.flush(),
            Encoder::Lz4(encoder) => encoder.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
        }
    }
}

impl<W: Write> fmt::Debug for StreamEncoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamEncoder").finish_non_exhaustive()
    }
}

/// Gives the raw bytes of a compressed file; an end in the middle of a stream is an error.
pub struct StreamDecoder<R: BufRead>(Decoder<R>);

enum Decoder<R: BufRead> {
    Zstd(::zstd::stream::read::Decoder<'static, R>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<Lz4Frames<R>>>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Bzip2(bzip2::bufread::MultiBzDecoder<R>),
}

impl<R: BufRead> StreamDecoder<R> {
    /// Reads a file of `format`. What was compressed with windows of more than 128 MiB is refused.
    pub fn new(inner: R, format: FileFormat) -> io::Result<Self> {
        Self::with_window(inner, format, 27)
    }

    /// Reads a stream of `format` that comes from others: what was compressed with windows of more than 8 MiB is refused, so that it
    /// cannot take more memory than that.
    pub fn bounded(inner: R, format: FileFormat) -> io::Result<Self> {
        Self::with_window(inner, format, 23)
    }

    fn with_window(inner: R, format: FileFormat, window_log: u32) -> io::Result<Self> {
        Ok(Self(match format {
            FileFormat::Zstd => {
                let mut decoder = ::zstd::stream::read::Decoder::with_buffer(inner)?;
                decoder.window_log_max(window_log)?;
                Decoder::Zstd(decoder)
            }
            FileFormat::Lz4 => {
                let frames = Lz4Frames::new(inner);
                Decoder::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(frames)))
            }
            FileFormat::Gzip => {
                Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(inner)))
            }
            FileFormat::Bzip2 => Decoder::Bzip2(bzip2::bufread::MultiBzDecoder::new(inner)),
        }))
    }
}

impl<R: BufRead> Read for StreamDecoder<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Decoder::Zstd(decoder) => decoder.read(bytes),
            Decoder::Gzip(decoder) => decoder.read(bytes),
            Decoder::Bzip2(decoder) => decoder.read(bytes),
            Decoder::Lz4(decoder) => loop {
                // It says 0 at the end of each frame, and also when the file ends between two blocks.
                let read = decoder.read(bytes)?;
                if read > 0 || bytes.is_empty() {
                    return Ok(read);
                }
                let frames = decoder.get_mut();
                if frames.is_at_end()? {
                    return if frames.is_between_frames() {
                        Ok(0)
                    } else {
                        Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "the LZ4 frame is cut off",
                        ))
                    };
                }
            },
        }
    }
}

impl<R: BufRead> fmt::Debug for StreamDecoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamDecoder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compressed(raw: &[u8], compression: &str) -> Vec<u8> {
        let mut encoder = StreamEncoder::new(Vec::new(), compression.parse().unwrap()).unwrap();
        encoder.write_all(raw).unwrap();
        encoder.finish().unwrap()
    }

    fn decompressed(stored: &[u8]) -> io::Result<Vec<u8>> {
        let format = FileFormat::detect(stored).ok_or(io::ErrorKind::InvalidData)?;
        let mut raw = Vec::new();
        StreamDecoder::new(stored, format)?.read_to_end(&mut raw)?;
        Ok(raw)
    }

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * at % 97) as u8).collect()
    }

    /// `printf 'hello, pgm\n' | bzip2`.
    const BZIP2: &[u8] = b"\x42\x5a\x68\x39\x31\x41\x59\x26\x53\x59\xc4\x92\x51\x76\x00\x00\x02\xd1\x80\x00\x10\x40\x04\x02\xc6\xc0\x00\x20\x00\x22\x00\x69\xea\x10\x03\x05\x5c\x8c\x41\x07\x8b\xb9\x22\x9c\x28\x48\x62\x49\x28\xbb\x00";

    #[test]
    fn every_format_is_detected_and_comes_back() {
        for compression in ["zstd:-50", "zstd:1", "zstd:19", "lz4", "gzip:1", "gzip:9"] {
            for length in [0, 1, 100_000, 3_000_000] {
                let raw = text(length);
                let stored = compressed(&raw, compression);
                assert!(
                    decompressed(&stored).unwrap() == raw,
                    "{compression} {length}"
                );
            }
        }
        assert_eq!(decompressed(BZIP2).unwrap(), b"hello, pgm\n");
        assert_eq!(FileFormat::detect(b"hello, pgm"), None);
    }

    #[test]
    fn an_lz4_file_that_ends_between_two_blocks_is_cut_off() {
        let stored = compressed(&text(300_000), "lz4");
        let twice = [&stored[..], &stored[..]].concat();
        // From the end of the header on, at every place of the first blocks and of the end.
        let cuts = (1..600).chain(stored.len() - 600..stored.len());
        for cut in cuts.chain(stored.len() + 1..stored.len() + 20) {
            assert!(decompressed(&twice[..cut]).is_err(), "cut to {cut}");
        }
        assert_eq!(decompressed(&twice[..stored.len()]).unwrap(), text(300_000));
    }

    #[test]
    fn streams_one_after_the_other_are_one_file() {
        for compression in ["zstd", "lz4", "gzip"] {
            let mut stored = compressed(b"hello, ", compression);
            stored.extend(compressed(b"pgm", compression));
            assert_eq!(
                decompressed(&stored).unwrap(),
                b"hello, pgm",
                "{compression}"
            );
        }
        assert_eq!(decompressed(&[BZIP2, BZIP2].concat()).unwrap().len(), 22);
    }

    #[test]
    fn windows_are_bounded_where_others_choose_them() {
        // Levels from 20 on have windows of 32 MiB and more.
        let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(25).unwrap();
        encoder.write_all(&text(100_000)).unwrap();
        let stored = encoder.finish().unwrap();
        assert_eq!(decompressed(&stored).unwrap(), text(100_000));
        let mut raw = Vec::new();
        let mut bounded = StreamDecoder::bounded(&stored[..], FileFormat::Zstd).unwrap();
        bounded.read_to_end(&mut raw).unwrap_err();
        let stored = compressed(&text(100_000), "zstd:19");
        let mut bounded = StreamDecoder::bounded(&stored[..], FileFormat::Zstd).unwrap();
        bounded.read_to_end(&mut raw).unwrap();
    }

    #[test]
    fn the_decoders_are_those_of_the_formats_suffixes() {
        let suffixes = FileFormat::ALL.map(FileFormat::suffix);
        assert_eq!(suffixes, [".zst", ".lz4", ".gz", ".bz2"]);
        assert_eq!(FileFormat::of(Codec::None), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn a_file_that_is_cut_is_an_error(length in 0..200_000_usize, at: prop::sample::Index, which in 0..4_usize) {
            let raw = text(length);
            let mut stored = match which {
                0 => compressed(&raw, "zstd:3"),
                1 => compressed(&raw, "lz4"),
                2 => compressed(&raw, "gzip:6"),
                _ => BZIP2.to_vec(),
            };
            stored.truncate(at.index(stored.len()));
            prop_assert!(decompressed(&stored).is_err(), "cut to {}", stored.len());
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(which in 0..4_usize, bytes: Vec<u8>) {
            let start: &[u8] = [&b"\x28\xB5\x2F\xFD"[..], b"\x04\x22\x4D\x18", b"\x1F\x8B\x08", b"BZh9"][which];
            let _ = decompressed(&[start, &bytes].concat());
        }
    }
}
