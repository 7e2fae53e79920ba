//! Scripted backups for tests: archives as a server would send them, in pieces of any size.

use std::collections::VecDeque;

use pgm_proto::{BackupEnd, BaseBackupEvent, Lsn, TimelineId};

use super::copy::Source;

pub(super) const LABEL_FILE: &[u8] =
    b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
CHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
START TIME: 2026-11-22 02:34:56 UTC\nLABEL: pgm\nSTART TIMELINE: 1\n";

/// A tar header with a right checksum.
pub(super) fn header(name: &[u8], kind: u8, size: u64, target: &[u8]) -> [u8; 512] {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name);
    // As the server has them: folders of others than root must be enterable.
    let mode = if kind == b'5' { b"0000700" } else { b"0000600" };
    header[100..107].copy_from_slice(mode);
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    if size < 1 << 33 {
        header[124..136].copy_from_slice(format!("{size:011o} ").as_bytes());
    } else {
        header[124] = 0x80;
        header[128..136].copy_from_slice(&size.to_be_bytes());
    }
    header[136..148].copy_from_slice(format!("{:011o} ", 1_700_000_000).as_bytes());
    header[156] = kind;
    header[157..157 + target.len()].copy_from_slice(target);
    header[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut header);
    header
}

/// Puts the right checksum into a header.
pub(super) fn seal(header: &mut [u8; 512]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A whole entry: header, content, padding.
pub(super) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name.as_bytes(), b'0', content.len() as u64, b"").to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(super) fn directory(name: &str) -> Vec<u8> {
    header(format!("{name}/").as_bytes(), b'5', 0, b"").to_vec()
}

pub(super) fn link(name: &str, target: &str) -> Vec<u8> {
    header(format!("{name}/").as_bytes(), b'2', 0, target.as_bytes()).to_vec()
}

/// The end of an archive.
pub(super) fn end() -> Vec<u8> {
    vec![0; 1024]
}

/// Content that does not repeat at any page, from `offset` on.
pub(super) fn pattern(offset: u64, out: &mut [u8]) {
    for (at, word) in (offset / 8..).zip(out.chunks_mut(8)) {
        let bytes = (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40).to_le_bytes();
        word.copy_from_slice(&bytes[..word.len()]);
    }
}

#[derive(Debug)]
pub(super) enum Step {
    Archive(Option<u32>),
    Bytes(Vec<u8>),
    /// That many bytes of [`pattern`].
    Pattern(u64),
    Manifest,
    ManifestBytes(Vec<u8>),
    End(BackupEnd),
    /// The connection breaks.
    Break,
}

/// Plays steps, in pieces of at most `piece_bytes`.
pub(super) struct Script {
    steps: VecDeque<Step>,
    piece_bytes: usize,
    at: u64,
    buffer: Vec<u8>,
    pub(super) before_next: Box<dyn FnMut()>,
}

impl Script {
    pub(super) fn new(steps: Vec<Step>, piece_bytes: usize) -> Self {
        let buffer = vec![0; piece_bytes];
        Self {
            steps: steps.into(),
            piece_bytes,
            at: 0,
            buffer,
            before_next: Box::new(|| {}),
        }
    }

    /// Makes the next piece of a run of `total` bytes; true with its length, and whether it is the last.
    fn advance(&mut self, total: u64) -> (u64, usize, bool) {
        let begin = self.at;
        let length = (total - begin).min(self.piece_bytes as u64);
        self.at += length;
        let last = self.at == total;
        if last {
            self.at = 0;
        }
        (begin, length as usize, last)
    }
}

impl Source for Script {
    fn next(&mut self) -> Result<BaseBackupEvent<'_>, pgm_proto::Error> {
        (self.before_next)();
        let step = self.steps.pop_front().unwrap_or(Step::Break);
        match step {
            Step::Archive(tablespace) => Ok(BaseBackupEvent::Archive { tablespace }),
            Step::Manifest => Ok(BaseBackupEvent::Manifest),
            Step::End(end) => Ok(BaseBackupEvent::End(end)),
            Step::Break => Err(pgm_proto::Error::Closed),
            Step::Pattern(total) => {
                let (begin, length, last) = self.advance(total);
                pattern(begin, &mut self.buffer[..length]);
                if !last {
                    self.steps.push_front(Step::Pattern(total));
                }
                Ok(BaseBackupEvent::Data(&self.buffer[..length]))
            }
            Step::Bytes(bytes) => {
                let (begin, length, last) = self.advance(bytes.len() as u64);
                self.buffer[..length].copy_from_slice(&bytes[begin as usize..][..length]);
                if !last {
                    self.steps.push_front(Step::Bytes(bytes));
                }
                Ok(BaseBackupEvent::Data(&self.buffer[..length]))
            }
            Step::ManifestBytes(bytes) => {
                let (begin, length, last) = self.advance(bytes.len() as u64);
                self.buffer[..length].copy_from_slice(&bytes[begin as usize..][..length]);
                if !last {
                    self.steps.push_front(Step::ManifestBytes(bytes));
                }
                Ok(BaseBackupEvent::ManifestData(&self.buffer[..length]))
            }
        }
    }
}

pub(super) fn backup_end() -> BackupEnd {
    BackupEnd {
        end_lsn: Lsn::new(0x200_0138),
        timeline: TimelineId::FIRST,
        notices: Vec::new(),
        failure: None,
    }
}

/// A data directory with `more` in it, from its archive to the end of the backup.
pub(super) fn data_directory(more: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![
        Step::Archive(None),
        Step::Bytes(file("backup_label", LABEL_FILE)),
    ];
    steps.extend(more);
    steps.push(Step::Bytes(file("global/pg_control", &[7; 8192])));
    steps.push(Step::Bytes(end()));
    steps.push(Step::Manifest);
    steps.push(Step::ManifestBytes(
        b"{ \"PostgreSQL-Backup-Manifest-Version\": 2 }".repeat(1000),
    ));
    steps.push(Step::End(backup_end()));
    steps
}
