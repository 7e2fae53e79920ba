//! Full-page images come back whole, however they are stored.

use super::*;

/// A page with a hole in it.
fn page() -> [u8; BLOCK_BYTES] {
    let mut page = [0; BLOCK_BYTES];
    for (at, byte) in page.iter_mut().enumerate() {
        if !(100..8000).contains(&at) {
            *byte = (at % 7) as u8 + 1;
        }
    }
    page
}

/// A record with one image, as the body of a record.
fn body(info: u8, stored: &[u8], hole: Option<u16>) -> Vec<u8> {
    let mut body = vec![0, 0x10, 0, 0];
    body.extend((stored.len() as u16).to_le_bytes());
    body.extend(100u16.to_le_bytes());
    body.push(info);
    body.extend(hole.into_iter().flat_map(u16::to_le_bytes));
    for number in [1663u32, 5, 16384, 77] {
        body.extend(number.to_le_bytes());
    }
    body.extend(stored);
    body
}

fn restored(version: WalVersion, body: &[u8]) -> Result<[u8; BLOCK_BYTES], ImageError> {
    let mut wal = Wal::new(3, timeline(1));
    wal.version = version;
    wal.raw_record(0, 0xB0, 0, body);
    let folder = folder();
    wal.write_to(folder.path());
    let source = DirectorySource::new(folder.path(), SIZE);
    let mut reader = RecordReader::seek(source, root(), segment(3)).unwrap();
    let record = reader.next().unwrap().unwrap();
    let block = record.block(0).unwrap();
    assert_eq!(
        (block.relation.to_string(), block.number),
        ("1663/5/16384".to_owned(), 77)
    );
    let mut page = [0xEE; BLOCK_BYTES];
    block.image.unwrap().restore(&mut page).map(|()| page)
}

/// pglz with literals only: eight after each control byte.
fn pglz(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks(8)
        .flat_map(|chunk| std::iter::once(0).chain(chunk.iter().copied()))
        .collect()
}

#[test]
fn pages_come_back_from_every_form() {
    let page = page();
    let rest = [&page[..100], &page[8000..]].concat();
    let hole = Some(7900);
    let (pglz, lz4) = (pglz(&rest), lz4_flex::block::compress(&rest));
    let zstd = zstd::bulk::compress(&rest, 1).unwrap();
    for (version, info, stored, hole) in [
        (WalVersion::V14, 0x01 | 0x04, &rest, None),
        (WalVersion::V14, 0x01 | 0x02 | 0x04, &pglz, hole),
        (WalVersion::V15, 0x01 | 0x02, &rest, None),
        (WalVersion::V15, 0x01 | 0x04, &pglz, hole),
        (WalVersion::V16, 0x01 | 0x08, &lz4, hole),
        (WalVersion::V18, 0x01 | 0x10, &zstd, hole),
    ] {
        assert_eq!(
            restored(version, &body(info, stored, hole)),
            Ok(page),
            "{version:?}"
        );
    }
}

#[test]
fn images_that_are_no_pages_are_errors() {
    let long = pglz(&[7; 400]);
    let short = pglz(&[7; 100]);
    for (info, stored) in [
        (0x01 | 0x04, &long),
        (0x01 | 0x04, &short),
        (0x01 | 0x08, &long),
        (0x01 | 0x10, &long),
        (0x01 | 0x0C, &long),
    ] {
        let body = body(info, stored, Some(7900));
        assert_eq!(restored(WalVersion::V17, &body), Err(ImageError));
    }
}
