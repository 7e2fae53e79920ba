//! What pgm reads from strangers, and as WAL, with many random inputs: the same entry points that libFuzzer drives (`tests/fuzz`).
//!
//! Inputs grow out of those that are kept as seeds, by the changes that fuzzers make: bytes flipped, cut out, put in,
//! taken from elsewhere. The generator is seeded, so a failure is the same the next time.

#[path = "../fuzz/src/entry.rs"]
#[allow(unreachable_pub, reason = "it is the library of another crate, too")]
mod entry;

use std::fs;
use std::path::Path;

/// Inputs for each entry point.
const CASES: usize = 100_000;
const LENGTH_MAX: usize = 600;

#[test]
fn logins_of_strangers_end_or_wait_and_never_succeed() {
    every_input("handshake", CASES, entry::handshake);
}

#[test]
fn management_frames_are_read_or_refused() {
    every_input("management_frame", CASES, entry::management_frames);
}

#[test]
fn wal_is_read_up_to_where_it_is_damaged() {
    // Each makes WAL, reads it twice, and describes what it read.
    every_input("wal_records", CASES / 5, entry::wal_records);
}

fn every_input(target: &str, cases: usize, entry: fn(&[u8])) {
    let seeds = seeds(target);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..cases {
        let mut input = random.choose(&seeds).clone();
        for _ in 0..=random.below(6) {
            change(&mut input, &seeds, &mut random);
        }
        input.truncate(LENGTH_MAX);
        entry(&input);
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let files = fs::read_dir(folder.join(target)).expect("the seeds are there");
    let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
    files.sort();
    let seeds: Vec<_> = files.iter().flat_map(fs::read).collect();
    assert!(seeds.len() > 3, "too few seeds of {target}");
    seeds
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let count = random.below(8);
    match random.below(6) {
        0 => input.insert(at, random.byte()),
        1 => drop(input.drain(at..(at + count).min(input.len()))),
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        3 => {
            let other = random.choose(seeds);
            let from = random.below(other.len() + 1);
            input.splice(at..at, other[from..].iter().copied());
        }
        4 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = *random.choose(&[0, 1, 0x7F, 0x80, 0xFE, 0xFF]);
            }
        }
        _ => {
            let piece: Vec<u8> = (0..count).map(|_| random.byte()).collect();
            input.splice(at..at, piece);
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
