//! Every bit of a small WAL, flipped one at a time.
//!
//! Each is reported with the LSN of the record that it belongs to, or of the page whose header it is in; but for those that
//! nothing checks, which PostgreSQL does not look at either. A flip of one of those changes nothing that is read:
//!
//! - the padding between a record and the next multiple of eight, and at the end of a page header;
//! - `xlp_rem_len` of a page that does not begin inside a record;
//! - the flag `XLP_BKP_REMOVABLE` of a page, and `XLP_FIRST_IS_OVERWRITE_CONTRECORD` where no record was cut off;
//! - `XLP_FIRST_IS_CONTRECORD` of the page at which reading begins, when nothing is said to be left of a record;
//! - the server's system identifier, with which a single segment has nothing to agree.
//!
//! Behind a segment switch nothing is read at all.

use super::super::header::RESOURCE_MANAGER_XLOG;
use super::*;
use crate::SegmentNumber;

const SHORT_HEADER: usize = 24;
const LONG_HEADER: usize = 40;

/// One segment in memory, after which more WAL exists.
struct Memory<'a> {
    bytes: &'a [u8],
}

impl SegmentSource for Memory<'_> {
    fn segment_size(&self) -> SegmentSize {
        SIZE
    }

    fn read_at(
        &mut self,
        segment: SegmentName,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<Option<usize>, SourceError> {
        if segment.number != SIZE.number_at(super::segment(3)) {
            return Ok(None);
        }
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(Some(count))
    }

    fn newest(&mut self, _: pgm_proto::TimelineId) -> Result<Option<SegmentNumber>, SourceError> {
        Ok(Some(SIZE.number_at(super::segment(4))))
    }
}

/// Records of several kinds, two of them over pages; then a segment switch.
fn sample() -> Wal {
    let mut wal = Wal::new(3, timeline(1));
    wal.commit(10, 1);
    let relation = [1663_u32, 5, 16384].map(u32::to_le_bytes).concat();
    let mut changed = vec![0, 0x20, 3, 0];
    changed.extend_from_slice(&relation);
    changed.extend([7, 0, 0, 0, 255, 5]);
    changed.extend_from_slice(b"rowwhere");
    wal.raw_record(10, 0x00, 10, &changed);
    // An image of 101 bytes with a hole behind its first 40, the top-level transaction, and no main data.
    let mut image = vec![0, 0x10, 0, 0, 101, 0, 40, 0, 0x03];
    image.extend_from_slice(&relation);
    image.extend([8, 0, 0, 0, 252, 9, 0, 0, 0]);
    image.extend([0x5A; 101]);
    wal.raw_record(0, 0xB0, 10, &image);
    wal.filler(7701);
    wal.restore_point("before", 2);
    wal.filler(8900);
    wal.abort(11, 3);
    wal.record(RESOURCE_MANAGER_XLOG, 0x40, 0, &[]);
    wal
}

/// Where a record begins and ends, whose it is, and how long.
type Span = (Lsn, Lsn, u32, u32);
type Read = (Vec<Span>, Result<End, RecordError>);

fn read(bytes: &[u8]) -> Read {
    let mut seen = Vec::new();
    let end = (|| {
        let mut reader = RecordReader::seek(Memory { bytes }, root(), segment(3))?;
        while let Some(record) = reader.next()? {
            seen.push((record.lsn, record.end_lsn, record.xid, record.total_len));
        }
        Ok(reader.end().unwrap().clone())
    })();
    (seen, end)
}

/// Whether nothing checks the bit, and where its damage may be reported otherwise.
enum Expected {
    Unchecked,
    Within(Lsn, Lsn),
}

fn expected(at: usize, bit: u8, whole: &Wal, records: &[Span]) -> Expected {
    let lsn = segment(3) + at as u64;
    let page = at - at % PAGE_BYTES;
    let header = if page == 0 { LONG_HEADER } else { SHORT_HEADER };
    let holding = records.iter().rfind(|record| record.0 <= lsn);
    if at - page < header {
        let continues = whole.bytes[page + 2] & 0x01 != 0;
        let unchecked = match at - page {
            2 => bit == 0 && page == 0 || bit == 2 || bit == 3 && !continues,
            16..20 => !continues,
            20..32 => true,
            _ => false,
        };
        if unchecked {
            return Expected::Unchecked;
        }
        let page_lsn = segment(3) + page as u64;
        let begin = match holding {
            Some(record) if continues => record.0,
            _ => page_lsn,
        };
        return Expected::Within(begin, page_lsn + header as u64);
    }
    let (begin, _, _, len) = holding.expect("something is before it");
    // Page headers lie in a record that goes over pages.
    let headers =
        (at / PAGE_BYTES - begin.bytes_since(segment(3)) as usize / PAGE_BYTES) * SHORT_HEADER;
    if lsn.bytes_since(*begin) >= u64::from(*len) + headers as u64 {
        return Expected::Unchecked;
    }
    Expected::Within(*begin, *begin)
}

#[test]
fn every_flipped_bit_is_reported_where_it_is() {
    let wal = sample();
    let end = wal.bytes.len();
    let mut padded = wal.clone();
    padded.pad();
    let padded = &padded.bytes[..end.next_multiple_of(PAGE_BYTES) + PAGE_BYTES];
    let (whole, ended) = read(padded);
    assert_eq!(whole.len(), 8);
    assert_eq!(ended.unwrap().lsn, segment(4));
    assert!(end > 2 * PAGE_BYTES);
    let (mut reported, mut unchecked) = (0, 0);
    let mut broken = padded.to_vec();
    for at in 0..end {
        for bit in 0..8 {
            broken[at] ^= 1 << bit;
            let (seen, ended) = read(&broken);
            broken[at] ^= 1 << bit;
            match (expected(at, bit, &wal, &whole), ended) {
                (Expected::Unchecked, Ok(_)) => {
                    assert_eq!(seen, whole, "bit {bit} of byte {at}");
                    unchecked += 1;
                }
                (Expected::Within(first, last), Err(RecordError::Damaged { lsn, reason, .. })) => {
                    assert!(
                        (first..=last).contains(&lsn),
                        "bit {bit} of byte {at}: {lsn} ({reason}), not {first} to {last}"
                    );
                    assert!(seen.iter().eq(whole.iter().take_while(|one| one.0 < first)));
                    reported += 1;
                }
                (_, ended) => panic!("bit {bit} of byte {at}: {ended:?}"),
            }
        }
    }
    // What the head of this file lists: a third of a percent.
    assert_eq!((reported, unchecked), (136_971, 501));
}
