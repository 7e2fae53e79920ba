//! Bytes to measure with: the same on every machine and in every run.

/// A small generator of numbers (xorshift64*): fast, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// A generator whose sequence `seed` decides.
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// Bytes that no codec makes fewer.
pub fn incompressible(bytes: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(0x5EED);
    (0..bytes.div_ceil(8))
        .flat_map(|_| numbers.next_number().to_le_bytes())
        .take(bytes)
        .collect()
}

/// Bytes like a freshly loaded table: pages of rows that differ in a number and are padded with blanks.
pub fn compressible(bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 128);
    for row in 0_u64.. {
        if out.len() >= bytes {
            break;
        }
        out.extend_from_slice(&[0x1C, 0, 0, 0, 0, 0, 0, 0, 4, 0, 2, 9, 24, 0]);
        out.extend_from_slice(&row.to_le_bytes());
        out.extend_from_slice(&[b' '; 86]);
    }
    out.truncate(bytes);
    out
}

/// Bytes like the WAL of small transactions: 8 KiB pages with a header, on them records of four kinds (update, index
/// insertion, insertion, commit) that a transaction repeats. zstd:3 makes it 4 times smaller; the WAL of real servers
/// becomes 3 to 6 times smaller.
pub fn wal(bytes: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(0x5EED);
    let mut out = Vec::with_capacity(bytes + 512);
    let (mut transaction, mut previous) = (5_000_000_u32, 0_u64);
    while out.len() < bytes {
        transaction += 1;
        for (kind, relation, payload) in [
            (10, 16_385, 20),
            (10, 16_388, 18),
            (11, 16_391, 24),
            (1, 0, 12),
        ] {
            let at = out.len() as u64;
            if at % 8192 < 200 {
                page_header(&mut out, at);
            }
            let number = numbers.next_number();
            out.extend_from_slice(&(payload + 62_u32).to_le_bytes());
            out.extend_from_slice(&transaction.to_le_bytes());
            out.extend_from_slice(&previous.to_le_bytes());
            out.extend_from_slice(&[0x40, kind, 0, 0]);
            // The record's checksum: noise to any codec.
            out.extend_from_slice(&(number as u32).to_le_bytes());
            out.extend_from_slice(&[0, 0x20, 19, 0, 0x7F, 6, 0, 0, 5, 0, 0, 0]);
            out.extend_from_slice(&u32::to_le_bytes(relation));
            // The block and the row: few digits of noise.
            out.extend_from_slice(&((number >> 32) as u32 & 0x3FFF).to_le_bytes());
            out.extend_from_slice(&((number >> 50) as u16 & 0x3F).to_le_bytes());
            out.extend_from_slice(&[0xFF, 0x1A, 0, 0, 2, 0, 0x02, 0x28, 0x18]);
            out.extend_from_slice(&((number >> 44) as u32 & 0xFFFF).to_le_bytes());
            out.resize(out.len() + payload as usize, b' ');
            out.resize(out.len().next_multiple_of(8), 0);
            previous = at;
        }
    }
    out.truncate(bytes);
    out
}

fn page_header(out: &mut Vec<u8>, address: u64) {
    out.extend_from_slice(&[0x16, 0xD1, 5, 0, 1, 0, 0, 0]);
    out.extend_from_slice(&(address & !8191).to_le_bytes());
    out.extend_from_slice(&[30, 0, 0, 0, 0, 0, 0, 0]);
}
