//! A logged-in session as plain bytes, for a server that goes on with a protocol of its own.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::Client;
use crate::Woken;

/// The bytes of a session, encrypted as the session is. Reads and writes block, with deadlines.
#[derive(Debug)]
pub struct ByteStream {
    client: Client,
    /// What came with the last message of the login.
    unread: Vec<u8>,
    patience: Duration,
    write_patience: Duration,
}

impl Client {
    /// Leaves PostgreSQL's protocol: what is sent from now on is the caller's. A read waits for `patience` at most, a
    /// write for `write_patience` (then the error's kind is `TimedOut`).
    pub fn into_byte_stream(self, patience: Duration, write_patience: Duration) -> ByteStream {
        ByteStream {
            unread: self.reader.unread().to_vec(),
            client: self,
            patience,
            write_patience,
        }
    }
}

impl Read for ByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.unread[..count]);
            self.unread.drain(..count);
            return Ok(count);
        }
        let deadline = Instant::now() + self.patience;
        loop {
            match self.client.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if self.client.stream.wait_readable(Some(deadline), None)? == Woken::Timeout {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Write for ByteStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let deadline = Instant::now() + self.write_patience;
        self.client.stream.write_all(bytes, Some(deadline))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Writes end when everything is with the kernel.
        Ok(())
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        // First of all: the goodbye of PostgreSQL's protocol would be no word of the other one.
        self.client.stream.close();
    }
}
