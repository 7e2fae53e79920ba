//! The frame reader: any cut, limits, a buffer that never grows.

use proptest::prelude::*;

use super::*;

/// Gives its bytes in reads of the given sizes, then says that it is drained.
struct Pieces<'a> {
    rest: &'a [u8],
    piece_bytes: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.piece_bytes.min(self.rest.len()).min(buffer.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (now, later) = self.rest.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.rest = later;
        Ok(count)
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn read_all(mut source: Pieces<'_>) -> Vec<(u8, Vec<u8>)> {
    let mut reader = FrameReader::new();
    reader.accept_long_messages();
    let mut frames = Vec::new();
    loop {
        while let Some(frame) = reader.next().unwrap() {
            frames.push((frame.tag, frame.body.to_vec()));
        }
        if reader.fill(&mut source).unwrap() == Filled::Drained {
            assert_eq!(reader.unread_bytes(), 0);
            return frames;
        }
    }
}

#[test]
fn messages_survive_any_split_of_the_stream() {
    let expected: Vec<(u8, Vec<u8>)> = (0..40_u8)
        .map(|n| (b'A' + n, vec![n; usize::from(n) % 7]))
        .collect();
    let bytes: Vec<u8> = expected
        .iter()
        .flat_map(|(tag, body)| message(*tag, body))
        .collect();
    for piece_bytes in 1..=bytes.len() {
        assert_eq!(
            read_all(Pieces {
                rest: &bytes,
                piece_bytes
            }),
            expected,
            "{piece_bytes}"
        );
    }
}

#[test]
fn the_buffer_is_reused_for_many_times_its_size() {
    let body: Vec<u8> = (0..131_072_u32).map(|n| (n % 251) as u8).collect();
    let bytes = message(b'd', &body).repeat(30);
    for piece_bytes in [1000, 65_537, BUFFER_BYTES] {
        let frames = read_all(Pieces {
            rest: &bytes,
            piece_bytes,
        });
        assert_eq!(frames.len(), 30);
        assert!(
            frames.iter().all(|(tag, got)| *tag == b'd' && *got == body),
            "{piece_bytes}"
        );
    }
}

#[test]
fn the_longest_message_fits_and_one_more_byte_is_refused() {
    let longest = vec![7; BUFFER_BYTES - HEADER_BYTES];
    let mut bytes = message(b'x', b"before");
    bytes.extend(message(b'd', &longest));
    let frames = read_all(Pieces {
        rest: &bytes,
        piece_bytes: 100_000,
    });
    assert_eq!(frames[1], (b'd', longest));

    let mut reader = FrameReader::new();
    reader.accept_long_messages();
    let length = u32::try_from(BUFFER_BYTES).unwrap();
    let mut header = vec![b'd'];
    header.extend(length.to_be_bytes());
    reader.fill(&mut header.as_slice()).unwrap();
    let error = FrameError::TooLong {
        tag: b'd',
        length,
        length_max: BUFFER_BYTES - 1,
    };
    assert_eq!(reader.next(), Err(error));
}

#[test]
fn before_authentication_only_short_messages_are_accepted() {
    let mut reader = FrameReader::new();
    reader.fill(&mut &b"R\0\0\x75\x31"[..]).unwrap();
    assert!(matches!(
        reader.next(),
        Err(FrameError::TooLong {
            tag: b'R',
            length: 30_001,
            ..
        })
    ));
    let mut reader = FrameReader::new();
    reader.fill(&mut &b"R\0\0\x75\x30"[..]).unwrap();
    assert_eq!(reader.next(), Ok(None));
}

#[test]
fn a_length_below_its_own_size_is_refused() {
    for length in 0..4 {
        let mut reader = FrameReader::new();
        reader
            .fill(&mut &[b'Z', 0, 0, 0, length, 0, 0][..])
            .unwrap();
        assert!(
            matches!(reader.next(), Err(FrameError::TooShort { .. })),
            "{length}"
        );
    }
}

#[test]
fn a_closed_stream_is_told_apart_from_a_drained_one() {
    let mut reader = FrameReader::new();
    assert_eq!(reader.fill(&mut io::empty()).unwrap(), Filled::Closed);
    let mut drained = Pieces {
        rest: &[],
        piece_bytes: 1,
    };
    assert_eq!(reader.fill(&mut drained).unwrap(), Filled::Drained);
}

proptest! {
    #[test]
    fn any_messages_in_any_pieces_come_out_as_they_went_in(
        messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..50),
        piece_bytes in 1_usize..2000,
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
        prop_assert_eq!(read_all(Pieces { rest: &bytes, piece_bytes }), messages);
    }

    #[test]
    fn any_bytes_are_messages_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut reader = FrameReader::new();
        reader.fill(&mut bytes.as_slice()).unwrap();
        let mut delivered = 0;
        while let Ok(Some(frame)) = reader.next() {
            delivered += frame.body.len() + HEADER_BYTES;
        }
        prop_assert!(delivered <= bytes.len());
    }
}
