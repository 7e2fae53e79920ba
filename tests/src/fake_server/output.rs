//! The way out, where faults of the line happen.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};

use super::Fault;

pub(super) struct Output {
    socket: TcpStream,
    fault: Fault,
    sent: u64,
}

impl Output {
    pub(super) fn new(socket: TcpStream, fault: Fault) -> Self {
        Self {
            socket,
            fault,
            sent: 0,
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.fault {
            Fault::CutAfter(limit) if self.sent + bytes.len() as u64 > limit => {
                let left = usize::try_from(limit.saturating_sub(self.sent)).unwrap();
                self.socket.write_all(&bytes[..left])?;
                self.sent = limit;
                self.socket.shutdown(Shutdown::Both)?;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Fault::OneByteWrites => {
                for byte in bytes {
                    self.socket.write_all(std::slice::from_ref(byte))?;
                }
            }
            _ => self.socket.write_all(bytes)?,
        }
        self.sent += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn close(&mut self, half: Shutdown) -> io::Result<()> {
        self.socket.shutdown(half)
    }
}
