//! A worker's log: lines on its standard error, a pipe that the supervisor reads.
//!
//! Writing never waits. A line fits into what a pipe takes as a whole, so it arrives whole or not at all; those that do not,
//! because the supervisor does not read, are counted, and the next line that arrives is preceded by their number.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

use super::sink::note;

/// What a pipe takes as a whole (PIPE_BUF).
const LINE_BYTES_MAX: usize = 4096;

static LOST: AtomicU64 = AtomicU64::new(0);

/// Makes the standard error one that never makes us wait, if it is a pipe.
pub(super) fn never_wait() {
    let stderr = io::stderr();
    let pipe = rustix::fs::fstat(&stderr).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo
    });
    if pipe && let Ok(flags) = rustix::fs::fcntl_getfl(&stderr) {
        let _ = rustix::fs::fcntl_setfl(&stderr, flags | OFlags::NONBLOCK);
    }
}

/// What the formatting layer writes one event into.
#[derive(Debug, Default)]
pub(super) struct PipeWriter {
    line: Vec<u8>,
}

impl io::Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        cut(&mut self.line);
        if self.line.is_empty() {
            return;
        }
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let note = note(&format!(
                "{lost} messages were not logged: pgmd did not read"
            ));
            if !written(format!("{note}\n").as_bytes()) {
                LOST.fetch_add(lost + 1, Ordering::Relaxed);
                return;
            }
        }
        if !written(&self.line) {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether all of it arrived.
fn written(line: &[u8]) -> bool {
    rustix::io::retry_on_intr(|| rustix::io::write(io::stderr(), line)) == Ok(line.len())
}

fn cut(line: &mut Vec<u8>) {
    if line.len() > LINE_BYTES_MAX {
        const MARK: &str = "…\n";
        let text = String::from_utf8_lossy(line);
        let end = text.floor_char_boundary(LINE_BYTES_MAX - MARK.len());
        *line = format!("{}{MARK}", &text[..end]).into_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_a_pipe_would_tear_is_cut() {
        let mut line = "ä".repeat(5000).into_bytes();
        line.insert(0, b'x');
        cut(&mut line);
        assert!(line.len() <= LINE_BYTES_MAX && line.len() > LINE_BYTES_MAX - 10);
        assert!(String::from_utf8(line).unwrap().ends_with("ä…\n"));
        let mut short = b"short\n".to_vec();
        cut(&mut short);
        assert_eq!(short, b"short\n");
    }
}
