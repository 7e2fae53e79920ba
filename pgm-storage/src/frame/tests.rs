//! Frames: round trips of every codec, limits, every flipped bit.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::checksum::crc32c;
use crate::codec::{Codec, Compression};

const ALL: [Compression; 4] = [
    Compression::NONE,
    Compression::ZSTD,
    Compression::LZ4,
    Compression::GZIP,
];

fn encode(compression: Compression, raw: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    FrameEncoder::new(compression)
        .unwrap()
        .encode(raw, &mut frame)
        .unwrap();
    frame
}

fn decode(frame: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut raw = vec![9; 77];
    FrameDecoder::new()
        .unwrap()
        .decode(frame, &mut raw)
        .map(|_| raw)
}

/// Bytes as they come in practice: noise, runs, and mixtures of both.
fn raw_bytes() -> impl Strategy<Value = Vec<u8>> {
    let noise = vec(any::<u8>(), 0..3000);
    let run = (any::<u8>(), 0..20_000_usize).prop_map(|(byte, length)| vec![byte; length]);
    vec(prop_oneof![noise, run], 0..5).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn every_codec_gives_back_what_it_was_given(
        raws in vec(raw_bytes(), 1..5),
        compression in prop::sample::select(&ALL),
    ) {
        // One encoder and one decoder for all: contexts are used again.
        let mut encoder = FrameEncoder::new(compression).unwrap();
        let mut decoder = FrameDecoder::new().unwrap();
        let mut out = vec![1; 100];
        for raw in &raws {
            let mut frame = b"before".to_vec();
            let written = encoder.encode(raw, &mut frame).unwrap();
            prop_assert_eq!(&frame[..6], b"before");
            prop_assert_eq!(written.frame_bytes() as usize, frame.len() - 6);
            prop_assert!(frame.len() - 6 <= FRAME_HEADER_BYTES + raw.len());
            prop_assert_eq!(decoder.decode(&frame[6..], &mut out).unwrap(), written);
            prop_assert_eq!(&out, raw);
        }
    }

    #[test]
    fn every_truncation_and_every_extension_is_found(
        raw in raw_bytes(),
        compression in prop::sample::select(&ALL),
        cut in any::<Index>(),
        more in vec(any::<u8>(), 1..50),
    ) {
        let mut frame = encode(compression, &raw);
        prop_assert!(decode(&frame[..cut.index(frame.len())]).is_err());
        frame.extend(more);
        prop_assert!(decode(&frame).is_err());
    }

    #[test]
    fn every_flipped_bit_is_found(
        raw in raw_bytes(),
        compression in prop::sample::select(&ALL),
        at in any::<Index>(),
        bit in 0..8_u32,
    ) {
        let mut frame = encode(compression, &raw);
        let at = at.index(frame.len());
        frame[at] ^= 1_u8 << bit;
        prop_assert!(decode(&frame).is_err());
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }

    /// With checksums that match, so that the codec itself meets the bytes.
    #[test]
    fn a_forged_payload_is_refused_and_never_makes_more_than_it_says(
        payload in vec(any::<u8>(), 0..500),
        codec in prop::sample::select(&[Codec::Zstd, Codec::Lz4, Codec::Gzip]),
        raw_bytes in 500..=FRAME_RAW_MAX as u32,
    ) {
        let frame = forge(codec, raw_bytes, &payload);
        let mut out = Vec::new();
        let _ = FrameDecoder::new().unwrap().decode(&frame, &mut out);
        prop_assert!(out.capacity() <= FRAME_RAW_MAX);
    }
}

/// A frame with a payload of somebody else's and checksums that match it.
fn forge(codec: Codec, raw_bytes: u32, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        codec,
        raw_bytes,
        payload_bytes: payload.len() as u32,
        raw_crc: 0,
        payload_crc: crc32c(payload),
    };
    [&header.to_bytes(), payload].concat()
}

#[test]
fn every_single_bit_of_a_frame_is_covered() {
    for compression in ALL {
        let raw = b"a small frame, a small frame, a small frame, a small frame, a small frame";
        let mut frame = encode(compression, raw);
        assert_eq!(decode(&frame).unwrap(), raw);
        for bit in 0..frame.len() * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&frame).is_err(), "{compression}: bit {bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn bytes_that_do_not_shrink_are_kept_raw() {
    let mut noise = vec![0; 100_000];
    getrandom::fill(&mut noise).unwrap();
    for compression in ALL {
        let mut frame = Vec::new();
        let header = FrameEncoder::new(compression)
            .unwrap()
            .encode(&noise, &mut frame)
            .unwrap();
        assert_eq!(
            (header.codec, frame.len()),
            (Codec::None, FRAME_HEADER_BYTES + noise.len())
        );
        assert_eq!(frame[FRAME_HEADER_BYTES..], noise);
    }
}

#[test]
fn the_largest_frame_fits_and_one_byte_more_is_refused() {
    let mut raw = vec![0; FRAME_RAW_MAX + 1];
    for (n, byte) in raw.iter_mut().enumerate() {
        *byte = (n / 7) as u8;
    }
    for compression in ALL {
        assert!(decode(&encode(compression, &raw[1..])).unwrap() == raw[1..]);
        let mut frame = Vec::new();
        let refused = FrameEncoder::new(compression)
            .unwrap()
            .encode(&raw, &mut frame);
        assert!(
            matches!(refused, Err(FrameError::TooLarge { raw_bytes }) if raw_bytes == raw.len())
        );
        assert!(frame.is_empty(), "nothing is appended on an error");
    }
}

#[test]
fn a_header_that_contradicts_itself_is_refused() {
    let frame = encode(Compression::NONE, b"contents");
    let reseal = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        let crc = crc32c(&frame[..28]).to_le_bytes();
        frame[28..32].copy_from_slice(&crc);
        decode(&frame).unwrap_err()
    };
    let unsupported =
        |e: FrameError, what| matches!(e, FrameError::Unsupported { what: w, .. } if w == what);
    assert!(unsupported(reseal(4, 2), "format version"));
    assert!(unsupported(reseal(5, 4), "codec"));
    assert!(unsupported(reseal(8, 1), "seal"));
    // Reserved bytes, more raw bytes than a frame has, kept raw with another length or checksum.
    for (at, value) in [(6, 1), (7, 1), (15, 1), (12, 9), (16, 9), (20, 0), (5, 1)] {
        assert!(
            matches!(reseal(at, value), FrameError::Damaged(FrameDamage::Header)),
            "byte {at} set to {value}"
        );
    }
}

#[test]
fn a_payload_that_decodes_to_another_length_or_content_is_refused() {
    let raw = [5; 1000];
    for compression in ALL {
        let frame = encode(compression, &raw);
        let payload = &frame[FRAME_HEADER_BYTES..];
        if compression == Compression::NONE {
            continue;
        }
        for raw_bytes in [999, 1001] {
            let error = decode(&forge(compression.codec(), raw_bytes, payload)).unwrap_err();
            assert!(
                matches!(error, FrameError::Damaged(FrameDamage::Payload)),
                "{error}"
            );
        }
        let error = decode(&forge(compression.codec(), 1000, payload)).unwrap_err();
        assert!(
            matches!(error, FrameError::Damaged(FrameDamage::RawChecksum)),
            "{error}"
        );
    }
}
